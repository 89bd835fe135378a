"""What is expected of an LLM backend."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any

from sentikit.classifiers.prediction import Usage
from sentikit.llm.backend import Answer, BackendError, ChatRequest, LLMBackend
from sentikit.llm.messages import Message
from sentikit.llm.section import LLMOptions
from sentikit.testing.parts import check_part, require

_KEY_MARKS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_SHORTEST_KEY = 8


def check_llm_backend(backend_class: type[LLMBackend], settings: Mapping[str, Any]) -> None:
    """Ask one question; give settings that lead to a local or made-up server.

    Raises:
        AssertionError: the answer or the cache's key is not what the core needs.
        sentikit.SentikitError: the server cannot be reached.
    """
    backend = check_part(backend_class, settings, ("backend", *LLMOptions.model_fields))
    name = backend_class.__name__
    require(isinstance(backend.model, str), f"{name}.model must be a text, not {backend.model!r}.")
    labels = ("negative", "neutral", "positive")
    question = Message("user", f"I love it. Answer {' or '.join(labels)}:")
    request = ChatRequest((question,), labels, example_id="1", text="I love it.")
    asyncio.run(_ask(name, backend, request))


async def _ask(name: str, backend: LLMBackend, request: ChatRequest) -> None:
    await backend.open(_Session())
    try:
        _check_key(name, backend, request)
        answer = await backend.ask(request)
        require(isinstance(answer, Answer), f"{name}.ask() must return an Answer, not {answer!r}.")
        strangers = set(answer.log_probabilities or {}) - set(request.labels)
        require(not strangers, f"{name}.ask() gives probabilities of {strangers}, no labels.")
    except BackendError as error:
        raise AssertionError(f"{name}.ask() failed: {error.message}") from error
    finally:
        await backend.close()


def _check_key(name: str, backend: LLMBackend, request: ChatRequest) -> None:
    key = json.dumps(backend.canonical(request), sort_keys=True, allow_nan=False)
    again = json.dumps(backend.canonical(request), sort_keys=True, allow_nan=False)
    require(key == again, f"{name}.canonical() differs for the same request.")
    other = ChatRequest((Message("user", "Something else."),), request.labels)
    require(
        json.dumps(backend.canonical(other), sort_keys=True) != key,
        f"{name}.canonical() must differ for another question.",
    )
    for variable, value in os.environ.items():
        secret = any(mark in variable.upper() for mark in _KEY_MARKS)
        leaks = secret and len(value) >= _SHORTEST_KEY and value in key
        require(not leaks, f"{name}.canonical() holds the secret in {variable}.")


class _Session:
    """A session with an endless budget, which forgets everything at the end."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def say(self, message: str) -> None:
        """Keep quiet."""

    probabilities = True

    async def reserve(self, most: Usage) -> None:
        """Allow every call."""

    def settle(self, used: Usage | None) -> None:
        """Let the call pass."""

    def recall(self, key: str) -> Any:
        """Return what was remembered."""
        return self._values.get(key)

    def remember(self, key: str, value: Any) -> None:
        """Remember a JSON value."""
        self._values[key] = json.loads(json.dumps(value))
