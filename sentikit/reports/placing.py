"""Places names beside the dots of a chart, so that none lies on another or on a dot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

#: Room between a dot's middle and a name.
_GAP = 8.0


@dataclass(frozen=True)
class Box:
    """A rectangle; `top` is the smaller coordinate, as in SVG."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Say whether the two have room in common."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: Box) -> bool:
        """Say whether the other lies inside."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


@dataclass(frozen=True)
class Spot:
    """Where a name stands.

    Attributes:
        x: of its start, middle or end.
        middle: half of its height.
        anchor: what of it is at `x`.
    """

    x: float
    middle: float
    anchor: Literal["start", "middle", "end"]

    def box(self, width: float, height: float) -> Box:
        """Return what a name of that size covers."""
        left = self.x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor]
        return Box(left, self.middle - height / 2, left + width, self.middle + height / 2)


def place_names(
    dots: Sequence[tuple[float, float]],
    widths: Sequence[float],
    height: float,
    lines: Sequence[Box],
    area: Box,
) -> list[Spot | None]:
    """Return where each dot's name stands; None where there is no room for it.

    Args:
        dots: their middles.
        widths: of the names.
        height: of all names.
        lines: names keep off them where they can.
        area: names stay inside.
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
    """Yield places around a dot, the most legible first."""
    beyond = _GAP + height / 2
    yield Spot(x + _GAP, y, "start")
    yield Spot(x - _GAP, y, "end")
    for shift in (-beyond, beyond, -2 * beyond, 2 * beyond):
        yield Spot(x - _GAP / 2, y + shift, "end")
        yield Spot(x + _GAP / 2, y + shift, "start")
        yield Spot(x, y + shift, "middle")
