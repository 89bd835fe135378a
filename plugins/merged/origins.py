"""Where merged rows come from: the parts, the published CSV files, or the hub."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sentikit import (
    Examples,
    InputError,
    OpenedDataset,
    did_you_mean,
    disk_errors,
    load_from_hub,
    open_dataset,
)

REPOSITORY = "jbeno/sentiment_merged"
SPLITS = ("train", "validation", "test")
_COLUMNS = ("sentence", "label", "source")
# What the study calls its own copy of the treebank's sentences.
_TREEBANK_SOURCE = "sst_local"


class Row(NamedTuple):
    """One example, and where it stands."""

    place: str
    text: str
    label: str | None
    source: str | None


class Origin(ABC):
    """Yields the rows of each split in the published order."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Return the splits for which all rows are there."""

    @abstractmethod
    def rows(self, split: str) -> Iterator[Row]:
        """Yield the rows of a split."""


@dataclass(frozen=True)
class PublishedFiles(Origin):
    """The published CSV files: columns sentence, label, source (and split).

    Attributes:
        folder: holds train.csv, validation.csv and test.csv, or some of them.
    """

    folder: Path

    @classmethod
    def below(cls, path: Path) -> PublishedFiles:
        """Look in `path` and in ``merged/`` inside it."""
        here = cls(path)
        return here if here.splits() else cls(path / "merged")

    def splits(self) -> tuple[str, ...]:
        """Return the splits whose file is there."""
        return tuple(split for split in SPLITS if self._path(split).is_file())

    def rows(self, split: str) -> Iterator[Row]:
        """Yield the rows of a file.

        Raises:
            InputError: not UTF-8, not CSV, or a column is missing; names the line.
        """
        path = self._path(split)
        with disk_errors(path), path.open("rb") as stream:
            reader = csv.reader(_decoded(stream, path), strict=True)
            try:
                columns = _positions(next(reader, []), path)
                for cells in reader:
                    if cells:
                        yield _row(cells, columns, f"{path}, line {reader.line_num}")
            except csv.Error as error:
                raise InputError(
                    f"{path}, line {reader.line_num}: not valid CSV ({error})."
                ) from error

    def _path(self, split: str) -> Path:
        return self.folder / f"{split}.csv"


@dataclass(frozen=True)
class Parts(Origin):
    """DynaSent and the treebank, concatenated and shuffled.

    Attributes:
        treebank: path for the dataset ``sst``.
        dynasent: path for the dataset ``dynasent``.
        seed: decides the order.
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

    def rows(self, split: str) -> Iterator[Row]:
        """Yield the rows of both parts in the shuffled order."""
        dynasent, treebank = (part.split(split, labelled=False) for part in self._datasets)
        together = Examples.concatenate([dynasent, treebank])
        order = np.random.RandomState(self.seed).permutation(len(together))
        position = iter(order)
        for batch in together.select(order).batches():
            for text, label, source in zip(
                batch["text"], batch["label"], batch["source"], strict=True
            ):
                row = int(next(position))
                if row < len(dynasent):
                    yield Row(f"row {row + 1} of dynasent ({split})", text, label, source)
                else:
                    place = f"row {row - len(dynasent) + 1} of sst ({split})"
                    yield Row(place, text, label, _TREEBANK_SOURCE)


@dataclass(frozen=True)
class HubRows(Origin):
    """The dataset as published on the hub."""

    def splits(self) -> tuple[str, ...]:
        """Return all three."""
        return SPLITS

    def rows(self, split: str) -> Iterator[Row]:
        """Yield the rows of a split."""
        dataset = load_from_hub(REPOSITORY, split, columns=_COLUMNS)
        for number, row in enumerate(dataset, start=1):
            place = f"row {number} of {REPOSITORY} ({split})"
            yield Row(place, row["sentence"] or "", row["label"], row["source"])


def _decoded(lines: Iterator[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}: not valid UTF-8 (byte {error.start + 1}). "
                "Save the file as UTF-8."
            ) from error


def _positions(header: list[str], path: Path) -> tuple[int, ...]:
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise InputError(
            f"{path}, line 1: there is no column {missing[0]!r}. {did_you_mean(missing[0], header)}"
        )
    return tuple(header.index(name) for name in _COLUMNS)


def _row(cells: list[str], columns: tuple[int, ...], place: str) -> Row:
    if len(cells) <= max(columns):
        raise InputError(f"{place}: {len(cells)} cells, but {max(columns) + 1} are needed.")
    text, label, source = (cells[column] for column in columns)
    return Row(place, text, label or None, source or None)
