"""The HTTP session that calls go through: aiohttp, with as little as possible around it."""

from __future__ import annotations

import base64
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import httpx2

from .failures import redirect_target

# Calls have a time limit in the core; this one only keeps a forgotten connection from living on.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=15.0, sock_read=3600.0)


#: Redirects within one origin that are followed, as of a missing slash.
_MOST_REDIRECTS = 3


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
        self._headers = {**headers, **plain}
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
                headers=self._headers,
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
