"""The connection to a server: the openai SDK underneath, its errors turned into the core's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from typing import Any, Generic, TypeVar

import aiohttp
import httpx2
import openai
from openai import AsyncOpenAI

from sentikit import FatalError, InputError, find_key, without_secrets

from .failures import (
    CHAT,
    FailedResponse,
    failed_status,
    not_a_server,
    redirect_target,
    redirected,
    unreachable,
)
from .posting import PostingSession
from .settings import ServerSettings

# Calls have a time limit in the core; this one only keeps a forgotten connection from living on.
_TIMEOUT = httpx2.Timeout(3600.0, connect=15.0)

Result = TypeVar("Result")
Settings = TypeVar("Settings", bound=ServerSettings)


class Connection(Generic[Settings]):
    """One server and one key.

    Args:
        settings: of the backend.

    Raises:
        InputError: OpenAI is asked and there is no key, or a header's variable is not set.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._secrets = _secrets(settings)
        key = self._secrets.get(settings.key_variable)
        if key is None and settings.is_openai:
            raise InputError(
                f"There is no key for OpenAI. Set {settings.key_variable} in the environment or in "
                f"a file .env, or name another server with --set {settings.section}.base_url=…"
            )
        self.client = AsyncOpenAI(
            # Local servers want none, but the SDK insists on one.
            api_key=key or "none",
            base_url=settings.address,
            default_headers={name: self._secrets[name] for name in settings.header_variables},
            default_query=dict(settings.query),
            max_retries=0,
            timeout=_TIMEOUT,
            http_client=openai.DefaultAsyncHttpxClient(
                event_hooks={"response": [self._refuse_redirect]}
            ),
        )
        given = {**self.client.default_headers, **self.client.auth_headers}
        self._headers = {name: value for name, value in given.items() if isinstance(value, str)}
        self._posting: PostingSession | None = None

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
        try:
            response = await self._session.post(path, content)
        except aiohttp.ClientConnectorError as error:
            raise unreachable(self.settings, error, self.safe, sent=False) from None
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self.settings, error, self.safe) from None
        if 300 <= response.status < 400:
            raise redirected(self.settings, self.settings.address, response.headers)
        value = _parsed(response.content)
        if response.status >= 400:
            text = response.content.decode("utf-8", "replace")
            failed = FailedResponse(response.status, response.headers, value, text)
            raise failed_status(self.settings, failed, self.safe)
        if not isinstance(value, dict):
            raise not_a_server(self.settings, response.headers, response.content)
        return value, response.headers

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
                error.status_code, response.headers, _parsed(response.content), response.text
            )
            raise failed_status(self.settings, failed, self.safe, service) from None
        except (openai.APIConnectionError, httpx2.HTTPError, OSError) as error:
            if isinstance(error.__cause__, FatalError):
                raise error.__cause__ from None
            raise unreachable(self.settings, error, self.safe) from None

    async def _refuse_redirect(self, response: httpx2.Response) -> None:
        """Follow no redirect to another origin: httpx would take all headers but one along."""
        address, status = str(response.url), response.status_code
        if response.has_redirect_location and not redirect_target(
            address, status, response.headers
        ):
            raise redirected(self.settings, address, response.headers)

    def safe(self, text: str) -> str:
        """Return what a server said without any key it may quote, on one line."""
        return " ".join(without_secrets(text, self._secrets).split())[:500]

    async def close(self) -> None:
        """Close the connections."""
        if self._posting is not None:
            await self._posting.close()
        await self.client.close()
        # The transport closes its sockets in the loop's next round.
        await asyncio.sleep(0)


def _parsed(content: bytes) -> Any:
    """Return the JSON value, or None where there is none."""
    try:
        return json.loads(content)
    except ValueError:
        return None


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
