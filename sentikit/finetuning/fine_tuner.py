"""The interface of a fine-tuner: what an LLM backend's plugin implements to fine-tune models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sentikit.components import Component
from sentikit.errors import InputError
from sentikit.llm.strategy import Message

if TYPE_CHECKING:
    from sentikit.training.engine import Engine

#: Tokens of one whole conversation, the answer to learn included.
TokenCount = Callable[[Sequence[Message]], int]


@dataclass(frozen=True)
class FineTuningLimits:
    """What a provider refuses, so that the core can refuse it first.

    Attributes:
        fewest_examples: a training file needs.
        most_bytes: a file may have, or None.
        context: tokens one example may have, its answer included; None leaves it to the table of
            models.
    """

    fewest_examples: int = 1
    most_bytes: int | None = None
    context: int | None = None


@dataclass(frozen=True)
class FineTuningJob:
    """What there is to learn, and where the run lies.

    Attributes:
        path: the run's folder; a fine-tuner may keep files of its own there (``model/``,
            ``checkpoints/``).
        train: JSON Lines of ``{"messages": [...]}``, the label as the last, the assistant's.
        validation: the same, or None.
        classes: the labels.
        fingerprint: a hash of data, base model and settings: the same job has the same one.
        engine: how steps run, started already; None unless the fine-tuner trains here.
        wait: whether to wait for the end of a job that runs elsewhere.
    """

    path: Path
    train: Path
    validation: Path | None
    classes: tuple[str, ...]
    fingerprint: str
    engine: Engine | None = None
    wait: bool = True


@dataclass(frozen=True)
class FineTunedModel:
    """What a fine-tuner leaves.

    Attributes:
        model: a name that its backend knows, or the model's folder inside the run's.
        llm: more keys that a recipe's ``llm`` section needs to reach it, as ``base_url``.
        tokens: tokens that are billed, all epochs together; None where nothing is billed or the
            provider does not say.
        metrics: losses and the like, for ``metrics.json``; intermediate models as ``checkpoints``.
        seconds: of training, all sittings together, where it was done here; else None.
    """

    model: str | Path
    llm: Mapping[str, Any] = field(default_factory=dict)
    tokens: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None


class FineTuningSession(Protocol):
    """What the core lends a fine-tuner while it works."""

    def say(self, message: str) -> None:
        """Tell the user, once."""

    def alert(self, title: str, text: str) -> None:
        """Say a text, and pass it to the run's trackers: what deserves a look at once."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Take a line of the log, shown live: JSON values with ``kind`` and, mostly, ``step``.

        Known kinds: ``step`` (``step``, ``steps`` in all, ``loss``, ``validation_loss``…),
        ``epoch`` and ``event`` (``message``).
        """

    def rewind(self, step: int, epochs: int = 0) -> None:
        """Forget what was logged after a step, and after an epoch: it comes again."""

    def recall(self, key: str) -> Any:
        """Return what was remembered in this run under `key` (JSON), or None."""

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON value in the run; it is on the disk when this returns."""

    def stop_requested(self) -> bool:
        """Say whether the user has asked to stop; a fine-tuner then returns None soon."""


class FineTuner(Component, ABC):
    """Fine-tunes a model of one provider; made from a recipe's section ``finetune``.

    A backend names its fine-tuner: ``LLMBackend.fine_tuner``. The core makes the files, checks
    them against `limits`, counts tokens and dollars, and writes the run.

    Attributes:
        trains_here: whether `run` computes in this process, or these processes, with the recipe's
            engine; otherwise it follows a job that runs elsewhere.
    """

    trains_here: ClassVar[bool] = False

    @property
    @abstractmethod
    def model(self) -> str:
        """The base model's name, for prices and reports."""

    @property
    def billed(self) -> bool:
        """Whether tokens of training data may cost money; False makes every cost 0."""
        return not self.trains_here

    @property
    def limits(self) -> FineTuningLimits:
        """What would be refused."""
        return FineTuningLimits()

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return all that decides what is learnt beside the data (JSON values, no secret)."""

    @abstractmethod
    def epochs(self, examples: int) -> int:
        """Return how often the examples will be gone through, as far as is known; for prices."""

    def token_count(self) -> TokenCount | None:
        """Return what counts a conversation's tokens; None leaves it to the table of models.

        Raises:
            InputError: there is no such model.
        """
        return None

    def check(self, session: FineTuningSession) -> None:
        """Refuse, before anything is uploaded or trained, what cannot work.

        Raises:
            InputError: something is missing on this side.
            SentikitError: the provider refuses or cannot be reached.
        """
        return

    @abstractmethod
    def run(self, job: FineTuningJob, session: FineTuningSession) -> FineTunedModel | None:
        """Do the job, or resume it where an earlier call was killed at any moment.

        With several processes, each calls this; only the one that is the main process writes files.

        Returns:
            The model; None where the user asked to stop or not to wait, and the job goes on, or
            can go on, later.

        Raises:
            SentikitError: it failed; gives the provider's reason.
        """

    def cancel(self, job: FineTuningJob, session: FineTuningSession) -> None:
        """Cancel a job that runs elsewhere.

        Raises:
            InputError: there is none.
            SentikitError: the provider refuses.
        """
        raise InputError("Nothing runs elsewhere: Ctrl-C stops this training.")
