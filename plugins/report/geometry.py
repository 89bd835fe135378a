"""Geometry of charts: scales with round ticks, and positions of labels beside dots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Scale:
    """A mapping from values to coordinates.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: a coordinate.
        end: a coordinate.
        logarithmic: whether the scale is logarithmic; values must be positive.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value, clipped to the ends."""
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
    """Return ends with some room around the values, at least `least` apart."""
    known = list(values)
    low, high = min(known), max(known)
    room = max((high - low) * margin, (least - (high - low)) / 2)
    return low - room, high + room


def decimals(ticks: list[float]) -> int:
    """Return the number of decimals that distinguishes all ticks."""
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


#: Distance between a dot's centre and its label.
_GAP = 8.0


@dataclass(frozen=True)
class Box:
    """A rectangle; `top` is the smaller coordinate, as in SVG."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Return whether the rectangles intersect."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: Box) -> bool:
        """Return whether the other lies inside."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


@dataclass(frozen=True)
class Spot:
    """The position of a label.

    Attributes:
        x: the coordinate of its anchor.
        middle: the vertical centre.
        anchor: whether `x` is its start, middle or end.
    """

    x: float
    middle: float
    anchor: Literal["start", "middle", "end"]

    def box(self, width: float, height: float) -> Box:
        """Return the rectangle that a label of this size covers."""
        left = self.x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor]
        return Box(left, self.middle - height / 2, left + width, self.middle + height / 2)


def place_names(
    dots: Sequence[tuple[float, float]],
    widths: Sequence[float],
    height: float,
    lines: Sequence[Box],
    area: Box,
) -> list[Spot | None]:
    """Return the position of each dot's label, None if there is no room for it.

    Args:
        dots: their centres.
        widths: of the labels.
        height: of every label.
        lines: labels avoid them if possible.
        area: labels stay inside it.
    """
    taken = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in dots]
    spots: list[Spot | None] = []
    for dot, width in zip(dots, widths, strict=True):
        free = [
            spot
            for spot in _around(*dot, height)
            if area.holds(box := spot.box(width, height)) and not any(map(box.overlaps, taken))
        ]
        clear = (s for s in free if not any(map(s.box(width, height).overlaps, lines)))
        spot = next(clear, free[0] if free else None)
        spots.append(spot)
        if spot:
            taken.append(spot.box(width, height))
    return spots


def _around(x: float, y: float, height: float) -> Iterator[Spot]:
    """Yield positions around a dot, the most readable first."""
    beyond = _GAP + height / 2
    yield Spot(x + _GAP, y, "start")
    yield Spot(x - _GAP, y, "end")
    for shift in (-beyond, beyond, -2 * beyond, 2 * beyond):
        yield Spot(x - _GAP / 2, y + shift, "end")
        yield Spot(x + _GAP / 2, y + shift, "start")
        yield Spot(x, y + shift, "middle")
