"""Dynamic batching: texts of concurrent requests are classified together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sentikit import Prediction

#: Clients that were just answered often ask again. A batch waits for them for this share of the
#: last batch's time, and at most so many seconds.
_SHARE_WAITED, _MOST_WAITED = 0.1, 0.01

Classify = Callable[[list[str]], Sequence[Prediction]]


class QueueFullError(Exception):
    """More texts wait than the server accepts."""


@dataclass(eq=False)
class _Waiting:
    texts: list[str]
    answer: asyncio.Future[list[Prediction]] = field(repr=False)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Batcher:
    """Classifies what waits whenever a worker is free.

    A single worker gives those it has just answered a moment to ask again: clients that ask one
    text after the other would otherwise fall into groups, and small batches cost more a text.

    Args:
        classify: labels some texts, in order; called in worker threads.
        most_texts: texts of one batch.
        most_waiting: texts that may wait; a request beyond them is refused.
        workers: batches classified at the same time.
        observe: called with the size of each batch.
        own: errors of one request, not of its batch: the batch's requests are then tried alone.
    """

    def __init__(
        self,
        classify: Classify,
        most_texts: int,
        most_waiting: int,
        workers: int,
        observe: Callable[[int], None],
        own: tuple[type[Exception], ...] = (),
    ) -> None:
        self._classify, self._observe, self._own = classify, observe, own
        self._most_texts, self._most_waiting = most_texts, most_waiting
        self._free = self._workers = workers
        self._expected = 0
        self._patience: asyncio.TimerHandle | None = None
        self._threads = ThreadPoolExecutor(workers, "classify")
        self._queue: deque[_Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Texts that wait for a worker."""
        return sum(len(request.texts) for request in self._queue)

    async def classify(self, texts: list[str]) -> list[Prediction]:
        """Return the predictions of a request's texts, in order.

        A request that is cancelled while it waits is not classified; one that is being classified
        is finished, since it may have been paid for.

        Raises:
            QueueFullError: too many texts wait already.
        """
        if self._queue and self.waiting + len(texts) > self._most_waiting:
            raise QueueFullError
        request = _Waiting(texts, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._expected = max(0, self._expected - 1)
        # What has arrived in this turn of the loop joins the same batch.
        asyncio.get_running_loop().call_soon(self._start)
        try:
            return await asyncio.shield(request.answer)
        except asyncio.CancelledError:
            if request in self._queue:
                self._queue.remove(request)
                raise
            return await request.answer

    async def close(self) -> None:
        """Wait for the batches under way and end the threads."""
        while self._running:
            await asyncio.wait(self._running)
        self._threads.shutdown()

    def _start(self) -> None:
        while self._free and self._queue and not self._expected:
            batch = [self._queue.popleft()]
            size = len(batch[0].texts)
            while self._queue and size + len(self._queue[0].texts) <= self._most_texts:
                batch.append(self._queue.popleft())
                size += len(batch[-1].texts)
            self._free -= 1
            task = asyncio.create_task(self._run(batch, size))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, batch: list[_Waiting], size: int) -> None:
        self._observe(size)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            try:
                await self._answer(batch)
            except self._own:
                if len(batch) == 1:
                    raise
                for request in batch:
                    await self._answer_alone(request)
        except Exception as error:
            for request in batch:
                request.fail(error)
        finally:
            self._free += 1
            if self._workers == 1:
                self._expect(len(batch), loop.time() - began)
            self._start()

    async def _answer(self, batch: list[_Waiting]) -> None:
        texts = [text for request in batch for text in request.texts]
        loop = asyncio.get_running_loop()
        predictions = list(await loop.run_in_executor(self._threads, self._classify, texts))
        place = 0
        for request in batch:
            own = predictions[place : place + len(request.texts)]
            place += len(request.texts)
            if not request.answer.done():
                request.answer.set_result(own)

    async def _answer_alone(self, request: _Waiting) -> None:
        try:
            if not request.answer.done():
                await self._answer([request])
        except Exception as error:
            request.fail(error)

    def _expect(self, requests: int, seconds: float) -> None:
        """Let the next batch wait for as many requests as were answered, but not for long."""
        if self._patience is not None:
            self._patience.cancel()
        self._expected = requests
        wait = min(seconds * _SHARE_WAITED, _MOST_WAITED)
        self._patience = asyncio.get_running_loop().call_later(wait, self._stop_waiting)

    def _stop_waiting(self) -> None:
        self._expected = 0
        self._start()
