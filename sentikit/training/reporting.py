"""Tells the user how training goes: messages and a bar on standard error, lines in log.jsonl."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import click

from sentikit.live_bar import LiveBar
from sentikit.redaction import redacted
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import JsonLinesLog
from sentikit.tracking import TrackedRun, Tracker, TrackerGroup, scores_line


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

    def alert(self, title: str, text: str) -> None:
        """Ignore."""

    def scored(self, metrics: dict[str, Any]) -> None:
        """Ignore."""


class ConsoleJournal:
    """Writes the log and talks to the user; use as a context manager."""

    def __init__(self, log: JsonLinesLog, bar: bool = True) -> None:
        self._log = log
        self._bar = LiveBar("steps", shown=bar)

    def __enter__(self) -> Self:
        self._bar.start(line="training")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._log.close()

    def step(self, record: dict[str, Any]) -> None:
        """Log a few steps."""
        self._log.write({"kind": "step", **record})

    def epoch(self, record: dict[str, Any]) -> None:
        """Log an epoch and print its line."""
        self._log.write({"kind": "epoch", **record})
        best = " (best)" if record["best_epoch"] == record["epoch"] else ""
        self.say(
            f"epoch {record['epoch']}/{record['epochs']}  loss {record['training_loss']:.4f}  "
            f"validation: loss {record['validation_loss']:.4f}, "
            f"macro-F1 {record['validation_macro_f1']:.4f}, "
            f"accuracy {record['validation_accuracy']:.4f}{best}  "
            f"[{record['seconds']:.0f} s]"
        )

    def advance(self, step: int, total: int) -> None:
        """Move the bar."""
        self._bar.update(step, total)

    def say(self, message: str) -> None:
        """Print above the bar."""
        self._bar.say(message)

    def alert(self, title: str, text: str) -> None:
        """Print the text."""
        self.say(text)

    def scored(self, metrics: dict[str, Any]) -> None:
        """Say nothing: whoever started the run shows its scores."""


class TrackedJournal(ConsoleJournal):
    """A journal that also tells the run's trackers, from its start to its end."""

    def __init__(
        self,
        log: JsonLinesLog,
        bar: bool,
        trackers: Mapping[str, Tracker],
        run: TrackedRun,
    ) -> None:
        super().__init__(log, bar)
        self._trackers = TrackerGroup(trackers, self.say)
        self._run = run
        self._metrics: dict[str, Any] = {}

    def __enter__(self) -> Self:
        # Trackers may print or ask something, which a moving bar would garble.
        self._trackers.start(self._run)
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        status = run_folder.end_status(error)
        if status != run_folder.INTERRUPTED:
            reason = redacted(str(error)) if error else scores_line(self._metrics)
            self._trackers.alert(f"Run {status}", f"{self._run.path} {status}: {reason}")
        self._trackers.finish(self._metrics, status)

    def step(self, record: dict[str, Any]) -> None:
        """Log a few steps."""
        super().step(record)
        self._trackers.log({"kind": "step", **record})

    def epoch(self, record: dict[str, Any]) -> None:
        """Log an epoch and print its line."""
        super().epoch(record)
        self._trackers.log({"kind": "epoch", **record})

    def alert(self, title: str, text: str) -> None:
        """Print the text and pass it on."""
        super().alert(title, text)
        self._trackers.alert(title, text)

    def scored(self, metrics: dict[str, Any]) -> None:
        """Keep the scores for the trackers."""
        self._metrics = metrics


def tell(message: str) -> None:
    """Print on standard error."""
    click.echo(message, err=True)


def read_line() -> str:
    """Read a line the user types; Ctrl-C is ``quit``, for there is no step to wait for.

    Raises:
        EOFError: there is no more input.
    """
    click.echo("> ", nl=False, err=True)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        return "quit"
    finally:
        signal.signal(signal.SIGINT, before)
    if not line:
        raise EOFError
    return line
