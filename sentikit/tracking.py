"""The interface of experiment trackers, and the group of a run's trackers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BeforeValidator

from sentikit.chat import Answer, ChatRequest
from sentikit.components import Component, Problem, check_component
from sentikit.components import Path as KeyPath
from sentikit.keys import redacted
from sentikit.registry import Registry


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker shows.

    Attributes:
        kind: train, prompt, …
        path: the run's folder; a tracker may keep its own files there.
        recipe: the resolved recipe's sections, as plain values, without secrets.
        step: the step from which the run resumes, else 0; later steps are logged again.
    """

    kind: str
    path: Path
    recipe: Mapping[str, Any]
    step: int = 0

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.path.resolve().name


@dataclass(frozen=True)
class LLMCall:
    """One attempt at a call to an LLM, or an answer found in the cache.

    Attributes:
        request: the request.
        model: the backend's model.
        parameters: what was sent besides the messages, as JSON values, without secrets.
        began: seconds since the epoch.
        seconds: its duration.
        attempt: number of the attempt, from 1.
        cached: whether the answer was found in the cache; `cost` is then the cost saved.
        answer: the answer, or None after a failure.
        label: the label in the answer, or None.
        cost: USD, or None if the price is unknown or the call failed.
        reason: why it failed, in a word: ``rate_limit``, ``server``, ``network``, ``rejected``,
            ``fatal``, ``cancelled``; or None.
        error: why it failed, as a sentence, which may quote the prompt; or None.
    """

    request: ChatRequest
    model: str
    parameters: Mapping[str, Any]
    began: float
    seconds: float = 0.0
    attempt: int = 1
    cached: bool = False
    answer: Answer | None = None
    label: str | None = None
    cost: float | None = None
    reason: str | None = None
    error: str | None = None


class Tracker(Component):
    """Shows runs in a web service or in another program's files.

    It is made while the recipe is checked: ``__init__`` raises an ``InputError`` for a missing
    package or key. Only the main process calls the other methods, which do nothing by default. A
    tracker that raises an error is switched off, and the run continues.
    """

    def start(self, run: TrackedRun) -> None:
        """Prepare; called before the first record."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Log a record of JSON values; an unknown number is None.

        ``record["kind"]`` is ``step`` (a few optimizer steps) or ``epoch`` (with its validation) of
        a training run, with the number of optimizer steps in ``record["step"]``; ``change``, for
        settings that the user changed; or ``requests``, the totals of an LLM's calls.
        """

    def call(self, call: LLMCall) -> None:
        """Log one call to an LLM; the call waits for this method, so send it in the background."""

    def alert(self, title: str, text: str) -> None:
        """Send an urgent message: a collapse, NaN, an early stop, the end."""

    def finish(self, metrics: Mapping[str, Any], status: str) -> None:
        """End the run.

        Args:
            metrics: the content of ``metrics.json``; empty if the run did not get that far.
            status: finished, failed or interrupted, as in the manifest.
        """


def flat_numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers in nested mappings as ``section/key``."""
    found: dict[str, float] = {}
    for key, value in values.items():
        path = f"{prefix}/{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            found |= flat_numbers(value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[path] = value
    return found


def scores_line(metrics: Mapping[str, Any]) -> str:
    if "overall" not in metrics:
        return "no text has a gold label"
    overall = metrics["overall"]
    return (
        f"macro-F1 {overall['macro_f1']:.4f}, accuracy {overall['accuracy']:.4f} "
        f"on {metrics['split']}"
    )


class TrackerGroup:
    """The trackers of one run, by name; a failing one is dropped with one message."""

    def __init__(self, trackers: Mapping[str, Tracker], say: Callable[[str], None]) -> None:
        self._trackers = dict(trackers)
        self._say = say

    def start(self, run: TrackedRun) -> None:
        self._tell(lambda tracker: tracker.start(run))

    def log(self, record: Mapping[str, Any]) -> None:
        self._tell(lambda tracker: tracker.log(record))

    def call(self, call: LLMCall) -> None:
        self._tell(lambda tracker: tracker.call(call))

    def alert(self, title: str, text: str) -> None:
        self._tell(lambda tracker: tracker.alert(title, text))

    def finish(self, metrics: Mapping[str, Any], status: str) -> None:
        self._tell(lambda tracker: tracker.finish(metrics, status))

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            # Libraries raise anything, even SystemExit; a long run must survive it.
            except (Exception, SystemExit) as error:
                del self._trackers[name]
                reason = redacted(" ".join(str(error).split())) or "no message"
                self._say(
                    f"The tracker {name!r} failed and is switched off; the run continues. "
                    f"{type(error).__name__}: {reason}"
                )


def as_list(raw: Any) -> Any:
    """Accept a single tracker as a list of one, as in ``--set trackers=wandb``."""
    return [raw] if isinstance(raw, str | Mapping) else raw


#: A recipe's trackers: names, or sections with a name and settings.
Trackers = Annotated[list[Any], BeforeValidator(as_list)]


def check_trackers(
    registry: Registry, raw: Any, prefix: KeyPath = ("trackers",)
) -> tuple[dict[str, Tracker], list[Problem]]:
    """Make the trackers of ``trackers: [wandb, {name: tensorboard, …}]``."""
    made: dict[str, Tracker] = {}
    problems: list[Problem] = []
    # The recipe's schema refuses anything but a list.
    entries = as_list(raw)
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        path = (*prefix, number)
        section = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(section, Mapping):
            problems.append(Problem(path, f"must be a tracker's name or section, not {entry!r}."))
            continue
        tracker, found = check_component(registry, "register_trackers", section, path)
        problems += found
        name = section.get("name")
        if name in made:
            problems.append(Problem((*path, "name"), f"{name!r} is listed twice."))
        elif tracker is not None:
            made[str(name)] = cast(Tracker, tracker)
    return made, problems
