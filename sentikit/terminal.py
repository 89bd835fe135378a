"""Terminal output: tables, sentences, amounts and a live progress bar."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Self

import click

from sentikit.errors import printable

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, Task
    from rich.table import Table

#: Spaces between columns, and at the edges of a table.
_GAP, _EDGES = 3, 1
#: Minimum width of a text column that may be folded.
_LEAST = 18
# Line width in files and pipes.
_WIDTH_OF_FILES = 200


def usd_text(amount: float) -> str:
    """Return USD without the sign: two decimals from a dollar on, at least four below.

    A small amount gets as many decimals as its first digit needs; only 0 is written as 0.
    """
    if amount == 0 or round(abs(amount), 4) >= 1:
        return f"{amount:,.2f}"
    return f"{amount:.{max(4, -math.floor(math.log10(abs(amount))))}f}"


def print_text(text: str, err: bool = False) -> None:
    """Print text from a file or server without its terminal escapes."""
    click.echo(printable(text), err=err)


class PrintableStream:
    """Standard output on a terminal, with terminal escapes removed from data."""

    def __init__(self, terminal: IO[str]) -> None:
        self._terminal = terminal

    def write(self, text: str) -> int:
        return self._terminal.write(printable(text))

    def flush(self) -> None:
        self._terminal.flush()


def data_output() -> Any:
    """Return standard output for data; only on a terminal are escapes removed."""
    return PrintableStream(sys.stdout) if sys.stdout.isatty() else sys.stdout


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
) -> None:
    """Print a table; the columns named in `numbers` are right-aligned.

    Cells are plain text, without markup, and are never truncated. If the terminal is too narrow for
    all numeric columns, they go into several tables, each with the leading text columns.
    """
    from rich.console import Console

    title, columns, numbers = printable(title), _printable(columns), _printable(numbers)
    held = [_printable(row) for row in rows]
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)
    widths = [_widest(column, [row[i] for row in held]) for i, column in enumerate(columns)]
    parts = _parts(widths, [column in numbers for column in columns], console.width)
    # In narrow tables, long names are folded to leave room for numbers.
    most = console.width * 2 // 5 if len(parts) > 1 else None
    with console.capture() as captured:
        for part, shown in zip(parts, itertools.chain([title], itertools.repeat("")), strict=False):
            console.print(_table(shown, columns, held, part, numbers, most))
    lines = captured.get().strip("\n").splitlines()
    sys.stdout.write("\n".join(line.rstrip() for line in lines) + "\n")


def _printable(texts: Sequence[str]) -> list[str]:
    return [printable(text) for text in texts]


def _widest(column: str, cells: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, [column, *cells]))


def _parts(widths: Sequence[int], numeric: Sequence[bool], room: int) -> list[list[int]]:
    """Return the columns of each table: all in one if they fit or none is numeric."""
    everything = list(range(len(widths)))
    if _EDGES + sum(widths) + _GAP * len(widths) <= room or not any(numeric) or numeric[0]:
        return [everything]
    keys = everything[: min(2, numeric.index(True))]
    most = room * 2 // 5 // len(keys)
    taken = _EDGES + sum(min(most, widths[i]) + _GAP for i in keys)
    parts, used = [[*keys]], taken
    for column in everything[len(keys) :]:
        # A text column may be folded to the remaining width.
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
    """Return a table of some columns; text wider than `most` is folded."""
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


#: Scores of more classes get a table of their own.
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


def print_sentence(sentence: str) -> None:
    """Print a sentence, wrapped to the width of a terminal."""
    import shutil
    import textwrap

    sentence = printable(sentence)
    if sys.stdout.isatty():
        sentence = textwrap.fill(
            sentence, shutil.get_terminal_size().columns, break_on_hyphens=False
        )
    sys.stdout.write(sentence + "\n")


@contextmanager
def working_on(what: str, shown: bool = True) -> Iterator[None]:
    """Show on a terminal, until it is done, what takes a while and cannot be counted."""
    shown = shown and sys.stderr.isatty()
    if shown:
        # Whatever is printed meanwhile, such as the progress of a download, replaces it.
        click.echo(f"{what} …\r", nl=False, err=True)
    try:
        yield
    finally:
        if shown:
            click.echo("\x1b[K", nl=False, err=True)


class LiveBar:
    """A progress bar with a line beside it and messages above it; use as a context manager.

    Without a terminal, only the messages are shown.

    Args:
        unit: the unit of the count, such as ``steps``, or "".
        shown: False never shows the bar.
    """

    def __init__(self, unit: str = "", shown: bool = True) -> None:
        self._unit, self._shown = unit, shown
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()

    def start(self, total: int | None = None, line: str = "") -> None:
        """Show the bar.

        Args:
            total: the final count; None if unknown.
            line: the text beside it.
        """
        forced = any(name in os.environ for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
        if not (sys.stderr.isatty() or forced or "IPython" in sys.modules):
            return  # importing rich is slow
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        # A notebook shows bars if ipywidgets is installed.
        notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        if not (self._shown and (notebook or console.is_terminal)):
            return
        self._progress = Progress(
            BarColumn(bar_width=20),
            _count_column(self._unit),
            TextColumn("{task.fields[line]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            # Encoders answer thousands of texts at once, with up to a minute between them.
            speed_estimate_period=600,
        )
        self._task = self._progress.add_task("", total=total, line=line)
        self._progress.start()

    def stop(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def update(
        self, completed: int | None = None, total: int | None = None, line: str | None = None
    ) -> None:
        """Update the bar; None keeps a value."""
        if self._progress is not None:
            beside = {} if line is None else {"line": printable(line)}
            self._progress.update(self._task, completed=completed, total=total, **beside)

    def advance(self, number: int) -> None:
        """Advance the bar."""
        if self._progress is not None:
            self._progress.advance(self._task, number)

    def say(self, message: str) -> None:
        """Print a message above the bar."""
        message = printable(message)
        if self._progress is not None:
            self._progress.console.print(message, highlight=False, markup=False)
        else:
            click.echo(message, err=True)


def _count_column(unit: str) -> ProgressColumn:
    """Return the column with the count and the rate; nothing before the first count."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class CountColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            if not task.completed and task.total is None:
                return Text()
            total = "" if task.total is None else f"/{task.total:,.0f}"
            counted = f"{task.completed:,.0f}{total} {unit}".rstrip()
            speed = task.speed or 0
            return Text(f"{counted}  {speed:,.{int(speed < 10)}f}/s" if speed else counted)

    return CountColumn()
