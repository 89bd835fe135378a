"""Guarantees: the ways a server can be held to one of the labels, strongest first."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from .responses import Completion

_FIELD, _RATIONALE = "label", "rationale"
#: A string of JSON in GBNF.
_GBNF_STRING = r'string ::= "\"" ([^"\\\x00-\x1F] | "\\" ["\\/bfnrt])* "\""'


class Guarantee(ABC):
    """One way; adds to a request's body and takes its wrapping off the answer.

    With a rationale, the model writes one before the label, as another field of the same JSON.
    """

    name: ClassVar[str]

    @abstractmethod
    def body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Return the keys that a chat request carries."""

    def response_body(
        self, labels: Sequence[str], rationale: bool = False
    ) -> dict[str, Any] | None:
        """Return the keys of a request to the Responses API; None where it has no such way."""
        return None

    def read(self, answer: Completion) -> str:
        """Return the answer's own words: the label, or whatever came instead."""
        return _unwrapped(self.raw(answer))

    def raw(self, answer: Completion) -> str:
        """Return the answer as it came; a refusal has words of its own."""
        return answer.text or answer.refusal


def _schema(labels: Sequence[str], rationale: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {_RATIONALE: {"type": "string"}} if rationale else {}
    fields[_FIELD] = {"type": "string", "enum": list(labels)}
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
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

    def body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Ask for an object with a label."""
        return {
            "response_format": {"type": "json_schema", "json_schema": _named(labels, rationale)}
        }

    def response_body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Ask for the same of the Responses API."""
        return {"text": {"format": {"type": "json_schema", **_named(labels, rationale)}}}


def _named(labels: Sequence[str], rationale: bool) -> dict[str, Any]:
    return {"name": "classification", "strict": True, "schema": _schema(labels, rationale)}


class Choice(Guarantee):
    """VLLM's choice (https://docs.vllm.ai/en/latest/features/structured_outputs/)."""

    name = "choice"

    def body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Ask for exactly one of the labels; with a rationale, for an object that holds both."""
        asked = {"json": _schema(labels, True)} if rationale else {"choice": list(labels)}
        return {"structured_outputs": asked}


class Grammar(Guarantee):
    """A GBNF grammar, as llama.cpp takes it (grammars/README.md of llama.cpp)."""

    name = "grammar"

    def body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Ask for exactly one of the labels; with a rationale, for an object that holds both."""
        if not rationale:
            return {"grammar": "root ::= " + " | ".join(map(_quoted, labels))}
        choices = " | ".join(_quoted(_quoted(label)) for label in labels)
        head, middle = _quoted(f'{{"{_RATIONALE}": '), _quoted(f', "{_FIELD}": ')
        root = f'root ::= {head} string {middle} label "}}"'
        return {"grammar": f"{root}\nlabel ::= {choices}\n{_GBNF_STRING}"}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class Tool(Guarantee):
    """A function the model must call with a label."""

    name = "tool"

    def body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Force the call."""
        parameters = _schema(labels, rationale)
        function = {"name": "classify", "strict": True, "parameters": parameters}
        return {
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": "classify"}},
        }

    def response_body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Force the same call of the Responses API."""
        parameters = _schema(labels, rationale)
        function = {"name": "classify", "strict": True, "parameters": parameters}
        return {
            "tools": [{"type": "function", **function}],
            "tool_choice": {"type": "function", "name": "classify"},
        }

    def raw(self, answer: Completion) -> str:
        """Return the call's arguments, or the text where nothing was called."""
        return super().raw(answer) if answer.arguments is None else answer.arguments


class FreeText(Guarantee):
    """No guarantee: the strategy's strict parser decides."""

    name = "text"

    def body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Add nothing."""
        return {}

    def response_body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Add nothing."""
        return {}

    def read(self, answer: Completion) -> str:
        """Return all of it."""
        return self.raw(answer)


LADDER: tuple[Guarantee, ...] = (JsonSchema(), Choice(), Grammar(), Tool(), FreeText())
BY_NAME: dict[str, Guarantee] = {guarantee.name: guarantee for guarantee in LADDER}
#: Ways that are no part of OpenAI's own protocol.
FOREIGN = frozenset({"choice", "grammar"})
