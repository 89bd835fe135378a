"""Launching a command in several processes, and detection of other launchers.

`--nproc` starts torchrun's agent in place (https://docs.pytorch.org/docs/stable/elastic/run.html).
Under torchrun, the deepspeed launcher or srun, a command joins the existing processes.
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

#: Seconds for a stopped process to finish its step and checkpoint, before it is killed.
SHUTDOWN_SECONDS = 600
#: The number of processes that `launch` started, set in each of them.
_LAUNCHED = "SENTIKIT_LAUNCHED"
#: Exit code of a launched process that lost the others; `launch` reports why.
LEFT_ALONE = 76


def process_count() -> int:
    """Return the number of processes of this job, including this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_processes() -> int | None:
    """Return the number of processes that `launch` started, or None under another launcher."""
    number = os.environ.get(_LAUNCHED)
    return None if number is None else int(number)


def is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def job_id(environment: Mapping[str, str] | None = None) -> str | None:
    """Return an id that all attempts of a launcher's job share, or None without such a launcher.

    torchrun restarts its processes after a failure or a change of machines, and Slurm restarts a
    requeued job; the new processes have no memory of earlier attempts.
    """
    given = os.environ if environment is None else environment
    if "SLURM_JOB_ID" in given:
        return f"slurm {given['SLURM_JOB_ID']}"
    # Processes of `launch` are not restarted.
    if "TORCHELASTIC_RUN_ID" in given and _LAUNCHED not in given:
        return f"torchrun {given['TORCHELASTIC_RUN_ID']}"
    return None


def join_slurm(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of torch.distributed if srun started several tasks, else nothing.

    See https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES. A batch script has
    most of these variables too, but is one process: only srun sets a step's number.
    """
    given = os.environ if environment is None else environment
    if "WORLD_SIZE" in given or "SLURM_PROCID" not in given:
        return {}
    tasks = int(given.get("SLURM_STEP_NUM_TASKS", given.get("SLURM_NTASKS", "1")))
    in_batch_script = "SLURM_JOB_ID" in given and "SLURM_STEP_ID" not in given
    if tasks < 2 or in_batch_script:
        return {}
    nodes = given.get("SLURM_STEP_NODELIST", given.get("SLURM_NODELIST", "127.0.0.1"))
    # Jobs on the same machine need different ports; their ids differ.
    port = 20000 + int(given.get("SLURM_JOB_ID", "0")) % 20000
    return {
        "RANK": given["SLURM_PROCID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_RANK": given.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": given.get("MASTER_ADDR", first_host(nodes)),
        "MASTER_PORT": given.get("MASTER_PORT", str(port)),
    }


def first_host(nodes: str) -> str:
    """Return the first host of Slurm's list, such as ``node07`` of ``node[07-09,12],gpu1``."""
    match = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\])?([^,]*)", nodes)
    assert match is not None
    return "".join(part or "" for part in match.groups())


def command_arguments(
    context: click.Context, leave_out: Sequence[str] = (), add: Sequence[str] = ()
) -> list[str]:
    """Return the arguments of the running command, as a user would type them."""
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
    """Return variables that divide the cores among the processes, unless the user has set them.

    Idle threads sleep instead of spinning: with spinning threads, two processes on busy cores ran
    several times slower than one.
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

    Ctrl-C and SIGTERM reach the processes, which then have time to save.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    before = dict(os.environ)
    os.environ.update(worker_environment(processes), **{_LAUNCHED: str(processes)})
    # The agent's log only repeats what the processes have printed.
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
    """Return the configuration of ``torchrun --standalone``."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        # All processes are local, and the machine's name may not resolve.
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
    )
    if hasattr(config, "shutdown_timeout"):
        config.shutdown_timeout = SHUTDOWN_SECONDS
    return config


def _exit_code(codes: Mapping[int, int]) -> int:
    """Return the code of the process that failed first; the others were stopped because of it."""
    own = [code for code in codes.values() if code > 0 and code != LEFT_ALONE]
    if own:
        return own[0]
    # The agent ends the others by SIGTERM.
    rank, code = min(codes.items(), key=lambda item: (item[1] == -signal.SIGTERM, item[1]))
    raise SentikitError(
        f"Process {rank} was killed by signal {-code}"
        + (", perhaps because memory ran out" if code == -getattr(signal, "SIGKILL", 9) else "")
        + ". Resume with the same command and --resume."
        if code < 0
        else "The processes lost their connection. Resume with --resume."
    )


def launch_processes(context: click.Context, processes: int, device: str = "auto") -> None:
    """Run a command again in several processes and exit with their exit code.

    Args:
        context: the context of the command, which has an option ``--nproc``.
        processes: number of processes.
        device: auto, cpu, cuda, …

    Raises:
        click.exceptions.Exit: always, at the end.
        InputError: another launcher started this process, or there are too few GPUs.
    """
    if "WORLD_SIZE" in os.environ or join_slurm():
        raise InputError(
            "--nproc cannot be used under another launcher (torchrun, deepspeed or srun), which "
            "starts the processes. Leave it out."
        )
    check_gpus(device, processes)
    cores = usable_cores()
    if processes > cores and choose_device(device).type == "cpu":
        click.echo(
            f"{processes} processes share {cores} cores; {cores} processes would be faster.",
            err=True,
        )
    raise click.exceptions.Exit(launch(processes, command_arguments(context, ["nproc"])))


def typed_command(
    context: click.Context, leave_out: Sequence[str] = (), add: Sequence[str] = ()
) -> str:
    """Return the running command as a user would type it, with ``--nproc`` if it was given.

    Args:
        context: the context of the command.
        leave_out: names of options to leave out.
        add: further options.
    """
    launched = launched_processes()
    processes = ["--nproc", str(launched)] if launched else []
    words = command_arguments(context, leave_out, [*add, *processes])
    return shlex.join(["sentikit", *words])


@contextmanager
def resumable(
    context: click.Context,
    path: Path | None,
    message: str = "Stopping. Ctrl-C again stops at once.",
) -> Iterator[Callable[[], bool]]:
    """Stop in good order at the first Ctrl-C (or SIGTERM), and print how to resume.

    Args:
        context: the context of the command.
        path: the run or file to resume, or None.
        message: what to print at once.
    """
    signals = [signal.SIGINT]

    def tell(number: int) -> None:
        signals[:] = [signal.Signals(number)]
        # A launcher also uses SIGTERM to stop the other processes after a failure.
        if is_main_process() and (number == signal.SIGINT or process_count() == 1):
            click.echo(message, err=True)

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
