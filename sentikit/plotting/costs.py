"""Macro-F1 against cost, and the front that no run is beyond."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sentikit.plotting.figures import (
    BLUE,
    FINE_DOTS_PER_INCH,
    GREY,
    TEXT,
    clear_frame,
    new_figure,
    write_title,
)
from sentikit.reports.placing import Box, place_names
from sentikit.reports.shown import Priced, short_name, shown_dollars

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FONT_SIZE = 9.0
_SIDES = {"start": "left", "middle": "center", "end": "right"}


def cost_front(runs: Sequence[Priced]) -> Figure:
    """Draw macro-F1 against cost; costs are logarithmic."""
    least = min((run.cost for run in runs if run.cost > 0), default=1.0)
    # The best on the front are named first; a logarithm knows no 0: what is free is at the left.
    ordered = sorted(runs, key=lambda run: (not run.on_front, -run.value))
    dots = [(max(run.cost, least / 3), run.value) for run in ordered]
    figure = new_figure(5.4, 3.6, FINE_DOTS_PER_INCH)
    axes = figure.subplots()
    clear_frame(axes)
    front = sorted(dot for dot, run in zip(dots, ordered, strict=True) if run.on_front)
    axes.step(*zip(*front, strict=True), where="post", color=BLUE, linewidth=1.2, alpha=0.6)
    for run, dot in zip(ordered, dots, strict=True):
        color = BLUE if run.on_front else GREY
        axes.plot(*dot, "o", color=color, markersize=6.5, markeredgecolor="white")
    _finish(axes, dots)
    _name(figure, axes, [run.name for run in ordered], dots, front)
    return figure


def _finish(axes: Axes, dots: Sequence[tuple[float, float]]) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(min(dots)[0] * 0.7, max(dots)[0] * 1.6)
    axes.margins(y=0.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda amount, _: shown_dollars(amount)))
    axes.xaxis.set_minor_locator(NullLocator())
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    axes.set_xlabel("USD: training, and answers to these texts", color=TEXT, fontsize=_FONT_SIZE)
    write_title(axes, "Macro-F1 against cost", "blue: no other run is both cheaper and better")


def _name(
    figure: Figure,
    axes: Axes,
    names: Sequence[str],
    dots: Sequence[tuple[float, float]],
    front: Sequence[tuple[float, float]],
) -> None:
    """Write names beside the dots, where there is room."""
    # Where things lie is known once the figure is laid out; in points, downwards.
    figure.draw_without_rendering()
    points = 72 / figure.dpi

    def placed(dot: tuple[float, float]) -> tuple[float, float]:
        x, y = axes.transData.transform(dot)
        return float(x) * points, -float(y) * points

    corners = axes.get_window_extent()
    area = Box(*(points * side for side in (corners.x0, -corners.y1, corners.x1, -corners.y0)))
    lines = []
    for (x, y), (to_x, to_y) in itertools.pairwise(map(placed, front)):
        lines += [Box(x, y, to_x, y), Box(to_x, to_y, to_x, y)]
    shown = [short_name(name, 28) for name in names]
    widths = [0.62 * _FONT_SIZE * len(name) for name in shown]
    spots = place_names([placed(dot) for dot in dots], widths, _FONT_SIZE, lines, area)
    for name, dot, spot in zip(shown, dots, spots, strict=True):
        if spot is None:
            continue
        x, y = placed(dot)
        axes.annotate(
            name,
            dot,
            xytext=(spot.x - x, y - spot.middle),
            textcoords="offset points",
            ha=_SIDES[spot.anchor],
            va="center",
            fontsize=_FONT_SIZE,
            color=TEXT,
            parse_math=False,
        )
