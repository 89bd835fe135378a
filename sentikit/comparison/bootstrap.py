"""Bootstrap intervals of macro-F1, accuracy and their paired differences.

When rows are drawn with replacement, the counts of equal rows are multinomial. Drawing these counts
instead is equivalent, and its cost does not depend on the number of rows (Efron and Tibshirani
1993, An Introduction to the Bootstrap, chapter 6).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.counts import Cells, Floats, Numbers, Statistics
from sentikit.comparison.results import Estimate, Estimates, Interval


class Purpose(IntEnum):
    """The purpose of random numbers; each has its own stream."""

    SINGLE = 1
    PAIR = 2
    ROWS = 3
    PERMUTATION = 4
    CURVE = 5


@dataclass(frozen=True)
class Resampling:
    """The number of resamples, their seed, and the confidence of the intervals."""

    resamples: int = 10_000
    seed: int = 42
    confidence: float = 0.95

    def generator(self, purpose: Purpose) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose])

    def pieces(self, most: int) -> Iterator[int]:
        """Split the resamples into pieces of at most `most`, and yield their sizes."""
        for start in range(0, self.resamples, most):
            yield min(most, self.resamples - start)

    def counts(self, counts: Numbers, purpose: Purpose, most: int = 0) -> Iterator[Numbers]:
        """Yield how often each kind of row is drawn, (resamples, kinds), in pieces.

        A piece has at most `most` resamples; 0 draws all at once.
        """
        generator, rows = self.generator(purpose), int(counts.sum())
        for size in self.pieces(most or self.resamples):
            yield generator.multinomial(rows, counts / rows, size)


#: Counts drawn together: with many classes, all resamples would not fit in memory.
_NUMBERS_AT_A_TIME = 20_000_000
#: Scores that differ by less count as equal.
_TOLERANCE = 1e-12


def estimate(
    value: Floats, samples: Floats, left_out: Floats, counts: Numbers, confidence: float
) -> Estimate:
    """Return a value with its intervals.

    `samples` are its values on the resamples; `left_out` are its jackknife values, each without
    one row of a cell, whose sizes are `counts`.
    """
    tail = (1 - confidence) / 2
    ordered = np.sort(samples)
    plain = _between(ordered, tail, 1 - tail)
    shares = _bca_shares(float(value), ordered, left_out, counts, tail)
    return Estimate(float(value), plain, _between(ordered, *shares) if shares else plain)


def percentile_intervals(samples: Floats, confidence: float) -> list[Interval]:
    """Return the percentile interval of each column of resampled scores, (resamples, columns)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    return list(map(Interval, low.tolist(), high.tolist()))


def two_sided(differences: Floats) -> float:
    """Return 2 · min(#≤0, #≥0), each counted as (k + 1) / (B + 1), never above 1."""
    down = int((differences <= _TOLERANCE).sum())
    up = int((differences >= -_TOLERANCE).sum())
    return min(1.0, 2 * (min(down, up) + 1) / (len(differences) + 1))


def _between(ordered: Floats, low: float, high: float) -> Interval:
    bounds = np.quantile(ordered, [low, high])
    return Interval(float(bounds[0]), float(bounds[1]))


def _bca_shares(
    value: float, ordered: Floats, left_out: Floats, counts: Numbers, tail: float
) -> tuple[float, float] | None:
    """Return the quantiles that bound the BCa interval (Efron 1987, section 3).

    None if bias or acceleration is undefined, for example if all resamples are equal.
    """
    below = np.searchsorted(ordered, value - _TOLERANCE, "left")
    up_to = np.searchsorted(ordered, value + _TOLERANCE, "right")
    share = float(below + up_to) / (2 * len(ordered))
    deviations = counts @ left_out / counts.sum() - left_out
    spread = float(counts @ deviations**2)
    if not 0 < share < 1 or spread < 1e-24:
        return None
    normal = NormalDist()
    bias = normal.inv_cdf(share)
    acceleration = float(counts @ deviations**3) / (6 * spread**1.5)

    def moved(quantile: float) -> float:
        sum_ = bias + normal.inv_cdf(quantile)
        return normal.cdf(bias + sum_ / (1 - acceleration * sum_))

    shares = moved(tail), moved(1 - tail)
    return shares if all(math.isfinite(s) for s in shares) and shares[0] < shares[1] else None


@dataclass(frozen=True, kw_only=True)
class PairedEstimates(Estimates):
    """The second run's scores minus the first's; `p` and `standard_error` are of macro-F1."""

    p: float
    standard_error: float


def estimate_run(
    cells: Cells, resampling: Resampling, statistics: Statistics | None = None
) -> Estimates:
    """Return the scores of one run with their intervals."""
    known = statistics or Statistics(cells.classes)
    (samples,) = _samples(cells, resampling, Purpose.SINGLE, known)
    values, left_out = _jackknife(cells, 0, known)
    return Estimates(*_named(values, samples, left_out, cells, resampling, known))


def estimate_pair(
    cells: Cells, resampling: Resampling, statistics: Statistics | None = None
) -> PairedEstimates:
    """Return the differences between two runs, resampling the same examples for both."""
    known = statistics or Statistics(cells.classes)
    sign = _orientation(cells)
    turned = cells if sign >= 0 else _swapped(cells)
    samples = _subtract(_samples(turned, resampling, Purpose.PAIR, known))
    if sign == 0:
        # The runs are mirror images, and so are their differences.
        samples = tuple(map(_mirrored, samples))
    turn = -1 if sign < 0 else 1
    return paired_estimates(cells, [turn * own for own in samples], resampling, known)


def _samples(
    cells: Cells, resampling: Resampling, purpose: Purpose, statistics: Statistics
) -> list[tuple[Floats, ...]]:
    """Return each run's scores on each resample, (resamples,)."""
    rows = [statistics.rows(cells.gold, labels) for labels in cells.labels]
    most = max(1, _NUMBERS_AT_A_TIME // len(cells.counts))
    pieces = [
        [statistics.values(drawn @ own, cells.examples) for own in rows]
        for drawn in resampling.counts(cells.counts, purpose, most)
    ]
    return [
        tuple(map(np.concatenate, zip(*(piece[run] for piece in pieces), strict=True)))
        for run in range(len(rows))
    ]


def _mirrored(differences: Floats) -> Floats:
    half = differences[: len(differences) // 2]
    return np.concatenate([half, -half, np.zeros(len(differences) % 2)])


def paired_estimates(
    cells: Cells,
    samples: Sequence[Floats],
    resampling: Resampling,
    statistics: Statistics | None = None,
) -> PairedEstimates:
    """Summarize resampled differences of two runs, (resamples,) of each statistic."""
    known = statistics or Statistics(cells.classes)
    values, left_out = zip(*(_jackknife(cells, run, known) for run in (0, 1)), strict=True)
    f1 = samples[0]
    return PairedEstimates(
        *_named(_subtract(values), samples, _subtract(left_out), cells, resampling, known),
        p=two_sided(f1),
        standard_error=float(f1.std(ddof=1)) if len(f1) > 1 else 0.0,
    )


def _jackknife(
    cells: Cells, run: int, statistics: Statistics
) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """Return a run's scores, and its scores without one row of each cell, (cells,)."""
    rows, n = statistics.rows(cells.gold, cells.labels[run]), cells.examples
    total = cells.counts @ rows
    return statistics.values(total, n), statistics.values(total - rows, max(1, n - 1))


def _subtract(runs: Sequence[tuple[Floats, ...]]) -> tuple[Floats, ...]:
    """Return the second run's scores minus the first's."""
    first, second = runs
    return tuple(other - own for own, other in zip(first, second, strict=True))


def _named(
    values: Sequence[Floats],
    samples: Sequence[Floats],
    left_out: Sequence[Floats],
    cells: Cells,
    resampling: Resampling,
    statistics: Statistics,
) -> tuple[Estimate, Estimate, dict[str, Estimate]]:
    """Return the estimates of macro-F1, of accuracy, and of the metrics by name."""
    f1, right, *others = (
        estimate(*found, cells.counts, resampling.confidence)
        for found in zip(values, samples, left_out, strict=True)
    )
    names = [metric.name for metric in statistics.metrics]
    return f1, right, dict(zip(names, others, strict=True))


def _swapped(cells: Cells) -> Cells:
    """Return the cells of a pair with the runs exchanged, in canonical order."""
    # An invalid answer is -1 and sorts last.
    shifted = np.where(cells.labels < 0, cells.classes, cells.labels)
    order = np.lexsort((shifted[0], shifted[1], cells.gold))
    return Cells(
        cells.counts[order], cells.gold[order], cells.labels[::-1][:, order], cells.classes
    )


def _orientation(cells: Cells) -> int:
    """Return 1 or -1 for a pair and its mirror image, 0 if they are the same.

    Random numbers are drawn for one of the two, so that swapping the runs only changes the signs.
    """
    swapped = _swapped(cells)
    for own, other in zip(_rows(cells), _rows(swapped), strict=True):
        if own != other:
            return 1 if own > other else -1
    return 0


def _rows(cells: Cells) -> list[tuple[int, ...]]:
    columns = (cells.gold, *cells.labels, cells.counts)
    return list(zip(*(column.tolist() for column in columns), strict=True))


#: Rows drawn together, few enough to stay in the processor's cache.
_DRAWN_AT_A_TIME = 2_000_000


def joint_samples(
    gold: Numbers, labels: Sequence[Numbers], statistics: Statistics, resampling: Resampling
) -> list[Floats]:
    """Draw rows once for all runs; return each statistic's values, (runs, resamples)."""
    codes, rows = _patterns(gold, labels, statistics)
    found: list[tuple[Floats, ...]] = []
    for drawn in _drawn_patterns(codes, len(rows), resampling):
        sums = (drawn @ rows).reshape(len(drawn), len(labels), -1).astype(np.float64)
        found.append(statistics.values(sums, len(gold)))
    return [np.concatenate(own).T for own in zip(*found, strict=True)]


def _patterns(
    gold: Numbers, labels: Sequence[Numbers], statistics: Statistics
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return each row's pattern number, and what each distinct pattern adds to the sums."""
    kind = np.int8 if statistics.classes < 127 else np.int64
    rows = np.stack([gold, *labels], 1).astype(kind)
    together = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    _, first, codes = np.unique(together.ravel(), return_index=True, return_inverse=True)
    blocks = [statistics.rows(gold[first], answered[first]) for answered in labels]
    # Counts below 2^24 are exact in single precision.
    return codes.ravel().astype(np.int32), np.concatenate(blocks, 1).astype(np.float32)


def _drawn_patterns(
    codes: NDArray[np.int32], patterns: int, resampling: Resampling
) -> Iterator[NDArray[np.float32]]:
    """Yield the counts of each pattern, (resamples, patterns), in pieces."""
    generator = resampling.generator(Purpose.ROWS)
    n = len(codes)
    for size in resampling.pieces(max(1, _DRAWN_AT_A_TIME // n)):
        drawn = codes[generator.integers(0, n, (size, n), dtype=np.int32)]
        drawn += (np.arange(size, dtype=np.int32) * patterns)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * patterns)
        yield counts.reshape(size, patterns).astype(np.float32)
