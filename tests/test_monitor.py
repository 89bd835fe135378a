"""The monitor alarms where a certificate is broken, and rarely where it holds."""

from __future__ import annotations

import math

import numpy as np
import pytest

import sentikit
from sentikit.errors import InputError


def alarms(rate: float, checks: int, streams: int, level: float = 0.95) -> list[float]:
    """Return after how many checks each stream alarms; infinite where it does not."""
    found = []
    for seed in range(streams):
        monitor = sentikit.Monitor(0.1, level)
        wrong = np.random.default_rng(seed).random(checks) < rate
        found.append(next((i for i, w in enumerate(wrong, 1) if monitor.update(not w)), math.inf))
    return found


def test_false_alarms_are_rarer_than_the_level_allows_at_any_time() -> None:
    assert np.isfinite(alarms(0.1, 1500, 150)).mean() <= 0.05


def test_the_monitor_detects_a_broken_certificate() -> None:
    assert np.median(alarms(0.2, 600, 100)) < 80


def test_evidence_is_the_mixture_of_likelihood_ratios() -> None:
    from sentikit.assurance.certificates import BETS

    monitor = sentikit.Monitor(0.1)
    answers = [True, False, False, True, True, False]
    for correct in answers:
        monitor.update(correct)
    expected = sum(part * (ratio**3) * ((1 - 0.1 * ratio) / 0.9) ** 3 for ratio, part in BETS)
    assert monitor.evidence == pytest.approx(expected, rel=1e-12)
    assert (monitor.checked, monitor.wrong) == (6, 3)


def test_evidence_starts_at_one() -> None:
    assert sentikit.Monitor(0.1).evidence == pytest.approx(1)


def test_an_alarm_of_the_monitor_persists() -> None:
    monitor = sentikit.Monitor(0.1)
    while not monitor.update(False):
        pass
    assert all(monitor.update(True) for _ in range(500))
    assert monitor.evidence < 1


def test_a_thousand_errors_in_a_row_give_infinite_evidence_without_an_error() -> None:
    monitor = sentikit.Monitor(0.01)
    for _ in range(1000):
        monitor.update(False)
    assert monitor.evidence == math.inf


def test_meaningless_error_rates_of_a_monitor_are_refused() -> None:
    with pytest.raises(InputError, match=r"error_rate must be between 0 and 1, .* not 0\."):
        sentikit.Monitor(0)
    with pytest.raises(InputError, match=r"level must be between 0 and 1, .* not 95\."):
        sentikit.Monitor(0.1, 95)
