"""Learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sentikit.plotting.figures import BLUE, GREY, ORANGE, TEXT, clear_frame, new_figure, write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curves(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw loss and validation scores by epoch.

    Args:
        records: those of ``log.jsonl``, at least one of them of an epoch.
    """
    epochs = [record for record in records if record["kind"] == "epoch"]
    steps = [r for r in records if r["kind"] == "step" and r["loss"] is not None]
    figure = new_figure(9.6, 4.0)
    loss, scores = figure.subplots(1, 2)
    steps_per_epoch = epochs[-1]["step"] / epochs[-1]["epoch"]
    positions = [record["step"] / steps_per_epoch for record in steps]
    by_step = _values(steps, "loss")
    loss.plot(positions, by_step, color=BLUE, alpha=0.3, linewidth=0.8, label="training, by step")
    _curve(loss, epochs, "training_loss", "training", BLUE)
    _curve(loss, epochs, "validation_loss", "validation", ORANGE)
    _finish_axes(loss, "Loss", len(epochs))
    by_epoch = _values(epochs, "training_loss", "validation_loss")
    loss.set_ylim(0, 1.08 * max([*by_epoch, *_without_spikes(by_step)]) or 1.0)
    _curve(scores, epochs, "validation_macro_f1", "macro-F1", ORANGE)
    _curve(scores, epochs, "validation_accuracy", "accuracy", GREY)
    _finish_axes(scores, "Validation scores", len(epochs))
    values = _values(epochs, "validation_macro_f1", "validation_accuracy")
    margin = max(0.03, 0.08 * (max(values) - min(values)))
    scores.set_ylim(max(0, min(values) - margin), min(1.02, max(values) + margin))
    _mark_best(scores, epochs)
    return figure


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

    write_title(axes, title)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=TEXT,
        borderaxespad=0.2,
        handlelength=1.4,
        columnspacing=1.2,
    )
    axes.set_xlabel("epoch", color=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.set_xlim(0, 1.03 * epochs)
    clear_frame(axes)


def _mark_best(axes: Axes, epochs: Sequence[Mapping[str, Any]]) -> None:
    """Mark the epoch whose weights were kept."""
    best = epochs[-1]["best_epoch"]
    value = next((r["validation_macro_f1"] for r in epochs if r["epoch"] == best), None)
    if value is None:
        return
    axes.axvline(best, color=ORANGE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate(
        f"kept: epoch {best}, {value:.4f}",
        (1, 1),
        xycoords="axes fraction",
        xytext=(0, 8),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color=TEXT,
    )
