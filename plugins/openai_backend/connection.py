"""A connection to a server: the openai SDK, a faster path for calls, and errors."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import aiohttp
import httpx2
import openai
from openai import AsyncOpenAI

from sentikit.extension import (
    BackendError,
    FatalError,
    RejectedError,
    RetryableError,
    find_key,
    parsed_address,
    without_secrets,
)

from .responses import ServerError, names_error, parse_body, rate_limit, read_error, retry_after
from .settings import ServerSettings, TokenCommand, find_secrets, proxy_of, proxy_variable

# The core limits the time of a call; these limits only end forgotten connections.
_SDK_TIMEOUT = httpx2.Timeout(3600.0, connect=15.0)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=15.0, sock_read=3600.0)
#: Most redirects to follow within one origin, for example for a missing slash.
_MOST_REDIRECTS = 3
#: After so many 403 responses in a row, the key is refused and not single texts.
_MOST_FORBIDDEN = 20
_AUTHORIZATION = "authorization"

_NO_CREDIT = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
)
#: The services of a server, as messages name them.
CHAT, FINE_TUNING = "chat completions", "fine-tuning"
_BUSY = frozenset({408, 409, 425, 429, 529})
#: Codes of errors that have no status.
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

#: `json.dumps` would create an encoder for every call.
_COMPACT = json.JSONEncoder(separators=(",", ":"))

Result = TypeVar("Result")
Settings = TypeVar("Settings", bound=ServerSettings)


class Response(NamedTuple):
    """A complete response; header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class PostingSession:
    """Kept connections to one server, in one event loop.

    The SDK's path through httpx2 takes longer than the rest of a call (benchmarks/request_loop.py).
    """

    def __init__(self, address: str, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        self._address = address
        self._query = f"?{urllib.parse.urlencode(query)}" if query else ""
        proxy, proxy_headers = proxy_of(address)
        # Without TLS, the proxy reads the request's own headers.
        plain = {} if address.startswith("https:") else proxy_headers
        # Not the session's default headers: aiohttp sends those, with the key, to the proxy.
        self.headers = {**headers, **plain}
        self._proxy_headers = proxy_headers
        # Certificates, and their environment variables, are the same as the SDK's.
        connector = aiohttp.TCPConnector(limit=0, ssl=httpx2.create_ssl_context())
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
        )

    async def post(self, path: str, content: bytes) -> Response:
        address = f"{self._address}{path}{self._query}"
        for _ in range(_MOST_REDIRECTS):
            sent = self._session.post(
                address,
                data=content,
                headers=self.headers,
                proxy_headers=self._proxy_headers,
                allow_redirects=False,
            )
            async with sent as response:
                received = Response(response.status, response.headers, await response.read())
            target = redirect_target(address, received.status, received.headers)
            if target is None:
                break
            address = target
        return received

    async def close(self) -> None:
        await self._session.close()


class Connection(Generic[Settings]):
    """One server and one key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._token_command = TokenCommand(f"{settings.key_variable}_COMMAND")
        self._secrets = find_secrets(settings)
        self._proxy_variable = proxy_variable(settings.address)
        key = self._secrets.get(settings.key_variable)
        headers: dict[str, Any] = {name: self._secrets[name] for name in settings.header_variables}
        plain = {name: value for name, value in settings.headers.items() if value is not None}
        absent: dict[str, Any] = {
            name: openai.omit for name, value in settings.headers.items() if value is None
        }
        self.client = AsyncOpenAI(
            # Local servers need no key, but the SDK requires one.
            api_key=self._fresh_token if self._token_command else key or "none",
            base_url=settings.address,
            default_headers={**plain, **headers, **absent},
            default_query=dict(settings.query),
            max_retries=0,
            timeout=_SDK_TIMEOUT,
            http_client=openai.DefaultAsyncHttpxClient(
                event_hooks={"response": [self._refuse_redirect]}
            ),
        )
        given = {**self.client.auth_headers, **self.client.default_headers}
        without = {name.casefold() for name in absent}
        self._signed_in = _AUTHORIZATION not in without
        self._headers = {
            name: value
            for name, value in given.items()
            if isinstance(value, str) and name.casefold() not in without
        }
        self._posting: PostingSession | None = None
        self._answered = False
        self._forbidden = 0

    async def post(
        self, path: str, body: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Send a body and return the answer's JSON and headers.

        The request has the SDK's headers but bypasses its layers.
        """
        content = _COMPACT.encode(body).encode("ascii")
        response = await self._send(path, content)
        if 300 <= response.status < 400:
            raise redirected(self.settings, self.settings.address, response.headers)
        value = parse_body(response.content)
        if response.status >= 400:
            text = response.content.decode("utf-8", "replace")
            self._refuse(FailedResponse(response.status, response.headers, value, text))
        if not isinstance(value, dict):
            raise not_a_server(self.settings, response.headers, response.content)
        self.refuse_failure(value, response.headers)
        self._answered, self._forbidden = True, 0
        return value, response.headers

    def refuse_failure(
        self, value: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        """Raise the error in a body of status 200, if there is one."""
        failed = embedded_failure(value, headers or {})
        if failed is not None:
            self._refuse(failed)

    def _refuse(self, failed: FailedResponse) -> None:
        """Raise the error of a failed response; a 403 after answers first concerns the text."""
        self._forbidden = self._forbidden + 1 if failed.status == 403 else 0
        answered = self._answered and self._forbidden < _MOST_FORBIDDEN
        raise failed_status(self.settings, failed, self.safe, answered=answered)

    async def _send(self, path: str, content: bytes) -> Response:
        token = await self._sign_in()
        response = await self._post(path, content)
        if response.status == 401 and token:
            await self._sign_in(refused=token)
            response = await self._post(path, content)
        return response

    async def _sign_in(self, refused: str | None = None) -> str:
        """Put the token of the user's command into the headers, and return it."""
        if not self._token_command or not self._signed_in:
            return ""
        token = await self._fresh_token(refused)
        self._session.headers["Authorization"] = f"Bearer {token}"
        return token

    async def _fresh_token(self, refused: str | None = None) -> str:
        token = await self._token_command.token(refused)
        self._secrets[self.settings.key_variable] = token
        return token

    async def _post(self, path: str, content: bytes) -> Response:
        try:
            return await self._session.post(path, content)
        except aiohttp.ClientConnectorError as error:
            raise unreachable(
                self.settings, error, self.safe, sent=False, proxy=self._proxy_variable
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(
                self.settings, error, self.safe, proxy=self._proxy_of(error)
            ) from None

    def _proxy_of(self, error: Exception) -> str:
        """Return the proxy's variable if the proxy itself failed, else ""."""
        return self._proxy_variable if isinstance(error, aiohttp.ClientHttpProxyError) else ""

    @property
    def _session(self) -> PostingSession:
        """The session of the calls; the first creates it, since it belongs to the running loop."""
        if self._posting is None:
            settings = self.settings
            self._posting = PostingSession(settings.address, settings.query, self._headers)
        return self._posting

    async def guard(self, call: Awaitable[Result], service: str = CHAT) -> Result:
        """Await an SDK call and translate its errors into the core's, without keys."""
        try:
            return await call
        except openai.APIStatusError as error:
            response = error.response
            failed = FailedResponse(
                error.status_code, response.headers, parse_body(response.content), response.text
            )
            raise failed_status(self.settings, failed, self.safe, service) from None
        except (openai.APIConnectionError, httpx2.HTTPError, OSError) as error:
            if isinstance(error.__cause__, FatalError):
                raise error.__cause__ from None
            raise unreachable(self.settings, error, self.safe, proxy=self._proxy_variable) from None
        except (openai.APIError, ValueError, TypeError, AttributeError, KeyError) as error:
            # The SDK builds its types from any JSON, and fails on some of it.
            raise RejectedError(
                f"The answer of {self.settings.address} about {service} cannot be read "
                f"({type(error).__name__})."
            ) from error

    async def _refuse_redirect(self, response: httpx2.Response) -> None:
        """Refuse redirects to another origin: httpx would send all headers but one there."""
        address, status = str(response.url), response.status_code
        if response.has_redirect_location and not redirect_target(
            address, status, response.headers
        ):
            raise redirected(self.settings, address, response.headers)

    def safe(self, text: str) -> str:
        """Return a server's message on one line, without any key it may quote."""
        shown = "".join(letter if letter.isprintable() else " " for letter in text)
        return " ".join(without_secrets(shown, self._secrets).split())[:500]

    def without_keys(self, text: str) -> str:
        """Return an answer without any key that the server sends back in it."""
        if any(secret in text for secret in self._secrets.values()):
            return without_secrets(text, self._secrets)
        return text

    async def close(self) -> None:
        """Close the connections."""
        if self._posting is not None:
            await self._posting.close()
        await self.client.close()
        # The transport closes its sockets in the loop's next iteration.
        await asyncio.sleep(0)


class UnknownModelError(FatalError):
    """The server has no such model."""


class RefusedKeyError(FatalError):
    """The server refuses the key, or requires one."""


@dataclass(frozen=True)
class FailedResponse:
    """A failed response; for an error inside a 200, the status is what that error means."""

    status: int
    headers: Mapping[str, str]
    value: Any
    text: str = ""

    @cached_property
    def error(self) -> ServerError:
        return read_error(self.value)

    @property
    def message(self) -> str:
        """The server's message, without HTML tags."""
        return _TAG.sub(" ", self.error.message or self.text).strip() or "no reason given"


def embedded_failure(value: Any, headers: Mapping[str, str]) -> FailedResponse | None:
    """Return the error in a body of status 200, or None."""
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
    """Return the error for a failed response, with advice.

    `safe` removes keys from the server's message; `answered` means that this key worked before.
    """
    status, headers = failed.status, failed.headers
    message = safe(failed.message)
    if status == 403 and service == FINE_TUNING:
        return FatalError(
            f"{settings.address} does not let this key's organisation fine-tune {settings.model} "
            f"({message}). Use another key (--set {settings.section}.key_variable=NAME), or "
            "train on this machine with the provider local."
        )
    if status == 403 and (answered or "logprob" in message.lower() or _MODERATION.search(message)):
        return RejectedError(f"The server refused the request (403): {message}")
    if status in (401, 403):
        return RefusedKeyError(_refused_key(settings, status, message))
    if status == 402 or failed.error.codes & _NO_CREDIT:
        return FatalError(
            f"{settings.address} refuses for lack of credit or quota ({message}). Check the "
            "account's billing, then continue with --resume."
        )
    if status in (400, 404, 405) and _RESPONSES_ONLY.search(message):
        return FatalError(
            f"{settings.address} does not offer {settings.model!r} as chat completions "
            f"({message}). Use the Responses API: --set {settings.section}.api=responses."
        )
    if status in (404, 405):
        return _not_found(settings, failed, message, service)
    if status == 429:
        exhausted = bool(_resets(headers))
        return RetryableError(
            f"Too many calls (429): {message}", "rate_limit", _wait(headers), exhausted
        )
    if status in _BUSY or status >= 500:
        return RetryableError(f"The server failed ({status}): {message}", "server", _wait(headers))
    return RejectedError(f"The server refused the request ({status}): {message}")


def unreachable(
    settings: ServerSettings,
    error: Exception,
    safe: Callable[[str], str],
    sent: bool = True,
    proxy: str = "",
) -> RetryableError:
    """Return the error for a connection that broke, or was never made (`sent` is False).

    `proxy` is the environment variable that names the proxy, or "".
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
    """Return the target of a redirect that keeps the method and the origin, else None."""
    if status not in (307, 308):
        return None
    target = _target(address, headers)
    stays = _origin(target) == _origin(address) and target != address
    return target if stays else None


def redirected(settings: ServerSettings, address: str, headers: Mapping[str, str]) -> FatalError:
    """Return the error for a redirect to another server, which is not followed."""
    target = _target(address, headers)
    origin = "".join(letter for letter in _origin(target) if letter.isprintable())[:200]
    return FatalError(
        f"{settings.address} redirects to {origin or 'no address'}. Keys and texts are only sent "
        "to the server you named, so the redirect was not followed. If you trust the other server, "
        f"name it in {settings.address_key}."
    )


def _target(address: str, headers: Mapping[str, str]) -> str:
    try:
        return urllib.parse.urljoin(address, headers.get("location") or "")
    except ValueError:
        return ""


def _origin(address: str) -> str:
    """Return scheme, host and explicit port; "" if this is not an address."""
    parts = parsed_address(address)
    if parts is None:
        return ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def not_a_server(
    settings: ServerSettings, headers: Mapping[str, str], content: bytes
) -> BackendError:
    """Return the error for an answer that is no JSON object: cut off, or of another kind."""
    if content.lstrip()[:1] == b"{":
        return RetryableError("The answer was cut off.", "network")
    kind = "".join(filter(str.isprintable, headers.get("content-type", "no type").split(";")[0]))
    return FatalError(
        f"{settings.address} answers with {kind}, not as an OpenAI-compatible server does. Check "
        f"{settings.address_key}; it usually ends in /v1."
    )


def _refused_key(settings: ServerSettings, status: int, message: str) -> str:
    name, section = settings.key_variable, settings.section
    if find_key(name) is None and not settings.header_variables:
        return (
            f"{settings.address} requires a key ({status}: {message}), but {name} is not set. Set "
            f"it in the environment or in a file .env, or name another variable with --set "
            f"{section}.key_variable=NAME."
        )
    return (
        f"{settings.address} refused the key in {name} ({status}: {message}). Check the key, or "
        f"name another variable with --set {section}.key_variable=NAME."
    )


def _not_found(
    settings: ServerSettings, failed: FailedResponse, message: str, service: str
) -> FatalError:
    if isinstance(failed.value, Mapping) and "model" in message.lower():
        return UnknownModelError(
            f"{settings.address} has no model {settings.model!r} ({message}). List its models with "
            f"sentikit doctor{_doctor_option(settings)}."
        )
    return FatalError(
        f"{settings.address} has no {service} ({failed.status}). Check "
        f"{settings.address_key}; it usually ends in /v1."
    )


def _doctor_option(settings: ServerSettings) -> str:
    return "" if settings.is_openai else f" --base-url {settings.address}"


def _wait(headers: Mapping[str, str]) -> float | None:
    """Return the wait a server asks for: Retry-After, or the reset of a used-up limit."""
    asked = retry_after(headers)
    return max(_resets(headers), default=None) if asked is None else asked


def _resets(headers: Mapping[str, str]) -> list[float]:
    """Return the seconds until each used-up limit resets."""
    left = rate_limit(headers)
    if left is None:
        return []
    limits = ((left.requests, left.requests_reset), (left.tokens, left.tokens_reset))
    return [reset for count, reset in limits if count == 0 and reset]
