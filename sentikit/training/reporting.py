"""Tells the user how training goes: messages and a bar on standard error, lines in log.jsonl."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

import click

from sentikit.runs.folder import JsonLinesLog


class SilentJournal:
    """The journal of processes that do not speak."""

    def step(self, record: dict[str, Any]) -> None:
        """Ignore."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Ignore."""

    def advance(self, step: int, total: int) -> None:
        """Ignore."""

    def say(self, message: str) -> None:
        """Ignore."""


class ConsoleJournal:
    """Writes the log and talks to the user; use as a context manager."""

    def __init__(self, log: JsonLinesLog, epochs: int, bar: bool = True) -> None:
        self._log = log
        self._bar = bar
        self._epochs = epochs
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TimeRemainingColumn(),
            console=console,
            disable=not (self._bar and console.is_terminal),
            transient=True,
        )
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._log.close()

    def step(self, record: dict[str, Any]) -> None:
        """Log a few steps."""
        self._log.write({"kind": "step", **record})

    def epoch(self, record: dict[str, Any]) -> None:
        """Log an epoch and print its line."""
        self._log.write({"kind": "epoch", **record})
        best = " (best)" if record["best_epoch"] == record["epoch"] else ""
        self.say(
            f"epoch {record['epoch']}/{self._epochs}  loss {record['training_loss']:.4f}  "
            f"validation: loss {record['validation_loss']:.4f}, "
            f"macro-F1 {record['validation_macro_f1']:.4f}, "
            f"accuracy {record['validation_accuracy']:.4f}{best}  "
            f"[{record['seconds']:.0f} s]"
        )

    def advance(self, step: int, total: int) -> None:
        """Move the bar."""
        if self._task is None:
            self._task = self._progress.add_task("training", total=total)
        self._progress.update(self._task, completed=step, total=total)

    def say(self, message: str) -> None:
        """Print above the bar."""
        if self._progress is not None and not self._progress.disable:
            self._progress.console.print(message, highlight=False, markup=False)
        else:
            click.echo(message, err=True)


def tell(message: str) -> None:
    """Print on standard error."""
    click.echo(message, err=True)


def read_line() -> str:
    """Read a line the user types.

    Raises:
        EOFError: there is no more input.
    """
    click.echo("> ", nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
