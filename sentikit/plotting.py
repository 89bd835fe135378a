"""Draws learning curves and confusion matrices; matplotlib is imported only to draw."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.errors import InputError
from sentikit.files import atomic_writer, disk_errors, read_json
from sentikit.runs.folder import LOG, METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOTS = "plots"
LEARNING_CURVES = "learning_curves.png"
CONFUSION_MATRIX = "confusion_matrix.png"

_DOTS_PER_INCH = 150
# Okabe and Ito's colours, which colour-blind readers tell apart: https://jfly.uni-koeln.de/color/
_TRAINING, _VALIDATION, _SECOND = "#0072B2", "#D55E00", "#8C8C8C"
_TEXT, _GRID = "#333333", "#E3E3E3"
#: With more classes the cells hold the share alone.
_MOST_CLASSES_WITH_COUNTS = 12


def check_plotting() -> None:
    """Make sure that plots can be drawn here.

    Raises:
        InputError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(
            "--plots needs the package matplotlib. Install it with: pip install 'sentikit[plots]'"
        )


def save_run_plots(run: Path) -> list[Path]:
    """Draw what a run's log and scores hold into its folder ``plots``; return the files.

    Raises:
        InputError: matplotlib is not installed, or a file of the run is damaged.
        SentikitError: the disk is full or refuses.
    """
    check_plotting()
    saved = []
    records = read_log(run / LOG) if (run / LOG).is_file() else []
    if any(record["kind"] == "epoch" for record in records):
        saved.append(save_figure(learning_curves(records), run / PLOTS / LEARNING_CURVES))
    if (run / METRICS).is_file():
        metrics = read_json(run / METRICS)
        figure = confusion_matrix(metrics["overall"], f"Predictions on {metrics['split']}")
        saved.append(save_figure(figure, run / PLOTS / CONFUSION_MATRIX))
    return saved


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the records of ``log.jsonl``.

    Raises:
        InputError: a line is no JSON object; says which.
    """
    with disk_errors(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not valid JSON ({error.msg}).") from error
    return records


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically; return the path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_writer(path, "wb") as stream:
        FigureCanvasAgg(figure).print_png(stream)  # type: ignore[no-untyped-call]
    return path


def learning_curves(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw loss and validation scores by epoch.

    Args:
        records: those of ``log.jsonl``, at least one of them of an epoch.
    """
    epochs = [record for record in records if record["kind"] == "epoch"]
    steps = [r for r in records if r["kind"] == "step" and r["loss"] is not None]
    figure = _figure(9.6, 4.0)
    loss, scores = figure.subplots(1, 2)
    steps_per_epoch = epochs[-1]["step"] / epochs[-1]["epoch"]
    positions = [record["step"] / steps_per_epoch for record in steps]
    by_step = _values(steps, "loss")
    loss.plot(
        positions, by_step, color=_TRAINING, alpha=0.3, linewidth=0.8, label="training, by step"
    )
    _curve(loss, epochs, "training_loss", "training", _TRAINING)
    _curve(loss, epochs, "validation_loss", "validation", _VALIDATION)
    _finish_axes(loss, "Loss", len(epochs))
    by_epoch = _values(epochs, "training_loss", "validation_loss")
    loss.set_ylim(0, 1.08 * max([*by_epoch, *_without_spikes(by_step)]) or 1.0)
    _curve(scores, epochs, "validation_macro_f1", "macro-F1", _VALIDATION)
    _curve(scores, epochs, "validation_accuracy", "accuracy", _SECOND)
    _finish_axes(scores, "Validation scores", len(epochs))
    values = _values(epochs, "validation_macro_f1", "validation_accuracy")
    margin = max(0.03, 0.08 * (max(values) - min(values)))
    scores.set_ylim(max(0, min(values) - margin), min(1.02, max(values) + margin))
    _mark_best(scores, epochs)
    return figure


def confusion_matrix(scores: Mapping[str, Any], title: str) -> Figure:
    """Draw gold classes (rows) against predicted ones, coloured by the share of the row.

    Args:
        scores: ``overall`` or a source of ``metrics.json``.
        title: stands above, with the scores below it.
    """
    confusion: Mapping[str, Mapping[str, int]] = scores["confusion"]
    gold = list(confusion)
    predicted = [*gold, "invalid"] if scores["invalid"] else gold
    counts = [[confusion[row][column] for column in predicted] for row in gold]
    totals = [max(1, sum(row)) for row in counts]
    shares = [[n / total for n in row] for row, total in zip(counts, totals, strict=True)]
    cell = 1.05 if len(gold) <= _MOST_CLASSES_WITH_COUNTS else 0.55
    margin = 1.6 + 0.09 * max(len(name) for name in predicted)
    figure = _figure(max(4.2, margin + cell * len(predicted)), max(3.6, 1.6 + cell * len(gold)))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    _label_cells(axes, counts, shares)
    rows = [f"{name}\nn = {sum(row):,}" for name, row in zip(gold, counts, strict=True)]
    _label_classes(axes, rows, predicted)
    figures = f"macro-F1 {scores['macro_f1']:.4f}   accuracy {scores['accuracy']:.4f}"
    _title(axes, title, f"{figures}   n = {scores['examples']:,}")
    return figure


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, bound to no window and no global state."""
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=_DOTS_PER_INCH, facecolor="white", layout="constrained")


def _title(axes: Axes, title: str, subtitle: str = "") -> None:
    """Write a title above the axes, over room for one line."""
    axes.set_title(title, loc="left", fontsize=12, color=_TEXT, pad=24, parse_math=False)
    axes.annotate(
        subtitle,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 8),
        textcoords="offset points",
        fontsize=9,
        color=_TEXT,
    )


def _values(records: Sequence[Mapping[str, Any]], *keys: str) -> list[float]:
    return [float(record[key]) for key in keys for record in records]


def _curve(
    axes: Axes, epochs: Sequence[Mapping[str, Any]], key: str, label: str, color: str
) -> None:
    """Draw one value by epoch; points stay visible where there are few."""
    axes.plot(
        _values(epochs, "epoch"),
        _values(epochs, key),
        color=color,
        label=label,
        linewidth=1.8,
        marker="o" if len(epochs) <= 40 else "",
        markersize=4,
    )


def _without_spikes(values: Sequence[float]) -> list[float]:
    """Return all but the highest hundredth, which would press the curves to the bottom."""
    return sorted(values)[: math.ceil(0.99 * len(values))]


def _finish_axes(axes: Axes, title: str, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    _title(axes, title)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=_TEXT,
        borderaxespad=0.2,
        handlelength=1.4,
        columnspacing=1.2,
    )
    axes.set_xlabel("epoch", color=_TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.set_xlim(0, 1.03 * epochs)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_TEXT, labelsize=9, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#AAAAAA")


def _mark_best(axes: Axes, epochs: Sequence[Mapping[str, Any]]) -> None:
    """Mark the epoch whose weights were kept."""
    best = epochs[-1]["best_epoch"]
    value = next((r["validation_macro_f1"] for r in epochs if r["epoch"] == best), None)
    if value is None:
        return
    axes.axvline(best, color=_VALIDATION, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate(
        f"kept: epoch {best}, {value:.4f}",
        (1, 1),
        xycoords="axes fraction",
        xytext=(0, 8),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color=_TEXT,
    )


def _label_cells(
    axes: Axes, counts: Sequence[Sequence[int]], shares: Sequence[Sequence[float]]
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
                fontsize=7 if crowded else 9.5,
                color="white" if share > 0.55 else _TEXT,
            )


def _label_classes(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    crowded = max(len(name) for name in columns) > 11 or len(columns) > _MOST_CLASSES_WITH_COUNTS
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    for label in axes.get_xticklabels():
        label.set(rotation=40 if crowded else 0, ha="right" if crowded else "center")
        label.set(rotation_mode="anchor" if crowded else "default")
    for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        # A class may be called "$", which would begin a formula.
        label.set(parse_math=False, fontsize=9, color=_TEXT)
    axes.set_xlabel("predicted", color=_TEXT)
    axes.set_ylabel("gold", color=_TEXT)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    # White lines between the cells.
    axes.set_xticks([number - 0.5 for number in range(1, len(columns))], minor=True)
    axes.set_yticks([number - 0.5 for number in range(1, len(rows))], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
