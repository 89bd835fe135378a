"""Reads what a server's headers say of its limits."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping

from sentikit.extension import RateLimit

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    precise = _number(headers.get("retry-after-ms"))
    if precise is not None:
        return max(0.0, precise / 1000)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return max(0.0, seconds)
    date = email.utils.parsedate_tz(value) if value else None
    return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())


def rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """Return what ``x-ratelimit-*`` say is left, or None where there are none.

    https://platform.openai.com/docs/guides/rate-limits; negative values (Azure's) mean unknown.
    """
    requests = _count(headers.get("x-ratelimit-remaining-requests"))
    tokens = _count(headers.get("x-ratelimit-remaining-tokens"))
    if requests is None and tokens is None:
        return None
    return RateLimit(
        requests=requests,
        requests_reset=duration(headers.get("x-ratelimit-reset-requests")),
        tokens=tokens,
        tokens_reset=duration(headers.get("x-ratelimit-reset-tokens")),
    )


def duration(text: str | None) -> float | None:
    """Read ``6m0s``, ``12ms`` or plain seconds."""
    if not text:
        return None
    plain = _number(text)
    if plain is not None:
        return plain
    parts = _PART.findall(text)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and value < float("inf") else None


def _count(text: str | None) -> int | None:
    value = _number(text)
    return int(value) if value is not None and value >= 0 else None
