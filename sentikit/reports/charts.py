"""Charts of a comparison as SVG: pure functions from figures to markup.

Every chart is drawn 360 units wide, a phone's width, and scales from there; colours are the
page's, so that light, dark and print need no second drawing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from sentikit.ensembles.curve import CurvePoint
from sentikit.reports.markup import Markup, element, svg
from sentikit.reports.placing import Box, place_names
from sentikit.reports.scales import Scale, around, decimals
from sentikit.reports.shown import Bar, Mark, Priced, short_name, shown_dollars

WIDTH = 360.0
_LEFT, _RIGHT = 2.0, 358.0


def forest(title: str, bars: Sequence[Bar], zero: bool = False) -> Markup:
    """Draw intervals one below the other.

    Args:
        title: for those who do not see it.
        bars: from top to bottom.
        zero: the values are differences: mark where there is none, and write signs.
    """
    row, top = 34.0, 6.0
    ends = [end for bar in bars for end in (bar.low, bar.high, *([0.0] if zero else []))]
    scale = Scale(*around(ends), _LEFT + 4, _RIGHT - 4)
    bottom = top + row * len(bars)
    parts = [_grid(scale, top, bottom)]
    for number, bar in enumerate(bars):
        own = top + row * number
        if zero:
            # Not through the names.
            parts.append(_line(scale(0), own + 15, scale(0), own + 31, "axis"))
        parts.append(_forest_row(bar, scale, own, zero))
    return svg(WIDTH, bottom + 22, title, *parts)


def _forest_row(bar: Bar, scale: Scale, top: float, signed: bool) -> Markup:
    shape = "{:+.4f}" if signed else "{:.4f}"
    value = shape.format(bar.value)
    bounds = f"{shape.format(bar.low)} to {shape.format(bar.high)}"
    middle, tone = top + 23, "accent" if bar.stands_out else "plain"
    weight = "strong" if bar.stands_out and not signed else ""
    return element(
        "g",
        element("title", f"{bar.name}: {value}, {bounds}"),
        _text(_LEFT, top + 12, short_name(bar.name, 34), f"name {weight}"),
        _text(_RIGHT, top + 12, value, "figure end"),
        _line(scale(bar.low), middle, scale(bar.high), middle, f"interval {tone}"),
        _line(scale(bar.low), middle - 4, scale(bar.low), middle + 4, f"cap {tone}"),
        _line(scale(bar.high), middle - 4, scale(bar.high), middle + 4, f"cap {tone}"),
        element("circle", cx=scale(bar.value), cy=middle, r=4.5, class_=f"dot {tone}"),
    )


def cost_front(title: str, runs: Sequence[Priced]) -> Markup:
    """Draw macro-F1 against cost, and the front that no run is beyond; costs logarithmic."""
    height, bottom, top, left = 300.0, 262.0, 14.0, 44.0
    # The best on the front are named first: there may not be room for all.
    runs = sorted(runs, key=lambda run: (not run.on_front, -run.value))
    least = min((run.cost for run in runs if run.cost > 0), default=1.0)
    # A logarithm knows no 0: what is free stands at the left, a third of the cheapest.
    shown = [max(run.cost, least / 3) for run in runs]
    across = Scale(min(shown) * 0.8, max(shown) * 1.6, left, _RIGHT - 10, logarithmic=True)
    up = Scale(*around([run.value for run in runs], 0.12), bottom, top)
    dots = [(across(cost), up(run.value)) for cost, run in zip(shown, runs, strict=True)]
    steps = _steps([dot for dot, run in zip(dots, runs, strict=True) if run.on_front])
    names = [short_name(run.name, 26) for run in runs]
    lines = [Box(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in steps]
    area = Box(left, top - 8, _RIGHT, bottom)
    spots = place_names(dots, [6.2 * len(name) for name in names], 11.0, lines, area)
    parts = [_cost_axes(across, up, top, bottom, left)]
    parts += [_line(*step, "front") for step in steps]
    for run, (x, y), name, spot in zip(runs, dots, names, spots, strict=True):
        tone = "accent" if run.on_front else "plain"
        title_ = element("title", f"{run.name}: {run.value:.4f} for {shown_dollars(run.cost)}")
        parts.append(element("circle", title_, cx=x, cy=y, r=5.0, class_=f"dot {tone}"))
        if spot:
            parts.append(_text(spot.x, spot.middle + 4, name, f"name {spot.anchor}"))
    return svg(WIDTH, height, title, *parts)


def _cost_axes(across: Scale, up: Scale, top: float, bottom: float, left: float) -> Markup:
    costs, scores = across.ticks(), up.ticks(4)
    digits = decimals(scores)
    lines = [
        *(_line(left, up(tick), _RIGHT, up(tick), "grid") for tick in scores),
        *(_text(left - 6, up(tick) + 4, f"{tick:.{digits}f}", "tick end") for tick in scores),
        *(_text(across(tick), bottom + 16, shown_dollars(tick), "tick middle") for tick in costs),
        *(_line(across(tick), bottom, across(tick), bottom + 4, "axis") for tick in costs),
        _line(left, bottom, _RIGHT, bottom, "axis"),
        _text(_RIGHT, bottom + 34, "USD: training, and answers to these texts", "tick end"),
        _text(_LEFT, top - 3, "macro-F1", "tick"),
    ]
    return element("g", *lines)


def _steps(dots: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """Return the lines of the front through its dots, cheapest first: along, then up."""
    ordered, lines = sorted(dots), []
    for (x, y), (to_x, to_y) in itertools.pairwise(ordered):
        lines += [(x, y, to_x, y), (to_x, y, to_x, to_y)]
    return lines


def confusion(title: str, confusion_counts: Mapping[str, Mapping[str, int]]) -> Markup:
    """Draw gold classes (rows) against answers (columns), shaded by the share of the row."""
    gold = list(confusion_counts)
    invalid = any(row.get("invalid", 0) for row in confusion_counts.values())
    answers = [*gold, "invalid"] if invalid else gold
    left, top, size = 62.0, 34.0, 62.0
    parts = [_text(left, 10, "answered", "tick"), _text(_LEFT, top - 6, "gold", "tick")]
    for column, name in enumerate(answers):
        x = left + size * (column + 0.5)
        parts.append(_text(x, top - 6, short_name(name, 10), "tick middle"))
    for number, name in enumerate(gold):
        y = top + size * number
        parts.append(_text(_LEFT, y + size / 2 + 4, short_name(name, 10), "tick"))
        counts = [confusion_counts[name].get(answer, 0) for answer in answers]
        parts += _confusion_row(counts, number, left, y, size)
    return svg(left + size * len(answers) + 4, top + size * len(gold) + 4, title, *parts)


def _confusion_row(
    counts: Sequence[int], right: int, left: float, y: float, size: float
) -> list[Markup]:
    total, cells = max(1, sum(counts)), []
    for column, count in enumerate(counts):
        share, x = count / total, left + size * column
        tone = "right" if column == right else "wrong"
        ink = "on-shade" if share > 0.55 else "figure"
        cells += [
            element(
                "rect",
                x=x + 1.5,
                y=y + 1.5,
                width=size - 3,
                height=size - 3,
                rx=5,
                class_=f"cell {tone}",
                fill_opacity=f"{0.05 + 0.95 * share**0.75:.3f}",
            ),
            _text(x + size / 2, y + size / 2 - 1, f"{share:.0%}", f"{ink} middle strong"),
            _text(x + size / 2, y + size / 2 + 14, f"{count:,}", f"{ink} middle small"),
        ]
    return cells


def source_bars(title: str, bars: Sequence[Bar]) -> Markup:
    """Draw scores from 0, one below the other, their intervals at the end."""
    row, top = 32.0, 4.0
    scale = Scale(0.0, 1.0, _LEFT, _RIGHT)
    bottom = top + row * len(bars)
    parts = [_grid(scale, top, bottom)]
    for number, bar in enumerate(bars):
        y, tone = top + row * number, "accent" if bar.stands_out else "plain"
        middle = y + 22
        parts.append(
            element(
                "g",
                element("title", f"{bar.name}: {bar.value:.4f}, {bar.low:.4f} to {bar.high:.4f}"),
                _text(_LEFT, y + 12, short_name(bar.name, 36), "name"),
                _text(_RIGHT, y + 12, f"{bar.value:.4f}", "figure end"),
                element(
                    "rect",
                    x=scale(0),
                    y=middle - 5,
                    width=scale(bar.value) - scale(0),
                    height=10,
                    rx=2,
                    class_=f"bar {tone}",
                ),
                _line(scale(bar.low), middle, scale(bar.high), middle, "whisker"),
            )
        )
    return svg(WIDTH, bottom + 22, title, *parts)


def cascade_curve(
    title: str, points: Sequence[CurvePoint], marks: Sequence[Mark], whole_cost: float | None
) -> Markup:
    """Draw macro-F1 against the share of texts sent to the LLM.

    Args:
        title: for those who do not see it.
        points: fewest calls first.
        marks: to name: the threshold in use, and what else matters.
        whole_cost: USD of 1,000 texts if the LLM answered all, to write costs below; or None.
    """
    left, top, bottom = 44.0, 16.0, 252.0
    across = Scale(0.0, 1.0, left, _RIGHT - 2)
    values = [v for p in points for v in (p.low, p.high)] + [mark.value for mark in marks]
    up = Scale(*around(values, 0.12), bottom, top)
    upper = [f"{across(p.share):.1f},{up(p.high):.1f}" for p in points]
    lower = [f"{across(p.share):.1f},{up(p.low):.1f}" for p in reversed(points)]
    line = " ".join(f"{across(p.share):.1f},{up(p.macro_f1):.1f}" for p in points)
    parts = [
        _curve_axes(across, up, top, bottom, whole_cost),
        element("polygon", points=" ".join(upper + lower), class_="band"),
        element("polyline", points=line, class_="curve"),
    ]
    parts += [_mark(mark, across(mark.share), up(mark.value), top, bottom) for mark in marks]
    height = bottom + (46 if whole_cost is None else 60)
    return svg(WIDTH, height, title, *parts)


def _curve_axes(
    across: Scale, up: Scale, top: float, bottom: float, whole_cost: float | None
) -> Markup:
    scores, shares = up.ticks(5), [0.0, 0.25, 0.5, 0.75, 1.0]
    digits, left = decimals(scores), across.start
    parts = [
        *(_line(left, up(tick), _RIGHT, up(tick), "grid") for tick in scores),
        *(_text(left - 6, up(tick) + 4, f"{tick:.{digits}f}", "tick end") for tick in scores),
        *(_line(across(s), bottom, across(s), bottom + 4, "axis") for s in shares),
        *(_text(across(s), bottom + 16, f"{s:.0%}", _place(across(s))) for s in shares),
        _line(left, bottom, _RIGHT, bottom, "axis"),
        _text(_LEFT, top - 5, "macro-F1", "tick"),
    ]
    caption = "texts sent to the LLM"
    if whole_cost is not None:
        caption += ", and USD for 1,000 texts"
        for share in shares:
            cost = shown_dollars(share * whole_cost)
            parts.append(_text(across(share), bottom + 30, cost, _place(across(share))))
    below = 34 if whole_cost is None else 48
    return element("g", *parts, _text(_RIGHT, bottom + below, caption, "tick end"))


def _mark(mark: Mark, x: float, y: float, top: float, bottom: float) -> Markup:
    name = short_name(mark.name, 40)
    place = "end" if x > WIDTH * 0.66 else "middle" if x > WIDTH * 0.34 else ""
    shift = {"end": 4.0, "middle": 0.0, "": -4.0}[place]
    below = y < top + 30
    return element(
        "g",
        element("title", f"{mark.name}: {mark.value:.4f} at {mark.share:.1%} of the calls"),
        element("circle", cx=x, cy=y, r=5.0, class_="dot second"),
        _text(x + shift, y + (18 if below else -10), name, f"name {place}"),
    )


def reliability(title: str, bins: Sequence[Mapping[str, float]]) -> Markup:
    """Draw accuracy against confidence; dots are as large as their bin has examples."""
    size, left, top = 190.0, 34.0, 8.0
    across, up = Scale(0.0, 1.0, left, left + size), Scale(0.0, 1.0, top + size, top)
    most = max((row["examples"] for row in bins), default=1)
    parts = [_line(across(0), up(0), across(1), up(1), "grid dashed")]
    for tick in (0.0, 0.5, 1.0):
        parts += [
            _line(left, up(tick), left + size, up(tick), "grid"),
            _text(left - 5, up(tick) + 4, f"{tick:g}", "tick end"),
            _text(across(tick), top + size + 15, f"{tick:g}", "tick middle"),
        ]
    parts += [
        element(
            "circle",
            element(
                "title",
                f"confidence {row['confidence']:.3f}, accuracy {row['accuracy']:.3f}, "
                f"{row['examples']:,.0f} texts",
            ),
            cx=across(row["confidence"]),
            cy=up(row["accuracy"]),
            r=2 + 8 * (row["examples"] / most) ** 0.5,
            class_="bubble",
        )
        for row in bins
    ]
    parts.append(_text(left + size, top + size + 30, "confidence", "tick end"))
    parts.append(_text(left + 6, top + 12, "accuracy", "tick"))
    return svg(left + size + 12, top + size + 36, title, *parts)


def _grid(scale: Scale, top: float, bottom: float) -> Markup:
    """Draw upright lines at round values, and the values below."""
    ticks = scale.ticks(5)
    digits = decimals(ticks)
    lines = [_line(scale(tick), top, scale(tick), bottom, "grid") for tick in ticks]
    names = []
    for tick in ticks:
        x = scale(tick)
        names.append(_text(x, bottom + 15, f"{tick:.{digits}f}", _place(x)))
    return element("g", *lines, *names)


def _place(x: float) -> str:
    """Return how a tick's text lies to its tick: never beyond the drawing."""
    return "tick end" if x > WIDTH - 20 else "tick" if x < 16 else "tick middle"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return element("text", text, x=x, y=y, class_=kind.strip())
