"""The connection to a server: the openai SDK, and a fast path beside it for calls."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shlex
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import aiohttp
import httpx2
import openai
from openai import AsyncOpenAI

from sentikit import InputError
from sentikit.extension import FatalError, RejectedError, find_key, without_secrets

from .failures import (
    CHAT,
    FailedResponse,
    embedded_failure,
    failed_status,
    not_a_server,
    redirect_target,
    redirected,
    unreachable,
)
from .responses import parse_body
from .settings import ServerSettings

# Calls have a time limit in the core; these only keep a forgotten connection from living on.
_SDK_TIMEOUT = httpx2.Timeout(3600.0, connect=15.0)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=15.0, sock_read=3600.0)
#: Redirects within one origin that are followed, as of a missing slash.
_MOST_REDIRECTS = 3
#: Refusals with 403 in a row, after which it is the key and not the texts.
_MOST_FORBIDDEN = 20
_TOKEN_SECONDS = 30.0
_AUTHORIZATION = "authorization"

Result = TypeVar("Result")
Settings = TypeVar("Settings", bound=ServerSettings)


@dataclass(frozen=True)
class Response:
    """A response that was read to its end.

    Attributes:
        status: the HTTP status.
        headers: its headers, names in any case.
        content: its body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes


class TokenCommand:
    """A command of the user's that prints a fresh token.

    The environment alone may name it (``OPENAI_API_KEY_COMMAND`` beside ``OPENAI_API_KEY``): a
    recipe or a file ``.env`` that comes from elsewhere starts no program.

    Args:
        variable: holds the command, split as a shell would; no shell runs it.
    """

    def __init__(self, variable: str) -> None:
        self._variable = variable
        self._command = os.environ.get(variable, "").strip()
        self._token = ""
        self._lock = asyncio.Lock()

    def __bool__(self) -> bool:
        return bool(self._command)

    async def token(self, refused: str | None = None) -> str:
        """Return the token; a new one where there is none yet or the last was refused.

        Raises:
            FatalError: the command fails.
        """
        async with self._lock:
            if not self._token or self._token == refused:
                self._token = await self._run()
            return self._token

    async def _run(self) -> str:
        try:
            arguments = shlex.split(self._command)
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
        except (OSError, ValueError) as error:
            raise FatalError(f"{self._variable} cannot be run: {error}.") from error
        try:
            async with asyncio.timeout(_TOKEN_SECONDS):
                printed, _ = await process.communicate()
        except TimeoutError:
            raise FatalError(
                f"{self._variable} printed no token within {_TOKEN_SECONDS:g} s."
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        token = printed.decode("utf-8", "replace").strip()
        if process.returncode or not token:
            raise FatalError(f"{self._variable} printed no token (exit code {process.returncode}).")
        return _sendable(token, self._variable)


class PostingSession:
    """Posts bodies to one server over connections that are kept; of one event loop.

    The SDK's own way through httpx2 costs more time than everything else about a call
    (benchmarks/request_loop.py).

    Args:
        address: of the server, without a path.
        query: parameters added to every address.
        headers: sent with every body.
    """

    def __init__(self, address: str, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        self._address = address
        self._query = f"?{urllib.parse.urlencode(query)}" if query else ""
        proxy, proxy_headers = _proxy(address)
        # To a server without TLS a proxy is a hop that reads the request's own headers.
        plain = {} if address.startswith("https:") else proxy_headers
        # Never the session's own headers: aiohttp shows those, the key among them, to the proxy.
        self.headers = {**headers, **plain}
        self._proxy_headers = proxy_headers
        # The certificates, and the environment's variables for them, are those of the SDK.
        connector = aiohttp.TCPConnector(limit=0, ssl=httpx2.create_ssl_context())
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
        )

    async def post(self, path: str, content: bytes) -> Response:
        """Send a body and read the response.

        Raises:
            aiohttp.ClientError: no response came, or it broke off.
            OSError: likewise.
        """
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
        """Close the connections."""
        await self._session.close()


class Connection(Generic[Settings]):
    """One server and one key.

    Args:
        settings: of the backend.

    Raises:
        InputError: OpenAI is asked and there is no key, a header's variable is not set, or the
            environment names a proxy of a kind that is not supported.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._token_command = TokenCommand(f"{settings.key_variable}_COMMAND")
        self._secrets = _secrets(settings)
        self._proxy_variable = proxy_variable(settings.address)
        key = self._secrets.get(settings.key_variable)
        if key is None and not self._token_command and settings.is_openai:
            raise InputError(
                f"There is no key for OpenAI. Set {settings.key_variable} in the environment or in "
                f"a file .env, or name another server with --set {settings.section}.base_url=…"
            )
        headers: dict[str, Any] = {name: self._secrets[name] for name in settings.header_variables}
        plain = {name: value for name, value in settings.headers.items() if value is not None}
        absent: dict[str, Any] = {
            name: openai.omit for name, value in settings.headers.items() if value is None
        }
        self.client = AsyncOpenAI(
            # Local servers want none, but the SDK insists on one.
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

        With the SDK's headers, but without its layers (benchmarks/request_loop.py).

        Raises:
            RetryableError: it may succeed later.
            RejectedError: this body never will.
            FatalError: no call will.
        """
        content = json.dumps(body, separators=(",", ":")).encode("ascii")
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
        """Raise the error that a body of status 200 holds, if it holds one.

        Raises:
            BackendError: as `post`.
        """
        failed = embedded_failure(value, headers or {})
        if failed is not None:
            self._refuse(failed)

    def _refuse(self, failed: FailedResponse) -> None:
        """Raise the error of a failed response; 403 after answers concerns the text, at first."""
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
        """Return the proxy's variable where the proxy itself is what failed."""
        return self._proxy_variable if isinstance(error, aiohttp.ClientHttpProxyError) else ""

    @property
    def _session(self) -> PostingSession:
        """What calls go through, begun with the first, for it belongs to a running event loop."""
        if self._posting is None:
            settings = self.settings
            self._posting = PostingSession(settings.address, settings.query, self._headers)
        return self._posting

    async def guard(self, call: Awaitable[Result], service: str = CHAT) -> Result:
        """Await a call of the SDK and turn its errors into the core's, without keys in them.

        Args:
            call: of the SDK.
            service: what is asked of the server, for messages.
        """
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
            # The SDK builds its types of whatever comes, and falls over some of it.
            raise RejectedError(
                f"{self.settings.address} answers about {service} in a form that cannot be read "
                f"({type(error).__name__})."
            ) from error

    async def _refuse_redirect(self, response: httpx2.Response) -> None:
        """Follow no redirect to another origin: httpx would take all headers but one along."""
        address, status = str(response.url), response.status_code
        if response.has_redirect_location and not redirect_target(
            address, status, response.headers
        ):
            raise redirected(self.settings, address, response.headers)

    def safe(self, text: str) -> str:
        """Return what a server said without any key it may quote, on one line."""
        shown = "".join(letter if letter.isprintable() else " " for letter in text)
        return " ".join(without_secrets(shown, self._secrets).split())[:500]

    def without_keys(self, text: str) -> str:
        """Return an answer without any key that the server sends back as part of it."""
        if any(secret in text for secret in self._secrets.values()):
            return without_secrets(text, self._secrets)
        return text

    async def close(self) -> None:
        """Close the connections."""
        if self._posting is not None:
            await self._posting.close()
        await self.client.close()
        # The transport closes its sockets in the loop's next round.
        await asyncio.sleep(0)


def _secrets(settings: ServerSettings) -> dict[str, str]:
    found = {}
    key = find_key(settings.key_variable)
    if key:
        found[settings.key_variable] = _sendable(key, settings.key_variable)
    for name, variable in settings.header_variables.items():
        value = find_key(variable)
        if not value:
            raise InputError(
                f"{settings.section}.header_variables: {variable} is not set, for header {name!r}."
            )
        found[name] = _sendable(value, variable)
    return found


def _sendable(secret: str, variable: str) -> str:
    """Refuse what no header can carry, and whoever tried to send it would show."""
    if secret.isascii() and secret.isprintable():
        return secret
    raise InputError(
        f"{variable} holds a line break, or a letter that no key has. Copy it once more, in one "
        "piece."
    )


def proxy_variable(address: str) -> str:
    """Return the variable that names the proxy for an address, or "".

    Raises:
        InputError: it names a SOCKS proxy, or no address.
    """
    parts = urllib.parse.urlsplit(address)
    proxies = urllib.request.getproxies()
    kind = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    if kind is None or urllib.request.proxy_bypass(parts.netloc):
        return ""
    spellings = (f"{kind.upper()}_PROXY", f"{kind}_proxy")
    variable = next((name for name in spellings if os.environ.get(name)), spellings[0])
    scheme = proxies[kind].partition("://")[0].lower() if "://" in proxies[kind] else "http"
    if scheme not in ("http", "https"):
        raise InputError(
            f"{variable} names a proxy of the kind {scheme}, and only HTTP proxies are supported. "
            f"Unset it, or add {parts.hostname} to NO_PROXY."
        )
    return variable


def _proxy(address: str) -> tuple[str | None, dict[str, str]]:
    """Return the proxy the environment names for an address, and what signs one in there.

    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as
    https://docs.python.org/3/library/urllib.request.html#urllib.request.getproxies reads them.
    """
    parts = urllib.parse.urlsplit(address)
    proxies = urllib.request.getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    if named is None or urllib.request.proxy_bypass(parts.netloc):
        return None, {}
    proxy = urllib.parse.urlsplit(named if "://" in named else f"http://{named}")
    signed_in, _, host = proxy.netloc.rpartition("@")
    bare = proxy._replace(netloc=host).geturl()
    if not signed_in:
        return bare, {}
    credentials = base64.b64encode(urllib.parse.unquote_to_bytes(signed_in)).decode("ascii")
    return bare, {"Proxy-Authorization": f"Basic {credentials}"}
