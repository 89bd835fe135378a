"""Failed calls: try again, give up this row, or stop."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sentikit.extension import (
    BackendError,
    FatalError,
    RejectedError,
    RetryableError,
    find_key,
    parsed_address,
)

from .responses import ServerError, names_error, rate_limit, read_error, retry_after
from .settings import ServerSettings

_NO_CREDIT = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
)
#: What is asked of a server, for messages.
CHAT, FINE_TUNING = "chat completions", "fine-tuning"
_BUSY = frozenset({408, 409, 425, 429, 529})
#: String codes of errors that come without a status.
_BUSY_CODES = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "overloaded": 529,
    "server_error": 500,
    "internal_error": 500,
    "timeout": 504,
}
_TAG = re.compile(r"<[^>]*>")
#: Words of a refusal that concerns one text, not the key.
_MODERATION = re.compile(r"moderat|flagged|content.{0,12}(policy|filter)|safety|harmful", re.I)
_RESPONSES_ONLY = re.compile(r"v1/responses|responses api|not a chat model", re.I)


class UnknownModelError(FatalError):
    """The server has no such model."""


class RefusedKeyError(FatalError):
    """The server refuses the key, or wants one."""


@dataclass(frozen=True)
class FailedResponse:
    """A response that is an error.

    Attributes:
        status: the HTTP status, or the one an error inside a 200 stands for.
        headers: its headers, names in any case.
        value: its body as JSON, or None.
        text: its body as text.
    """

    status: int
    headers: Mapping[str, str]
    value: Any
    text: str = ""

    @cached_property
    def error(self) -> ServerError:
        """What the body says."""
        return read_error(self.value)

    @property
    def said(self) -> str:
        """The server's own words, a page's tags taken out."""
        return _TAG.sub(" ", self.error.message or self.text).strip() or "no reason given"


def embedded_failure(value: Any, headers: Mapping[str, str]) -> FailedResponse | None:
    """Return the error that a body of status 200 holds, or None where it holds none."""
    if not names_error(value):
        return None
    error = read_error(value)
    known = (_BUSY_CODES.get(code) for code in error.codes)
    status = error.status or next((code for code in known if code), 400)
    return FailedResponse(status, headers, value, str(error.message or value)[:500])


def failed_status(
    settings: ServerSettings,
    failed: FailedResponse,
    safe: Callable[[str], str],
    service: str = CHAT,
    answered: bool = False,
) -> BackendError:
    """Turn a failed response into the error that says what to do about it.

    Args:
        settings: of the backend.
        failed: the response.
        safe: takes keys out of the server's words.
        service: what was asked for, for messages.
        answered: whether the server has answered this key before.
    """
    status, headers = failed.status, failed.headers
    said = safe(failed.said)
    if status == 403 and service == FINE_TUNING:
        return FatalError(
            f"{settings.address} does not let this key's organisation fine-tune {settings.model} "
            f"({said}). Use another key (--set {settings.section}.key_variable=NAME), or the "
            "provider local, which no service can end."
        )
    if status == 403 and (answered or "logprob" in said.lower() or _MODERATION.search(said)):
        return RejectedError(f"The server refused the request (403): {said}")
    if status in (401, 403):
        return RefusedKeyError(_refused_key(settings, status, said))
    if status == 402 or failed.error.codes & _NO_CREDIT:
        return FatalError(
            f"{settings.address} refuses for lack of credit or quota ({said}). Check the account's "
            "billing, then continue with --resume."
        )
    if status in (400, 404, 405) and _RESPONSES_ONLY.search(said):
        return FatalError(
            f"{settings.address} does not offer {settings.model!r} as chat completions ({said}). "
            f"Use the Responses API: --set {settings.section}.api=responses."
        )
    if status in (404, 405):
        return _not_found(settings, failed, said, service)
    if status == 429:
        exhausted = bool(_resets(headers))
        return RetryableError(
            f"Too many calls (429): {said}", "rate_limit", _wait(headers), exhausted
        )
    if status in _BUSY or status >= 500:
        return RetryableError(f"The server failed ({status}): {said}", "server", _wait(headers))
    return RejectedError(f"The server refused the request ({status}): {said}")


def unreachable(
    settings: ServerSettings,
    error: Exception,
    safe: Callable[[str], str],
    sent: bool = True,
    proxy: str = "",
) -> RetryableError:
    """Describe a connection that broke, or was never made: then nothing was sent.

    Args:
        settings: of the backend.
        error: what broke it.
        safe: takes keys out of the message.
        sent: whether the request may have arrived.
        proxy: the variable that names the proxy in between, or "".
    """
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = safe(str(cause)) or type(cause).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        message = (
            f"The certificate of {settings.address} is not trusted ({reason}). Name the "
            "authority's file in SSL_CERT_FILE."
        )
    elif proxy:
        message = (
            f"{settings.address} cannot be reached through the proxy in {proxy} ({reason}). Is the "
            f"proxy running? Unset {proxy}, or add the server's name to NO_PROXY."
        )
    else:
        message = (
            f"{settings.address} cannot be reached ({reason}). Is the server running? "
            f"Check {settings.address_key}."
        )
    return RetryableError(message, "network" if sent else "unreachable")


def redirect_target(address: str, status: int, headers: Mapping[str, str]) -> str | None:
    """Return where a redirect leads, where it keeps the method and stays at the same origin.

    Args:
        address: that answered.
        status: its HTTP status.
        headers: its headers.
    """
    if status not in (307, 308):
        return None
    target = _target(address, headers)
    stays = _origin(target) == _origin(address) and target != address
    return target if stays else None


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
    kind = "".join(filter(str.isprintable, headers.get("content-type", "no type").split(";")[0]))
    return FatalError(
        f"{settings.address} answers with {kind}, not as an OpenAI-compatible server does. Check "
        f"{settings.address_key}; it usually ends in /v1."
    )


def _refused_key(settings: ServerSettings, status: int, said: str) -> str:
    name, section = settings.key_variable, settings.section
    if find_key(name) is None and not settings.header_variables:
        return (
            f"{settings.address} wants a key ({status}: {said}), and {name} is not set. Set it in "
            f"the environment or in a file .env, or name another variable with --set "
            f"{section}.key_variable=NAME."
        )
    return (
        f"{settings.address} refused the key in {name} ({status}: {said}). Check the key, or name "
        f"another variable with --set {section}.key_variable=NAME."
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
    return max(_resets(headers), default=None) if asked is None else asked


def _resets(headers: Mapping[str, str]) -> list[float]:
    """Return the seconds until limits that are used up are reset."""
    left = rate_limit(headers)
    if left is None:
        return []
    limits = ((left.requests, left.requests_reset), (left.tokens, left.tokens_reset))
    return [reset for count, reset in limits if count == 0 and reset]
