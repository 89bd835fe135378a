"""Bootstrap intervals of macro-F1, accuracy and their paired differences.

Resampling rows with replacement makes the counts of equal rows multinomial. Drawing those counts
gives what drawing rows gives, at a cost that does not grow with the rows (Efron and Tibshirani
1993, chapter 6). Where many runs are compared, rows are drawn once for all of them instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sentikit.comparing.cells import Cells, Floats, Numbers, accuracy, macro_f1, tallies
from sentikit.comparing.results import Estimate, Estimates, Interval

#: Rows are drawn for so many resamples at a time, to stay in the processor's cache.
_DRAWN_AT_A_TIME = 2_000_000


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

    def generator(self, purpose: int) -> np.random.Generator:
        """Return random numbers; each purpose has its own."""
        return np.random.default_rng([self.seed, purpose])


_SINGLE, _PAIR, _ROWS = 1, 2, 3


@dataclass(frozen=True)
class PairedEstimates:
    """The second run's scores less the first's.

    Attributes:
        macro_f1: with its intervals.
        accuracy: with its intervals.
        p: two-sided, of the macro-F1 difference, from the resampled differences.
        standard_error: of the macro-F1 difference.
    """

    macro_f1: Estimate
    accuracy: Estimate
    p: float
    standard_error: float


def estimate_run(cells: Cells, resampling: Resampling) -> Estimates:
    """Return the scores of one run with their intervals."""
    drawn = _draw(cells, resampling, _SINGLE)
    own = cells.tallies(0)
    left_out = cells.counts @ own - own
    n = cells.examples
    samples = drawn @ own
    values = cells.counts @ own
    return Estimates(
        _estimate(macro_f1(values), macro_f1(samples), macro_f1(left_out), cells, resampling),
        _estimate(
            accuracy(values, n),
            accuracy(samples, n),
            accuracy(left_out, max(1, n - 1)),
            cells,
            resampling,
        ),
    )


def estimate_pair(cells: Cells, resampling: Resampling) -> PairedEstimates:
    """Return the differences between two runs, the same examples drawn for both."""
    sign = _orientation(cells)
    turned = cells if sign >= 0 else _swapped(cells)
    drawn = _draw(turned, resampling, _PAIR)
    first, second = (score_samples(drawn @ turned.tallies(run), cells.examples) for run in (0, 1))
    f1, accuracies = second[0] - first[0], second[1] - first[1]
    if sign == 0:
        # The runs are mirror images: so are their differences.
        f1, accuracies = _mirrored(f1), _mirrored(accuracies)
    turn = -1 if sign < 0 else 1
    return paired_estimates(cells, turn * f1, turn * accuracies, resampling)


def _mirrored(differences: Floats) -> Floats:
    half = differences[: len(differences) // 2]
    return np.concatenate([half, -half, np.zeros(len(differences) % 2)])


def paired_estimates(
    cells: Cells, f1: Floats, accuracies: Floats, resampling: Resampling
) -> PairedEstimates:
    """Sum up resampled differences, (resamples,), of two runs."""
    own = [cells.tallies(run) for run in (0, 1)]
    whole = [cells.counts @ tallied for tallied in own]
    left = [total - tallied for total, tallied in zip(whole, own, strict=True)]
    n = cells.examples
    return PairedEstimates(
        _estimate(
            macro_f1(whole[1]) - macro_f1(whole[0]),
            f1,
            macro_f1(left[1]) - macro_f1(left[0]),
            cells,
            resampling,
        ),
        _estimate(
            accuracy(whole[1], n) - accuracy(whole[0], n),
            accuracies,
            accuracy(left[1], max(1, n - 1)) - accuracy(left[0], max(1, n - 1)),
            cells,
            resampling,
        ),
        p=_two_sided(f1),
        standard_error=float(f1.std(ddof=1)) if len(f1) > 1 else 0.0,
    )


def score_samples(tallied: Floats, examples: int) -> tuple[Floats, Floats]:
    """Return macro-F1 and accuracy of resamples from their tallies."""
    return macro_f1(tallied), accuracy(tallied, examples)


@dataclass(frozen=True)
class JointSamples:
    """Scores of several runs on the same resamples, (runs, resamples)."""

    macro_f1: Floats
    accuracy: Floats


def joint_samples(
    gold: Numbers, labels: Sequence[Numbers], classes: int, resampling: Resampling
) -> JointSamples:
    """Draw rows once for all runs.

    Args:
        gold: class numbers, (rows,), in an order that hangs on the examples alone.
        labels: of each run, (rows,).
        classes: how many there are.
        resampling: how often.
    """
    codes, tallied = _patterns(gold, labels, classes)
    runs, n = len(labels), len(gold)
    f1, accuracies = (np.empty((runs, resampling.resamples)) for _ in range(2))
    for start, drawn in _drawn_patterns(codes, len(tallied), resampling):
        sums = (drawn @ tallied).reshape(len(drawn), runs, 2 * classes).astype(np.float64)
        end = start + len(drawn)
        f1[:, start:end] = macro_f1(sums).T
        accuracies[:, start:end] = accuracy(sums, n).T
    return JointSamples(f1, accuracies)


def _patterns(
    gold: Numbers, labels: Sequence[Numbers], classes: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Number the different rows; return each row's number, and each number's tallies."""
    rows = np.stack([gold, *labels], 1).astype(np.int8 if classes < 127 else np.int64)
    together = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    _, first, codes = np.unique(together.ravel(), return_index=True, return_inverse=True)
    blocks = [tallies(gold[first], answered[first], classes) for answered in labels]
    # Counts below 2^24 are exact in single precision.
    return codes.ravel().astype(np.int32), np.concatenate(blocks, 1).astype(np.float32)


def _drawn_patterns(
    codes: NDArray[np.int32], patterns: int, resampling: Resampling
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the number of the first resample and how often each has each pattern."""
    generator = resampling.generator(_ROWS)
    n = len(codes)
    piece = max(1, _DRAWN_AT_A_TIME // n)
    for start in range(0, resampling.resamples, piece):
        size = min(piece, resampling.resamples - start)
        drawn = codes[generator.integers(0, n, (size, n), dtype=np.int32)]
        drawn += (np.arange(size, dtype=np.int32) * patterns)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * patterns)
        yield start, counts.reshape(size, patterns).astype(np.float32)


def _draw(cells: Cells, resampling: Resampling, purpose: int) -> Numbers:
    """Return resampled counts, (resamples, cells)."""
    shares = cells.counts / cells.examples
    generator = resampling.generator(purpose)
    return generator.multinomial(cells.examples, shares, resampling.resamples)


def _estimate(
    value: Floats, samples: Floats, left_out: Floats, cells: Cells, resampling: Resampling
) -> Estimate:
    """Return a value with its intervals.

    Args:
        value: on all examples.
        samples: on each resample, (resamples,).
        left_out: without one row of each cell, (cells,).
        cells: how often each occurs.
        resampling: says the confidence.
    """
    tail = (1 - resampling.confidence) / 2
    ordered = np.sort(samples)
    plain = _between(ordered, tail, 1 - tail)
    shares = _bca_shares(float(value), ordered, left_out, cells.counts, tail)
    return Estimate(float(value), plain, _between(ordered, *shares) if shares else plain)


def _between(ordered: Floats, low: float, high: float) -> Interval:
    bounds = np.quantile(ordered, [low, high])
    return Interval(float(bounds[0]), float(bounds[1]))


def _bca_shares(
    value: float, ordered: Floats, left_out: Floats, counts: Numbers, tail: float
) -> tuple[float, float] | None:
    """Return which shares of the resamples bound the BCa interval (Efron 1987, section 3).

    None where bias or acceleration cannot be told, as where no resample differs.
    """
    below = np.searchsorted(ordered, value - 1e-12, "left")
    up_to = np.searchsorted(ordered, value + 1e-12, "right")
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


def _two_sided(differences: Floats) -> float:
    """Return 2 · min(#≤0, #≥0), each counted as (k + 1) / (B + 1), never above 1."""
    tolerance = 1e-12
    down = int((differences <= tolerance).sum())
    up = int((differences >= -tolerance).sum())
    return min(1.0, 2 * (min(down, up) + 1) / (len(differences) + 1))


def _swapped(cells: Cells) -> Cells:
    """Return the cells of a pair with the runs the other way round, in their usual order."""
    # An invalid answer is -1 here and comes last among cells.
    shifted = np.where(cells.labels < 0, cells.classes, cells.labels)
    order = np.lexsort((shifted[0], shifted[1], cells.gold))
    return Cells(
        cells.counts[order], cells.gold[order], cells.labels[::-1][:, order], cells.classes
    )


def _orientation(cells: Cells) -> int:
    """Return 1 or -1 for a pair and its mirror image, 0 where they are the same.

    Random numbers are drawn for one of the two, so that swapping runs changes signs alone.
    """
    swapped = _swapped(cells)
    for own, other in zip(_rows(cells), _rows(swapped), strict=True):
        if own != other:
            return 1 if own > other else -1
    return 0


def _rows(cells: Cells) -> list[tuple[int, ...]]:
    columns = (cells.gold, *cells.labels, cells.counts)
    return list(zip(*(column.tolist() for column in columns), strict=True))
