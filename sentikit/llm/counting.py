"""Counts tokens offline: exactly where the tokenizer is known, else an estimate and a bound."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sentikit.llm.backend import ChatRequest

# Chat templates frame every message (OpenAI: three tokens and the role), then open the answer.
_PER_MESSAGE, _OPENING = 4, 3
# Tokens a provider may add that no public rule counts, for bounds only.
_SLACK = 32


@dataclass(frozen=True)
class TokenCount:
    """Tokens of one request's prompt.

    Attributes:
        expected: of the messages.
        most: no request like this one has more, what is sent beside the messages included.
    """

    expected: int
    most: int


class TokenCounter:
    """Counts with o200k, the tokenizer of OpenAI's models since GPT-4o.

    For any other model the count is an estimate and the bound is the number of UTF-8 bytes: no
    byte-level tokenizer has more tokens than bytes.

    Args:
        tokenizer: the model's tokenizer as ``models.yaml`` names it, or "".
    """

    def __init__(self, tokenizer: str) -> None:
        self._known = tokenizer == "o200k_base"

    @property
    def exact(self) -> bool:
        """Whether counts are exact for the model."""
        return self._known and _o200k() is not None

    def count(self, text: str) -> int:
        """Return the tokens of a text."""
        encode = _o200k()
        if encode is None:
            return -(-len(text.encode("utf-8", "replace")) // 4)
        return len(encode(text))

    def request(self, request: ChatRequest, sent: Mapping[str, Any] | None = None) -> TokenCount:
        """Count a request's prompt.

        Args:
            request: the request.
            sent: everything that goes to the server, for the bound.
        """
        contents = [message.content for message in request.messages]
        framing = _PER_MESSAGE * len(contents) + _OPENING
        expected = sum(self.count(content) for content in contents) + framing
        beside = json.dumps(_without_messages(sent or {}), ensure_ascii=False)
        if self.exact:
            return TokenCount(expected, expected + self.count(beside) + _SLACK)
        size = sum(len(content.encode("utf-8", "replace")) for content in contents)
        extra = len(beside.encode("utf-8", "replace")) + 4 * framing + _SLACK
        return TokenCount(expected, size + extra)


def _without_messages(sent: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_messages(value) if key == "body" else value
        for key, value in sent.items()
        if key != "messages"
    }


@functools.cache
def _o200k() -> Any:
    """Return the encoder, loaded at first use, or None where its package has no build here."""
    try:
        with warnings.catch_warnings():
            # It opens its vocabularies by a function that Python 3.11 and 3.12 call deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            import bpe_openai
    except ImportError:
        return None
    # Names of special tokens in a review are ordinary text, hence encode_ordinary.
    return bpe_openai.get_encoding("o200k_base").encode_ordinary
