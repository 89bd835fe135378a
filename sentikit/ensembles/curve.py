"""A cascade's macro-F1 against the share of texts sent to the LLM, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.bootstrap import Purpose, Resampling, percentile_intervals
from sentikit.comparison.counts import macro_f1, tallies
from sentikit.ensembles.cascade import Operation, Routed, all_cuts

STEPS = 100
# A piece of resamples holds at most so many counts.
_COUNTS_AT_A_TIME = 4_000_000


@dataclass(frozen=True)
class CurvePoint(Operation):
    """A cascade at one threshold, and where its macro-F1 lies with the asked confidence."""

    low: float
    high: float


def curve(rows: Routed, resampling: Resampling, steps: int = STEPS) -> list[CurvePoint]:
    """Return macro-F1 against share of calls and cost, in about `steps` even steps of calls.

    The first point is the encoder alone (as far as it answers), the last the LLM alone. All
    points are drawn on the same resamples of the texts.
    """
    every = all_cuts(rows)
    shares = every.calls / every.rows
    wanted = np.linspace(shares[0], 1.0, steps + 1)
    right = np.clip(np.searchsorted(shares, wanted), 1, max(1, len(shares) - 1))
    nearer = wanted - shares[right - 1] <= shares[np.minimum(right, len(shares) - 1)] - wanted
    chosen = np.unique(np.where(nearer, right - 1, np.minimum(right, len(shares) - 1)))
    points = [every.at(int(place)) for place in chosen]
    drawn = _resampled(rows, [point.threshold for point in points], resampling)
    intervals = percentile_intervals(drawn, resampling.confidence)
    return [
        CurvePoint(**point.__dict__, low=bounds.low, high=bounds.high)
        for point, bounds in zip(points, intervals, strict=True)
    ]


def _resampled(
    rows: Routed, thresholds: Sequence[float], resampling: Resampling
) -> NDArray[np.float64]:
    """Return macro-F1 of each resample at each threshold, (resamples, thresholds)."""
    # The bin of a row is the first threshold at which it is sent.
    bins = np.searchsorted(np.array(thresholds), rows.confidence, side="right")
    columns = np.column_stack([bins, rows.gold, rows.encoder, rows.llm])
    kinds, counts = np.unique(columns, axis=0, return_counts=True)
    bin_of, gold, encoder, llm = kinds.T
    kept = tallies(gold, encoder, rows.classes)
    changes = tallies(gold, llm, rows.classes) - kept
    ends = np.searchsorted(bin_of, np.arange(len(thresholds)), side="right")
    drawn, most = [], max(1, _COUNTS_AT_A_TIME // len(kinds))
    for weights in resampling.counts(counts, Purpose.CURVE, most):
        tallied, start = weights @ kept, 0
        scores = np.empty((len(weights), len(thresholds)))
        for number, end in enumerate(ends.tolist()):
            tallied += weights[:, start:end] @ changes[start:end]
            scores[:, number], start = macro_f1(tallied), end
        drawn.append(scores)
    return np.concatenate(drawn)
