"""Turns a split into the questions that the request loop puts to an LLM, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentikit.errors import SentikitError
from sentikit.llm.backend import ChatRequest
from sentikit.llm.briefing import Briefing
from sentikit.llm.messages import Message
from sentikit.llm.requests.loop import LabelReader, Question
from sentikit.llm.split import Split
from sentikit.llm.strategy import Opinion, PromptInput
from sentikit.runs.alignment import text_occurrences

if TYPE_CHECKING:
    from sentikit.llm.parts import PromptParts
    from sentikit.llm.strategy_parts import StrategyParts


@dataclass(frozen=True)
class PromptRow:
    """The example behind a question.

    Attributes:
        id: of the example.
        text: as it is.
        gold: gold class, or None.
        source: as the data spell it, or None.
        opinion: what the LLM was told that the encoder says, or None.
    """

    id: str
    text: str
    gold: str | None
    source: str | None
    opinion: Opinion | None


def questions(
    parts: PromptParts, split: Split, briefing: Briefing
) -> Iterator[Question[PromptRow]]:
    """Yield a question for each example, in order, made when it is asked for.

    Raises:
        SentikitError: the strategy fails, or returns no messages; names the row.
    """
    options = parts.llm_options
    occurrences = text_occurrences(split.examples)
    row = 0
    for batch in split.examples.batches():
        columns = (batch["id"], batch["text"], batch["label"], batch["source"])
        for identifier, text, gold, source in zip(*columns, strict=True):
            given = briefing.of(row, text)
            request = ChatRequest(
                messages=messages_for(parts, given, row),
                labels=split.classes,
                temperature=options.temperature,
                max_tokens=options.max_tokens,
                probabilities=options.probabilities,
                example_id=identifier,
                text=text,
                occurrence=int(occurrences[row]),
            )
            yield Question(PromptRow(identifier, text, gold, source, given.opinion), request)
            row += 1


def label_reader(parts: PromptParts) -> LabelReader:
    """Return what reads labels out of answers: the strategy's parser, trusted with labels alone.

    Raises:
        SentikitError: when it is called, and the strategy fails.
    """

    def read(answer: str, labels: Sequence[str]) -> str | None:
        try:
            label = parts.strategy.parse(answer, labels)
        except Exception as error:
            raise SentikitError(
                f"The strategy {parts.strategy_name!r} failed to read {answer[:60]!r}: "
                f"{type(error).__name__}: {error}. Repair its plugin."
            ) from error
        return label if label in labels else None

    return read


def messages_for(parts: StrategyParts, given: PromptInput, row: int) -> tuple[Message, ...]:
    """Return the strategy's messages for one row, numbered from 0.

    Raises:
        SentikitError: the strategy fails, or returns no messages; names the row.
    """
    name = parts.strategy_name
    try:
        messages: Any = parts.strategy.messages(given)
    except SentikitError:
        raise
    except Exception as error:
        raise SentikitError(
            f"The strategy {name!r} failed at row {row + 1}: {type(error).__name__}: {error}. "
            "Repair its plugin."
        ) from error
    some = isinstance(messages, list | tuple) and messages
    if some and all(isinstance(message, Message) for message in messages):
        return tuple(messages)
    raise SentikitError(
        f"The strategy {name!r} returned {messages!r} for row {row + 1}; a list of "
        "sentikit.extension.Message is needed. Repair its plugin."
    )
