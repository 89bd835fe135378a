"""Dynamic batching: which texts of concurrent requests are classified together, and when."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from ensemble_runs import write_results
from sentikit.plugins.serving.batching import Batcher, QueueFullError
from sentikit.plugins.serving.server import Limits, build_app
from served_classifiers import application_served, ask, wait_until

import sentikit
from sentikit import Prediction

SECONDS = 0.2


def run(
    work: Callable[[Batcher, list[int]], Awaitable[None]], most_waiting: int = 1000
) -> list[int]:
    """Let `work` use a batcher of one worker that takes a while, and return its batches' sizes."""
    sizes: list[int] = []

    def classify(texts: list[str]) -> list[Prediction]:
        time.sleep(SECONDS)
        return [Prediction(text, None) for text in texts]

    async def main() -> None:
        batcher = Batcher(classify, 256, most_waiting, 1, sizes.append)
        await work(batcher, sizes)
        await batcher.close()

    asyncio.run(main())
    return sizes


def test_clients_that_ask_one_text_after_the_other_share_every_batch() -> None:
    async def work(batcher: Batcher, sizes: list[int]) -> None:
        async def client(number: int) -> None:
            while number % 2 and not sizes:  # Half of them miss the first batch.
                await asyncio.sleep(0)
            for turn in range(4):
                text = f"{number} {turn}"
                (answer,) = await batcher.classify([text])
                assert answer.label == text

        await asyncio.gather(*map(client, range(8)))

    sizes = run(work)
    assert sizes[0] == 4
    assert sizes[1:4] == [8, 8, 8]


def test_a_request_does_not_wait_for_clients_that_do_not_return() -> None:
    async def work(batcher: Batcher, sizes: list[int]) -> None:
        first = asyncio.create_task(batcher.classify(["first"]))
        await asyncio.sleep(SECONDS / 2)
        second = asyncio.create_task(batcher.classify(["second"]))
        await first
        answered = time.monotonic()
        await second
        assert time.monotonic() - answered < SECONDS * 1.5

    assert run(work) == [1, 1]


def test_a_request_beyond_what_may_wait_is_refused() -> None:
    async def work(batcher: Batcher, sizes: list[int]) -> None:
        waiting = [asyncio.create_task(batcher.classify(["a"]))]
        await asyncio.sleep(SECONDS / 4)
        waiting.append(asyncio.create_task(batcher.classify(["b"])))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await batcher.classify(["c"])
        await asyncio.gather(*waiting)

    assert run(work, most_waiting=1) == [1, 1]


def test_a_request_that_waits_is_not_classified_once_the_server_has_stopped_waiting() -> None:
    classified: list[str] = []
    released = threading.Event()
    write_results(Path("model.jsonl"), [("a", "positive", "positive")])

    def classify(texts: list[str]) -> list[Prediction]:
        classified.extend(texts)
        released.wait(30)
        return [Prediction("positive", None) for _ in texts]

    app = build_app(sentikit.load("model.jsonl"), "model", classify, Limits(workers=2))
    with contextlib.ExitStack() as clients, application_served(app, seconds=1) as port:
        clients.enter_context(ask(port, "first"))
        wait_until(lambda: len(classified) == 1)
        clients.enter_context(ask(port, "second"))
        wait_until(lambda: len(classified) == 2)
        clients.enter_context(ask(port, "third"))
        time.sleep(1)  # It is watched by now.
        threading.Timer(3, released.set).start()
    assert classified == ["first", "second"]


def test_a_request_is_not_classified_if_its_client_hangs_up_while_it_waits() -> None:
    classified: list[str] = []
    released = threading.Event()
    write_results(Path("model.jsonl"), [("a", "positive", "positive")])
    model = sentikit.load("model.jsonl")

    def classify(texts: list[str]) -> list[Prediction]:
        classified.extend(texts)
        released.wait(30)
        return [Prediction("positive", None) for _ in texts]

    with (
        application_served(build_app(model, "model", classify, Limits())) as port,
        ask(port, "first") as first,
        ask(port, "third") as third,
    ):
        wait_until(lambda: len(classified) > 0)
        with ask(port, "second"):
            time.sleep(1)  # Requests that wait are watched by now.
        time.sleep(0.5)
        released.set()
        answers = [client.recv(1000) for client in (first, third)]
    assert [answer.split(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * 2
    assert sorted(classified) == ["first", "third"]


class OverBudgetError(Exception):
    """A request asks for more than is left."""


def test_a_refused_batch_is_tried_request_by_request_and_each_gets_its_own_result() -> None:
    tried: list[list[str]] = []

    def classify(texts: list[str]) -> list[Prediction]:
        tried.append(texts)
        if texts == ["broken"]:
            raise ValueError
        if "dear" in texts:
            raise OverBudgetError
        return [Prediction(text, None) for text in texts]

    async def main() -> None:
        batcher = Batcher(classify, 256, 1000, 1, lambda size: None, own=(OverBudgetError,))
        requests = [batcher.classify([text]) for text in ("broken", "dear", "free")]
        broken, dear, free = await asyncio.gather(*requests, return_exceptions=True)
        assert isinstance(broken, ValueError)
        assert isinstance(dear, OverBudgetError)
        assert free == [Prediction("free", None)]
        with pytest.raises(OverBudgetError):
            await batcher.classify(["dear"])
        await batcher.close()

    asyncio.run(main())
    # The last one was alone from the start and is not tried a second time.
    assert tried == [["broken", "dear", "free"], ["broken"], ["dear"], ["free"], ["dear"]]
