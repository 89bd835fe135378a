"""A chat with an LLM: messages, requests, answers and the tokens billed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One chat message; the content is sent unchanged."""

    role: Role
    content: str

    def to_json(self) -> dict[str, str]:
        """Return the message in the form of chat APIs and fine-tuning files."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens billed.

    Attributes:
        prompt: tokens sent, cached ones included.
        cached: tokens of `prompt` that the provider read from its cache.
        completion: tokens of the answer, reasoning included.
        cache_writes: tokens of `prompt` that the provider wrote to its cache, if it bills that.
    """

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cache_writes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.completion + other.completion,
            self.cache_writes + other.cache_writes,
        )


@dataclass(frozen=True)
class ChatRequest:
    """One request to a model.

    Attributes:
        messages: in order.
        labels: the valid answers, spelled as in the prompt.
        temperature: sampling temperature; None for the server's default.
        max_tokens: limit on the tokens of the answer, reasoning included.
        probabilities: whether to request log-probabilities of the labels.
        example_id: id of the example; never sent.
        text: text of the example; never sent on its own.
        occurrence: number of earlier requests in this split with the same text; never sent.
        sample: index among several answers to the same messages; never sent.
        rationale: whether to ask for a reason before the label, in a field ``rationale``.
        free_text: whether the answer is free text, so that its form is not constrained.
        expected_tokens: expected tokens besides the label, for estimates; never sent.
    """

    messages: tuple[Message, ...]
    labels: tuple[str, ...]
    temperature: float | None = 0.0
    max_tokens: int = 64
    probabilities: bool = True
    example_id: str = ""
    text: str = ""
    occurrence: int = 0
    sample: int = 0
    rationale: bool = False
    free_text: bool = False
    expected_tokens: int = 0


@dataclass(frozen=True)
class RateLimit:
    """The quota a server reports; None for what it does not report.

    Attributes:
        requests, tokens: remaining in the window.
        requests_reset, tokens_reset: seconds until the quota is full again.
    """

    requests: int | None = None
    requests_reset: float | None = None
    tokens: int | None = None
    tokens_reset: float | None = None


@dataclass(frozen=True)
class Answer:
    """The answer to one request.

    Attributes:
        text: the answer, without the JSON that constrains it to a label.
        usage: tokens billed; None if the server does not report them, which never means zero.
        log_probabilities: label to natural logarithm, not yet normalised over the labels; None
            if the backend has none.
        finish_reason: ``stop``, ``length``, ``content_filter``, … as the server reports it.
        model, service_tier: as the server reports them; the cost follows the tier.
        raw: the answer as received.
        billed_usd: the cost that the provider reports, or None; if the listed price is higher, it
            counts instead.
        rate_limit: the remaining quota; not recorded.
    """

    text: str
    usage: Usage | None = None
    log_probabilities: Mapping[str, float] | None = None
    finish_reason: str = "stop"
    model: str = ""
    service_tier: str | None = None
    raw: str = ""
    billed_usd: float | None = None
    rate_limit: RateLimit | None = field(default=None, compare=False)

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Label to probability, normalised over the labels, or None."""
        logs = self.log_probabilities
        if not logs or all(math.isinf(value) for value in logs.values()):
            return None
        top = max(logs.values())
        weights = {label: math.exp(value - top) for label, value in logs.items()}
        total = sum(weights.values())
        return {label: weight / total for label, weight in weights.items()}
