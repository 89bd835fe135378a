"""Guarantees: the ways a server can be held to one of the labels, strongest first."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from .responses import Completion

_FIELD = "label"


class Guarantee(ABC):
    """One way; adds to a request's body and takes its wrapping off the answer."""

    name: ClassVar[str]

    @abstractmethod
    def body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the keys that a chat request carries."""

    def response_body(self, labels: Sequence[str]) -> dict[str, Any] | None:
        """Return the keys of a request to the Responses API; None where it has no such way."""
        return None

    def read(self, answer: Completion) -> str:
        """Return the answer's own words: the label, or whatever came instead."""
        return self.raw(answer)

    def raw(self, answer: Completion) -> str:
        """Return the answer as it came; a refusal has words of its own."""
        return answer.text or answer.refusal


def _schema(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {_FIELD: {"type": "string", "enum": list(labels)}},
        "required": [_FIELD],
        "additionalProperties": False,
    }


def _unwrapped(text: str) -> str:
    """Return the label inside JSON, or the text itself where it is no such JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    label = value.get(_FIELD) if isinstance(value, dict) else None
    return label if isinstance(label, str) else text


class JsonSchema(Guarantee):
    """Structured outputs (https://platform.openai.com/docs/guides/structured-outputs)."""

    name = "json_schema"

    def body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Ask for an object whose one value is a label."""
        schema = {"name": "classification", "strict": True, "schema": _schema(labels)}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def response_body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Ask for the same of the Responses API."""
        schema = {"name": "classification", "strict": True, "schema": _schema(labels)}
        return {"text": {"format": {"type": "json_schema", **schema}}}

    def read(self, answer: Completion) -> str:
        """Take the label out of the object."""
        return _unwrapped(self.raw(answer))


class Choice(Guarantee):
    """VLLM's choice (https://docs.vllm.ai/en/latest/features/structured_outputs/)."""

    name = "choice"

    def body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Ask for exactly one of the labels."""
        return {"structured_outputs": {"choice": list(labels)}}


class Grammar(Guarantee):
    """A GBNF grammar, as llama.cpp takes it (grammars/README.md of llama.cpp)."""

    name = "grammar"

    def body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Ask for exactly one of the labels."""
        return {
            "grammar": "root ::= "
            + " | ".join(json.dumps(label, ensure_ascii=False) for label in labels)
        }


class Tool(Guarantee):
    """A function the model must call with a label."""

    name = "tool"

    def body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Force the call."""
        function = {"name": "classify", "strict": True, "parameters": _schema(labels)}
        return {
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": "classify"}},
        }

    def response_body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Force the same call of the Responses API."""
        function = {"name": "classify", "strict": True, "parameters": _schema(labels)}
        return {
            "tools": [{"type": "function", **function}],
            "tool_choice": {"type": "function", "name": "classify"},
        }

    def read(self, answer: Completion) -> str:
        """Take the label out of the call's arguments."""
        return _unwrapped(self.raw(answer))

    def raw(self, answer: Completion) -> str:
        """Return the call's arguments, or the text where nothing was called."""
        return super().raw(answer) if answer.arguments is None else answer.arguments


class FreeText(Guarantee):
    """No guarantee: the strategy's strict parser decides."""

    name = "text"

    def body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Add nothing."""
        return {}

    def response_body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Add nothing."""
        return {}


LADDER: tuple[Guarantee, ...] = (JsonSchema(), Choice(), Grammar(), Tool(), FreeText())
BY_NAME: dict[str, Guarantee] = {guarantee.name: guarantee for guarantee in LADDER}
#: Ways that are no part of OpenAI's own protocol.
FOREIGN = frozenset({"choice", "grammar"})
