"""Chat messages, and the prompt strategies that turn an example into them."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sentikit.classifiers.label_reader import parse_label
from sentikit.classifiers.prediction import Prediction
from sentikit.components import Component

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One message of a chat; the content is sent as it is."""

    role: Role
    content: str

    def to_json(self) -> dict[str, str]:
        """Return the message as chat interfaces and fine-tuning files write it."""
        return {"role": self.role, "content": self.content}


def training_line(messages: Sequence[Message], label: str) -> str:
    """Return one line of JSON Lines, newline included: the messages, then the label as answer.

    The format is that of https://platform.openai.com/docs/guides/supervised-fine-tuning; characters
    outside ASCII are escaped, as in the study's files.
    """
    whole = [message.to_json() for message in [*messages, Message("assistant", label)]]
    return json.dumps({"messages": whole}) + "\n"


@dataclass(frozen=True)
class RetrievedExample:
    """A labelled text like the one that is asked about."""

    text: str
    label: str


@dataclass(frozen=True)
class PromptInput:
    """Everything a strategy may put into its messages.

    Attributes:
        text: the text to classify, as it is.
        classes: the labels to choose from.
        adviser_prediction: what the adviser predicts, where the strategy needs it; it has a label.
        examples: labelled texts like this one, the most alike first (or class by class), where the
            strategy needs them.
        id: of the row; "" where it has none.
        source: where the text comes from, or None.
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
    """How many labelled texts a strategy shows.

    Attributes:
        k: how many; of each class where `balanced`.
        balanced: the same number of each class, class by class in the order of the classes.
        nearest: those most like the text, found by an encoder; else every prompt shows the same
            ones, drawn with the recipe's seed.
    """

    k: int
    balanced: bool = False
    nearest: bool = True


@dataclass(frozen=True)
class Needs:
    """What a strategy needs beside the text.

    Attributes:
        label: the adviser's label.
        probabilities: the adviser's probabilities.
        examples: labelled texts that an encoder finds alike, or None.
        free_text: an answer in free text: no label guarantee is laid over it, and `parse` finds the
            label.
        tokens: tokens an answer is expected to have, for estimates; the answer's limit is raised to
            twice as many where ``llm.max_tokens`` is lower. 0: a label alone.
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
    r"""Turns a text, and what an adviser predicts of it, into messages, and an answer into a label.

    A whole strategy::

        class Terse(sentikit.extension.PromptStrategy):
            def messages(self, given):
                choices = " or ".join(given.classes)
                return [sentikit.extension.Message("user", f"{given.text}\n\nAnswer {choices}:")]

    One that shows the adviser's label also says so::

            def needs(self):
                return sentikit.extension.Needs(label=True)
    """

    def needs(self) -> Needs:
        """Say what `messages` needs beside the text; nothing unless overridden."""
        return Needs()

    @abstractmethod
    def messages(self, given: PromptInput) -> list[Message]:
        """Return the messages to send, the same ones for the same input."""

    def parse(self, answer: str, classes: Sequence[str]) -> str | None:
        """Return the label in a free-text answer, or None if the answer is invalid."""
        return parse_label(answer, classes)


def _warn_of_old_name(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is now {new}. The old name works until the next release.",
        DeprecationWarning,
        stacklevel=3,
    )
