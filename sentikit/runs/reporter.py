"""The reporter of a run: its log, a live bar with messages above it, and its trackers."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from sentikit.keys import redacted
from sentikit.runs.folder import FINISHED, INTERRUPTED, LOG, JsonLinesLog, end_status
from sentikit.terminal import LiveBar
from sentikit.tracking import TrackedRun, Tracker, TrackerGroup, scores_line


class RunReporter:
    """Reports the progress of a run; use as a context manager.

    Args:
        run: the run, as its trackers see it.
        trackers: trackers by name.
        bar: the progress bar; by default one of steps.
        line: the text beside the bar before the first report.
        announced: whether trackers are alerted when the run ends.

    Attributes:
        metrics: the metrics that trackers get at the end.
        status: how the run ended, unless an error was raised.
    """

    def __init__(
        self,
        run: TrackedRun,
        trackers: Mapping[str, Tracker],
        bar: LiveBar | None = None,
        line: str = "",
        announced: bool = True,
    ) -> None:
        self.metrics: Mapping[str, Any] = {}
        self.status = FINISHED
        self._run, self._line, self._announced = run, line, announced
        self._bar = bar or LiveBar("steps")
        self._log = JsonLinesLog(run.path / LOG)
        self._trackers = TrackerGroup(trackers, self.say)

    def __enter__(self) -> Self:
        # Trackers may print or prompt, which a moving bar would garble.
        self._trackers.start(self._run)
        self._bar.start(line=self._line)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._log.close()
        status = end_status(error) if error else self.status
        if self._announced and status != INTERRUPTED:
            reason = redacted(str(error)) if error else scores_line(self.metrics)
            self._trackers.alert(f"Run {status}", f"{self._run.path} {status}: {reason}")
        self._trackers.finish(self.metrics, status)

    def say(self, message: str) -> None:
        """Show a message above the bar."""
        self._bar.say(message)

    def alert(self, title: str, text: str) -> None:
        """Show an urgent message, and pass it to the trackers."""
        self.say(text)
        self._trackers.alert(title, text)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write a record, which has a ``kind``, to the log and the trackers."""
        self._log.write(dict(record))
        self._trackers.log(record)

    def rewind(self, step: int, epochs: int = 0) -> None:
        """Delete the log lines after a step and after an epoch, which will be repeated."""
        self._log.close()
        self._log.keep(step if step else -1, epochs)
