"""What is expected of a prompt strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentikit.llm.messages import Message
from sentikit.llm.section import StrategyOptions
from sentikit.llm.strategy import Opinion, PromptInput, PromptStrategy, RetrievedExample
from sentikit.testing.parts import check_part, require

_CLASSES = ("negative", "neutral", "positive")
_TEXT = "The plot is thin,\nand yet {I} laughed: 100 % “fun”."


def check_prompt_strategy(
    strategy_class: type[PromptStrategy], settings: Mapping[str, Any]
) -> None:
    """Have messages written for a text, with what the strategy needs, and answers read.

    Raises:
        AssertionError: the messages lack the text, change from call to call, or an answer is
            read as something that is no class.
    """
    strategy = check_part(strategy_class, settings, StrategyOptions.model_fields)
    name = strategy_class.__name__
    given = _input(strategy)
    messages = strategy.messages(given)
    require(
        messages and all(isinstance(message, Message) for message in messages),
        f"{name}.messages() must return a list of sentikit.extension.Message, not {messages!r}.",
    )
    require(strategy.messages(given) == messages, f"{name}.messages() differ for the same input.")
    require(
        any(_TEXT in message.content for message in messages),
        f"{name}.messages() must hold the text as it is: {_TEXT!r}.",
    )
    for answer in ("", "positive", "neither, really", "negative or positive"):
        label = strategy.parse(answer, _CLASSES)
        require(
            label is None or label in _CLASSES,
            f"{name}.parse({answer!r}) must return one of the classes or None, not {label!r}.",
        )
    require(strategy.parse("", _CLASSES) is None, f"{name}.parse('') must be None: no answer.")


def _input(strategy: PromptStrategy) -> PromptInput:
    needs = strategy.needs()
    probabilities = {"negative": 0.1, "neutral": 0.2, "positive": 0.7}
    opinion = Opinion("positive", probabilities if needs.probabilities else None)
    count = 0
    if needs.examples:
        count = needs.examples.k * (len(_CLASSES) if needs.examples.balanced else 1)
    examples = [RetrievedExample(f"example {n}", _CLASSES[n % 3]) for n in range(count)]
    return PromptInput(_TEXT, _CLASSES, opinion if needs.opinion else None, tuple(examples))
