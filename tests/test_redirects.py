"""Redirects: keys and texts reach no server but the one that was named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from llm_fixtures import ask, ask_about, in_thread, openai_backend, serving

from sentikit import SentikitError

_SECRET = "s3cret-" + "k3y" * 12


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Serve an address that answers every request and notes that it came."""
    arrived: list[str] = []

    async def take(request: web.Request) -> web.Response:
        arrived.append(f"{request.method} {request.path}")
        return web.json_response({"object": "list", "data": [], "has_more": False})

    def application() -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", take)
        return app

    with in_thread(application) as url:
        yield url, arrived


@contextmanager
def redirecting(target: str, status: int) -> Iterator[str]:
    """Serve an address that redirects every request to the same path at `target`."""

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": f"{target}{request.path}"})

    def application() -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", redirect)
        return app

    with in_thread(application) as url:
        yield f"{url}/v1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_live_call_follows_no_redirect_to_another_origin(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY", _SECRET)
    with listening() as (other, arrived), redirecting(other, status) as url:
        backend = openai_backend(url, header_variables={"X-Gateway": "GATEWAY_KEY"})
        with pytest.raises(SentikitError, match=f"redirects to {other}") as caught:
            ask(backend, ask_about(["I love it"]), tmp_path)
    assert arrived == []
    assert _SECRET not in caught.value.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_batch_follows_no_redirect_to_another_origin(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY", _SECRET)
    with (
        serving() as s,
        listening() as (other, arrived),
        redirecting(other, status) as url,
    ):
        # What the server can do is known already, so that the batch makes the first call.
        headers = {"X-Gateway": "GATEWAY_KEY"}
        backend = openai_backend(url, header_variables=headers, guarantee="text")
        known = openai_backend(s.url, guarantee="text")
        ask(known, ask_about(["I love it"]), tmp_path)
        _pretend_known(tmp_path, s.url, url)
        with pytest.raises(SentikitError, match=f"redirects to {other}"):
            ask(backend, ask_about(["I hate it"]), tmp_path, batch_folder=tmp_path / "batches")
    assert arrived == []


def _pretend_known(folder: Path, known: str, url: str) -> None:
    import sqlite3

    with sqlite3.connect(folder / "answers.sqlite") as connection:
        connection.execute("UPDATE memory SET key = replace(key, ?, ?)", (known, url))


def test_a_redirect_within_the_origin_is_followed(tmp_path: Path) -> None:
    with serving() as s:
        server = s.server
        application = server.application

        async def slash(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": "/v1/chat/completions"})

        def with_redirect() -> web.Application:
            app = application()
            app.router.add_post("/old/chat/completions", slash)
            return app

        with in_thread(with_redirect) as url:
            asked = ask(openai_backend(f"{url}/old"), ask_about(["I love it"]), tmp_path)
    assert asked.labels == ["positive"]
