"""Paired significance tests, corrections for multiple tests, and sample sizes."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.bootstrap import Purpose, Resampling
from sentikit.comparison.counts import Cells, Statistics
from sentikit.comparison.results import CochranQ, Difference, SampleSize
from sentikit.errors import InputError

# A p-value too small for a double becomes this, because none is 0.
_SMALLEST = sys.float_info.min

Contingency = tuple[tuple[int, int], tuple[int, int]]


def contingency(cells: Cells) -> Contingency:
    """Count examples by first run right, wrong (rows) and second right, wrong (columns)."""
    first, second = (labels == cells.gold for labels in cells.labels)

    def count(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> int:
        return int(cells.counts[one & other].sum())

    return (
        (count(first, second), count(first, ~second)),
        (count(~first, second), count(~first, ~second)),
    )


def mcnemar(table: Contingency) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947): a binomial test."""
    from scipy.special import bdtr

    one, other = table[0][1], table[1][0]
    if one + other == 0:
        return 1.0
    return max(_SMALLEST, min(1.0, 2 * float(bdtr(min(one, other), one + other, 0.5))))


def permutation_test(cells: Cells, resampling: Resampling) -> float:
    """Return the two-sided p-value of the paired permutation test of macro-F1."""
    return permutation_tests(cells, resampling, Statistics(cells.classes))[0]


def permutation_tests(
    cells: Cells, resampling: Resampling, statistics: Statistics
) -> tuple[float, ...]:
    """Return the two-sided p-value of the paired permutation test of each statistic.

    Under the null hypothesis, the two answers to an example are exchangeable: of m examples with
    the same gold label and the same two answers, a binomial number is swapped (Good 2005).
    """
    gold, low, high, members = _unordered(cells)
    n, rows = cells.examples, statistics.rows
    totals = [cells.counts @ rows(cells.gold, labels) for labels in cells.labels]
    if not len(members):
        return (1.0,) * len(statistics.values(totals[0], n))
    # At first every low label is the second run's; each swap gives one to the first.
    low_rows, high_rows, fixed = rows(gold, low), rows(gold, high), _fixed(cells, statistics)
    moved = _moved(members, low_rows - high_rows, resampling)
    firsts = statistics.values(fixed + members @ high_rows + moved, n)
    seconds = statistics.values(fixed + members @ low_rows - moved, n)
    observed = (statistics.values(total, n) for total in totals)
    return tuple(
        (int((np.abs(after - before) >= abs(float(second - first)) - 1e-12).sum()) + 1)
        / (resampling.resamples + 1)
        for before, after, first, second in zip(firsts, seconds, *observed, strict=True)
    )


#: Cells whose swaps are drawn together.
_CELLS_AT_A_TIME = 256


def _moved(
    members: NDArray[np.int64], difference: NDArray[np.float64], resampling: Resampling
) -> NDArray[np.float64]:
    """Return how the swaps of each resample change the first run's sums, (resamples, sums)."""
    moved = np.zeros((resampling.resamples, difference.shape[1]))
    for start in range(0, len(members), _CELLS_AT_A_TIME):
        own = slice(start, start + _CELLS_AT_A_TIME)
        moved += _swaps(members[own], start, resampling) @ difference[own]
    return moved


def _swaps(members: NDArray[np.int64], start: int, resampling: Resampling) -> NDArray[np.float64]:
    """Draw the number of swapped examples per cell, (resamples, cells), binomial with p = 1/2.

    The inverse distribution function maps uniform numbers to binomial ones. The uniform numbers
    are the same for every pair of runs, so they are sorted once.
    """
    from scipy.special import bdtr

    swaps = np.empty((len(members), resampling.resamples))
    for cell, count in enumerate(members.tolist()):
        order, ordered = _uniform(resampling.seed, resampling.resamples, start + cell)
        # Values beyond 40 standard deviations have negligible probability.
        reach = 20 * math.sqrt(count) + 1
        low, high = max(0, math.floor(count / 2 - reach)), min(count, math.ceil(count / 2 + reach))
        drawn = np.arange(low, high + 1)
        ends = np.searchsorted(ordered, bdtr(drawn, count, 0.5))
        ends[-1] = len(ordered)
        swaps[cell, order] = np.repeat(drawn, np.diff(ends, prepend=0))
    return swaps.T


@functools.lru_cache(maxsize=256)
def _uniform(seed: int, resamples: int, cell: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the index of each uniform number before sorting, and the numbers, sorted."""
    numbers = np.random.default_rng([seed, Purpose.PERMUTATION, cell]).random(resamples)
    order = np.argsort(numbers)
    return order, numbers[order]


def _fixed(cells: Cells, statistics: Statistics) -> NDArray[np.float64]:
    """Return the sums over the examples with the same label from both runs."""
    same = cells.labels[0] == cells.labels[1]
    rows = statistics.rows(cells.gold[same], cells.labels[0][same])
    return np.asarray(cells.counts[same] @ rows)


def _unordered(cells: Cells) -> tuple[NDArray[np.int64], ...]:
    """Return gold label, lower label, higher label and count of the examples that differ."""
    differ = cells.labels[0] != cells.labels[1]
    pairs = np.sort(cells.labels[:, differ], 0)
    rows = np.stack([cells.gold[differ], *pairs], 1)
    distinct, member = np.unique(rows, axis=0, return_inverse=True)
    counts = np.bincount(member.ravel(), cells.counts[differ], len(distinct)).astype(np.int64)
    return distinct[:, 0], distinct[:, 1], distinct[:, 2], counts


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the family-wise error rate (Holm 1979)."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return _in_order(adjusted, order)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the false discovery rate (Benjamini and Hochberg 1995)."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.minimum(1, np.minimum.accumulate(scaled[::-1])[::-1])
    return _in_order(adjusted, order)


def _in_order(adjusted: NDArray[np.float64], order: NDArray[np.int64]) -> list[float]:
    result = np.empty(len(adjusted))
    result[order] = adjusted
    return [float(value) for value in result]


def cochrans_q(gold: NDArray[np.int64], labels: Sequence[NDArray[np.int64]]) -> CochranQ:
    """Test whether runs are equally accurate (Cochran 1950)."""
    from scipy.special import chdtrc

    runs = len(labels)
    by_run = np.array([int((answered == gold).sum()) for answered in labels], np.float64)
    by_example = np.zeros(len(gold), np.int32)
    for answered in labels:
        by_example += answered == gold
    total = float(by_run.sum())
    below = runs * total - float((by_example.astype(np.float64) ** 2).sum())
    if below == 0:
        return CochranQ(0.0, runs - 1, 1.0)
    statistic = (runs - 1) * (runs * float((by_run**2).sum()) - total**2) / below
    p = max(_SMALLEST, float(chdtrc(runs - 1, statistic)))
    return CochranQ(statistic, runs - 1, p)


def cohens_kappa(cells: Cells) -> tuple[float, float]:
    """Return Cohen's kappa (1960) between a pair's labels, and the share of equal labels.

    Invalid answers count as a separate label. Kappa is 1 if both runs always give the same label.
    """
    width = cells.classes + 1
    first, second = (np.bincount(row + 1, cells.counts, width) for row in cells.labels)
    n = cells.examples
    agreed = float(cells.counts[cells.labels[0] == cells.labels[1]].sum()) / n
    by_chance = float(first @ second) / n**2
    if by_chance >= 1:
        return 1.0, agreed
    return (agreed - by_chance) / (1 - by_chance), agreed


ALPHA, POWER = 0.05, 0.8


def check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError(
            f"--sample-size must be a difference between 0 and 1, such as 0.01 for one point, not "
            f"{delta:g}."
        )


def sample_size(
    difference: Difference, standard_error: float, examples: int, delta: float
) -> SampleSize:
    """Return the texts needed to show a difference of `delta` between runs like these."""
    (_, one), (other, _) = difference.contingency
    return SampleSize(
        difference.first,
        difference.second,
        macro_f1=texts_for_mean(standard_error * math.sqrt(examples), delta),
        accuracy=texts_for_mcnemar((one + other) / examples, delta),
    )


def texts_for_mean(deviation: float, delta: float) -> int:
    """Return the texts needed if the difference's standard deviation per text is `deviation`."""
    return max(
        2, math.ceil(((_quantile(1 - ALPHA / 2) + _quantile(POWER)) * deviation / delta) ** 2)
    )


def texts_for_mcnemar(discordant: float, delta: float) -> int:
    """Return the texts McNemar's test needs to show a difference of accuracy (Connor 1987).

    `discordant` is the share of texts that only one run labels right, taken as at least `delta`.
    """
    share = max(discordant, delta)
    reach = _quantile(1 - ALPHA / 2) * math.sqrt(share)
    reach += _quantile(POWER) * math.sqrt(share - delta**2)
    return max(2, math.ceil((reach / delta) ** 2))


def _quantile(share: float) -> float:
    return NormalDist().inv_cdf(share)
