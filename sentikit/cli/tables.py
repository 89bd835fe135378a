"""Tables on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentikit.comparing.results import Estimate
    from sentikit.scoring import Scores


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
) -> None:
    """Print a table; the columns named in `numbers` are set to the right.

    Cells are plain text: nothing in them is read as markup.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # A file or a pipe has no width: lines may be long there; nothing is ever cut.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200)
    with console.capture() as captured:
        console.print(table)
    text = captured.get()
    sys.stdout.write("\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n")


def print_scores(title: str, overall: Scores, by_source: Mapping[str, Scores]) -> None:
    """Print scores overall, by source and by class, as fractions."""
    columns = ["", "examples", "macro-F1", "accuracy", *(f"F1 {c}" for c in overall.per_class)]
    rows = [_row("all", overall)]
    if len(by_source) > 1:
        rows += [_row(name, scores) for name, scores in by_source.items()]
    print_table(title, columns, rows, columns[1:])


def _row(name: str, scores: Scores) -> list[str]:
    shown = [f"{scores.macro_f1:.4f}", f"{scores.accuracy:.4f}"]
    shown += [f"{c.f1:.4f}" for c in scores.per_class.values()]
    return [name, f"{scores.examples:,}", *shown]


def scored(found: Estimate) -> tuple[str, str]:
    """Return a score and its interval, as cells of a table."""
    return f"{found.value:.4f}", f"[{found.percentile.low:.4f}, {found.percentile.high:.4f}]"


def gained(found: Estimate) -> str:
    """Return a difference with its interval, signs written out."""
    bounds = found.percentile
    return f"{found.value:+.4f} [{bounds.low:+.4f}, {bounds.high:+.4f}]"
