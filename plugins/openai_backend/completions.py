"""A chat completion: where it is asked for, and how one is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentikit import Usage

PATH = "/chat/completions"


def first_choice(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first choice that holds a message; empty where a value is no chat completion."""
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) and "message" in first else {}


def read_usage(value: Mapping[str, Any]) -> Usage | None:
    """Read the usage of a chat completion; None where the server does not say."""
    counts = value.get("usage")
    if not counts:
        return None
    details = counts.get("prompt_tokens_details") or {}
    return Usage(
        prompt=int(counts.get("prompt_tokens") or 0),
        cached=int(details.get("cached_tokens") or 0),
        completion=int(counts.get("completion_tokens") or 0),
        cache_writes=int(details.get("cache_write_tokens") or 0),
    )
