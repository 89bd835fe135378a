"""The interface of fine-tuners, which a plugin implements for its LLM backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sentikit.chat import Message
from sentikit.components import Component
from sentikit.errors import InputError

if TYPE_CHECKING:
    from sentikit.training.engine import Engine

#: Counts the tokens of one conversation, its answer included.
TokenCount = Callable[[Sequence[Message]], int]


@dataclass(frozen=True)
class FineTuningLimits:
    """The limits of a provider, which the core checks first.

    Attributes:
        fewest_examples: minimum number of examples in a training file.
        most_bytes: maximum size of a file, or None.
        context: maximum tokens of one example, its answer included; None for the value in the
            table of models.
    """

    fewest_examples: int = 1
    most_bytes: int | None = None
    context: int | None = None


@dataclass(frozen=True)
class FineTuningJob:
    """The data and the folder of one fine-tuning job.

    Attributes:
        path: the run's folder; a fine-tuner may keep its own files there (``model/``,
            ``checkpoints/``).
        train: JSON Lines of ``{"messages": [...]}``; the last message is the assistant's label.
        validation: the same, or None.
        classes: the labels.
        fingerprint: a hash of data, base model and settings, which identifies the job.
        engine: a started engine; None unless the fine-tuner trains on this machine.
        wait: whether to wait for the end of a remote job.
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
    """The result of a fine-tuning job.

    Attributes:
        model: a name that the backend knows, or the model's folder inside the run's.
        llm: further keys that a recipe's ``llm`` section needs for it, such as ``base_url``.
        tokens: billed tokens of all epochs; None if nothing is billed or the provider reports
            none.
        metrics: losses and other metrics, for ``metrics.json``; intermediate models under
            ``checkpoints``.
        seconds: training time on this machine, resumed parts included; None for a remote job.
    """

    model: str | Path
    llm: Mapping[str, Any] = field(default_factory=dict)
    tokens: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None


class FineTuningSession(Protocol):
    """What the core offers a fine-tuner while it works."""

    def say(self, message: str) -> None:
        """Show a message to the user, once."""

    def alert(self, title: str, text: str) -> None:
        """Show an urgent message, and pass it to the run's trackers."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Write a line of the log and show it: JSON values with ``kind`` and mostly ``step``.

        Known kinds: ``step`` (``step``, total ``steps``, ``loss``, ``validation_loss``…),
        ``epoch`` and ``event`` (``message``).
        """

    def rewind(self, step: int, epochs: int = 0) -> None:
        """Delete the log lines after a step and after an epoch, which will be repeated."""

    def recall(self, key: str) -> Any:
        """Return the JSON value stored in this run under `key`, or None."""

    def remember(self, key: str, value: Any) -> None:
        """Store a JSON value in the run; it is on disk when this returns."""

    def stop_requested(self) -> bool:
        """Return whether the user has asked to stop; `run` should then return None soon."""


class FineTuner(Component, ABC):
    """Fine-tunes a model of one provider; configured by a recipe's section ``finetune``.

    ``LLMBackend.fine_tuner`` names it. The core writes the files, checks them against `limits`,
    counts tokens and cost, and writes the run.

    Attributes:
        trains_here: whether `run` trains on this machine with the recipe's engine, instead of
            following a remote job.
    """

    trains_here: ClassVar[bool] = False

    @property
    @abstractmethod
    def model(self) -> str:
        """The base model's name, for prices and reports."""

    @property
    def billed(self) -> bool:
        """Whether training tokens may cost money; if False, every cost is 0."""
        return not self.trains_here

    @property
    def limits(self) -> FineTuningLimits:
        """The provider's limits."""
        return FineTuningLimits()

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return everything besides the data that determines the model: JSON, no secrets."""

    @abstractmethod
    def epochs(self, examples: int) -> int:
        """Return the expected number of epochs, for the cost."""

    def token_count(self) -> TokenCount | None:
        """Return the token counter; None for the tokenizer in the table of models.

        Raises:
            InputError: there is no such model.
        """
        return None

    def check(self, session: FineTuningSession) -> None:
        """Check the key, the provider and the model before anything is uploaded or trained.

        Raises:
            InputError: something is missing on this machine.
            SentikitError: the provider refuses or cannot be reached.
        """
        return

    @abstractmethod
    def run(self, job: FineTuningJob, session: FineTuningSession) -> FineTunedModel | None:
        """Run the job, or resume it after an earlier call was killed at any moment.

        Every process calls this; only the main process writes files.

        Returns:
            The model; None if the user asked to stop or not to wait, so that the job continues or
            resumes later.

        Raises:
            SentikitError: the job failed; the message has the provider's reason.
        """

    def cancel(self, job: FineTuningJob, session: FineTuningSession) -> None:
        """Cancel a remote job.

        Raises:
            InputError: there is none.
            SentikitError: the provider refuses.
        """
        raise InputError("There is no remote job to cancel. Ctrl-C stops training on this machine.")
