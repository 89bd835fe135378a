"""Scales from values to coordinates, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps values onto a line.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: a coordinate.
        end: a coordinate.
        logarithmic: whether equal ratios are equally far apart; values must be positive.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value; one beyond the ends lies at the end."""
        low, high = self._inner(self.low), self._inner(self.high)
        share = (self._inner(value) - low) / (high - low) if high > low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def _inner(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.logarithmic else value

    def ticks(self, about: int = 5) -> list[float]:
        """Return some round values between the ends."""
        if self.logarithmic:
            return _log_ticks(self.low, self.high)
        step = _round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


def around(
    values: Iterable[float], margin: float = 0.06, least: float = 0.01
) -> tuple[float, float]:
    """Return ends that leave some room around the values, never closer together than `least`."""
    known = list(values)
    low, high = min(known), max(known)
    room = max((high - low) * margin, (least - (high - low)) / 2)
    return low - room, high + room


def decimals(ticks: list[float]) -> int:
    """Return how many decimals tell all ticks apart."""
    return next((n for n in range(6) if all(abs(round(t, n) - t) < 1e-9 for t in ticks)), 6)


def _round_step(about: float) -> float:
    if about <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(about))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= about * 0.999)


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    wide = last - first > 3
    factors = (1,) if wide else (1, 2, 5)
    found = [m * 10.0**p for p in range(first, last + 1) for m in factors]
    return [tick for tick in found if low * 0.999 <= tick <= high * 1.001]
