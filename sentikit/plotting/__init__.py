"""Plots as PNG and SVG files; matplotlib is imported only to draw."""

from __future__ import annotations

from sentikit.plotting.comparison import save_plots
from sentikit.plotting.confusion import confusion_matrix
from sentikit.plotting.figures import check_plotting, save_figure
from sentikit.plotting.run import read_log, save_run_plots
from sentikit.plotting.training import learning_curves

__all__ = [
    "check_plotting",
    "confusion_matrix",
    "learning_curves",
    "read_log",
    "save_figure",
    "save_plots",
    "save_run_plots",
]
