"""Pairs of runs: their differences, and how an LLM follows its adviser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.alignment import AlignedRuns
from sentikit.comparison.bootstrap import (
    PairedEstimates,
    Resampling,
    estimate_pair,
    joint_samples,
    paired_estimates,
)
from sentikit.comparison.counts import Cells, Floats, Statistics, count_cells
from sentikit.comparison.results import (
    ChangedDecisions,
    Difference,
    MetricDifference,
    Partnership,
    Test,
)
from sentikit.comparison.significance import (
    benjamini_hochberg,
    cohens_kappa,
    contingency,
    holm,
    mcnemar,
    permutation_test,
    permutation_tests,
)
from sentikit.metrics import NamedMetric
from sentikit.runs.table import RunTable

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
