"""Tells the trackers of an LLM's run about it, from its start to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from sentikit.files import read_json
from sentikit.llm.requests.loop import LabelReader
from sentikit.llm.requests.progress import RequestReporter
from sentikit.redaction import redacted
from sentikit.runs import folder as run_folder
from sentikit.tracking import LLMCall, TrackedRun, Tracker, TrackerGroup, scores_line


class TrackedPrompting:
    """An LLM's run as its trackers hear of it; use as a context manager.

    Args:
        trackers: by name.
        run: the run.
        read_label: reads the label out of an answer.
        reporter: speaks to the user, and knows what the calls came to.
    """

    def __init__(
        self,
        trackers: Mapping[str, Tracker],
        run: TrackedRun,
        read_label: LabelReader,
        reporter: RequestReporter,
    ) -> None:
        self._group = TrackerGroup(trackers, reporter.say)
        self._run, self._read_label, self._reporter = run, read_label, reporter

    def __enter__(self) -> Self:
        self._group.start(self._run)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._group.log(self._reporter.summary())
        status, metrics = run_folder.end_status(error), {}
        if status == run_folder.FINISHED:
            metrics = self._metrics()
        if status != run_folder.INTERRUPTED:
            reason = redacted(str(error)) if error else scores_line(metrics)
            self._group.alert(f"Run {status}", f"{self._run.path} {status}: {reason}")
        self._group.finish(metrics, status)

    def call(self, call: LLMCall) -> None:
        """Pass a call on, with the label that its answer holds."""
        if call.answer is not None:
            label = self._read_label(call.answer.text, call.request.labels)
            call = replace(call, label=label)
        self._group.call(call)

    def _metrics(self) -> dict[str, Any]:
        """Return what the run scored; a run without gold labels has no scores."""
        path = self._run.path / run_folder.METRICS
        return dict(read_json(path)) if path.exists() else {}
