"""Confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sentikit.plotting.figures import (
    PANELS_IN_A_ROW,
    TEXT,
    grid_of_panels,
    new_figure,
    write_title,
)
from sentikit.reports.shown import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sentikit.scoring import Scores

#: With more classes the cells hold the share alone.
_MOST_CLASSES_WITH_COUNTS = 12

#: Gold class to predicted class to count.
Confusion = Mapping[str, Mapping[str, int]]


def confusion_matrix(scores: Mapping[str, Any], title: str) -> Figure:
    """Draw gold classes (rows) against predicted ones, coloured by the share of the row.

    Args:
        scores: ``overall`` or a source of ``metrics.json``.
        title: stands above, with the scores below it.
    """
    confusion: Confusion = scores["confusion"]
    predicted = [*confusion, "invalid"] if scores["invalid"] else [*confusion]
    cell = 1.05 if len(confusion) <= _MOST_CLASSES_WITH_COUNTS else 0.55
    margin = 1.6 + 0.09 * max(len(name) for name in predicted)
    width = margin + cell * len(predicted)
    figure = new_figure(max(4.2, width), max(3.6, 1.6 + cell * len(confusion)))
    axes = figure.subplots()
    _draw(axes, confusion, predicted)
    figures = f"macro-F1 {scores['macro_f1']:.4f}   accuracy {scores['accuracy']:.4f}"
    write_title(axes, title, f"{figures}   n = {scores['examples']:,}")
    return figure


def confusion_matrices(scores: Mapping[str, Scores]) -> Figure:
    """Draw the confusion matrices of several runs side by side.

    Args:
        scores: run's name to its scores, over the same gold labels.
    """
    invalid = any(own.invalid for own in scores.values())
    gold = list(next(iter(scores.values())).confusion)
    predicted = [*gold, "invalid"] if invalid else gold
    cell = 0.62 if len(gold) <= _MOST_CLASSES_WITH_COUNTS else 0.4
    slanted = 0.05 * max(map(len, predicted)) if _is_crowded(predicted, cell / 1.05) else 0.0
    size = (0.35 + cell * len(predicted), 1.15 + cell * len(gold) + slanted)
    figure, panels = grid_of_panels(len(scores), size, left=1.0)
    for number, (axes, (name, own)) in enumerate(zip(panels, scores.items(), strict=True)):
        _draw(axes, own.confusion, predicted, cell / 1.05)
        if number % PANELS_IN_A_ROW:
            axes.set_yticks(axes.get_yticks(), [""] * len(gold))
            axes.set_ylabel("")
        write_title(axes, short_name(name, 26), f"macro-F1 {own.macro_f1:.4f}", small=True)
    return figure


def _draw(axes: Axes, confusion: Confusion, predicted: Sequence[str], scale: float = 1.0) -> None:
    """Draw one matrix; `scale` is 1 for cells about an inch wide."""
    counts = [[row.get(column, 0) for column in predicted] for row in confusion.values()]
    totals = [max(1, sum(row)) for row in counts]
    shares = [[n / total for n in row] for row, total in zip(counts, totals, strict=True)]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    _label_cells(axes, counts, shares, scale)
    rows = [f"{name}\nn = {sum(row):,}" for name, row in zip(confusion, counts, strict=True)]
    _label_classes(axes, rows, predicted, scale)


def _label_cells(
    axes: Axes, counts: Sequence[Sequence[int]], shares: Sequence[Sequence[float]], scale: float
) -> None:
    """Write count and share into every cell, dark on light and light on dark."""
    crowded = len(counts) > _MOST_CLASSES_WITH_COUNTS
    for row, (line, line_shares) in enumerate(zip(counts, shares, strict=True)):
        for column, (count, share) in enumerate(zip(line, line_shares, strict=True)):
            text = f"{100 * share:.0f}" if crowded else f"{count:,}\n{100 * share:.1f}%"
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=7 if crowded else 9.5 * max(0.75, scale),
                color="white" if share > 0.55 else TEXT,
            )


def _label_classes(axes: Axes, rows: Sequence[str], columns: Sequence[str], scale: float) -> None:
    crowded = _is_crowded(columns, scale)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    for label in axes.get_xticklabels():
        label.set(rotation=40 if crowded else 0, ha="right" if crowded else "center")
        label.set(rotation_mode="anchor" if crowded else "default")
    for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        # A class may be called "$", which would begin a formula.
        label.set(parse_math=False, fontsize=9 * max(0.85, scale), color=TEXT)
    axes.set_xlabel("predicted", color=TEXT, fontsize=10 * max(0.85, scale))
    axes.set_ylabel("gold", color=TEXT, fontsize=10 * max(0.85, scale))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    # White lines between the cells.
    axes.set_xticks([number - 0.5 for number in range(1, len(columns))], minor=True)
    axes.set_yticks([number - 0.5 for number in range(1, len(rows))], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)


def _is_crowded(columns: Sequence[str], scale: float) -> bool:
    """Say whether the names of classes are too long to stand upright below the cells."""
    longest = max(len(name) for name in columns)
    return longest * max(0.85, scale) > 12 * scale or len(columns) > _MOST_CLASSES_WITH_COUNTS
