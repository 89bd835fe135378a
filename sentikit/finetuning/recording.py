"""What a fine-tuning run tells the user, its log, its trackers and itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from sentikit.files import read_json, write_json
from sentikit.live_bar import LiveBar
from sentikit.runs.folder import INTERRUPTED, LOG, JsonLinesLog, RunFolder, end_status
from sentikit.tracking import TrackedRun, Tracker, TrackerGroup

#: What a fine-tuner remembers: uploaded files, the job's id.
MEMORY = "job.json"


class RunSession:
    """The session of one run, a ``FineTuningSession``; use as a context manager once it has begun.

    Args:
        run: its folder.
        recipe: the resolved recipe's sections.
        trackers: where the run is shown besides.
        stop_requested: asked several times a second.
        speaks: whether this process talks and writes; otherwise it only remembers for itself.
    """

    def __init__(
        self,
        run: RunFolder,
        recipe: Mapping[str, Any],
        trackers: Mapping[str, Tracker],
        stop_requested: Callable[[], bool],
        speaks: bool = True,
    ) -> None:
        self.stop_requested = stop_requested
        #: What trackers are told at the end, unless something fails.
        self.metrics: Mapping[str, Any] = {}
        self.status = INTERRUPTED
        self._run, self._recipe, self._speaks = run, recipe, speaks
        self._log = JsonLinesLog(run.path / LOG)
        self._trackers = TrackerGroup(trackers if speaks else {}, self.say)
        self._bar = _LearningBar()
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        self._trackers.start(TrackedRun("finetune", self._run.path, self._recipe))
        if self._speaks:
            self._bar.start(line="waiting")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._log.close()
        self._trackers.finish(self.metrics, end_status(error) if error else self.status)

    def say(self, message: str) -> None:
        """Tell the user something, the same thing once."""
        if self._speaks and message not in self._said:
            self._said.add(message)
            self._bar.say(message)

    def alert(self, title: str, text: str) -> None:
        """Tell the user and the trackers something."""
        self.say(text)
        self._trackers.alert(title, text)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write a line of the log and show it."""
        if not self._speaks:
            return
        self._log.write(dict(record))
        self._trackers.log(record)
        self._bar.show(record)

    def rewind(self, step: int, epochs: int = 0) -> None:
        """Forget what was logged after a step, and after an epoch."""
        if self._speaks:
            self._log.close()
            self._log.keep(step if step else -1, epochs)

    def recall(self, key: str) -> Any:
        """Return what was remembered in this run."""
        path = self._run.path / MEMORY
        return read_json(path).get(key) if path.is_file() else None

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON value in the run."""
        if self._speaks:
            path = self._run.path / MEMORY
            known = read_json(path) if path.is_file() else {}
            write_json(path, {**known, key: value})


class _LearningBar(LiveBar):
    """A bar with the loss on a terminal; elsewhere a line for each epoch and event."""

    def __init__(self) -> None:
        super().__init__("steps")
        self._furthest = 0

    def show(self, record: Mapping[str, Any]) -> None:
        kind, step = record.get("kind"), record.get("step") or 0
        if kind == "event":
            self.say(str(record.get("message", "")))
        elif kind == "epoch":
            self.say(f"epoch {record.get('epoch')}  {_losses(record)}")
        elif step >= self._furthest:
            self._furthest = step
            self.update(step, record.get("steps") or step, _losses(record))


def _losses(record: Mapping[str, Any]) -> str:
    """Return the numbers of a record whose names say that they are losses or accuracies."""
    shown = [
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in record.items()
        if isinstance(value, float) and ("loss" in name or "accuracy" in name or "f1" in name)
    ]
    return "  ".join(shown)
