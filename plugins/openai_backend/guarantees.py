"""The ways a server can be held to one of the labels, strongest first."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

_FIELD = "label"


class Guarantee(ABC):
    """One way; adds to a request's body and takes its wrapping off the answer."""

    name: ClassVar[str]

    @abstractmethod
    def body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the keys that a request carries."""

    def read(self, message: Mapping[str, Any]) -> str:
        """Return the answer's own words: the label, or whatever came instead."""
        return str(message.get("content") or "")

    def raw(self, message: Mapping[str, Any]) -> str:
        """Return the answer as it came."""
        return str(message.get("content") or "")


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
    except ValueError:
        return text
    return str(value[_FIELD]) if isinstance(value, dict) and _FIELD in value else text


class JsonSchema(Guarantee):
    """Structured outputs (https://platform.openai.com/docs/guides/structured-outputs)."""

    name = "json_schema"

    def body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Ask for an object whose one value is a label."""
        schema = {"name": "classification", "strict": True, "schema": _schema(labels)}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def read(self, message: Mapping[str, Any]) -> str:
        """Take the label out of the object; a refusal has words of its own."""
        return _unwrapped(str(message.get("content") or message.get("refusal") or ""))


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

    def read(self, message: Mapping[str, Any]) -> str:
        """Take the label out of the call's arguments."""
        return _unwrapped(self.raw(message))

    def raw(self, message: Mapping[str, Any]) -> str:
        """Return the call's arguments, or the text where nothing was called."""
        calls = message.get("tool_calls") or []
        if calls and isinstance(calls[0], Mapping):
            function = calls[0].get("function") or {}
            return str(function.get("arguments") or "")
        return super().raw(message)


class FreeText(Guarantee):
    """No guarantee: the strategy's strict parser decides."""

    name = "text"

    def body(self, labels: Sequence[str]) -> dict[str, Any]:
        """Add nothing."""
        return {}


LADDER: tuple[Guarantee, ...] = (JsonSchema(), Choice(), Grammar(), Tool(), FreeText())
BY_NAME: dict[str, Guarantee] = {guarantee.name: guarantee for guarantee in LADDER}
#: Ways that are no part of OpenAI's own protocol.
FOREIGN = frozenset({"choice", "grammar"})
