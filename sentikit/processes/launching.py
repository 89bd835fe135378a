"""Starts a command in several processes, or finds out that another launcher has.

`--nproc` starts torchrun's agent in place (https://docs.pytorch.org/docs/stable/elastic/run.html).
Under torchrun, the deepspeed launcher or srun, a command joins the processes there are.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from sentikit.devices import check_gpus, choose_device
from sentikit.errors import InputError, SentikitError
from sentikit.stopping import Interrupted, stop_on_signal

#: Seconds a stopped process has for its last step and its checkpoint, before it is killed.
SHUTDOWN_SECONDS = 600
#: Set, to their number, for the processes that `launch` starts.
_LAUNCHED = "SENTIKIT_LAUNCHED"
#: Exit code of a launched process that was left alone; `launch` finds out by what.
LEFT_ALONE = 76


def process_count() -> int:
    """Return how many processes a launcher has started, this one counted."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_processes() -> int | None:
    """Return how many processes `launch` has started, or None where another launcher has."""
    number = os.environ.get(_LAUNCHED)
    return None if number is None else int(number)


def is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def job_id(environment: Mapping[str, str] | None = None) -> str | None:
    """Return what all attempts of one launcher's job share, or None without such a launcher.

    torchrun starts its processes again when one has failed or a machine has come or gone, Slurm
    a whole job that it has requeued; they know nothing of what was done before.
    """
    given = os.environ if environment is None else environment
    if "SLURM_JOB_ID" in given:
        return f"slurm {given['SLURM_JOB_ID']}"
    # What `launch` has started is not started again.
    if "TORCHELASTIC_RUN_ID" in given and _LAUNCHED not in given:
        return f"torchrun {given['TORCHELASTIC_RUN_ID']}"
    return None


def join_slurm(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what torch.distributed wants to know where srun started several tasks, else nothing.

    See https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES. A batch script has
    most of these variables too, but it is one process: only srun numbers a step, or its tasks.
    """
    given = os.environ if environment is None else environment
    if "WORLD_SIZE" in given or "SLURM_PROCID" not in given:
        return {}
    tasks = int(given.get("SLURM_STEP_NUM_TASKS", given.get("SLURM_NTASKS", "1")))
    in_batch_script = "SLURM_JOB_ID" in given and "SLURM_STEP_ID" not in given
    if tasks < 2 or in_batch_script:
        return {}
    nodes = given.get("SLURM_STEP_NODELIST", given.get("SLURM_NODELIST", "127.0.0.1"))
    # Jobs that share a machine must not share a port; their numbers differ.
    port = 20000 + int(given.get("SLURM_JOB_ID", "0")) % 20000
    return {
        "RANK": given["SLURM_PROCID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_RANK": given.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": given.get("MASTER_ADDR", first_host(nodes)),
        "MASTER_PORT": given.get("MASTER_PORT", str(port)),
    }


def first_host(nodes: str) -> str:
    """Return the first host of Slurm's short list, as ``node07`` of ``node[07-09,12],gpu1``."""
    match = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\])?([^,]*)", nodes)
    assert match is not None
    return "".join(part or "" for part in match.groups())


def command_arguments(
    context: click.Context, leave_out: Sequence[str] = (), add: Sequence[str] = ()
) -> list[str]:
    """Write a command as it would be typed, from what click has understood of it."""
    words, positions = context.command_path.split()[1:], list[str]()
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if isinstance(parameter, click.Option) and parameter.name not in leave_out:
            words += _option(parameter, value)
        elif isinstance(parameter, click.Argument):
            positions += map(str, [value] if parameter.nargs == 1 else value or ())
    words += add
    return [*words, "--", *positions] if positions else words


def _option(option: click.Option, value: Any) -> list[str]:
    if value is None or value is False or value == option.default:
        return []
    if option.is_flag:
        return [option.opts[0]]
    values = value if option.multiple else [value]
    given = [item if option.nargs != 1 else [item] for item in values]
    return [word for items in given for word in (option.opts[0], *map(str, items))]


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def worker_environment(processes: int, cores: int | None = None) -> dict[str, str]:
    """Return variables that divide the machine among the processes, less what the user has set.

    Waiting threads sleep instead of spinning: with spinning ones, two processes on busy cores
    were measured to run several times slower than one.
    """
    share = str(max(1, (cores or usable_cores()) // processes))
    wanted = {
        "OMP_NUM_THREADS": share,
        "RAYON_NUM_THREADS": share,
        "OMP_WAIT_POLICY": "PASSIVE",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    return {name: value for name, value in wanted.items() if name not in os.environ}


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run ``sentikit ARGUMENTS`` in several processes on this machine; return the exit code.

    Ctrl-C and SIGTERM are passed on to the processes, which then have time to save.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    before = dict(os.environ)
    os.environ.update(worker_environment(processes), **{_LAUNCHED: str(processes)})
    # The agent's log tells what the processes have said already, and at greater length.
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(prefix="sentikit-") as logs:
            agent = elastic_launch(_agent_config(processes, logs), sys.executable)
            agent("-m", "sentikit", *arguments)
    except ChildFailedError as error:
        return _exit_code({rank: failure.exitcode for rank, failure in error.failures.items()})
    except SignalException as stopped:
        return 128 + stopped.sigval
    finally:
        logging.disable(logging.NOTSET)
        os.environ.clear()
        os.environ.update(before)
    return 0


def _agent_config(processes: int, logs: str) -> Any:
    """Return what ``torchrun --standalone`` would use."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        # The name of this machine may not resolve; all processes are here.
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
    )
    if hasattr(config, "shutdown_timeout"):
        config.shutdown_timeout = SHUTDOWN_SECONDS
    return config


def _exit_code(codes: Mapping[int, int]) -> int:
    """Return the code of the process that failed by itself; the others were stopped for it."""
    said = [code for code in codes.values() if code > 0 and code != LEFT_ALONE]
    if said:
        return said[0]
    # The agent ends the others by SIGTERM.
    rank, code = min(codes.items(), key=lambda item: (item[1] == -signal.SIGTERM, item[1]))
    raise SentikitError(
        f"Process {rank} was killed by signal {-code}"
        + (", perhaps for want of memory" if code == -getattr(signal, "SIGKILL", 9) else "")
        + ". Resume with the same command and --resume."
        if code < 0
        else "The processes lost contact with one another. Resume with --resume."
    )


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
    if "WORLD_SIZE" in os.environ or join_slurm():
        raise InputError(
            "--nproc starts the processes itself, and a launcher (torchrun, deepspeed or srun) "
            "has done so already. Leave --nproc out."
        )
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


@contextmanager
def resumable(
    context: click.Context, path: Path | None, told: str = "Stopping; once more stops at once."
) -> Iterator[Callable[[], bool]]:
    """Finish what is begun at the first Ctrl-C (or SIGTERM), and say how to go on after a stop.

    Args:
        context: of the command.
        path: of the run or file to resume, or None.
        told: what the user is told at once.
    """
    signals = [signal.SIGINT]

    def tell(number: int) -> None:
        signals[:] = [signal.Signals(number)]
        # By SIGTERM a launcher also stops what a failed process has left behind.
        if is_main_process() and (number == signal.SIGINT or process_count() == 1):
            click.echo(told, err=True)

    try:
        with stop_on_signal(tell) as stop_requested:
            yield stop_requested
    except (Interrupted, KeyboardInterrupt) as error:
        add = ["--output", str(path)] if path is not None else []
        again = typed_command(context, ["output", "resume"], [*add, "--resume"])
        by = " by the same launcher" if process_count() > 1 and not launched_processes() else ""
        advice = f" Resume{by} with: {again}" if getattr(error, "resumable", True) else ""
        if is_main_process():
            click.echo(f"Stopped.{advice}", err=True)
        raise click.exceptions.Exit(128 + signals[0]) from error
