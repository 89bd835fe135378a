"""Dynamic batching: texts of concurrent requests are classified together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sentikit import Prediction

Classify = Callable[[list[str]], Sequence[Prediction]]


class QueueFullError(Exception):
    """More texts wait than the server accepts."""


@dataclass(eq=False)
class _Waiting:
    texts: list[str]
    answer: asyncio.Future[list[Prediction]] = field(repr=False)


class Batcher:
    """A queue of texts that free workers classify at once, without waiting for full batches.

    Args:
        classify: labels texts, in order; called in worker threads.
        most_texts: most texts of a batch.
        most_waiting: most texts that may wait; further requests are refused.
        workers: batches classified at the same time.
        observe: called with the size of each batch.
    """

    def __init__(
        self,
        classify: Classify,
        most_texts: int,
        most_waiting: int,
        workers: int,
        observe: Callable[[int], None],
    ) -> None:
        self._classify, self._observe = classify, observe
        self._most_texts, self._most_waiting = most_texts, most_waiting
        self._free = workers
        self._threads = ThreadPoolExecutor(workers, "classify")
        self._queue: deque[_Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Texts that wait for a worker."""
        return sum(len(request.texts) for request in self._queue)

    async def classify(self, texts: list[str]) -> list[Prediction]:
        """Return the predictions of a request's texts, in order.

        Raises:
            QueueFullError: too many texts wait already.
        """
        if self._queue and self.waiting + len(texts) > self._most_waiting:
            raise QueueFullError
        request = _Waiting(texts, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        # Texts that arrive in the same iteration of the loop join the batch.
        asyncio.get_running_loop().call_soon(self._start)
        try:
            return await request.answer
        except asyncio.CancelledError:
            # The client has disconnected: its waiting texts need not be classified.
            if request in self._queue:
                self._queue.remove(request)
            raise

    async def close(self) -> None:
        """Wait for running batches, and end the threads."""
        while self._running:
            await asyncio.wait(self._running)
        self._threads.shutdown()

    def _start(self) -> None:
        while self._free and self._queue:
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
        texts = [text for request in batch for text in request.texts]
        self._observe(size)
        loop = asyncio.get_running_loop()
        try:
            predictions = list(await loop.run_in_executor(self._threads, self._classify, texts))
        except Exception as error:
            for request in batch:
                if not request.answer.done():
                    request.answer.set_exception(error)
        else:
            place = 0
            for request in batch:
                own = predictions[place : place + len(request.texts)]
                place += len(request.texts)
                if not request.answer.done():
                    request.answer.set_result(own)
        finally:
            self._free += 1
            self._start()
