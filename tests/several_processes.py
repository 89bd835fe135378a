"""Separate processes of sentikit, as users and launchers start them, each with a time limit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

#: Seconds that a command may take, so that one that hangs fails only its own test.
LIMIT = 600
SENTIKIT = (sys.executable, "-m", "sentikit")


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    code: int
    output: str
    error: str


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment with one thread and no trace of another launcher."""
    launcher = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "DS_ACCELERATOR")
    own = {
        k: v
        for k, v in os.environ.items()
        if k not in launcher and "SLURM" not in k and "TORCHELASTIC" not in k
    }
    folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([folder, own.get("PATH", "")])
    return {**own, "OMP_NUM_THREADS": "1", "PATH": path, **more}


def start(words: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start a command; what it prints is kept."""
    return subprocess.Popen(
        list(words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"env": environment(), **options},
    )


def end(process: subprocess.Popen[str], limit: float = LIMIT) -> Outcome:
    """Wait for a process; kill it and its children if it takes too long."""
    try:
        output, error = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        for child in children(process):
            os.kill(child, signal.SIGKILL)
        process.kill()
        output, error = process.communicate()
        raise AssertionError(f"no end after {limit} s:\n{output}\n{error}") from None
    return Outcome(process.returncode, output, error)


def run(*words: str, limit: float = LIMIT) -> Outcome:
    """Run ``sentikit`` with arguments to its end."""
    return end(start([*SENTIKIT, *words]), limit)


def run_ranks(
    arguments: Sequence[str],
    variables: Callable[[int], Mapping[str, str]] | None = None,
    folders: Sequence[Path] = (),
    command: Sequence[str] = SENTIKIT,
    limit: float = LIMIT,
) -> list[Outcome]:
    """Run two processes as a launcher would; end all of them.

    Args:
        arguments: of the command.
        variables: environment variables of a rank; torchrun's by default.
        folders: the working folder of each process.
        command: what each process runs, sentikit by default.
        limit: seconds for both together.
    """
    port = free_port()

    def torchrun(rank: int) -> dict[str, str]:
        numbers = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        return {**numbers, "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}

    processes = [
        start(
            [*command, *arguments],
            env=environment(**(variables or torchrun)(rank)),
            cwd=folders[rank] if folders else None,
        )
        for rank in range(2)
    ]
    return [end(process, limit) for process in processes]


def free_port() -> int:
    """Return a port nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def as_an_ordinary_user() -> list[str]:
    """Return the words before a command for which permissions hold even if root runs it."""
    if os.geteuid():
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root needs setpriv to be bound by permissions (apt-get install util-linux)")
    return [setpriv, "--bounding-set", "-dac_override,-dac_read_search"]


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the process ids of what a process has started, in the order of ranks."""
    listing = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in listing.split()]


def is_alive(process_id: int) -> bool:
    """Say whether a process still runs."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for_steps(process: subprocess.Popen[str], run_folder: Path, lines: int) -> None:
    """Wait until a run's log has so many lines."""
    log, deadline = run_folder / "log.jsonl", time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_text().count("\n") >= lines:
            return
        time.sleep(0.01)
    for child in children(process) if process.poll() is None else []:
        os.kill(child, signal.SIGKILL)
    process.kill()
    raise AssertionError(f"no {lines} log lines: {process.communicate()}")


def log(run_folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return a run's log records of one kind."""
    records = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def complaints(error: str) -> list[str]:
    """Return the error messages among what was printed."""
    return [line for line in error.splitlines() if line.startswith("Error: ")]
