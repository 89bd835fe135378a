"""Recorded runs over the same texts, their rows side by side, and the vote of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentikit.classifiers.vote import Ties, elect
from sentikit.datasets.examples import Examples
from sentikit.errors import InputError
from sentikit.runs.alignment import align_all
from sentikit.runs.table import Labelling, RunTable


@dataclass(frozen=True)
class Ensemble:
    """Runs over the same texts.

    Attributes:
        examples: the texts, with gold labels and sources from whichever run has them.
        classes: what class numbers stand for.
        gold: class numbers, (rows,); -1 where no run knows.
        members: the runs, rows and classes in the order of `examples` and `classes`.
    """

    examples: Examples
    classes: tuple[str, ...]
    gold: NDArray[np.int64]
    members: tuple[RunTable, ...]

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def scored(self) -> NDArray[np.int64]:
        """The rows with a gold label."""
        return np.flatnonzero(self.gold >= 0)


def gather(tables: Sequence[RunTable]) -> Ensemble:
    """Put runs side by side.

    Args:
        tables: at least one; the first run that has texts decides the order of rows.

    Raises:
        InputError: a run is given twice, or the runs are over different texts, classes or gold
            labels; says how many differ, and shows the first.
    """
    names = [table.name for table in tables]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice. A ensemble needs different runs.")
    first = next((table for table in tables if table.has_texts), tables[0])
    members = tuple(_beside(first, table) for table in tables)
    gold = _common_gold(first, members)
    names = pa.array([*first.classes, None], pa.string())
    labels = names.take(pa.array(np.where(gold < 0, len(first.classes), gold)))
    examples = _in_own_order(first.examples).replace_column("label", labels)
    sources = next((m for m in members if any(m.examples.sources)), None)
    if sources is not None:
        known = pa.array(sources.examples.sources, pa.string())
        examples = examples.replace_column("source", known)
    return Ensemble(examples, first.classes, gold, members)


def _beside(first: RunTable, table: RunTable) -> RunTable:
    """Return a run with its rows and classes as the first run has them."""
    by_id = not (table.has_texts and first.has_texts)
    rows = align_all(first.examples, table.examples, (first.name, table.name), by_id)
    if len(table) != len(first):
        align_all(table.examples, first.examples, (table.name, first.name), by_id)
    return table.select(rows).in_classes(first.classes, first.name)


def _common_gold(first: RunTable, members: Sequence[RunTable]) -> NDArray[np.int64]:
    """Return the gold labels that any run knows.

    Raises:
        InputError: two runs know different ones.
    """
    gold = np.full(len(first), -1, np.int64)
    known_by = first
    for table in members:
        differing = np.flatnonzero((gold >= 0) & (table.gold >= 0) & (gold != table.gold))
        if len(differing):
            row = int(differing[0])
            here, there = first.classes[gold[row]], first.classes[table.gold[row]]
            raise InputError(
                f"{table.name} and {known_by.name} have different gold labels in "
                f"{len(differing):,} of {len(first):,} rows. The first is row {row + 1}: "
                f"{there!r} there, {here!r} here. They were not made on the same data."
            )
        known_by = table if (gold < 0).all() and (table.gold >= 0).any() else known_by
        gold = np.where(gold < 0, table.gold, gold)
    return gold


def _in_own_order(examples: Examples) -> Examples:
    """Return examples whose table has their own order, so that columns can be replaced."""
    if examples.order is None:
        return examples
    return Examples(examples.table.take(pa.array(examples.order)))


@dataclass(frozen=True)
class VoteCount:
    """The outcome of a vote of recorded runs.

    Attributes:
        labels: class numbers, (rows,); -1 where no member gave a valid answer.
        unanimous: whether all members gave the same valid label, (rows,).
        tied: whether several labels had the most votes, (rows,).
    """

    labels: NDArray[np.int64]
    unanimous: NDArray[np.bool_]
    tied: NDArray[np.bool_]


def vote(members: Sequence[Labelling], classes: int, ties: Ties = "first") -> VoteCount:
    """Return the label most members give to each row; see `elect`.

    Args:
        members: most trusted first.
        classes: how many there are.
        ties: how ties are broken.
    """
    labels = np.stack([member.labels for member in members], 1).tolist()
    shares = [_known_probabilities(member) for member in members]
    rows = enumerate(labels)
    winners = [elect(votes, [own[row] for own in shares], ties) for row, votes in rows]
    return VoteCount(
        labels=np.array([winner.number for winner in winners], np.int64),
        unanimous=np.array([winner.votes == len(members) for winner in winners], bool),
        tied=np.array([winner.tied for winner in winners], bool),
    )


def _known_probabilities(member: Labelling) -> list[list[float] | None]:
    if member.probabilities is None:
        return [None] * len(member.labels)
    unknown: list[bool] = np.atleast_1d(np.isnan(member.probabilities).any(1)).tolist()
    rows = member.probabilities.tolist()
    return [None if lacks else row for row, lacks in zip(rows, unknown, strict=True)]
