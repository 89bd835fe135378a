"""Counts of equal rows, from which macro-F1 and accuracy are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentikit.metrics import NamedMetric

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """The distinct rows of a run or a pair, and how often each occurs, at least once."""

    counts: Numbers
    gold: Numbers
    #: The labels of each run, (runs, cells); -1 is an invalid answer.
    labels: Numbers
    classes: int

    @property
    def examples(self) -> int:
        return int(self.counts.sum())


def count_cells(gold: Numbers, labels: Sequence[Numbers], classes: int) -> Cells:
    """Count rows with equal gold class and labels, in the order of the classes."""
    width = classes + 1
    codes = gold.astype(np.int64)
    for answered in labels:
        codes = codes * width + np.where(answered < 0, classes, answered)
    counts = np.bincount(codes, minlength=classes * width ** len(labels))
    present = np.flatnonzero(counts)
    rest, columns = present, []
    for _ in labels:
        rest, column = np.divmod(rest, width)
        columns.append(np.where(column == classes, -1, column))
    return Cells(counts[present], rest, np.array(columns[::-1]), classes)


def tallies(gold: Numbers, labels: Numbers, classes: int) -> Floats:
    """Return what each row adds to a run's tallies, (rows, 2 · classes).

    The first half counts right answers by class, the second gold labels plus answers by class. A
    class's F1 is twice the former divided by the latter.
    """
    rows = np.arange(len(gold))
    result = np.zeros((len(gold), 2 * classes))
    right = labels == gold
    result[rows[right], gold[right]] = 1
    result[rows, classes + gold] = 1
    valid = labels >= 0
    result[rows[valid], classes + labels[valid]] += 1
    return result


def macro_f1(tallied: Floats) -> Floats:
    """Return macro-F1 from tallies, (…, 2 · classes); a class that never occurs counts 0."""
    classes = tallied.shape[-1] // 2
    right, both = tallied[..., :classes], tallied[..., classes:]
    # If the denominator is 0, so is the numerator.
    return np.asarray((right / np.maximum(both, 1)).sum(-1) * (2 / classes))


def accuracy(tallied: Floats, examples: int) -> Floats:
    """Return accuracy from tallies, (…, 2 · classes), and the number of examples."""
    classes = tallied.shape[-1] // 2
    return np.asarray(tallied[..., :classes].sum(-1) / examples)


@dataclass(frozen=True)
class Statistics:
    """Macro-F1, accuracy and plugins' metrics as functions of sums over rows."""

    classes: int
    metrics: tuple[NamedMetric, ...] = ()
    names: tuple[str, ...] = ()

    def rows(self, gold: Numbers, labels: Numbers) -> Floats:
        """Return what each row adds to a run's sums: tallies, and cells of the confusion matrix."""
        own = tallies(gold, labels, self.classes)
        if not self.metrics:
            return own
        width = self.classes + 1
        confusion = np.zeros((len(gold), self.classes * width))
        columns = np.where(labels < 0, self.classes, labels)
        confusion[np.arange(len(gold)), gold * width + columns] = 1
        return np.concatenate([own, confusion], 1)

    def values(self, sums: Floats, examples: int) -> tuple[Floats, ...]:
        """Return macro-F1, accuracy and each metric from sums over examples, (…, sums)."""
        tallied, confusion = np.split(sums, [2 * self.classes], -1)
        plain = macro_f1(tallied), accuracy(tallied, examples)
        if not self.metrics:
            return plain
        shape = (*sums.shape[:-1], self.classes, self.classes + 1)
        counts = np.rint(confusion).astype(np.int64).reshape(shape)
        return *plain, *(metric.score(counts, self.names) for metric in self.metrics)
