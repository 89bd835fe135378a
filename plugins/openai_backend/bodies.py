"""Request bodies of the two APIs, server abilities, and ways to guarantee a label."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from sentikit.extension import Message

from .responses import Completion
from .settings import OpenAISettings

_FIELD, _RATIONALE = "label", "rationale"
#: Tokens of an answer by a model that thinks first, even about a greeting.
WITH_REASONING = 512
#: A string of JSON in GBNF.
_GBNF_STRING = r'string ::= "\"" ([^"\\\x00-\x1F] | "\\" ["\\/bfnrt])* "\""'


class Guarantee(ABC):
    """A way to guarantee a label: keys for the request's body, and how to unwrap the answer.

    With a rationale, the model writes one before the label, as another field of the same JSON.
    """

    name: ClassVar[str]

    @abstractmethod
    def body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Return the keys that a chat request carries."""

    def response_body(
        self, labels: Sequence[str], rationale: bool = False
    ) -> dict[str, Any] | None:
        """Return the keys of a request to the Responses API; None if it has no equivalent."""
        return None

    def read(self, answer: Completion) -> str:
        """Return the label, or the text that came instead."""
        return _unwrapped(self.raw(answer))

    def raw(self, answer: Completion) -> str:
        """Return the unprocessed answer, or the text of a refusal."""
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
    """Return the label in a JSON answer, or the text itself if it is not such JSON."""
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
        return {
            "response_format": {"type": "json_schema", "json_schema": _named(labels, rationale)}
        }

    def response_body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        return {"text": {"format": {"type": "json_schema", **_named(labels, rationale)}}}


def _named(labels: Sequence[str], rationale: bool) -> dict[str, Any]:
    return {"name": "classification", "strict": True, "schema": _schema(labels, rationale)}


class Choice(Guarantee):
    """The choice of vLLM (https://docs.vllm.ai/en/latest/features/structured_outputs/)."""

    name = "choice"

    def body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Ask for one of the labels, or with a rationale for an object that contains both."""
        asked = {"json": _schema(labels, True)} if rationale else {"choice": list(labels)}
        return {"structured_outputs": asked}


class Grammar(Guarantee):
    """A GBNF grammar, as llama.cpp takes it (grammars/README.md of llama.cpp)."""

    name = "grammar"

    def body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        """Ask for one of the labels, or with a rationale for an object that contains both."""
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
        parameters = _schema(labels, rationale)
        function = {"name": "classify", "strict": True, "parameters": parameters}
        return {
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": "classify"}},
        }

    def response_body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
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
        return {}

    def response_body(self, labels: Sequence[str], rationale: bool = False) -> dict[str, Any]:
        return {}

    def read(self, answer: Completion) -> str:
        return self.raw(answer)


LADDER: tuple[Guarantee, ...] = (JsonSchema(), Choice(), Grammar(), Tool(), FreeText())
BY_NAME: dict[str, Guarantee] = {guarantee.name: guarantee for guarantee in LADDER}
#: Guarantees that are not part of OpenAI's protocol.
FOREIGN = frozenset({"choice", "grammar"})


_MOST_ALTERNATIVES = 20


@dataclass(frozen=True)
class Abilities:
    """What a server can do with a model, as probed or expected.

    Attributes:
        guarantee: name of the strongest way to guarantee a label.
        temperature: whether a request may set it.
        top_logprobs: how many alternatives a token's log-probabilities may list; 0: none.
        limit_key: the body's key that limits the answer's length.
        limit: tokens that a one-word answer of a reasoning model took, else 0.
    """

    guarantee: str = "json_schema"
    temperature: bool = True
    top_logprobs: int = _MOST_ALTERNATIVES
    limit_key: str = "max_completion_tokens"
    limit: int = 0

    @classmethod
    def expected(cls, settings: OpenAISettings, probabilities: bool = True) -> Abilities:
        """Return the abilities to assume before the probe."""
        wanted = settings.guarantee
        return cls(
            guarantee="json_schema" if wanted == "auto" else wanted,
            top_logprobs=_MOST_ALTERNATIVES if probabilities else 0,
            limit_key=API[settings.api].limit_key,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Abilities:
        """Read what `to_json` wrote, or an earlier version of it."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Prompt:
    """A prompt, independent of the API.

    Attributes:
        messages: in order.
        limit: most tokens of the answer.
        temperature: of sampling, or None.
        probabilities: whether log-probabilities are wanted.
    """

    messages: Sequence[Message]
    limit: int
    temperature: float | None = 0.0
    probabilities: bool = True


class Api(ABC):
    """One API of a server.

    Attributes:
        path: where bodies are posted.
        endpoint: what batches call it.
        messages: the body's key for the messages.
        limit_key: the body's key that limits the answer's length.
    """

    path: ClassVar[str]
    endpoint: ClassVar[str]
    messages: ClassVar[str]
    limit_key: ClassVar[str]

    @abstractmethod
    def body(
        self, settings: OpenAISettings, abilities: Abilities, prompt: Prompt
    ) -> dict[str, Any]:
        """Return the body, without the keys that guarantee a label."""

    @abstractmethod
    def guarantee_body(
        self, guarantee: Guarantee, labels: Sequence[str], rationale: bool = False
    ) -> dict[str, Any]:
        """Return the keys that guarantee a label."""

    def guarantees(self, settings: OpenAISettings) -> list[Guarantee]:
        """Return the guarantees to try, strongest first."""
        foreign = FOREIGN if settings.is_openai else frozenset()
        return [guarantee for guarantee in LADDER if guarantee.name not in foreign]


class ChatCompletions(Api):
    """https://platform.openai.com/docs/api-reference/chat/create."""

    path = "/chat/completions"
    endpoint = "/v1/chat/completions"
    messages = "messages"
    limit_key = "max_completion_tokens"

    def body(
        self, settings: OpenAISettings, abilities: Abilities, prompt: Prompt
    ) -> dict[str, Any]:
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        body: dict[str, Any] = {"model": settings.model, "messages": messages}
        body[abilities.limit_key] = prompt.limit
        if prompt.temperature is not None and abilities.temperature:
            body["temperature"] = prompt.temperature
        if prompt.probabilities and abilities.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": abilities.top_logprobs}
        if settings.reasoning_effort is not None:
            body["reasoning_effort"] = settings.reasoning_effort
        if settings.service_tier is not None:
            body["service_tier"] = settings.service_tier
        return body

    def guarantee_body(
        self, guarantee: Guarantee, labels: Sequence[str], rationale: bool = False
    ) -> dict[str, Any]:
        return guarantee.body(labels, rationale)


class Responses(Api):
    """https://platform.openai.com/docs/api-reference/responses/create; nothing is stored."""

    path = "/responses"
    endpoint = "/v1/responses"
    messages = "input"
    limit_key = "max_output_tokens"

    def body(
        self, settings: OpenAISettings, abilities: Abilities, prompt: Prompt
    ) -> dict[str, Any]:
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        body: dict[str, Any] = {"model": settings.model, "input": messages, "store": False}
        body[abilities.limit_key] = prompt.limit
        if prompt.temperature is not None and abilities.temperature:
            body["temperature"] = prompt.temperature
        if prompt.probabilities and abilities.top_logprobs:
            body |= {
                "include": ["message.output_text.logprobs"],
                "top_logprobs": abilities.top_logprobs,
            }
        if settings.reasoning_effort is not None:
            body["reasoning"] = {"effort": settings.reasoning_effort}
        if settings.service_tier is not None:
            body["service_tier"] = settings.service_tier
        return body

    def guarantee_body(
        self, guarantee: Guarantee, labels: Sequence[str], rationale: bool = False
    ) -> dict[str, Any]:
        return guarantee.response_body(labels, rationale) or {}

    def guarantees(self, settings: OpenAISettings) -> list[Guarantee]:
        """Return the guarantees that this API supports."""
        return [one for one in LADDER if one.response_body(("label",)) is not None]


API: dict[str, Api] = {"chat": ChatCompletions(), "responses": Responses()}
