"""Prompt strategies, which turn an example into chat messages."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sentikit.chat import Message
from sentikit.classifiers.label_reader import parse_label
from sentikit.classifiers.prediction import Prediction
from sentikit.components import Component
from sentikit.errors import SentikitError


@dataclass(frozen=True)
class RetrievedExample:
    """A labelled text that is shown in a prompt."""

    text: str
    label: str


@dataclass(frozen=True)
class PromptInput:
    """Everything a strategy may put into its messages.

    Attributes:
        text: the text to classify, unchanged.
        classes: the labels to choose from.
        adviser_prediction: the adviser's prediction, which has a label; None unless needed.
        examples: labelled examples, the most similar first (or class by class); empty unless
            needed.
        id: the row's id, or "".
        source: the text's source, or None.
        columns: the row's other columns, by name.
    """

    text: str
    classes: tuple[str, ...]
    adviser_prediction: Prediction | None = None
    examples: tuple[RetrievedExample, ...] = ()
    id: str = ""
    source: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def opinion(self) -> Prediction | None:
        """The old name of `adviser_prediction`."""
        _warn_of_old_name("PromptInput.opinion", "PromptInput.adviser_prediction")
        return self.adviser_prediction


@dataclass(frozen=True)
class ExamplesNeeded:
    """The labelled examples that a strategy shows.

    Attributes:
        k: how many; per class if `balanced`.
        balanced: show k examples of each class, in the order of the classes.
        nearest: show the texts most similar to this one, by an encoder's embeddings; otherwise
            every prompt shows the same examples, drawn with the recipe's seed.
    """

    k: int
    balanced: bool = False
    nearest: bool = True


@dataclass(frozen=True)
class Needs:
    """What a strategy needs besides the text.

    Attributes:
        label: the adviser's label.
        probabilities: the adviser's probabilities.
        examples: labelled examples, or None.
        free_text: an answer in free text, in which `parse` finds the label.
        tokens: expected tokens of an answer, for estimates; ``llm.max_tokens`` is raised to twice
            as many if it is lower. 0: only a label.
    """

    label: bool = False
    probabilities: bool = False
    examples: ExamplesNeeded | None = None
    free_text: bool = False
    tokens: int = 0

    @property
    def prediction(self) -> bool:
        """Whether an adviser's prediction is needed."""
        return self.label or self.probabilities

    @property
    def encoder(self) -> bool:
        """Whether an adviser or an encoder is needed at all."""
        return self.prediction or (self.examples is not None and self.examples.nearest)

    @property
    def opinion(self) -> bool:
        """The old name of `prediction`."""
        _warn_of_old_name("Needs.opinion", "Needs.prediction")
        return self.prediction


class PromptStrategy(Component, ABC):
    r"""Turns a text and an adviser's prediction into messages, and an answer into a label.

    A complete strategy::

        class Terse(sentikit.extension.PromptStrategy):
            def messages(self, given):
                choices = " or ".join(given.classes)
                return [sentikit.extension.Message("user", f"{given.text}\n\nAnswer {choices}:")]

    A strategy that shows the adviser's label declares it::

            def needs(self):
                return sentikit.extension.Needs(label=True)
    """

    def needs(self) -> Needs:
        """Return what `messages` needs besides the text; nothing by default."""
        return Needs()

    @abstractmethod
    def messages(self, given: PromptInput) -> list[Message]:
        """Return the messages to send; they depend on nothing but the input."""

    def parse(self, answer: str, classes: Sequence[str]) -> str | None:
        """Return the label in an answer, or None if the answer is invalid."""
        return parse_label(answer, classes)

    def counts(self) -> Mapping[str, Any]:
        """Return counts over the different prompts so far, for the run's manifest; no texts."""
        return {}


#: Parses an answer's text: returns one of the labels, or None if the answer is invalid.
LabelReader = Callable[[str, Sequence[str]], str | None]


def label_reader(strategy: PromptStrategy, name: str) -> LabelReader:
    """Return a strategy's answer parser; whatever it returns but a label counts as invalid."""

    def read(answer: str, labels: Sequence[str]) -> str | None:
        try:
            label = strategy.parse(answer, labels)
        except Exception as error:
            raise SentikitError(
                f"The strategy {name!r} failed to read {answer[:60]!r}: "
                f"{type(error).__name__}: {error}. Fix its plugin."
            ) from error
        return label if label in labels else None

    return read


def _warn_of_old_name(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is now {new}. The old name works until the next release.",
        DeprecationWarning,
        stacklevel=3,
    )
