"""Bootstrap estimates of macro-F1, accuracy and their paired differences, from counts of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sentikit.comparison.cells import Cells, Floats, accuracy, macro_f1
from sentikit.comparison.intervals import estimate, two_sided
from sentikit.comparison.resampling import Purpose, Resampling
from sentikit.comparison.results import Estimate, Estimates


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
    own, n = cells.tallies(0), cells.examples
    (drawn,) = resampling.counts(cells.counts, Purpose.SINGLE)
    whole = cells.counts @ own
    values, samples = _scores(whole, n), _scores(drawn @ own, n)
    left_out = _scores(whole - own, max(1, n - 1))
    return Estimates(*_estimates(values, samples, left_out, cells, resampling))


def estimate_pair(cells: Cells, resampling: Resampling) -> PairedEstimates:
    """Return the differences between two runs, the same examples drawn for both."""
    sign = _orientation(cells)
    turned = cells if sign >= 0 else _swapped(cells)
    (drawn,) = resampling.counts(turned.counts, Purpose.PAIR)
    f1, accuracies = _less([_scores(drawn @ turned.tallies(run), cells.examples) for run in (0, 1)])
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
    n, values, left_out = cells.examples, [], []
    for run in (0, 1):
        own = cells.tallies(run)
        whole = cells.counts @ own
        values.append(_scores(whole, n))
        left_out.append(_scores(whole - own, max(1, n - 1)))
    samples = f1, accuracies
    estimates = _estimates(_less(values), samples, _less(left_out), cells, resampling)
    return PairedEstimates(
        *estimates,
        p=two_sided(f1),
        standard_error=float(f1.std(ddof=1)) if len(f1) > 1 else 0.0,
    )


#: Macro-F1 and accuracy.
_Scores = tuple[Floats, Floats]


def _scores(tallied: Floats, examples: int) -> _Scores:
    return macro_f1(tallied), accuracy(tallied, examples)


def _less(runs: Sequence[_Scores]) -> _Scores:
    """Return the second run's scores less the first's."""
    first, second = runs
    return second[0] - first[0], second[1] - first[1]


def _estimates(
    values: _Scores, samples: _Scores, left_out: _Scores, cells: Cells, resampling: Resampling
) -> tuple[Estimate, Estimate]:
    """Return the estimates of macro-F1 and of accuracy."""
    f1, right = (
        estimate(*found, cells.counts, resampling.confidence)
        for found in zip(values, samples, left_out, strict=True)
    )
    return f1, right


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
