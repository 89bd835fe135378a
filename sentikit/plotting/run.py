"""Plots of a run, from what its folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sentikit.errors import InputError
from sentikit.files import disk_errors, read_json
from sentikit.plotting.confusion import confusion_matrix
from sentikit.plotting.figures import check_plotting, save_figure
from sentikit.plotting.training import learning_curves
from sentikit.runs.folder import LOG, METRICS

PLOTS = "plots"
LEARNING_CURVES = "learning_curves.png"
CONFUSION_MATRIX = "confusion_matrix.png"


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
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = []
    # What stands behind the last line break is nothing, or half a line left by a kill.
    for number, line in enumerate(lines[:-1], 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not valid JSON ({error.msg}).") from error
    return records
