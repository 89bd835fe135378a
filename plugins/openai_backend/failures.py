"""What a failed call means: try again, give up this row, or stop."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sentikit import BackendError, FatalError, RejectedError, RetryableError, parsed_address

from .rate_limits import rate_limit, retry_after
from .settings import ServerSettings

_NO_CREDIT = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
)
#: What is asked of a server, for messages.
CHAT, FINE_TUNING = "chat completions", "fine-tuning"
_BUSY = frozenset({408, 409, 425, 429, 529})
_TAG = re.compile(r"<[^>]*>")


class UnknownModelError(FatalError):
    """The server has no such model."""


@dataclass(frozen=True)
class FailedResponse:
    """A response with a status of 400 or more.

    Attributes:
        status: the HTTP status.
        headers: its headers, names in any case.
        value: its body as JSON, or None.
        text: its body as text.
    """

    status: int
    headers: Mapping[str, str]
    value: Any
    text: str


def failed_status(
    settings: ServerSettings,
    failed: FailedResponse,
    safe: Callable[[str], str],
    service: str = CHAT,
) -> BackendError:
    """Turn an HTTP status into the error that says what to do about it."""
    status, headers = failed.status, failed.headers
    said = safe(_said(failed))
    if status == 403 and service == FINE_TUNING:
        return FatalError(
            f"{settings.address} does not let this key's organisation fine-tune {settings.model} "
            f"({said}). Use another key (--set {settings.section}.key_variable=NAME), or the "
            "provider local, which no service can end."
        )
    if status in (401, 403):
        return FatalError(_refused_key(settings, status, said))
    if status == 402 or _codes(failed) & _NO_CREDIT:
        return FatalError(
            f"{settings.address} refuses for lack of credit or quota ({said}). Mend the account's "
            "billing, then go on with --resume."
        )
    if status in (404, 405):
        return _not_found(settings, failed, said, service)
    if status == 429:
        return RetryableError(f"Too many calls (429): {said}", "rate_limit", _wait(headers))
    if status in _BUSY or status >= 500:
        return RetryableError(f"The server failed ({status}): {said}", "server", _wait(headers))
    return RejectedError(f"The server refused the request ({status}): {said}")


def unreachable(
    settings: ServerSettings, error: Exception, safe: Callable[[str], str], sent: bool = True
) -> RetryableError:
    """Describe a connection that broke, or was never made: then nothing was sent."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = safe(str(cause)) or type(cause).__name__
    return RetryableError(
        f"{settings.address} cannot be reached ({reason}). Is the server running? "
        f"Check {settings.address_key}.",
        "network" if sent else "unreachable",
    )


def redirect_target(address: str, status: int, headers: Mapping[str, str]) -> str | None:
    """Return where a redirect leads, where it keeps the method and stays at the same origin.

    Args:
        address: that answered.
        status: its HTTP status.
        headers: its headers.
    """
    target = _target(address, headers)
    stays = _origin(target) == _origin(address) and target != address
    return target if status in (307, 308) and stays else None


def redirected(settings: ServerSettings, address: str, headers: Mapping[str, str]) -> FatalError:
    """Describe a redirect that is not followed: key and texts are for one server alone."""
    target = _target(address, headers)
    origin = "".join(letter for letter in _origin(target) if letter.isprintable())[:200]
    return FatalError(
        f"{settings.address} redirects to {origin or 'no address'}. Keys and texts are sent to no "
        "other server than the one named, so it was not followed. If you trust the other, name it "
        f"in {settings.address_key}."
    )


def _target(address: str, headers: Mapping[str, str]) -> str:
    try:
        return urllib.parse.urljoin(address, headers.get("location") or "")
    except ValueError:
        return ""


def _origin(address: str) -> str:
    """Return scheme, host and port, the port spelled out; "" where that is no address."""
    parts = parsed_address(address)
    if parts is None:
        return ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def not_a_server(
    settings: ServerSettings, headers: Mapping[str, str], content: bytes
) -> BackendError:
    """Describe an answer that is no JSON object: half of one, or another kind of server."""
    if content.lstrip()[:1] == b"{":
        return RetryableError("The answer broke off half-way.", "network")
    kind = headers.get("content-type", "no type").split(";")[0]
    return FatalError(
        f"{settings.address} answers with {kind}, not as an OpenAI-compatible server does. Check "
        f"{settings.address_key}; it usually ends in /v1."
    )


def _refused_key(settings: ServerSettings, status: int, said: str) -> str:
    return (
        f"{settings.address} refused the key in {settings.key_variable} ({status}: {said}). Check "
        f"the key, or name another variable with --set {settings.section}.key_variable=NAME."
    )


def _not_found(
    settings: ServerSettings, failed: FailedResponse, said: str, service: str
) -> FatalError:
    if isinstance(failed.value, Mapping) and "model" in said.lower():
        return UnknownModelError(
            f"{settings.address} has no model {settings.model!r} ({said}). See what it has with "
            f"sentikit doctor{_doctor_option(settings)}."
        )
    return FatalError(
        f"{settings.address} has no {service} ({failed.status}). Check "
        f"{settings.address_key}; it usually ends in /v1."
    )


def _doctor_option(settings: ServerSettings) -> str:
    return "" if settings.is_openai else f" --base-url {settings.address}"


def _wait(headers: Mapping[str, str]) -> float | None:
    """Return the wait a server asks for, by Retry-After or by the limit that is used up."""
    asked = retry_after(headers)
    if asked is not None:
        return asked
    left = rate_limit(headers)
    if left is None:
        return None
    waits = [
        reset
        for count, reset in (
            (left.requests, left.requests_reset),
            (left.tokens, left.tokens_reset),
        )
        if count == 0 and reset
    ]
    return max(waits) if waits else None


def _error(failed: FailedResponse) -> Mapping[str, Any]:
    """Return the body's error object; some servers leave its wrapping out."""
    value = failed.value
    if isinstance(value, Mapping) and isinstance(value.get("error"), Mapping):
        value = value["error"]
    return value if isinstance(value, Mapping) else {}


def _codes(failed: FailedResponse) -> set[str]:
    error = _error(failed)
    return {str(error.get("code") or ""), str(error.get("type") or "")}


def _said(failed: FailedResponse) -> str:
    """Return the server's own words, a page's tags taken out."""
    error = _error(failed)
    words = error.get("message") or error.get("detail") or error.get("error") or failed.text
    return _TAG.sub(" ", str(words)).strip() or "no reason given"
