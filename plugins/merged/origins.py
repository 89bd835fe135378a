"""Sources of merged rows: the original datasets, the published CSV files, or the hub."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentikit import Examples, open_dataset
from sentikit.extension import ExamplesBuilder, OpenedDataset, Rows, read_rows

REPOSITORY = "jbeno/sentiment_merged"
SPLITS = ("train", "validation", "test")
_COLUMNS = ("sentence", "label", "source")
# The study's name of its copy of the treebank's sentences.
_TREEBANK_SOURCE = "sst_local"


class Row(NamedTuple):
    """One example."""

    text: str
    label: str | None
    source: str | None


class Origin(ABC):
    """A source of splits in the published order."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Return the splits for which all files exist."""

    @abstractmethod
    def load(self, split: str) -> Examples:
        """Load a split; ids are made from the texts."""

    @abstractmethod
    def place(self, split: str, row: int) -> str:
        """Return the place of row `row` (from 0) of a split."""


@dataclass(frozen=True)
class PublishedFiles(Origin):
    """The published CSV files: columns sentence, label, source (and split).

    Attributes:
        folder: with train.csv, validation.csv and test.csv, or some of them.
    """

    folder: Path

    @classmethod
    def below(cls, path: Path) -> PublishedFiles:
        """Look in `path` and in ``merged/`` inside it."""
        here = cls(path)
        return here if here.splits() else cls(path / "merged")

    def splits(self) -> tuple[str, ...]:
        """Return the splits whose file exists."""
        return tuple(split for split in SPLITS if self._path(split).is_file())

    def load(self, split: str) -> Examples:
        """Load a file.

        Raises:
            InputError: the file is not UTF-8 or CSV, or a column is missing.
        """
        return _build(row for _, row in self._numbered_rows(split))

    def place(self, split: str, row: int) -> str:
        """Name the file and the line a row starts on."""
        line, _ = next(islice(self._numbered_rows(split), row, None))
        return f"{self._path(split)}, line {line}"

    def _numbered_rows(self, split: str) -> Iterator[tuple[int, Row]]:
        yield from _numbered(read_rows(self._path(split)))

    def _path(self, split: str) -> Path:
        return self.folder / f"{split}.csv"


@dataclass(frozen=True)
class Parts(Origin):
    """DynaSent and the treebank, concatenated and shuffled.

    Attributes:
        treebank: path for the dataset ``sst``.
        dynasent: path for the dataset ``dynasent``.
        seed: of the order.
    """

    treebank: Path
    dynasent: Path
    seed: int

    @cached_property
    def _datasets(self) -> tuple[OpenedDataset, OpenedDataset]:
        return (
            open_dataset({"name": "dynasent", "path": str(self.dynasent)}),
            open_dataset({"name": "sst", "path": str(self.treebank)}),
        )

    def splits(self) -> tuple[str, ...]:
        """Return the splits that both parts have."""
        return tuple(s for s in SPLITS if all(s in part.splits for part in self._datasets))

    def load(self, split: str) -> Examples:
        """Load both parts in the shuffled order."""
        together = Examples.concatenate(self._examples(split))
        return together.select(self._order(len(together))).identified_by_text()

    def place(self, split: str, row: int) -> str:
        """Name the file and the line of the part a row comes from."""
        sizes = [len(examples) for examples in self._examples(split)]
        origin, part = int(self._order(sum(sizes))[row]), 0
        if origin >= sizes[0]:
            origin, part = origin - sizes[0], 1
        return self._datasets[part].loader.locate(split, origin)

    def _examples(self, split: str) -> list[Examples]:
        dynasent, treebank = (part.split(split, labelled=False) for part in self._datasets)
        renamed = pa.repeat(pa.scalar(_TREEBANK_SOURCE), treebank.table.num_rows)
        return [dynasent, treebank.replace_column("source", renamed)]

    def _order(self, size: int) -> NDArray[np.int64]:
        return np.random.RandomState(self.seed).permutation(size)


@dataclass(frozen=True)
class HubRows(Origin):
    """The dataset as published on the hub."""

    def splits(self) -> tuple[str, ...]:
        """Return all three."""
        return SPLITS

    def load(self, split: str) -> Examples:
        """Load a split."""
        loader = open_dataset({"name": "hub", "path": REPOSITORY}).loader
        return _build(row for _, row in _numbered(loader.rows(split)))

    def place(self, split: str, row: int) -> str:
        """Describe a row by its number in the split."""
        return f"row {row + 1} of {REPOSITORY} ({split})"


def _numbered(table: Rows) -> Iterator[tuple[int, Row]]:
    with table:
        for where, (text, label, source) in table.cells(*_COLUMNS):
            yield where, Row(text or "", label or None, source or None)


def _build(rows: Iterable[Row]) -> Examples:
    builder = ExamplesBuilder()
    for row in rows:
        builder.add(row.text, label=row.label, source=row.source)
    return builder.finish()
