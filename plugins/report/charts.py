"""Charts as drawings.

A chart is 360 units wide, like a phone, and scalable. Its colours are names from
`sentikit.plugins.report.drawing.STYLES`, so one drawing serves light and dark pages, print and PNG.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentikit.extension import CurvePoint

from .drawing import (
    Circle,
    Drawing,
    Polyline,
    Rect,
    Shape,
    Text,
    line,
    short_name,
)
from .geometry import Box, Scale, around, decimals, place_names

WIDTH = 360.0
_LEFT, _RIGHT = 2.0, 358.0
#: In cells smaller than this, a confusion matrix shows only shares.
_ROOM_FOR_COUNTS = 36.0


@dataclass(frozen=True)
class Bar:
    """A value with an interval.

    Attributes:
        name: what the value belongs to.
        value: the position of the mark.
        low: the lower end of the interval.
        high: the upper end.
        stands_out: whether the accent colour is used.
    """

    name: str
    value: float
    low: float
    high: float
    stands_out: bool = False

    @property
    def tone(self) -> str:
        """The bar's colour."""
        return "accent" if self.stands_out else "plain"


@dataclass(frozen=True)
class Priced:
    """A run with its cost and score.

    Attributes:
        name: of the run.
        cost: USD, not negative.
        value: macro-F1.
        on_front: whether no other is both cheaper and better.
    """

    name: str
    cost: float
    value: float
    on_front: bool


@dataclass(frozen=True)
class Mark:
    """A named point on a cascade's curve: share of texts sent to the LLM, and macro-F1."""

    name: str
    share: float
    value: float


def forest(title: str, bars: Sequence[Bar], signed: bool = False) -> Drawing:
    """Draw one interval per row.

    Args:
        title: for screen readers.
        bars: from top to bottom.
        signed: whether the values are differences, with a line at zero and signs.
    """
    row, top = 34.0, 6.0
    ends = [end for bar in bars for end in (bar.low, bar.high, *([0.0] if signed else []))]
    scale = Scale(*around(ends), _LEFT + 4, _RIGHT - 4)
    bottom = top + row * len(bars)
    shapes = _grid(scale, top, bottom)
    for number, bar in enumerate(bars):
        own = top + row * number
        if signed:
            # The line does not cross the names.
            shapes.append(line(scale(0), own + 15, scale(0), own + 31, "axis"))
        shapes += _forest_row(bar, scale, own, "+.4f" if signed else ".4f")
    return Drawing(WIDTH, bottom + 22, title, tuple(shapes))


def _forest_row(bar: Bar, scale: Scale, top: float, shape: str) -> list[Shape]:
    figures = f"{bar.value:{shape}}  [{bar.low:{shape}}, {bar.high:{shape}}]"
    middle, strong = top + 23, " strong" if bar.stands_out and "+" not in shape else ""
    low, high = scale(bar.low), scale(bar.high)
    return [
        Text(_LEFT, top + 12, short_name(bar.name, 29), f"name{strong}"),
        Text(_RIGHT, top + 12, figures, "figure end"),
        line(low, middle, high, middle, f"interval {bar.tone}"),
        line(low, middle - 4, low, middle + 4, f"cap {bar.tone}"),
        line(high, middle - 4, high, middle + 4, f"cap {bar.tone}"),
        Circle(scale(bar.value), middle, 4.5, f"dot {bar.tone}", f"{bar.name}: {figures}"),
    ]


def cost_front(title: str, runs: Sequence[Priced]) -> Drawing:
    """Draw macro-F1 against cost, with the front of runs that no other run dominates."""
    height, bottom, top, left = 300.0, 262.0, 14.0, 44.0
    # Runs on the front get names first; there may not be room for all.
    runs = sorted(runs, key=lambda run: (not run.on_front, -run.value))
    least = min((run.cost for run in runs if run.cost > 0), default=1.0)
    # The axis is logarithmic: free runs are drawn at a third of the lowest cost.
    shown = [max(run.cost, least / 3) for run in runs]
    across = Scale(min(shown) * 0.8, max(shown) * 1.6, left, _RIGHT - 10, logarithmic=True)
    up = Scale(*around([run.value for run in runs], 0.12), bottom, top)
    dots = [(across(cost), up(run.value)) for cost, run in zip(shown, runs, strict=True)]
    steps = _steps([dot for dot, run in zip(dots, runs, strict=True) if run.on_front])
    names = [short_name(run.name, 26) for run in runs]
    lines = [Box(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in steps]
    area = Box(left, top - 8, _RIGHT, bottom)
    spots = place_names(dots, [6.4 * len(name) for name in names], 11.0, lines, area)
    shapes = [*_cost_axes(across, up, top, bottom), *(line(*step, "front") for step in steps)]
    for run, (x, y), name, spot in zip(runs, dots, names, spots, strict=True):
        hint = f"{run.name}: {run.value:.4f} for {shown_dollars(run.cost)}"
        shapes.append(Circle(x, y, 5.0, f"dot {'accent' if run.on_front else 'plain'}", hint))
        if spot:
            shapes.append(Text(spot.x, spot.middle + 4, name, f"name {spot.anchor}"))
    return Drawing(WIDTH, height, title, tuple(shapes))


def _cost_axes(across: Scale, up: Scale, top: float, bottom: float) -> list[Shape]:
    costs = across.ticks()
    return [
        *_score_axis(up, across.start, top - 3, "macro-F1"),
        *(Text(across(tick), bottom + 16, shown_dollars(tick), "tick middle") for tick in costs),
        *(line(across(tick), bottom, across(tick), bottom + 4, "axis") for tick in costs),
        line(across.start, bottom, _RIGHT, bottom, "axis"),
        Text(_RIGHT, bottom + 34, "USD: training, and answers to these texts", "tick end"),
    ]


def _score_axis(
    up: Scale, left: float, top: float, name: str, right: float = _RIGHT
) -> list[Shape]:
    """Draw horizontal lines at round scores, with values at the left and the name above."""
    ticks = up.ticks(4)
    digits = decimals(ticks)
    return [
        *(line(left, up(tick), right, up(tick), "grid") for tick in ticks),
        *(Text(left - 6, up(tick) + 4, f"{tick:.{digits}f}", "tick end") for tick in ticks),
        Text(max(_LEFT, left - 42), top, name, "tick"),
    ]


def _steps(dots: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """Return the front's steps through its dots, cheapest first: right, then up."""
    lines = []
    for (x, y), (to_x, to_y) in itertools.pairwise(sorted(dots)):
        lines += [(x, y, to_x, y), (to_x, y, to_x, to_y)]
    return lines


def confusion(
    title: str, counts: Mapping[str, Mapping[str, int]], invalid: bool | None = None
) -> Drawing:
    """Draw gold classes (rows) against predictions (columns), shaded by share of the row.

    Args:
        title: for screen readers.
        counts: gold class to predicted class, or ``invalid``, to count.
        invalid: whether to show a column of invalid predictions; None: if there are any.
    """
    gold = list(counts)
    if invalid is None:
        invalid = any(row.get("invalid", 0) for row in counts.values())
    columns = [*gold, "invalid"] if invalid else gold
    names = [short_name(name, 20) for name in columns]
    left = max(76.0, 12 + 6.4 * max(map(len, names)))
    size = min(62.0, max(19.0, (WIDTH - left) / len(columns)))
    longest = max(map(len, names)) * 6.6
    slanted = longest > size
    top = 16 + (6 + 0.72 * longest if slanted else 16)
    shapes: list[Shape] = [
        Text(left, 10, "predicted", "tick"),
        Text(_LEFT, top - 6, "gold", "tick"),
    ]
    for number, name in enumerate(names):
        x = left + size * (number + 0.5)
        kind, turn = ("tick", -45.0) if slanted else ("tick middle", 0.0)
        shapes.append(Text(x, top - 6, name, kind, turn))
    for number, (name, row) in enumerate(zip(gold, counts.values(), strict=True)):
        middle = top + size * (number + 0.5)
        cells = [row.get(column, 0) for column in columns]
        crowded = size < _ROOM_FOR_COUNTS
        shapes.append(Text(_LEFT, middle + (4 if crowded else -1), names[number], "tick"))
        if not crowded:
            shapes.append(Text(_LEFT, middle + 13, f"n = {sum(cells):,}", "tick small"))
        shapes += _confusion_row(name, columns, cells, number, (left, middle, size))
    width = left + size * len(columns) + (0.72 * longest if slanted else 4)
    return Drawing(width, top + size * len(gold) + 4, title, tuple(shapes))


def _confusion_row(
    name: str,
    columns: Sequence[str],
    counts: Sequence[int],
    right: int,
    place: tuple[float, float, float],
) -> list[Shape]:
    left, middle, size = place
    total, cells, gap = max(1, sum(counts)), list[Shape](), 1.5 if size > 30 else 0.75
    for column, count in enumerate(counts):
        share, x = count / total, left + size * column
        hint = f"{name} as {columns[column]}: {count:,} ({share:.1%})"
        tone = "accent" if column == right else "second"
        ink = "on-shade" if share > 0.55 else "figure"
        opacity = 0.05 + 0.95 * share**0.75
        room = size - 2 * gap
        corner = (x + gap, middle - size / 2 + gap)
        cells.append(Rect(*corner, room, room, f"cell {tone}", min(5.0, size / 8), opacity, hint))
        if size < _ROOM_FOR_COUNTS:
            cells.append(Text(x + size / 2, middle + 3, f"{100 * share:.0f}", f"{ink} tiny middle"))
        else:
            cells.append(Text(x + size / 2, middle - 1, f"{share:.1%}", f"{ink} middle strong"))
            cells.append(Text(x + size / 2, middle + 13, f"{count:,}", f"{ink} middle small"))
    return cells


def source_bars(title: str, bars: Sequence[Bar]) -> Drawing:
    """Draw scores as bars from 0, with intervals at their ends."""
    row, top = 32.0, 4.0
    scale = Scale(0.0, 1.0, _LEFT, _RIGHT)
    bottom = top + row * len(bars)
    shapes = _grid(scale, top, bottom)
    for number, bar in enumerate(bars):
        y, left = top + row * number, scale(0)
        hint = f"{bar.name}: {bar.value:.4f}, {bar.low:.4f} to {bar.high:.4f}"
        kind = f"bar {bar.tone}"
        shapes += [
            Text(_LEFT, y + 12, short_name(bar.name, 36), "name"),
            Text(_RIGHT, y + 12, f"{bar.value:.4f}", "figure end"),
            Rect(left, y + 17, scale(bar.value) - left, 10.0, kind, 2.0, hint=hint),
            line(scale(bar.low), y + 22, scale(bar.high), y + 22, "whisker"),
        ]
    return Drawing(WIDTH, bottom + 22, title, tuple(shapes))


def cascade_curve(
    title: str, points: Sequence[CurvePoint], marks: Sequence[Mark], whole_cost: float | None
) -> Drawing:
    """Draw macro-F1 against the share of texts sent to the LLM.

    Args:
        title: for screen readers.
        points: fewest calls first.
        marks: points to name, such as the threshold in use.
        whole_cost: USD per 1,000 texts if the LLM answers all, for a cost axis; or None.
    """
    left, top, bottom = 44.0, 16.0, 252.0
    across = Scale(0.0, 1.0, left, _RIGHT - 2)
    values = [v for p in points for v in (p.low, p.high)] + [mark.value for mark in marks]
    up = Scale(*around(values, 0.12), bottom, top)
    upper = [(across(p.share), up(p.high)) for p in points]
    lower = [(across(p.share), up(p.low)) for p in reversed(points)]
    shapes = [
        *_curve_axes(across, up, top, bottom, whole_cost),
        Polyline((*upper, *lower), "band", closed=True),
        Polyline(tuple((across(p.share), up(p.macro_f1)) for p in points), "curve"),
    ]
    for mark in marks:
        shapes += _mark(mark, across(mark.share), up(mark.value), top)
    return Drawing(WIDTH, bottom + (46 if whole_cost is None else 60), title, tuple(shapes))


def _curve_axes(
    across: Scale, up: Scale, top: float, bottom: float, whole_cost: float | None
) -> list[Shape]:
    shapes = _score_axis(up, across.start, top - 5, "macro-F1")
    shapes.append(line(across.start, bottom, _RIGHT, bottom, "axis"))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = across(share)
        shapes.append(line(x, bottom, x, bottom + 4, "axis"))
        shapes.append(Text(x, bottom + 16, f"{share:.0%}", _tick(x)))
        if whole_cost is not None:
            shapes.append(Text(x, bottom + 30, shown_dollars(share * whole_cost), _tick(x)))
    caption = "texts sent to the LLM"
    caption += "" if whole_cost is None else ", and USD for 1,000 texts"
    below = 34 if whole_cost is None else 48
    return [*shapes, Text(_RIGHT, bottom + below, caption, "tick end")]


def _mark(mark: Mark, x: float, y: float, top: float) -> list[Shape]:
    place = "end" if x > WIDTH * 0.66 else "middle" if x > WIDTH * 0.34 else ""
    shift = {"end": 4.0, "middle": 0.0, "": -4.0}[place]
    below = 18 if y < top + 30 else -10
    hint = f"{mark.name}: {mark.value:.4f} at {mark.share:.1%} of the calls"
    return [
        Circle(x, y, 5.0, "dot second", hint),
        Text(x + shift, y + below, short_name(mark.name, 40), f"name {place}".strip()),
    ]


def reliability(title: str, bins: Sequence[Mapping[str, float]]) -> Drawing:
    """Draw accuracy against confidence; a dot's area shows how many examples its bin has."""
    across, up, shapes = _unit_square("confidence", "accuracy")
    shapes.append(line(across(0), up(0), across(1), up(1), "dashed"))
    most = max((row["examples"] for row in bins), default=1)
    for row in bins:
        hint = (
            f"confidence {row['confidence']:.3f}, accuracy {row['accuracy']:.3f}, "
            f"{row['examples']:,.0f} texts"
        )
        r = 2 + 8 * (row["examples"] / most) ** 0.5
        shapes.append(Circle(across(row["confidence"]), up(row["accuracy"]), r, "bubble", hint))
    return _square(title, shapes)


#: Colours of the classes, in order; further classes repeat them, dashed.
_TONES = ("accent", "second", "third", "plain")


def class_curves(
    title: str,
    axes: tuple[str, str],
    curves: Mapping[str, Sequence[tuple[float, float]]],
    diagonal: bool = False,
) -> Drawing:
    """Draw a curve in the unit square for each class, and name the classes below.

    Args:
        title: for screen readers.
        axes: names of the horizontal and the vertical axis.
        curves: class to points, from left to right.
        diagonal: whether to draw the line of a random classifier.
    """
    across, up, shapes = _unit_square(*axes)
    if diagonal:
        shapes.append(line(across(0), up(0), across(1), up(1), "dashed"))
    legend: list[Shape] = []
    left, y = 4.0, 260.0
    for number, (name, points) in enumerate(curves.items()):
        # The kind "dashed" gives the dash; the tone overrides its colour.
        kind = f"curve {_TONES[number % len(_TONES)]}"
        kind += " dashed" if number >= len(_TONES) else ""
        shapes.append(Polyline(tuple((across(x), up(y)) for x, y in points), kind))
        shown = short_name(name, 24)
        width = 26 + 6.6 * len(shown)
        if left + width > 236 and left > 4:
            left, y = 4.0, y + 16
        legend.append(line(left, y - 4, left + 12, y - 4, kind))
        legend.append(Text(left + 16, y, shown, "tick"))
        left += width
    drawn = _square(title, [*shapes, *legend])
    return Drawing(drawn.width, y + 8, title, drawn.shapes)


def _unit_square(below: str, left_name: str) -> tuple[Scale, Scale, list[Shape]]:
    size, left, top = 190.0, 34.0, 20.0
    across, up = Scale(0.0, 1.0, left, left + size), Scale(0.0, 1.0, top + size, top)
    shapes: list[Shape] = []
    for tick in (0.0, 0.5, 1.0):
        shapes += [
            line(left, up(tick), left + size, up(tick), "grid"),
            Text(left - 5, up(tick) + 4, f"{tick:g}", "tick end"),
            Text(across(tick), top + size + 15, f"{tick:g}", "tick middle"),
        ]
    shapes.append(Text(left + size, top + size + 30, below, "tick end"))
    shapes.append(Text(_LEFT, 10, left_name, "tick"))
    return across, up, shapes


def _square(title: str, shapes: Sequence[Shape]) -> Drawing:
    return Drawing(236.0, 246.0, title, tuple(shapes))


def learning_curves(records: Sequence[Mapping[str, Any]]) -> Drawing:
    """Draw loss and validation scores by epoch, and name the epoch whose weights were kept.

    Args:
        records: those of ``log.jsonl``, with at least one epoch.
    """
    epochs = [record for record in records if record["kind"] == "epoch"]
    steps = [r for r in records if r["kind"] == "step" and r["loss"] is not None]
    per_epoch = epochs[-1]["step"] / epochs[-1]["epoch"]
    by_step = [(r["step"] / per_epoch, float(r["loss"])) for r in steps]
    losses = {
        "training, by step": ("thin accent", by_step),
        "training": ("curve accent", _by_epoch(epochs, "training_loss")),
        "validation": ("curve second", _by_epoch(epochs, "validation_loss")),
    }
    scores = {
        "macro-F1": ("curve second", _by_epoch(epochs, "validation_macro_f1")),
        "accuracy": ("curve plain", _by_epoch(epochs, "validation_accuracy")),
    }
    known = [value for _, points in list(losses.values())[1:] for _, value in points]
    highest = 1.08 * max([*known, *_without_spikes([loss for _, loss in by_step])]) or 1.0
    values = [value for _, points in scores.values() for _, value in points]
    margin = max(0.03, 0.08 * (max(values) - min(values)))
    ends = max(0.0, min(values) - margin), min(1.02, max(values) + margin)
    shapes = [
        *_epoch_panel("Loss", losses, (0.0, highest), len(epochs), 0.0),
        *_epoch_panel("Validation scores", scores, ends, len(epochs), 360.0),
        *_kept_epoch(epochs, 360.0),
    ]
    return Drawing(720.0, 300.0, "Loss and validation scores by epoch", tuple(shapes))


def _by_epoch(epochs: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(record["epoch"]), float(record[key])) for record in epochs]


def _without_spikes(values: Sequence[float]) -> list[float]:
    """Leave out the highest 1%, which would flatten the curves."""
    return sorted(values)[: math.ceil(0.99 * len(values))]


def _epoch_scale(epochs: int, shift: float) -> Scale:
    return Scale(0.0, 1.03 * epochs, shift + 44, shift + 350)


def _epoch_panel(
    title: str,
    series: Mapping[str, tuple[str, Sequence[tuple[float, float]]]],
    ends: tuple[float, float],
    epochs: int,
    shift: float,
) -> list[Shape]:
    top, bottom = 46.0, 262.0
    across, up = _epoch_scale(epochs, shift), Scale(*ends, bottom, top)
    shapes: list[Shape] = [Text(shift + 8, 18, title, "heading")]
    shapes += _score_axis(up, across.start, -20, "", across.end)
    shapes.append(line(across.start, bottom, across.end, bottom, "axis"))
    ticks = sorted({max(1, round(tick)) for tick in across.ticks(8)})
    shapes += [Text(across(t), bottom + 16, f"{t}", "tick middle") for t in ticks]
    shapes.append(Text(across.end, bottom + 32, "epoch", "tick end"))
    left = shift + 8
    for name, (kind, points) in series.items():
        shapes.append(Polyline(tuple((across(x), up(y)) for x, y in points), kind))
        if epochs <= 40 and "curve" in kind:
            tone = kind.split()[1]
            shapes += [Circle(across(x), up(y), 3.0, f"dot {tone}", f"{y:.4f}") for x, y in points]
        shapes.append(line(left, 33, left + 12, 33, kind))
        shapes.append(Text(left + 16, 37, name, "tick"))
        left += 30 + 6.4 * len(name)
    return shapes


def _kept_epoch(epochs: Sequence[Mapping[str, Any]], shift: float) -> list[Shape]:
    best = epochs[-1]["best_epoch"]
    value = next((r["validation_macro_f1"] for r in epochs if r["epoch"] == best), None)
    if value is None:
        return []
    x = _epoch_scale(len(epochs), shift)(best)
    return [
        line(x, 46, x, 262, "dashed"),
        Text(shift + 350, 18, f"kept: epoch {best}, {value:.4f}", "figure end"),
    ]


def shown_dollars(amount: float) -> str:
    """Return an amount of USD as a short label for an axis."""
    if amount == 0:
        return "$0"
    if amount >= 100:
        return f"${amount:,.0f}"
    return f"${amount:.2f}".removesuffix(".00") if amount >= 1 else f"${amount:.2g}"


def _grid(scale: Scale, top: float, bottom: float) -> list[Shape]:
    """Draw vertical lines at round values, with the values below."""
    ticks = scale.ticks(5)
    digits = decimals(ticks)
    lines: list[Shape] = [line(scale(t), top, scale(t), bottom, "grid") for t in ticks]
    texts = [Text(scale(t), bottom + 15, f"{t:.{digits}f}", _tick(scale(t))) for t in ticks]
    return [*lines, *texts]


def _tick(x: float) -> str:
    """Return the anchor of a tick's label, so that it stays inside the drawing."""
    return "tick end" if x > WIDTH - 20 else "tick" if x < 16 else "tick middle"
