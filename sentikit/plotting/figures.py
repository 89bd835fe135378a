"""What all figures share: size, colours, titles, and how they become files."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sentikit.errors import InputError
from sentikit.files import atomic_writer
from sentikit.reports.shown import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: For a screen; for a paper.
DOTS_PER_INCH, FINE_DOTS_PER_INCH = 150, 300
# Okabe and Ito's colours, which colour-blind readers tell apart: https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8C8C8C"
TEXT, GRID, AXIS = "#333333", "#E3E3E3", "#AAAAAA"
#: Two columns of a paper, in inches.
PAGE_WIDTH = 7.0
PANELS_IN_A_ROW = 3


def check_plotting() -> None:
    """Make sure that plots can be drawn here.

    Raises:
        InputError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(
            "--plots needs the package matplotlib. Install it with: pip install 'sentikit[plots]'"
        )


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure atomically, as SVG where the path ends so, else as PNG; return the path.

    The same figure gives the same file.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with atomic_writer(path, "wb") as stream:
        if path.suffix == ".svg":
            # Identifiers in the file are made from the salt, at random without one.
            with mpl.rc_context({"svg.hashsalt": path.name}):
                FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})  # type: ignore[no-untyped-call]
        else:
            FigureCanvasAgg(figure).print_png(stream)  # type: ignore[no-untyped-call]
    return path


def new_figure(width: float, height: float, dpi: int = DOTS_PER_INCH) -> Figure:
    """Return an empty figure of a size in inches, bound to no window and no global state."""
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=dpi, facecolor="white", layout="constrained")


def grid_of_panels(
    number: int, size: tuple[float, float], left: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Return a fine figure with panels in rows of `PANELS_IN_A_ROW` at most.

    Args:
        number: how many panels.
        size: width and height of each in inches.
        left: more inches for what is written left of the first of a row.
    """
    columns = min(number, PANELS_IN_A_ROW)
    rows = -(-number // columns)
    width, height = left + size[0] * columns, size[1] * rows
    figure = new_figure(max(2.8, width), height, FINE_DOTS_PER_INCH)
    cells = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for empty in cells[number:]:
        empty.set_axis_off()
    return figure, cells[:number]


def write_title(axes: Axes, title: str, subtitle: str = "", small: bool = False) -> None:
    """Write a title above the axes, over room for one line."""
    large, little = (9.5, 8.0) if small else (12, 9)
    pad = 17 if small else 24
    axes.set_title(title, loc="left", fontsize=large, color=TEXT, pad=pad, parse_math=False)
    axes.annotate(
        subtitle,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 5 if small else 8),
        textcoords="offset points",
        fontsize=little,
        color=TEXT,
        parse_math=False,
    )


def clear_frame(axes: Axes, grid: Sequence[str] = ("y",)) -> None:
    """Leave two quiet spines, small ticks and faint lines across the named axes."""
    for axis in grid:
        axes.grid(axis="x" if axis == "x" else "y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT, labelsize=9, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(AXIS)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write names to the left, from top to bottom, one for each whole number."""
    axes.set_yticks(range(len(names)), [short_name(name, 40) for name in names])
    for label in axes.get_yticklabels():
        # A name may hold "$", which would begin a formula.
        label.set(parse_math=False, fontsize=9, color=TEXT)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(names) - 0.4, -0.6)
