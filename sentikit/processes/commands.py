"""What a command needs that may run in several processes: join them, start them, name itself."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence

import click

from sentikit.devices import check_gpus, choose_device
from sentikit.processes.failing_together import failing_together
from sentikit.processes.launching import (
    command_arguments,
    join_slurm,
    launch,
    launched_processes,
    speaks,
    usable_cores,
)


@contextlib.contextmanager
def joined_processes() -> Iterator[bool]:
    """Surround a command that a launcher may have started several times; they fail as one.

    Yields:
        Whether this process is the one that talks to the user.

    Raises:
        click.exceptions.Exit: another process has failed.
    """
    os.environ.update(join_slurm())
    with failing_together():
        yield speaks()


def launch_processes(context: click.Context, processes: int, device: str = "auto") -> None:
    """Do a command again in several processes and end with their exit code.

    Args:
        context: of the command, which has an option ``--nproc``.
        processes: how many.
        device: auto, cpu, cuda, …

    Raises:
        click.exceptions.Exit: always, when all is done.
        InputError: a launcher has started this process already, or there are too few GPUs.
    """
    check_gpus(device, processes)
    cores = usable_cores()
    if processes > cores and choose_device(device).type == "cpu":
        click.echo(f"{processes} processes share {cores} cores: {cores} would be faster.", err=True)
    raise click.exceptions.Exit(launch(processes, command_arguments(context, ["nproc"])))


def typed_command(
    context: click.Context, leave_out: Sequence[str] = (), add: Sequence[str] = ()
) -> str:
    """Return a command as it would be typed, in as many processes, to tell the user.

    Args:
        context: of the command.
        leave_out: names of options that must not appear.
        add: more options.
    """
    launched = launched_processes()
    processes = ["--nproc", str(launched)] if launched else []
    words = command_arguments(context, leave_out, [*add, *processes])
    return shlex.join(["sentikit", *words])
