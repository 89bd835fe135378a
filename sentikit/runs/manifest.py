"""What a run's manifest says of its making."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sentikit import __version__

_RECORDED = ("torch", "transformers", "tokenizers", "datasets", "deepspeed", "openai")


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python, sentikit and what results may hang on."""
    found = {"sentikit": __version__, "python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command_line(arguments: Sequence[str] | None = None) -> list[str]:
    """Return the command as typed, without the program's folder."""
    given = sys.argv if arguments is None else arguments
    program = Path(given[0]).name
    # As `python -m sentikit`, which is how several processes are started.
    return ["sentikit" if program == "__main__.py" else program, *given[1:]]


def describe_split(name: str, split: str, examples: int, fingerprint: str) -> dict[str, Any]:
    """Return what a manifest says of a split."""
    return {"dataset": name, "split": split, "examples": examples, "fingerprint": fingerprint}
