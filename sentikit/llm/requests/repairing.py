"""The one repair try of an answer that is no label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sentikit.llm.backend import Answer, ChatRequest
from sentikit.llm.messages import Message

#: Finish reasons after which asking again gives the same.
_FINAL = frozenset({"content_filter"})


def worth_repairing(answer: Answer) -> bool:
    """Return whether another answer may be better."""
    return answer.finish_reason not in _FINAL


def repair_request(request: ChatRequest, answer: Answer) -> ChatRequest:
    """Return the request that shows the model its answer and asks for one label."""
    said = answer.text.strip() or "…"
    asked = Message("user", f"Answer with exactly one word: {_choices(request.labels)}.")
    return replace(request, messages=(*request.messages, Message("assistant", said), asked))


def _choices(labels: Sequence[str]) -> str:
    quoted = [f"'{label}'" for label in labels]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)
