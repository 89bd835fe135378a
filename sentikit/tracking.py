"""The interface of a tracker, which shows a run elsewhere, and how a run tells its trackers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentikit.parts import Part
from sentikit.redaction import redacted


@dataclass(frozen=True)
class TrackedRun:
    """The run a tracker is to show.

    Attributes:
        kind: train, prompt, …
        path: the run's folder; a tracker may keep files of its own there.
        recipe: the resolved recipe's sections, as plain values; no keys are among them.
        step: steps done before, where an unfinished run goes on; else 0. Whatever was logged of
            later steps comes again.
    """

    kind: str
    path: Path
    recipe: Mapping[str, Any]
    step: int = 0

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.path.resolve().name


class Tracker(Part):
    """Shows runs elsewhere: in a web service, in another program's files.

    It is made while the recipe is checked; a package or a key that is missing is said there, by an
    ``InputError`` from ``__init__``. Only the process that speaks calls the other methods, each of
    which does nothing unless overridden. One that raises is switched off, and the run goes on.
    """

    def start(self, run: TrackedRun) -> None:
        """Get ready; called before the first record."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Take a record of JSON values; an unknown number is None.

        ``record["kind"]`` says of what: ``step`` (a few optimizer steps) or ``epoch`` (with its
        validation) of a training run, whose ``record["step"]`` counts optimizer steps.
        """

    def alert(self, title: str, text: str) -> None:
        """Pass on what deserves a look at once: a collapse, NaN, an early stop, the end."""

    def finish(self, metrics: Mapping[str, Any], status: str) -> None:
        """End the run.

        Args:
            metrics: what ``metrics.json`` holds; empty where the run did not get that far.
            status: finished, failed or interrupted, as in the manifest.
        """


def flat_numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers within nested mappings as ``section/key``; all else is left out."""
    found: dict[str, float] = {}
    for key, value in values.items():
        path = f"{prefix}/{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            found |= flat_numbers(value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[path] = value
    return found


class TrackerGroup:
    """The trackers of one run, by name; a failing one is dropped with one message."""

    def __init__(self, trackers: Mapping[str, Tracker], say: Callable[[str], None]) -> None:
        self._trackers = dict(trackers)
        self._say = say

    def start(self, run: TrackedRun) -> None:
        """Start all."""
        self._tell(lambda tracker: tracker.start(run))

    def log(self, record: Mapping[str, Any]) -> None:
        """Hand all a record."""
        self._tell(lambda tracker: tracker.log(record))

    def alert(self, title: str, text: str) -> None:
        """Hand all an alert."""
        self._tell(lambda tracker: tracker.alert(title, text))

    def finish(self, metrics: Mapping[str, Any], status: str) -> None:
        """End all."""
        self._tell(lambda tracker: tracker.finish(metrics, status))

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            # Libraries raise anything, SystemExit included; a run of hours outlives all of it.
            except (Exception, SystemExit) as error:
                del self._trackers[name]
                reason = redacted(" ".join(str(error).split())) or "no message"
                self._say(
                    f"The tracker {name!r} is switched off, the run goes on: "
                    f"{type(error).__name__}: {reason}"
                )
