"""From resampled scores to intervals and p-values."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from sentikit.comparison.cells import Floats, Numbers
from sentikit.comparison.results import Estimate, Interval

#: Scores that differ by less are equal.
_TOLERANCE = 1e-12


def estimate(
    value: Floats, samples: Floats, left_out: Floats, counts: Numbers, confidence: float
) -> Estimate:
    """Return a value with its intervals.

    Args:
        value: on all examples.
        samples: on each resample, (resamples,).
        left_out: without one row of each cell, (cells,).
        counts: how many rows each cell has, (cells,).
        confidence: of the intervals.
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
    """Return which shares of the resamples bound the BCa interval (Efron 1987, section 3).

    None where bias or acceleration cannot be told, as where no resample differs.
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
