"""Conversations as tokens of a causal language model, the same for training and prompting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sentikit import InputError
from sentikit.extension import Message

#: The chat template for a model without one: messages and answer, separated by blank lines.
_PLAIN = (
    "{% for message in messages %}{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n\\n' }}{% endif %}"
    "{% endfor %}"
)
_QUESTION, _ANSWER = "question", "sentiment"

Tokens = tuple[int, ...]


class Conversation:
    """A tokenizer and its chat template.

    The template adds everything around the messages, special tokens included. It also determines
    the token that ends an answer, which may differ from the end of a text.

    Args:
        tokenizer: of the model.
        options: more keys for the chat template, as ``enable_thinking``.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._options = dict(options)
        self._chat = bool(tokenizer.chat_template)
        self._ending = self._find_ending() if self._chat else ()

    def prompt(self, messages: Iterable[Message]) -> Tokens:
        """Return the tokens before the answer."""
        text = self._text(messages)
        return tuple(self._tokenizer(text, add_special_tokens=not self._chat).input_ids)

    def answer(self, label: str) -> Tokens:
        """Return the tokens of a label as the whole answer, with its end token.

        Without a template there is no end token.
        """
        spelled = label if self._chat else f" {label}"
        return (*self._tokenizer(spelled, add_special_tokens=False).input_ids, *self._ending)

    def _text(self, messages: Iterable[Message]) -> str:
        if not self._chat:
            return "\n\n".join(message.content for message in messages)
        return self._rendered([message.to_json() for message in messages], prompt=True)

    def _rendered(self, messages: list[dict[str, str]], prompt: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=prompt, **self._options
            )
        )

    def _find_ending(self) -> Tokens:
        """Return the special token after an answer in the template, or the end-of-text token."""
        example = [
            {"role": "user", "content": _QUESTION},
            {"role": "assistant", "content": _ANSWER},
        ]
        after = self._rendered(example, prompt=False).rpartition(_ANSWER)[2]
        added = self._tokenizer.added_tokens_decoder
        for token in self._tokenizer(after, add_special_tokens=False).input_ids:
            if token in added and added[token].special:
                return (token,)
        end = self._tokenizer.eos_token_id
        return () if end is None else (end,)


def give_plain_template(tokenizer: Any) -> None:
    """Add a plain chat template to a tokenizer without one, so that the model learns to stop.

    Servers need it too: they refuse chats with a model without a template.

    Raises:
        InputError: there is no end-of-text token.
    """
    if tokenizer.chat_template:
        return
    if tokenizer.eos_token is None:
        raise InputError(
            "finetune.model: its tokenizer has neither a chat template nor a token that ends a "
            "text, so that it cannot learn where an answer ends. Choose another model."
        )
    begins = tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
    tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + _PLAIN
