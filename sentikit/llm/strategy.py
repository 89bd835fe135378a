"""Chat messages, and the prompt strategies that turn an example into them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sentikit.classifiers.label_reader import parse_label
from sentikit.components import Part

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One message of a chat.

    Attributes:
        role: system, user or assistant.
        content: what is said, sent as it is.
    """

    role: Role
    content: str

    def to_json(self) -> dict[str, str]:
        """Return the message as chat interfaces and fine-tuning files write it."""
        return {"role": self.role, "content": self.content}


def training_line(messages: Sequence[Message], label: str) -> str:
    """Return one line of JSON Lines, newline included: the messages, then the label as answer.

    The format is that of supervised fine-tuning at OpenAI and compatible services
    (https://platform.openai.com/docs/guides/supervised-fine-tuning); characters outside ASCII are
    escaped, as in the study's files.
    """
    spoken = [message.to_json() for message in [*messages, Message("assistant", label)]]
    return json.dumps({"messages": spoken}) + "\n"


@dataclass(frozen=True)
class Opinion:
    """What the encoder says of a text.

    Attributes:
        label: the class it predicts.
        probabilities: class to probability, or None where only the label is known.
    """

    label: str
    probabilities: Mapping[str, float] | None = None


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
        opinion: what the encoder says, where the strategy needs it.
        examples: labelled texts like this one, the most alike first (or class by class), where the
            strategy needs them.
        id: of the row; "" where it has none.
        source: where the text comes from, or None.
        columns: the row's other columns, by name.
    """

    text: str
    classes: tuple[str, ...]
    opinion: Opinion | None = None
    examples: tuple[RetrievedExample, ...] = ()
    id: str = ""
    source: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


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
        label: the encoder's label.
        probabilities: the encoder's probabilities.
        examples: labelled texts that the encoder finds alike, or None.
    """

    label: bool = False
    probabilities: bool = False
    examples: ExamplesNeeded | None = None

    @property
    def opinion(self) -> bool:
        """Whether the encoder's opinion is needed."""
        return self.label or self.probabilities

    @property
    def encoder(self) -> bool:
        """Whether an encoder is needed at all."""
        return self.opinion or (self.examples is not None and self.examples.nearest)


class PromptStrategy(Part, ABC):
    r"""Turns a text, and what the encoder says of it, into messages, and an answer into a label.

    A whole strategy::

        class Terse(sentikit.extension.PromptStrategy):
            def messages(self, given):
                choices = " or ".join(given.classes)
                return [sentikit.extension.Message("user", f"{given.text}\n\nAnswer {choices}:")]

    One that shows the encoder's label also says so::

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
