"""Recorded runs over the same texts, their rows side by side, and their vote."""

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
    """Runs over the same texts, rows and classes in one order; gold is -1 where no run knows it."""

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

    @property
    def ordered(self) -> bool:
        return any(member.ordered for member in self.members)


def gather(tables: Sequence[RunTable]) -> Ensemble:
    """Put runs side by side; refuse those over different texts, classes or gold labels.

    The first run that has texts decides the order of rows, the first whose classes stand in an
    order that of classes.
    """
    names = [table.name for table in tables]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice. An ensemble needs different runs.")
    first = next((table for table in tables if table.has_texts), tables[0])
    known = next((table for table in tables if table.ordered), first)
    members = []
    for table in tables:
        by_id = not (table.has_texts and first.has_texts)
        rows = align_all(first.examples, table.examples, (first.name, table.name), by_id)
        if len(table) != len(first):
            align_all(table.examples, first.examples, (table.name, first.name), by_id)
        members.append(table.select(rows).in_classes(known.classes, known.name))
    gold = _common_gold(members, known.classes)
    labels = pa.array([*known.classes, None], pa.string()).take(
        pa.array(np.where(gold < 0, len(known.classes), gold))
    )
    examples = first.examples
    if examples.order is not None:
        examples = Examples(examples.table.take(pa.array(examples.order)))
    examples = examples.replace_column("label", labels)
    sources = next((m.examples.sources for m in members if any(m.examples.sources)), None)
    if sources is not None:
        examples = examples.replace_column("source", pa.array(sources, pa.string()))
    return Ensemble(examples, known.classes, gold, tuple(members))


def _common_gold(members: Sequence[RunTable], classes: tuple[str, ...]) -> NDArray[np.int64]:
    known_by, gold = members[0], members[0].gold
    for table in members[1:]:
        differing = np.flatnonzero((gold >= 0) & (table.gold >= 0) & (gold != table.gold))
        if len(differing):
            row = int(differing[0])
            raise InputError(
                f"{table.name} and {known_by.name} have different gold labels in "
                f"{len(differing):,} of {len(gold):,} rows. The first is row {row + 1}: "
                f"{classes[table.gold[row]]!r} there, {classes[gold[row]]!r} here. They were not "
                "made on the same data."
            )
        known_by = table if (gold < 0).all() else known_by
        gold = np.where(gold < 0, table.gold, gold)
    return gold


@dataclass(frozen=True)
class VoteCount:
    """The outcome of a vote of recorded runs, row by row; label -1 where all members abstain."""

    labels: NDArray[np.int64]
    unanimous: NDArray[np.bool_]
    tied: NDArray[np.bool_]


def vote(members: Sequence[Labelling], ties: Ties = "first") -> VoteCount:
    """Return the label most members give to each row, the most trusted first; see `elect`."""
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
    return [None if np.isnan(row).any() else row.tolist() for row in member.probabilities]
