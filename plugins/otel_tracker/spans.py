"""Attributes of an LLM call's span, in OpenInference's terms.

Names and meanings: https://github.com/Arize-ai/openinference/blob/main/spec/README.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openinference.semconv.trace import (
    MessageAttributes,
    OpenInferenceMimeTypeValues,
    OpenInferenceSpanKindValues,
    SpanAttributes,
)

from sentikit.extension import Answer, LLMCall, Message

Attributes = dict[str, str | int | float]
_TEXT = OpenInferenceMimeTypeValues.TEXT.value
_JSON = OpenInferenceMimeTypeValues.JSON.value


def call_attributes(call: LLMCall, session: str, system: str, texts: bool) -> Attributes:
    """Return a span's attributes.

    Args:
        call: the call.
        session: attributes that all calls of a run share.
        system: the LLM backend's name.
        texts: whether to include prompts and answers.
    """
    attributes: Attributes = {
        SpanAttributes.OPENINFERENCE_SPAN_KIND: OpenInferenceSpanKindValues.LLM.value,
        SpanAttributes.SESSION_ID: session,
        SpanAttributes.LLM_SYSTEM: system,
        SpanAttributes.LLM_MODEL_NAME: call.model,
        SpanAttributes.LLM_INVOCATION_PARAMETERS: _json(call.parameters),
        SpanAttributes.METADATA: _json(_metadata(call)),
    }
    if texts:
        attributes |= _prompt(call.request.messages)
    if call.answer is None:
        return attributes
    if call.answer.model:
        attributes[SpanAttributes.LLM_RESPONSE_MODEL_NAME] = call.answer.model
    attributes[SpanAttributes.LLM_FINISH_REASON] = call.answer.finish_reason
    if texts:
        attributes |= _output(call.answer)
    # A cached answer was counted and paid for earlier.
    if not call.cached:
        attributes |= _bill(call.answer, call.cost)
    return attributes


def _metadata(call: LLMCall) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "example_id": call.request.example_id,
        "retries": call.attempt - 1,
        "cached": call.cached,
    }
    if call.reason is not None:
        metadata["failure"] = call.reason
    if call.answer is not None:
        metadata |= {"label": call.label, "valid": call.label is not None}
        metadata["service_tier"] = call.answer.service_tier
        metadata["probabilities"] = call.answer.probabilities
    if call.cached:
        metadata["saved_usd"] = call.cost
    return metadata


def _prompt(messages: Sequence[Message]) -> Attributes:
    attributes: Attributes = {
        SpanAttributes.INPUT_VALUE: _json([[m.role, m.content] for m in messages]),
        SpanAttributes.INPUT_MIME_TYPE: _JSON,
    }
    if len(messages) == 1:
        attributes[SpanAttributes.INPUT_VALUE] = _writable(messages[0].content)
        attributes[SpanAttributes.INPUT_MIME_TYPE] = _TEXT
    for number, message in enumerate(messages):
        place = f"{SpanAttributes.LLM_INPUT_MESSAGES}.{number}"
        attributes |= _message(place, message.role, message.content)
    return attributes


def _output(answer: Answer) -> Attributes:
    output = answer.raw or answer.text
    place = f"{SpanAttributes.LLM_OUTPUT_MESSAGES}.0"
    return {
        SpanAttributes.OUTPUT_VALUE: _writable(output),
        SpanAttributes.OUTPUT_MIME_TYPE: _TEXT,
        **_message(place, "assistant", output),
    }


def _message(place: str, role: str, content: str) -> Attributes:
    return {
        f"{place}.{MessageAttributes.MESSAGE_ROLE}": role,
        f"{place}.{MessageAttributes.MESSAGE_CONTENT}": _writable(content),
    }


def _bill(answer: Answer, cost: float | None) -> Attributes:
    usage, attributes = answer.usage, dict[str, Any]()
    if usage is not None:
        attributes = {
            SpanAttributes.LLM_TOKEN_COUNT_PROMPT: usage.prompt,
            SpanAttributes.LLM_TOKEN_COUNT_COMPLETION: usage.completion,
            SpanAttributes.LLM_TOKEN_COUNT_TOTAL: usage.prompt + usage.completion,
            SpanAttributes.LLM_TOKEN_COUNT_PROMPT_DETAILS_CACHE_READ: usage.cached,
            SpanAttributes.LLM_TOKEN_COUNT_PROMPT_DETAILS_CACHE_WRITE: usage.cache_writes,
        }
    return attributes if cost is None else attributes | {SpanAttributes.LLM_COST_TOTAL: cost}


def _json(value: Sequence[Any] | Mapping[str, Any]) -> str:
    return _writable(json.dumps(value, ensure_ascii=False))


def _writable(text: str) -> str:
    """Escape lone surrogates, which servers may send but spans cannot contain."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
