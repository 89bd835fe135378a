"""Tables on standard output."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sentikit.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

    from sentikit.comparison.results import Estimate
    from sentikit.scoring import Scores


#: Between columns and at the edges a table has so much room.
_GAP, _EDGES = 3, 1
#: Room for words that may be folded.
_LEAST = 18
_MOST_CLASS_COLUMNS = 6
# A file or a pipe has no width: lines may be long there.
_WIDTH_OF_FILES = 200


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
) -> None:
    """Print a table; the columns named in `numbers` are set to the right.

    Cells are plain text: nothing in them is read as markup, and nothing is ever cut. Where the
    terminal is too narrow for all columns of numbers, they go into several tables, each with the
    columns that say what a row is about.
    """
    from rich.console import Console

    held = [[printable(cell) for cell in row] for row in rows]
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)
    widths = [_widest(column, [row[i] for row in held]) for i, column in enumerate(columns)]
    parts = _parts(widths, [column in numbers for column in columns], console.width)
    # Long names are folded in narrow tables, or there would be no room for figures.
    most = console.width * 2 // 5 if len(parts) > 1 else None
    with console.capture() as captured:
        for part, shown in zip(parts, itertools.chain([title], itertools.repeat("")), strict=False):
            console.print(_table(shown, columns, held, part, numbers, most))
    lines = captured.get().strip("\n").splitlines()
    sys.stdout.write("\n".join(line.rstrip() for line in lines) + "\n")


def _widest(column: str, cells: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, [column, *cells]))


def _parts(widths: Sequence[int], numeric: Sequence[bool], room: int) -> list[list[int]]:
    """Return the columns of each table: all in one where they fit or none is of numbers.

    Args:
        widths: of the columns.
        numeric: whether a column is of numbers.
        room: width of the terminal.
    """
    everything = list(range(len(widths)))
    if _EDGES + sum(widths) + _GAP * len(widths) <= room or not any(numeric) or numeric[0]:
        return [everything]
    keys = everything[: min(2, numeric.index(True))]
    most = room * 2 // 5 // len(keys)
    taken = _EDGES + sum(min(most, widths[i]) + _GAP for i in keys)
    parts, used = [[*keys]], taken
    for column in everything[len(keys) :]:
        # What is no number may be folded: it takes what is left.
        wanted = (widths[column] if numeric[column] else min(_LEAST, widths[column])) + _GAP
        if len(parts[-1]) > len(keys) and used + wanted > room:
            parts.append([*keys])
            used = taken
        parts[-1].append(column)
        used += wanted
    return parts


def _table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    shown: Sequence[int],
    numbers: Sequence[str],
    most: int | None,
) -> Table:
    """Return a table of some columns; names are folded beyond `most`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", box=box.SIMPLE)
    for i in shown:
        number = columns[i] in numbers
        table.add_column(
            Text(columns[i]),
            justify="right" if number else "left",
            overflow="fold",
            max_width=None if number else most,
        )
    for row in rows:
        table.add_row(*(Text(row[i]) for i in shown))
    return table


def print_sentence(sentence: str) -> None:
    """Print a sentence, between words on several lines where a terminal is narrow."""
    import shutil
    import textwrap

    if sys.stdout.isatty():
        sentence = textwrap.fill(
            sentence, shutil.get_terminal_size().columns, break_on_hyphens=False
        )
    sys.stdout.write(sentence + "\n")


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
