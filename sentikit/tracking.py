"""The interface of a tracker, which shows a run elsewhere, and how a run tells its trackers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import BeforeValidator

from sentikit.components import Component, Problem, check_component
from sentikit.components import Path as KeyPath
from sentikit.keys import redacted
from sentikit.registry import Registry

if TYPE_CHECKING:
    from sentikit.llm.backend import Answer, ChatRequest


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


@dataclass(frozen=True)
class LLMCall:
    """One try of a call to an LLM; or an answer that was there before, and cost nothing now.

    Attributes:
        request: what was asked.
        model: the backend's model.
        parameters: what was sent beside the messages, as JSON values; no keys are among them.
        began: seconds since the epoch.
        seconds: how long it took.
        attempt: from 1.
        cached: whether the answer was found in the file of answers; `cost` is then what it saved.
        answer: what came back, or None.
        label: the label read out of the answer; None where there is none.
        cost: USD, or None where the price is unknown or nothing came back.
        reason: why nothing came back, in a word: ``rate_limit``, ``server``, ``network``,
            ``rejected``, ``fatal``, ``cancelled``; or None.
        error: the same as a sentence, which may quote the prompt.
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
    """Shows runs elsewhere: in a web service, in another program's files.

    It is made while the recipe is checked; a package or a key that is missing is said there, by an
    ``InputError`` from ``__init__``. Only the main process calls the other methods, each of
    which does nothing unless overridden. One that raises is switched off, and the run goes on.
    """

    def start(self, run: TrackedRun) -> None:
        """Get ready; called before the first record."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Take a record of JSON values; an unknown number is None.

        ``record["kind"]`` says of what: ``step`` (a few optimizer steps) or ``epoch`` (with its
        validation) of a training run, whose ``record["step"]`` counts optimizer steps; ``change``,
        settings that its user has changed; ``requests``, what the calls of an LLM's run came to.
        """

    def call(self, call: LLMCall) -> None:
        """Take one call to an LLM; it waits for this method, so that sending is for later."""

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
            # Libraries raise anything, SystemExit included; a run of hours outlives all of it.
            except (Exception, SystemExit) as error:
                del self._trackers[name]
                reason = redacted(" ".join(str(error).split())) or "no message"
                self._say(
                    f"The tracker {name!r} is switched off, the run goes on: "
                    f"{type(error).__name__}: {reason}"
                )


def as_list(raw: Any) -> Any:
    """Let a single tracker stand for a list of one, as in ``--set trackers=wandb``."""
    return [raw] if isinstance(raw, str | Mapping) else raw


#: The list in a recipe: names, or sections with a name and settings.
Trackers = Annotated[list[Any], BeforeValidator(as_list)]


def check_trackers(
    registry: Registry, raw: Any, prefix: KeyPath = ("trackers",)
) -> tuple[dict[str, Tracker], list[Problem]]:
    """Make the trackers of ``trackers: [wandb, {name: tensorboard, …}]``; a text is a name."""
    made: dict[str, Tracker] = {}
    problems: list[Problem] = []
    # Anything but a list is refused by the recipe's own schema.
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
