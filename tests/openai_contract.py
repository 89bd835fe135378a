"""Puts Prism in front of a test server, to check every request against OpenAI's contract."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from aiohttp import ClientSession, web
from llm_fixtures import in_thread
from outside_tools import prism


class Recorder:
    """Forwards requests and records the violations that Prism reports in response headers."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.breaches: list[str] = []
        self.requests = 0

    async def forward(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        async with (
            ClientSession() as session,
            session.request(
                request.method, self.target + request.path_qs, data=body, headers=headers
            ) as answer,
        ):
            self.requests += 1
            for breach in json.loads(answer.headers.get("sl-violations", "[]")):
                # Only requests are checked, not the test server's answers.
                if breach["location"][0] == "request":
                    self.breaches.append(f"{request.method} {request.path}: {breach}")
            kind = answer.headers.get("content-type", "application/json")
            return web.Response(
                status=answer.status, body=await answer.read(), headers={"content-type": kind}
            )

    def application(self) -> web.Application:
        """Return the one route."""
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self.forward)
        return app


@contextlib.contextmanager
def judged_by(contract: Path, url: str, folder: Path) -> Iterator[tuple[str, Recorder]]:
    """Yield the address that leads through Prism to `url`, and the list of violations."""
    with prism(folder, contract, url) as judged:
        recorder = Recorder(judged)
        with in_thread(recorder.application) as address:
            yield address, recorder
