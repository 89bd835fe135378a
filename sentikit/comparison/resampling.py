"""How examples are drawn again and again, with replacement.

Drawing rows with replacement makes the counts of equal rows multinomial. Drawing those counts gives
what drawing rows gives, at a cost that does not grow with the rows (Efron and Tibshirani 1993, An
Introduction to the Bootstrap, chapter 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from sentikit.comparison.cells import Numbers


class Purpose(IntEnum):
    """What random numbers are for: each purpose has its own."""

    SINGLE = 1
    PAIR = 2
    ROWS = 3
    PERMUTATION = 4
    CURVE = 5


@dataclass(frozen=True)
class Resampling:
    """How to resample.

    Attributes:
        resamples: how often.
        seed: of the random numbers; the same seed gives the same figures.
        confidence: of the intervals.
    """

    resamples: int = 10_000
    seed: int = 42
    confidence: float = 0.95

    def generator(self, purpose: Purpose) -> np.random.Generator:
        """Return random numbers for a purpose."""
        return np.random.default_rng([self.seed, purpose])

    def pieces(self, most: int) -> Iterator[tuple[int, int]]:
        """Yield the first resample and the number of resamples of each piece of at most `most`."""
        for start in range(0, self.resamples, most):
            yield start, min(most, self.resamples - start)

    def counts(self, counts: Numbers, purpose: Purpose, most: int = 0) -> Iterator[Numbers]:
        """Yield how often each kind of row is drawn, (resamples, kinds), piece by piece.

        Args:
            counts: how often each kind of row is there, (kinds,).
            purpose: decides the random numbers.
            most: resamples in a piece; 0 draws all at once.
        """
        generator, rows = self.generator(purpose), int(counts.sum())
        for _, size in self.pieces(most or self.resamples):
            yield generator.multinomial(rows, counts / rows, size)
