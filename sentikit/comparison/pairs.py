"""Differences between two runs at a time, and p-values adjusted over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.aligned import AlignedRuns
from sentikit.comparison.bootstrap import PairedEstimates, estimate_pair, paired_estimates
from sentikit.comparison.cells import Cells, count_cells
from sentikit.comparison.joint import JointSamples, joint_samples
from sentikit.comparison.resampling import Resampling
from sentikit.comparison.results import Difference, Test
from sentikit.comparison.significance import (
    benjamini_hochberg,
    cohens_kappa,
    contingency,
    holm,
    mcnemar,
    permutation_test,
)

#: So many pairs or more draw rows for all runs at once, where that is the faster way.
_PAIRS_FOR_JOINT = 20
_ROWS_FOR_JOINT = 40_000


class Pairs:
    """Compares pairs of runs; where there are many, on rows drawn once for all of them."""

    def __init__(self, aligned: AlignedRuns, resampling: Resampling, pairs: int) -> None:
        self._aligned, self._resampling = aligned, resampling
        self._places = {run.name: place for place, run in enumerate(aligned.runs)}
        together = pairs >= _PAIRS_FOR_JOINT and len(aligned) <= _ROWS_FOR_JOINT
        self._joint = _joint(aligned, resampling) if together else None

    def difference(self, first: str, second: str) -> tuple[Difference, PairedEstimates]:
        """Return the difference between two runs, p-values not yet adjusted."""
        cells = self._cells(first, second)
        found = self._estimates(first, second, cells)
        table = contingency(cells)
        kappa, agreement = cohens_kappa(cells)
        difference = Difference(
            first,
            second,
            macro_f1=found.macro_f1,
            accuracy=found.accuracy,
            contingency=table,
            mcnemar=_alone(mcnemar(table)),
            permutation=_alone(permutation_test(cells, self._resampling)),
            bootstrap=_alone(found.p),
            kappa=kappa,
            agreement=agreement,
        )
        return difference, found

    def permutation_p(self, first: str, second: str) -> float:
        """Return the p-value of the permutation test alone."""
        return permutation_test(self._cells(first, second), self._resampling)

    def _cells(self, first: str, second: str) -> Cells:
        runs = (self._aligned.runs[self._places[name]] for name in (first, second))
        labels = [run.answers.labels for run in runs]
        return count_cells(self._aligned.gold, labels, len(self._aligned.classes))

    def _estimates(self, first: str, second: str, cells: Cells) -> PairedEstimates:
        if self._joint is None:
            return estimate_pair(cells, self._resampling)
        one, other = self._places[first], self._places[second]
        f1, accuracies = self._joint.macro_f1, self._joint.accuracy
        return paired_estimates(
            cells, f1[other] - f1[one], accuracies[other] - accuracies[one], self._resampling
        )


def _joint(aligned: AlignedRuns, resampling: Resampling) -> JointSamples:
    """Resample rows in an order that hangs on the texts alone, whatever the order of the runs."""
    order = canonical_order(aligned)
    labels = [run.answers.labels[order] for run in aligned.runs]
    return joint_samples(aligned.gold[order], labels, len(aligned.classes), resampling)


def canonical_order(aligned: AlignedRuns) -> NDArray[np.int64]:
    """Return the rows ordered by text, then id, then gold label."""
    keys = list(
        zip(aligned.examples.texts, aligned.examples.ids, aligned.gold.tolist(), strict=True)
    )
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def _alone(p: float) -> Test:
    return Test(p, p, p)


def adjusted(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Adjust each test's p-values over the family of all differences."""
    mcnemars = _family([found.mcnemar for found in differences])
    permutations = _family([found.permutation for found in differences])
    bootstraps = _family([found.bootstrap for found in differences])
    tests = zip(differences, mcnemars, permutations, bootstraps, strict=True)
    return tuple(
        replace(found, mcnemar=exact, permutation=permuted, bootstrap=resampled)
        for found, exact, permuted, resampled in tests
    )


def _family(tests: Sequence[Test]) -> list[Test]:
    values = [test.p for test in tests]
    return list(map(Test, values, holm(values), benjamini_hochberg(values)))
