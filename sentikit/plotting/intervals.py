"""Scores with their intervals: forest plots, and bars by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sentikit.plotting.figures import (
    BLUE,
    FINE_DOTS_PER_INCH,
    GREY,
    PAGE_WIDTH,
    PANELS_IN_A_ROW,
    TEXT,
    clear_frame,
    grid_of_panels,
    name_rows,
    new_figure,
    write_title,
)
from sentikit.reports.shown import Bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.3


def forest(title: str, subtitle: str, bars: Sequence[Bar], signed: bool = False) -> Figure:
    """Draw intervals one below the other.

    Args:
        title: stands above.
        subtitle: stands below the title.
        bars: from top to bottom.
        signed: the values are differences: mark where there is none, and write signs.
    """
    figure = new_figure(PAGE_WIDTH, 1.1 + _ROW * len(bars), FINE_DOTS_PER_INCH)
    axes = figure.subplots()
    clear_frame(axes, ("x",))
    if signed:
        axes.axvline(0, color=TEXT, linewidth=0.9)
    for place, bar in enumerate(bars):
        color = BLUE if bar.stands_out else GREY
        axes.hlines(place, bar.low, bar.high, color=color, linewidth=1.8)
        axes.plot([bar.low, bar.high], [place, place], "|", color=color, markersize=6)
        axes.plot(bar.value, place, "o", color=color, markersize=5.5, markeredgecolor="white")
        _write_figures(axes, place, bar, "+.4f" if signed else ".4f")
    name_rows(axes, [bar.name for bar in bars])
    axes.margins(x=0.06)
    write_title(axes, title, subtitle)
    return figure


def _write_figures(axes: Axes, place: int, bar: Bar, shape: str) -> None:
    axes.text(
        1.02,
        place,
        f"{bar.value:{shape}}  [{bar.low:{shape}}, {bar.high:{shape}}]",
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=8.5,
        color=TEXT,
    )


def source_bars(sources: Mapping[str, Sequence[Bar]], sizes: Mapping[str, int]) -> Figure:
    """Draw macro-F1 by source, a panel each; the runs stand in the same order in all.

    Args:
        sources: source to the runs' scores.
        sizes: source to its number of texts.
    """
    runs = len(next(iter(sources.values())))
    size = (1.95, 1.0 + 0.27 * runs)
    figure, panels = grid_of_panels(len(sources), size, left=PAGE_WIDTH - 3 * size[0])
    for number, (axes, (source, bars)) in enumerate(zip(panels, sources.items(), strict=True)):
        clear_frame(axes, ("x",))
        for place, bar in enumerate(bars):
            color = BLUE if bar.stands_out else GREY
            axes.barh(place, bar.value, height=0.62, color=color, alpha=0.75)
            axes.hlines(place, bar.low, bar.high, color=TEXT, linewidth=1.2)
            axes.text(0.03, place, f"{bar.value:.4f}", va="center", fontsize=7.5, color="white")
        name_rows(axes, [bar.name if number % PANELS_IN_A_ROW == 0 else "" for bar in bars])
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        write_title(axes, source, f"{sizes[source]:,} texts", small=True)
    return figure
