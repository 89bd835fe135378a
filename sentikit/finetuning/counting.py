"""Counts the tokens a provider bills for an example to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sentikit.finetuning.fine_tuner import FineTuner, TokenCount
from sentikit.llm.counting import TokenCounter
from sentikit.llm.prices import model_facts
from sentikit.llm.strategy import Message

# Chat templates frame every message; OpenAI's by three tokens and the role. With it, counts agree
# with the bills of Beno 2025 (appendix C): 54.2, 108.2 and 129.2 tokens an example.
_PER_MESSAGE = 4


@dataclass(frozen=True)
class ConversationCounter:
    """Counts a conversation, its answer included.

    Attributes:
        count: of one conversation's tokens.
        exact: whether the model's own tokenizer counts.
    """

    count: TokenCount
    exact: bool


def conversation_counter(fine_tuner: FineTuner) -> ConversationCounter:
    """Return what counts for a fine-tuner: its own counter, or the table's tokenizer."""
    own = fine_tuner.token_count()
    if own is not None:
        return ConversationCounter(own, True)
    counter = TokenCounter(model_facts(fine_tuner.model).tokenizer)

    def count(messages: Sequence[Message]) -> int:
        return sum(counter.count(message.content) + _PER_MESSAGE for message in messages)

    return ConversationCounter(count, counter.exact)
