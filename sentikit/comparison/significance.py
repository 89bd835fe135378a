"""Tests of differences between runs, and pairs of runs: how they differ and work together."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.alignment import AlignedRuns
from sentikit.comparison.bootstrap import (
    PairedEstimates,
    Purpose,
    Resampling,
    estimate_pair,
    joint_samples,
    paired_estimates,
)
from sentikit.comparison.counts import Cells, Floats, Statistics, count_cells
from sentikit.comparison.results import (
    ChangedDecisions,
    CochranQ,
    Difference,
    MetricDifference,
    Partnership,
    SampleSize,
    Test,
)
from sentikit.errors import InputError
from sentikit.metrics import NamedMetric
from sentikit.runs.table import RunTable

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


#: From so many pairs, and up to so many rows, drawing rows once for all runs is faster.
_PAIRS_FOR_JOINT = 20
_ROWS_FOR_JOINT = 40_000


class Pairs:
    """Computes the differences of pairs of runs; many pairs share the same resamples."""

    def __init__(
        self,
        aligned: AlignedRuns,
        resampling: Resampling,
        pairs: int,
        metrics: tuple[NamedMetric, ...] = (),
    ) -> None:
        self._aligned, self._resampling = aligned, resampling
        self._statistics = Statistics(len(aligned.classes), metrics, aligned.classes)
        self._places = {run.name: place for place, run in enumerate(aligned.runs)}
        together = pairs >= _PAIRS_FOR_JOINT and len(aligned) <= _ROWS_FOR_JOINT
        self._joint: list[Floats] | None = None
        if together:
            order = canonical_order(aligned)
            labels = [run.answers.labels[order] for run in aligned.runs]
            gold = aligned.gold[order]
            self._joint = joint_samples(gold, labels, self._statistics, resampling)

    def difference(self, first: str, second: str) -> tuple[Difference, PairedEstimates]:
        """Return the difference between two runs, with unadjusted p-values."""
        cells = self._cells(first, second)
        found = self._estimates(first, second, cells)
        table = contingency(cells)
        kappa, agreement = cohens_kappa(cells)
        p, _, *others = permutation_tests(cells, self._resampling, self._statistics)
        difference = Difference(
            first,
            second,
            macro_f1=found.macro_f1,
            accuracy=found.accuracy,
            contingency=table,
            mcnemar=_unadjusted(mcnemar(table)),
            permutation=_unadjusted(p),
            bootstrap=_unadjusted(found.p),
            kappa=kappa,
            agreement=agreement,
            metrics={
                name: MetricDifference(own, _unadjusted(other))
                for (name, own), other in zip(found.metrics.items(), others, strict=True)
            },
        )
        return difference, found

    def permutation_p(self, first: str, second: str) -> float:
        return permutation_test(self._cells(first, second), self._resampling)

    def _cells(self, first: str, second: str) -> Cells:
        runs = (self._aligned.runs[self._places[name]] for name in (first, second))
        labels = [run.answers.labels for run in runs]
        return count_cells(self._aligned.gold, labels, len(self._aligned.classes))

    def _estimates(self, first: str, second: str, cells: Cells) -> PairedEstimates:
        if self._joint is None:
            return estimate_pair(cells, self._resampling, self._statistics)
        one, other = self._places[first], self._places[second]
        samples = [values[other] - values[one] for values in self._joint]
        return paired_estimates(cells, samples, self._resampling, self._statistics)


def canonical_order(aligned: AlignedRuns) -> NDArray[np.int64]:
    """Return the rows ordered by text, id and gold label, independent of the runs' order."""
    keys = list(
        zip(aligned.examples.texts, aligned.examples.ids, aligned.gold.tolist(), strict=True)
    )
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def _unadjusted(p: float) -> Test:
    return Test(p, p, p)


def adjusted(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Adjust the p-values of each test over all differences."""
    mcnemars = _family([found.mcnemar for found in differences])
    permutations = _family([found.permutation for found in differences])
    bootstraps = _family([found.bootstrap for found in differences])
    names = list(differences[0].metrics) if differences else []
    metrics = {n: _family([found.metrics[n].permutation for found in differences]) for n in names}
    tests = zip(differences, mcnemars, permutations, bootstraps, strict=True)
    return tuple(
        replace(
            found,
            mcnemar=exact,
            permutation=permuted,
            bootstrap=resampled,
            metrics={
                name: replace(own, permutation=metrics[name][number])
                for name, own in found.metrics.items()
            },
        )
        for number, (found, exact, permuted, resampled) in enumerate(tests)
    )


def _family(tests: Sequence[Test]) -> list[Test]:
    values = [test.p for test in tests]
    return list(map(Test, values, holm(values), benjamini_hochberg(values)))


def partnership(aligned: AlignedRuns, run: RunTable, baseline: str | None) -> Partnership | None:
    """Measure how a run follows its adviser; None for a run without one."""
    # A cascade's LLM answers in place of the encoder; it is not shown the prediction.
    if run.adviser is None or run.manifest.get("kind") == "cascade":
        return None
    rows = np.flatnonzero(run.adviser.labels >= 0)
    if not len(rows):
        return None
    advised, answered = run.adviser.labels[rows], run.answers.labels[rows]
    followed, right = answered == advised, advised == aligned.gold[rows]
    when_right, when_wrong = _share(followed[right]), _share(followed[~right])
    gap = None if when_right is None or when_wrong is None else when_right - when_wrong
    alone = runs_alone(aligned.runs, run, baseline)
    return Partnership(
        rows=len(rows),
        follow_rate=float(followed.mean()),
        follow_rate_right=when_right,
        follow_rate_wrong=when_wrong,
        discrimination_gap=gap,
        changed=tuple(changed_decisions(aligned.gold, run, other) for other in alone),
    )


def runs_alone(runs: Sequence[RunTable], run: RunTable, baseline: str | None) -> list[RunTable]:
    """Return the runs that may be the same LLM without an adviser.

    These are the runs whose manifests name the same model; else the baseline; else the only LLM's
    run without an adviser.
    """
    others = [other for other in runs if other.adviser is None and _may_be_llm(other)]
    model = run.manifest.get("model")
    if model:
        same = [other for other in others if other.manifest.get("model") == model]
        if same:
            return same
    named = [other for other in others if other.name == baseline]
    if named:
        return named
    return others if len(others) == 1 else []


def changed_decisions(
    gold: NDArray[np.int64], augmented: RunTable, alone: RunTable
) -> ChangedDecisions:
    """Count the right and wrong changes of the LLM's own answer to its adviser's."""
    assert augmented.adviser is not None
    advised, answered = augmented.adviser.labels, augmented.answers.labels
    changed = (answered != alone.answers.labels) & (answered == advised) & (advised >= 0)
    right = int((changed & (answered == gold)).sum())
    return ChangedDecisions(alone.name, right, int(changed.sum()) - right)


def _may_be_llm(run: RunTable) -> bool:
    return run.manifest.get("kind", "prompt") == "prompt" and not run.path.endswith("#encoder")


def _share(followed: NDArray[np.bool_]) -> float | None:
    return float(followed.mean()) if len(followed) else None
