"""Bootstrap intervals of macro-F1 from counts of equal rows.

Drawing rows with replacement and counting how often each kind of row comes is the same as drawing
the counts of all kinds at once from a multinomial distribution (Efron and Tibshirani 1993, An
Introduction to the Bootstrap, section 6): exact, and independent of the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentikit.scoring import macro_f1

RESAMPLES = 2000
CONFIDENCE = 0.95
# A chunk of resamples holds at most so many numbers.
_CHUNK_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A value and where it lies with 95 % confidence (percentile bootstrap over the texts)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Cells:
    """Rows that are alike, counted.

    Attributes:
        columns: what the rows of a cell share, (cells, columns).
        counts: how many rows each cell has, (cells,).
    """

    columns: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, *columns: NDArray[np.int64]) -> Cells:
        """Count equal rows of several columns."""
        found, counts = np.unique(np.column_stack(columns), axis=0, return_counts=True)
        return cls(found, counts)

    def resamples(self, number: int, seed: int, width: int = 1) -> Iterator[NDArray[np.int64]]:
        """Yield counts of `number` resamples in chunks, (resamples, cells).

        Args:
            number: how many resamples.
            seed: decides the draws.
            width: how many numbers a resample needs per cell, to size the chunks.
        """
        generator = np.random.default_rng(seed)
        rows = int(self.counts.sum())
        shares = self.counts / rows
        chunk = max(1, _CHUNK_NUMBERS // (len(self.counts) * width))
        for start in range(0, number, chunk):
            yield generator.multinomial(rows, shares, size=min(chunk, number - start))


def confusions(
    weights: NDArray[np.int64], gold: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Return confusion counts of weighted cells, (resamples, classes, classes + 1).

    Args:
        weights: counts of each cell, (resamples, cells).
        gold: class numbers of the cells.
        predicted: class numbers of the cells, -1 where invalid.
        classes: how many there are.
    """
    column = np.where(predicted < 0, classes, predicted)
    cell = gold * (classes + 1) + column
    pick = np.zeros((len(cell), classes * (classes + 1)))
    pick[np.arange(len(cell)), cell] = 1
    counts = (weights @ pick).astype(np.int64)
    return counts.reshape(len(weights), classes, classes + 1)


def score_intervals(
    gold: NDArray[np.int64],
    labellings: list[NDArray[np.int64]],
    classes: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[list[Interval], list[Interval]]:
    """Return macro-F1 of each labelling, and how much the first is above each of the others.

    Args:
        gold: class numbers, (rows,).
        labellings: class numbers of each classifier, (rows,), -1 where invalid; the same
            resamples are used for all.
        classes: how many there are.
        resamples: how many are drawn.
        seed: decides which.
    """
    cells = Cells.of(gold, *labellings)
    columns = [cells.columns[:, i + 1] for i in range(len(labellings))]

    def scores(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        own = cells.columns[:, 0]
        return np.stack([macro_f1(confusions(weights, own, c, classes)) for c in columns], 1)

    drawn = np.concatenate([scores(w) for w in cells.resamples(resamples, seed)])
    (measured,) = scores(cells.counts[None, :])
    single = [interval(measured[i], drawn[:, i]) for i in range(len(labellings))]
    differences = [
        interval(measured[0] - measured[i], drawn[:, 0] - drawn[:, i])
        for i in range(1, len(labellings))
    ]
    return single, differences


def interval(value: float, drawn: NDArray[np.float64]) -> Interval:
    """Return the percentile interval of a value from its resamples, (resamples,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high))
