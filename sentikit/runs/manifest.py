"""What a run's manifest says of its making."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit import __version__

if TYPE_CHECKING:
    from sentikit.datasets.examples import Examples

_RECORDED = ("torch", "transformers", "tokenizers", "datasets", "deepspeed", "openai")


@dataclass(frozen=True)
class LabelledSplit:
    """The examples that a run labels.

    Attributes:
        examples: in order, gold labels folded into `classes`.
        classes: the labels to choose from.
        dataset: name of the dataset.
        split: name of the split.
    """

    examples: Examples
    classes: tuple[str, ...]
    dataset: str
    split: str

    @property
    def name(self) -> str:
        """What messages call it, as ``merged/test``."""
        return f"{self.dataset}/{self.split}"


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


def describe_split(
    name: str, split: str, examples: int, fingerprint: str, label_origin: str | None = None
) -> dict[str, Any]:
    """Return what a manifest says of a split; `label_origin` of labels that are not gold."""
    said = {"dataset": name, "split": split, "examples": examples, "fingerprint": fingerprint}
    return said if label_origin is None else {**said, "label_origin": label_origin}
