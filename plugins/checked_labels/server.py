"""The local page for checking texts by hand, for one user, on 127.0.0.1 only.

The printed address contains a token. The first visit exchanges it for a cookie that other sites'
pages cannot use (SameSite=Strict), and redirects to an address without it. Every request must name
this server in Host, against DNS rebinding; every write must come from its own page (Origin).
Nothing is loaded from other servers, and texts reach the page as JSON, not as markup.
"""

from __future__ import annotations

import errno
import hmac
import json
import secrets
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sentikit import InputError, SentikitError

from .annotation import Annotation

ADDRESS = "127.0.0.1"
_MOST_BYTES = 65_536
_PAGES = {
    "/": ("annotate.html", "text/html; charset=utf-8"),
    "/annotate.css": ("annotate.css", "text/css; charset=utf-8"),
    "/annotate.js": ("annotate.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AnnotationServer(ThreadingHTTPServer):
    """The server of one person's annotation page, at `address`.

    Raises:
        InputError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, annotation: Annotation, port: int = 0) -> None:
        self.annotation, self.token = annotation, secrets.token_urlsafe(32)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise InputError(
                f"Port {port} is taken or not allowed. Leave --port out to use a free one."
            ) from error

    @property
    def address(self) -> str:
        """The address to open, with the token."""
        return f"http://{ADDRESS}:{self.server_port}/?token={self.token}"

    @property
    def hosts(self) -> tuple[str, str]:
        """The accepted values of Host."""
        return f"{ADDRESS}:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def cookie(self) -> str:
        """The cookie's name, which contains the port, as cookies do not distinguish ports."""
        return f"sentikit_{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: AnnotationServer
    server_version = "sentikit"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if not self._of_this_server():
            return
        given = parse_qs(address.query).get("token", [""])[0]
        if address.path == "/" and given and self._is_token(given):
            self._exchange_token()
        elif not self._has_cookie():
            self._refuse(HTTPStatus.FORBIDDEN, "Open the address that sentikit annotate printed.")
        elif address.path in _PAGES:
            name, kind = _PAGES[address.path]
            page = files(__package__).joinpath("page", name).read_bytes()
            self._send(HTTPStatus.OK, page, kind)
        elif address.path == "/api/state":
            guidelines = self.server.annotation.guidelines
            self._json(self.server.annotation.state() | {"guidelines": guidelines})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "There is no such page.")

    def do_POST(self) -> None:
        if not self._of_this_server():
            return
        origins = tuple(f"http://{host}" for host in self.server.hosts)
        if self.headers.get("Origin") not in origins or not self._has_cookie():
            self._refuse(HTTPStatus.FORBIDDEN, "Writes are only accepted from the page itself.")
            return
        try:
            given = self._body()
            self._json(self._act(urlsplit(self.path).path, given))
        except InputError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, error.format_message())
        except (KeyError, TypeError, ValueError):
            self._refuse(HTTPStatus.BAD_REQUEST, "The request is malformed.")
        except SentikitError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, error.format_message())

    def _act(self, path: str, given: dict[str, Any]) -> dict[str, Any]:
        annotation = self.server.annotation
        if path == "/api/answer":
            label = given.get("label")
            return annotation.answer(
                int(given["row"]),
                bool(given["repeat"]),
                None if label is None else str(label),
                str(given["status"]),
                str(given.get("note", "")),
                bool(given.get("revealed", False)),
            )
        if path == "/api/undo":
            return annotation.undo()
        if path == "/api/reveal":
            return annotation.reveal(int(given["row"]))
        raise InputError("There is no such action.")

    def _body(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length", ""))
        if not 0 <= length <= _MOST_BYTES:
            raise ValueError
        given = json.loads(self.rfile.read(length) or b"{}")
        if not isinstance(given, dict):
            raise TypeError
        return given

    def _of_this_server(self) -> bool:
        if self.headers.get("Host") in self.server.hosts:
            return True
        self._refuse(
            HTTPStatus.MISDIRECTED_REQUEST, "This server does not answer under that host name."
        )
        return False

    def _has_cookie(self) -> bool:
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            return False
        found = cookies.get(self.server.cookie)
        return found is not None and self._is_token(found.value)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.server.token.encode())

    def _exchange_token(self) -> None:
        self.send_response(HTTPStatus.SEE_OTHER)
        cookie = f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
        self.send_header("Set-Cookie", cookie)
        self.send_header("Location", "/")
        self._finish(b"")

    def _json(self, value: Any) -> None:
        self._send(HTTPStatus.OK, json.dumps(value).encode(), "application/json")

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send(status, json.dumps({"error": reason}).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self._finish(body)

    def _finish(self, body: bytes) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        """Log nothing: the first address contains the token."""
