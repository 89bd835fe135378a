"""Several runs over the same examples, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.datasets.examples import Examples
from sentikit.runs.table import Labelling


@dataclass(frozen=True)
class AlignedRun:
    """One run, in the common order of rows and classes.

    Attributes:
        name: short, and no other run's in the comparison.
        path: as the user gave it.
        answers: labels (class numbers, -1 invalid) and probabilities.
        opinion: what the encoder said that the LLM was shown, or None.
        cost: USD of each row, NaN where unknown; None where all are.
        manifest: of a run; empty for a file.
    """

    name: str
    path: str
    answers: Labelling
    opinion: Labelling | None = None
    cost: NDArray[np.float64] | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def select(self, rows: NDArray[np.int64]) -> AlignedRun:
        """Return some rows, in the order given."""
        return replace(
            self,
            answers=self.answers.select(rows),
            opinion=None if self.opinion is None else self.opinion.select(rows),
            cost=None if self.cost is None else self.cost[rows],
        )


@dataclass(frozen=True)
class AlignedRuns:
    """Runs over the same examples.

    Attributes:
        classes: what class numbers stand for.
        examples: ids and texts, (rows,); texts are empty where no run has any.
        gold: class numbers, (rows,); every row has one.
        sources: the sources' names, sorted; empty where unknown.
        source_of: number of each row's source, (rows,); -1 where unknown.
        runs: in the order the user gave.
        dataset: what the examples are called, or "".
        notes: sentences on what was left out or matched loosely.
    """

    classes: tuple[str, ...]
    examples: Examples
    gold: NDArray[np.int64]
    sources: tuple[str, ...]
    source_of: NDArray[np.int64]
    runs: tuple[AlignedRun, ...]
    dataset: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.gold)

    def run(self, name: str) -> AlignedRun:
        """Return the run of that name."""
        return next(run for run in self.runs if run.name == name)

    def select(self, rows: NDArray[np.int64]) -> AlignedRuns:
        """Return some rows, in the order given."""
        return replace(
            self,
            examples=self.examples.select(rows),
            gold=self.gold[rows],
            source_of=self.source_of[rows],
            runs=tuple(run.select(rows) for run in self.runs),
        )

    def rows_of_source(self, name: str) -> NDArray[np.int64]:
        """Return the rows of a source."""
        return np.flatnonzero(self.source_of == self.sources.index(name))


def is_called(wanted: str, name: str, path: str) -> bool:
    """Say whether the user means a run: by its name, its path or its file's or folder's name."""
    return wanted in (name, path, Path(path).name) or same_path(wanted, path)


def same_path(wanted: str, path: str) -> bool:
    """Say whether two ways of writing a path, as ``runs/a/`` and ``runs/a``, are one."""
    return Path(wanted) == Path(path)
