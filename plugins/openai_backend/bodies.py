"""Request bodies of the two APIs, by what a server can do with a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from sentikit.extension import Message

from .guarantees import FOREIGN, LADDER, Guarantee
from .settings import OpenAISettings

_MOST_ALTERNATIVES = 20


@dataclass(frozen=True)
class Abilities:
    """What a server can do with a model, as far as labelling needs it: found out, or expected.

    Attributes:
        guarantee: name of the strongest way to guarantee a label.
        temperature: whether it may be set.
        top_logprobs: how many alternatives a token's log-probabilities may list; 0: none.
        limit_key: the body's key that limits the answer's length.
        limit: tokens that a one-word answer took; more than a few where the model reasons.
    """

    guarantee: str = "json_schema"
    temperature: bool = True
    top_logprobs: int = _MOST_ALTERNATIVES
    limit_key: str = "max_completion_tokens"
    limit: int = 0

    @classmethod
    def expected(cls, settings: OpenAISettings, probabilities: bool = True) -> Abilities:
        """Return what is sent before anything is known."""
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
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Prompt:
    """What is asked, in the terms of neither API.

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
        limit_key: the body's key that limits the answer's length.
    """

    path: ClassVar[str]
    endpoint: ClassVar[str]
    limit_key: ClassVar[str]

    @abstractmethod
    def body(
        self, settings: OpenAISettings, abilities: Abilities, prompt: Prompt
    ) -> dict[str, Any]:
        """Return the body, less what guarantees a label."""

    @abstractmethod
    def guarantee_body(
        self, guarantee: Guarantee, labels: Sequence[str], rationale: bool = False
    ) -> dict[str, Any]:
        """Return the keys that guarantee a label."""

    def guarantees(self, settings: OpenAISettings) -> list[Guarantee]:
        """Return the ways there may be, strongest first."""
        foreign = FOREIGN if settings.is_openai else frozenset()
        return [guarantee for guarantee in LADDER if guarantee.name not in foreign]


class ChatCompletions(Api):
    """https://platform.openai.com/docs/api-reference/chat/create."""

    path = "/chat/completions"
    endpoint = "/v1/chat/completions"
    limit_key = "max_completion_tokens"

    def body(
        self, settings: OpenAISettings, abilities: Abilities, prompt: Prompt
    ) -> dict[str, Any]:
        """Return the body, less what guarantees a label."""
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
        """Return the keys that guarantee a label."""
        return guarantee.body(labels, rationale)


class Responses(Api):
    """https://platform.openai.com/docs/api-reference/responses/create; nothing is stored."""

    path = "/responses"
    endpoint = "/v1/responses"
    limit_key = "max_output_tokens"

    def body(
        self, settings: OpenAISettings, abilities: Abilities, prompt: Prompt
    ) -> dict[str, Any]:
        """Return the body, less what guarantees a label."""
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
        """Return the keys that guarantee a label."""
        return guarantee.response_body(labels, rationale) or {}

    def guarantees(self, settings: OpenAISettings) -> list[Guarantee]:
        """Return the ways that this API has."""
        return [one for one in LADDER if one.response_body(("label",)) is not None]


API: dict[str, Api] = {"chat": ChatCompletions(), "responses": Responses()}
