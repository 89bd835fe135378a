"""The report of a labelled table, for readers who did not label it."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sentikit import Estimate, InputError
from sentikit.extension import Estimates, LabelledTable, atomic_writer, without_formula

from .drawing import (
    DARK,
    LIGHT,
    Drawing,
    Rect,
    Shape,
    Text,
    line,
    save_drawing,
    short_name,
    style_sheet,
)
from .geometry import Scale
from .page import environment, page_policy, palette_variables

#: Most bars of a chart; the table has the rest.
_MOST_BARS = 36
_EXAMPLES = 3
_PIXELS = 2100
#: One per class, in order.
_SHADES = ("second", "plain", "accent", "third")


def estimates_page(
    found: Estimates, table: LabelledTable, certificate: Mapping[str, Any] | None
) -> str:
    """Return the page: method, certainty, shares with charts, examples, assumptions."""
    pages = environment()
    style = pages.get_template("report.css").render(
        light=palette_variables(LIGHT), dark=palette_variables(DARK), charts=style_sheet()
    )
    charts = {column: share_chart(column, found, own) for column, own in found.by_group.items()}
    return pages.get_template("estimates.html").render(
        policy=page_policy(style),
        style=style,
        found=found,
        certificate=certificate,
        file=table.source.typed,
        rows=table.rows,
        whole=share_chart("all", found, found.shares),
        charts=charts,
        examples=_examples(table),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def share_chart(title: str, found: Estimates, estimates: Sequence[Estimate]) -> Drawing:
    """Draw class shares by group as stacked bars, with intervals as whiskers at the edges.

    Groups are sorted by name, so that months are in order. The last class's share is the rest of
    the bar; its interval is in the table.
    """
    groups = sorted({e.group for e in estimates}, key=lambda g: "" if g is None else str(g))
    groups = groups[:_MOST_BARS]
    classes = len(found.classes)
    step = max(16.0, min(64.0, 560.0 / len(groups)))
    left, top, height = 44.0, 26.0, 200.0
    width = left + step * len(groups) + 12
    scale = Scale(0.0, 1.0, top + height, top)
    shapes: list[Shape] = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        shapes.append(line(left, scale(tick), width - 8, scale(tick), "grid"))
        shapes.append(Text(left - 6, scale(tick) + 4, f"{tick:.0%}", "tick end"))
    for place, name in enumerate(found.classes):
        x = left + place * 110.0
        shapes.append(Rect(x, 4.0, 10.0, 10.0, f"bar {_SHADES[place % len(_SHADES)]}"))
        shapes.append(Text(x + 15, 13.0, short_name(name, 13), "tick start"))
    width = max(width, left + 110.0 * classes)
    for number, group in enumerate(groups):
        own = [e for e in estimates if e.group == group]
        shapes += _stack(own, found.classes, left + step * number, step, scale)
        shown = "all" if group is None else str(group)
        middle = left + step * (number + 0.5)
        turned = step < 48
        shapes.append(
            Text(
                middle,
                top + height + (12 if turned else 18),
                short_name(shown, 12),
                "tick end" if turned else "tick middle",
                -50.0 if turned else 0.0,
            )
        )
    return Drawing(width, top + height + 66, f"Class shares by {title}, corrected", tuple(shapes))


def _stack(
    own: Sequence[Estimate], classes: Sequence[str], x: float, step: float, scale: Scale
) -> list[Shape]:
    total = sum(e.value for e in own) or 1.0
    shapes: list[Shape] = []
    whiskers: list[Shape] = []
    below = 0.0
    for number, one in enumerate(own):
        share = one.value / total
        top, bottom = scale(below + share), scale(below)
        hint = f"{classes[int(one.name)]}: {one.value:.1%} ({one.low:.1%} to {one.high:.1%})"
        kind = f"bar {_SHADES[number % len(_SHADES)]}"
        shapes.append(Rect(x + step * 0.15, top, step * 0.7, bottom - top, kind, hint=hint))
        if number < len(own) - 1:
            # Offset, so that two intervals never overlap.
            at = x + step * (0.35 + 0.3 * (number % 2))
            low, high = scale(below + one.low), scale(below + one.high)
            whiskers += [
                line(at, low, at, high, "whisker"),
                line(at - 3, low, at + 3, low, "whisker"),
                line(at - 3, high, at + 3, high, "whisker"),
            ]
        below += share
    return shapes + whiskers


def save_share_chart(found: Estimates, path: Path) -> Path:
    """Write the shares by the first group column, or overall, as .svg, .png or .csv.

    Raises:
        InputError: the name has another ending.
    """
    column, own = next(iter(found.by_group.items()), ("all", found.shares))
    kind = path.suffix.lower()
    if kind == ".csv":
        with atomic_writer(path) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(
                [without_formula(column), "class", "share", "low", "high", "model_says", "checked"]
            )
            for one in own:
                numbers = [f"{v:.6f}" for v in (one.value, one.low, one.high, one.raw or 0.0)]
                group = "all" if one.group is None else one.group
                names = map(without_formula, (group, found.classes[int(one.name)]))
                writer.writerow([*names, *numbers, one.checked])
        return path
    if kind not in (".svg", ".png"):
        raise InputError(f"--chart {path}: name it .svg, .png or .csv.")
    return save_drawing(share_chart(column, found, own), path, _PIXELS)


def _examples(table: LabelledTable) -> Mapping[str, list[str]]:
    """Return some texts of each class, spread over its confidences, highest first."""
    wanted: dict[int, str] = {}
    for number, name in enumerate(table.labels.classes):
        rows = np.flatnonzero(table.labels.labels == number)
        order = rows[np.argsort(-np.nan_to_num(table.labels.confidence[rows]), kind="stable")]
        for place in np.linspace(0, len(order) - 1, min(_EXAMPLES, len(order))).astype(int):
            wanted[int(order[place])] = name
    found: dict[str, list[str]] = {name: [] for name in table.labels.classes}
    with table.source.open() as rows_of:
        text_of = table.source.reader(rows_of)
        for number, (where, row) in enumerate(rows_of):
            if number in wanted:
                found[wanted[number]].append(text_of(where, row)[:300])
    return found
