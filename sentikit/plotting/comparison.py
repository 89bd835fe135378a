"""Plots of a comparison for a paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sentikit.plotting.confidence import cascade_curve, reliability_diagrams
from sentikit.plotting.confusion import confusion_matrices
from sentikit.plotting.costs import cost_front
from sentikit.plotting.figures import check_plotting, save_figure
from sentikit.plotting.intervals import forest, source_bars
from sentikit.reports import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sentikit.comparison.results import Comparison
    from sentikit.ensembles.judged import JudgedCascade

FORMATS = ("png", "svg")


def save_plots(
    comparison: Comparison, folder: str | Path, cascade: JudgedCascade | None = None
) -> list[Path]:
    """Draw a comparison into a folder, each figure as PNG and as SVG; return the files.

    Drawn is what is known: ``scores``, ``differences``, ``confusion_matrices``, and where there are
    costs, sources, probabilities or a cascade ``cost_front``, ``sources``, ``reliability`` and
    ``cascade_curve``.

    Args:
        comparison: what it shows.
        folder: where the files go; those of the same names are replaced.
        cascade: a cascade of two of the runs, to draw its curve.

    Raises:
        InputError: matplotlib is not installed, or the folder may not be written.
        SentikitError: the disk is full or fails.
    """
    check_plotting()
    return [
        save_figure(figure, Path(folder) / f"{name}.{form}")
        for name, figure in _figures(comparison, cascade)
        for form in FORMATS
    ]


def _figures(comparison: Comparison, cascade: JudgedCascade | None) -> Iterator[tuple[str, Figure]]:
    """Yield the name and figure of all that there is to draw."""
    about = f"{comparison.examples:,} texts, {comparison.percent} intervals"
    yield "scores", forest("Macro-F1", about, shown.score_bars(comparison))
    if differences := shown.difference_bars(comparison):
        to = f" to {comparison.baseline}" if comparison.baseline else ""
        title = f"Differences of macro-F1{to}"
        yield "differences", forest(title, about + "; blue: clear of 0", differences, signed=True)
    if priced := shown.priced_runs(comparison):
        yield "cost_front", cost_front(priced)
    best = shown.by_score(comparison)[: shown.MOST_PANELS]
    yield "confusion_matrices", confusion_matrices({run.name: run.scores for run in best})
    if comparison.sources:
        bars = {name: shown.source_bars(comparison, name) for name in comparison.sources}
        yield "sources", source_bars(bars, comparison.sources)
    if calibrated := shown.calibrated_runs(comparison):
        yield "reliability", reliability_diagrams(calibrated)
    if cascade is not None and cascade.curve:
        yield "cascade_curve", cascade_curve(cascade)
