"""The bar that long work shows on standard error, where that is a terminal."""

from __future__ import annotations

import importlib.util
from typing import Any, Self

import click


class LiveBar:
    """How far something is, one line beside it, messages above it; elsewhere only the messages.

    As a context manager it is there from beginning to end.

    Args:
        unit: what is counted, as ``steps``, or "".
        shown: whether to show it; without a terminal it never is.
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
            total: what it counts up to; None: not known yet.
            line: what stands beside it.
        """
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        # A notebook is no terminal, but shows bars where ipywidgets is installed.
        notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        if not (self._shown and (notebook or console.is_terminal)):
            return
        self._progress = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn(self._unit),
            TextColumn("{task.fields[line]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=1 if total is None else total, line=line)
        self._progress.start()

    def stop(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def update(
        self, completed: int | None = None, total: int | None = None, line: str | None = None
    ) -> None:
        """Move the bar; what is None stays as it is."""
        if self._progress is not None:
            beside = {} if line is None else {"line": line}
            self._progress.update(self._task, completed=completed, total=total, **beside)

    def advance(self, number: int) -> None:
        """Move the bar on."""
        if self._progress is not None:
            self._progress.advance(self._task, number)

    def say(self, message: str) -> None:
        """Print a message; the bar stays below it."""
        if self._progress is not None:
            self._progress.console.print(message, highlight=False, markup=False)
        else:
            click.echo(message, err=True)
