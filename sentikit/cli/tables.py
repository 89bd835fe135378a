"""Tables of scores on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sentikit.terminal import print_table

if TYPE_CHECKING:
    from sentikit.comparison.results import Estimate
_MOST_CLASS_COLUMNS = 6


def print_scores(title: str, metrics: Mapping[str, Any]) -> None:
    """Print the scores of ``metrics.json`` overall, by source and by class, as fractions."""
    overall, by_source = metrics["overall"], metrics.get("by_source", {})
    # Many classes get a separate table.
    by_class = overall["per_class"] if len(overall["per_class"]) > _MOST_CLASS_COLUMNS else {}
    classes = [] if by_class else list(overall["per_class"])
    columns = ["", "examples", "macro-F1", "accuracy", *(f"F1 {name}" for name in classes)]
    shown = {"all": overall, **(by_source if len(by_source) > 1 else {})}
    rows = [
        [name, f"{own['examples']:,}", *(f"{own[key]:.4f}" for key in ("macro_f1", "accuracy"))]
        + [f"{c['f1']:.4f}" for c in own["per_class"].values() if not by_class]
        for name, own in shown.items()
    ]
    print_table(title, columns, rows, columns[1:])
    if by_class:
        columns = ["class", "examples", "precision", "recall", "F1"]
        rows = [
            [name, f"{c['support']:,}", *(f"{c[key]:.4f}" for key in ("precision", "recall", "f1"))]
            for name, c in by_class.items()
        ]
        print_table("by class", columns, rows, columns[1:])


def scored(found: Estimate) -> tuple[str, str]:
    """Return a score and its interval as cells of a table."""
    return f"{found.value:.4f}", f"[{found.percentile.low:.4f}, {found.percentile.high:.4f}]"


def gained(found: Estimate) -> str:
    """Return a difference with its interval, with signs."""
    # Adding 0 turns -0.0 into 0.0.
    value, low, high = (
        f"{round(number, 4) + 0.0:+.4f}"
        for number in (found.value, found.percentile.low, found.percentile.high)
    )
    return f"{value} [{low}, {high}]"
