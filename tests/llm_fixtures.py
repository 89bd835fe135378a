"""Starts the test LLM server in a thread and sends questions to it through the request loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from llm_server import Behaviour, LLMServer

from sentikit.classifiers.label_reader import parse_label
from sentikit.extension import ChatRequest, LLMBackend, Message
from sentikit.llm.requests.loop import AnsweredQuestion, Question
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.session import RequestSession
from sentikit.llm.settings import Limits, RequestOptions
from sentikit.registry import default_registry

LABELS = ("negative", "neutral", "positive")
#: USD per million tokens: one token is one microdollar.
PRICES = {"prompt": 1, "completion": 1}


@dataclass
class RunningServer:
    """A server and its address."""

    server: LLMServer
    url: str


@contextlib.contextmanager
def serving(**behaviour: Any) -> Iterator[RunningServer]:
    """Serve in a thread until the block ends."""
    server = LLMServer(Behaviour(**behaviour))
    with in_thread(server.application) as url:
        yield RunningServer(server, f"{url}/v1")


@contextlib.contextmanager
def in_thread(application: Callable[[], web.Application]) -> Iterator[str]:
    """Serve an application in a thread until the block ends; yields its address."""
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    found: list[int] = []

    async def serve() -> None:
        runner = web.AppRunner(application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.append(site._server.sockets[0].getsockname()[1])  # type: ignore[union-attr]
        ready.set()
        await stop.wait()
        await runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def work() -> None:
        loop.run_until_complete(serve())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{found[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def openai_backend(url: str | None, **settings: Any) -> LLMBackend:
    """Make the backend ``openai`` for a server."""
    backend_class = default_registry().load("register_llm_backends", "openai")
    backend: LLMBackend = backend_class(
        backend_class.Settings(**({"model": "any", "base_url": url} | settings))
    )
    return backend


def ask_about(texts: Iterable[str], **request: Any) -> list[Question[str]]:
    """Make a question of each text."""
    return [
        Question(
            text,
            ChatRequest(
                (Message("user", f"Classify.\nReview: {text}\nClassification:"),), LABELS, **request
            ),
        )
        for text in texts
    ]


@dataclass
class Asked:
    """The rows and the outcome of some questions."""

    rows: list[AnsweredQuestion[str]] = field(default_factory=list)
    outcome: RequestSession | None = None

    @property
    def labels(self) -> list[str | None]:
        """The labels, in order."""
        return [row.label for row in self.rows]


def ask(
    backend: LLMBackend,
    questions: Iterable[Question[str]],
    folder: Path,
    run: str = "this run",
    options: RequestOptions | None = None,
    into: Asked | None = None,
    **job: Any,
) -> Asked:
    """Send questions through the request loop; `into` keeps the rows that precede an error."""
    asked = into or Asked()
    total = len(questions) if isinstance(questions, Sequence) else None
    limits = Limits(job.pop("max_cost", None), job.pop("failure_limit", None), total)
    watch = job.pop("watch", None)
    with (
        RequestReporter(total) as reporter,
        RequestSession(run, folder / "answers.sqlite", limits, reporter, **job) as session,
    ):
        session.watch = watch
        asked.outcome = session

        def answers() -> Iterator[AnsweredQuestion[str]]:
            given = options or RequestOptions()
            return session.ask(session.member(backend, given, parse_label, LABELS), questions)

        if session.batch_folder is not None:
            session.fill_by_batches(lambda: deque(answers(), maxlen=0))
        for answered in answers():
            asked.rows.append(answered)
    return asked
