"""How many test texts it takes to tell two set-ups apart."""

from __future__ import annotations

import math
from statistics import NormalDist

from sentikit.comparison.results import Difference, SampleSize
from sentikit.errors import InputError

ALPHA, POWER = 0.05, 0.8


def check_delta(delta: float) -> float:
    """Return a difference to be seen.

    Raises:
        InputError: it is no fraction between 0 and 1.
    """
    if not 0 < delta < 1:
        raise InputError(
            f"--sample-size {delta:g}: the difference to be seen is a fraction between 0 and 1, "
            "as 0.01 for one point."
        )
    return delta


def sample_size(
    difference: Difference, standard_error: float, examples: int, delta: float
) -> SampleSize:
    """Return how many texts show a difference of `delta` between runs that differ like these.

    Args:
        difference: between the runs, with their contingency.
        standard_error: of the macro-F1 difference on `examples` texts.
        examples: how many texts were compared.
        delta: the difference to be seen, a fraction.
    """
    (_, one), (other, _) = difference.contingency
    return SampleSize(
        difference.first,
        difference.second,
        macro_f1=texts_for_mean(standard_error * math.sqrt(examples), delta),
        accuracy=texts_for_mcnemar((one + other) / examples, delta),
    )


def texts_for_mean(deviation: float, delta: float) -> int:
    """Return texts for a difference whose standard deviation by text is `deviation`."""
    return max(
        2, math.ceil(((_quantile(1 - ALPHA / 2) + _quantile(POWER)) * deviation / delta) ** 2)
    )


def texts_for_mcnemar(discordant: float, delta: float) -> int:
    """Return texts for McNemar's test to see a difference of accuracy (Connor 1987).

    Args:
        discordant: share of texts that one run alone labels right; at least `delta` is assumed.
        delta: difference of accuracy.
    """
    share = max(discordant, delta)
    reach = _quantile(1 - ALPHA / 2) * math.sqrt(share)
    reach += _quantile(POWER) * math.sqrt(share - delta**2)
    return max(2, math.ceil((reach / delta) ** 2))


def _quantile(share: float) -> float:
    return NormalDist().inv_cdf(share)
