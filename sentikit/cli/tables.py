"""Tables of scores on standard output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sentikit.terminal import print_table

if TYPE_CHECKING:
    from sentikit.comparison.results import Estimate
    from sentikit.scoring import Scores


_MOST_CLASS_COLUMNS = 6


def print_scores(title: str, overall: Scores, by_source: Mapping[str, Scores]) -> None:
    """Print scores overall, by source and by class, as fractions."""
    # With many classes, their scores have a table of their own.
    classes = tuple(overall.per_class) if len(overall.per_class) <= _MOST_CLASS_COLUMNS else ()
    columns = ["", "examples", "macro-F1", "accuracy", *(f"F1 {name}" for name in classes)]
    rows = [_row("all", overall, classes)]
    if len(by_source) > 1:
        rows += [_row(name, scores, classes) for name, scores in by_source.items()]
    print_table(title, columns, rows, columns[1:])
    if not classes:
        columns = ["class", "examples", "precision", "recall", "F1"]
        rows = [
            [name, f"{c.support:,}", f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}"]
            for name, c in overall.per_class.items()
        ]
        print_table("by class", columns, rows, columns[1:])


def _row(name: str, scores: Scores, classes: Sequence[str]) -> list[str]:
    shown = [f"{scores.macro_f1:.4f}", f"{scores.accuracy:.4f}"]
    shown += [f"{scores.per_class[own].f1:.4f}" for own in classes]
    return [name, f"{scores.examples:,}", *shown]


def scored(found: Estimate) -> tuple[str, str]:
    """Return a score and its interval, as cells of a table."""
    return f"{found.value:.4f}", f"[{found.percentile.low:.4f}, {found.percentile.high:.4f}]"


def gained(found: Estimate) -> str:
    """Return a difference with its interval, signs written out."""
    # Adding 0 turns -0.0 into 0.0: what rounds to zero has no sign.
    value, low, high = (
        f"{round(number, 4) + 0.0:+.4f}"
        for number in (found.value, found.percentile.low, found.percentile.high)
    )
    return f"{value} [{low}, {high}]"
