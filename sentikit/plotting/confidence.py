"""What confidence is worth: the curve of a cascade, and reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentikit.plotting.figures import (
    BLUE,
    FINE_DOTS_PER_INCH,
    GREY,
    ORANGE,
    TEXT,
    clear_frame,
    grid_of_panels,
    new_figure,
    write_title,
)
from sentikit.reports.shown import curve_marks, short_name, shown_dollars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sentikit.ensembles.judged import JudgedCascade
    from sentikit.scoring import Calibration

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def cascade_curve(cascade: JudgedCascade) -> Figure:
    """Draw macro-F1 against the share of texts sent to the LLM, with the threshold in use."""
    figure = new_figure(5.4, 3.6, FINE_DOTS_PER_INCH)
    axes = figure.subplots()
    clear_frame(axes)
    shares = [point.share for point in cascade.curve]
    low, high = ([getattr(p, end) for p in cascade.curve] for end in ("low", "high"))
    axes.fill_between(shares, low, high, color=BLUE, alpha=0.16, linewidth=0)
    axes.plot(shares, [point.macro_f1 for point in cascade.curve], color=BLUE, linewidth=1.8)
    for mark in curve_marks(cascade):
        axes.plot(mark.share, mark.value, "o", color=ORANGE, markersize=7, markeredgecolor="white")
        axes.annotate(
            mark.name,
            (mark.share, mark.value),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center" if 0.2 < mark.share < 0.8 else "left" if mark.share < 0.5 else "right",
            fontsize=9,
            color=TEXT,
        )
    cost = cascade.llm_cost
    ticks = [f"{s:.0%}" + ("" if cost is None else f"\n{shown_dollars(s * cost)}") for s in _SHARES]
    axes.set_xticks(_SHARES, ticks, parse_math=False)
    axes.set_xlim(-0.01, 1.01)
    below = "texts sent to the LLM" + ("" if cost is None else ", and USD for 1,000 texts")
    axes.set_xlabel(below, color=TEXT, fontsize=9)
    first, second = (short_name(name, 24) for name in cascade.worth.members)
    write_title(
        axes, "Macro-F1 of the cascade", f"left: {first} alone   right: {second} alone   band: 95 %"
    )
    return figure


def reliability_diagrams(runs: Mapping[str, Calibration]) -> Figure:
    """Draw accuracy against confidence; dots are as large as their bin has examples."""
    figure, panels = grid_of_panels(len(runs), (2.3, 2.75))
    for axes, (name, calibration) in zip(panels, runs.items(), strict=True):
        clear_frame(axes, ("x", "y"))
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        most = max(row["examples"] for row in calibration.bins)
        axes.scatter(
            [row["confidence"] for row in calibration.bins],
            [row["accuracy"] for row in calibration.bins],
            [12 + 130 * row["examples"] / most for row in calibration.bins],
            color=BLUE,
            alpha=0.75,
            edgecolor="white",
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set(xlim=(-0.02, 1.04), ylim=(-0.02, 1.04), aspect="equal")
        axes.set_xlabel("confidence", color=TEXT, fontsize=9)
        axes.set_ylabel("accuracy", color=TEXT, fontsize=9)
        write_title(axes, short_name(name, 26), f"ECE {calibration.ece:.3f}", small=True)
    return figure
