"""Commands on a pseudo-terminal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest


def on_a_terminal(
    command: Sequence[str], *streams: str, typed: bytes = b"", **options: Any
) -> tuple[int, str]:
    """Run a command and return its exit code and what its terminal shows.

    Args:
        command: the command.
        streams: which of stdin, stdout and stderr are the terminal.
        typed: what the user types.
        options: for `subprocess.Popen`.
    """
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    own, its = pty.openpty()
    process = subprocess.Popen(command, **dict.fromkeys(streams, its), **options)
    os.close(its)
    if typed:
        os.write(own, typed)
    pieces = []
    while piece := _read(own):
        pieces.append(piece)
    os.close(own)
    return process.wait(120), b"".join(pieces).decode(errors="replace")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # on Linux, the end of a terminal
        return b""
