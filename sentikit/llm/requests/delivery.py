"""Items on their way from a thread into the event loop, and out of it again in their order."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Queue, SimpleQueue
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

#: Items made ahead of those that are taken.
_MADE_AHEAD = 256
#: Seconds that the making of items may take to stop.
_LONGEST_STOP = 20.0
#: Items handed over before the event loop is told that there is room for as many.
_TAKEN_AT_ONCE = 64


class MadeAhead(Generic[Item]):
    """Makes items in a thread of its own, some ahead: making them may run an encoder."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._loop = asyncio.get_running_loop()
        self._made: Queue[Item] = Queue(_MADE_AHEAD)
        self._arrived = asyncio.Event()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(items,), daemon=True)
        self._thread.start()

    async def take(self) -> list[Item]:
        """Return the items made since the last call, at least one; none at the end."""
        while not self._closed:
            self._arrived.clear()
            ended = self._ended
            if taken := self._drain():
                return taken
            if self._error is not None:
                raise self._error
            if ended:
                break
            await self._arrived.wait()
        return []

    def close(self) -> None:
        """Hand out nothing more, whatever is waited for."""
        self._closed = True
        self._arrived.set()

    async def stop(self) -> None:
        """End the thread; what waits for its next example is left alone after some seconds."""
        self.close()
        deadline = self._loop.time() + _LONGEST_STOP
        while self._thread.is_alive() and self._loop.time() < deadline:
            self._drain()
            await asyncio.sleep(0.005)

    def _drain(self) -> list[Item]:
        return [self._made.get_nowait() for _ in range(self._made.qsize())]

    def _work(self, items: Iterable[Item]) -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                self._made.put(item)
                if self._closed:
                    break
                if self._made.qsize() == 1:
                    self._wake()
        except BaseException as error:
            self._error = error
        finally:
            close: Callable[[], Any] | None = getattr(iterator, "close", None)
            if close is not None:
                with contextlib.suppress(Exception):
                    close()
            self._ended = True
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._arrived.set)


class OrderedDelivery(Generic[Item]):
    """Hands items from the event loop to a thread, in their order; holds a window of them."""

    def __init__(self, window: int = 4096) -> None:
        self._window = window
        self._early: dict[int, Item] = {}
        self._next = self._taken = 0
        self._moved = asyncio.Event()
        self._closed = False
        self._ready: SimpleQueue[Item | None] = SimpleQueue()

    async def room(self, index: int) -> None:
        """Wait until the item of `index` may be started, or nothing more will be delivered."""
        while index - self._taken >= self._window and not self._closed:
            self._moved.clear()
            await self._moved.wait()

    def close(self) -> None:
        """Release the tasks that wait for room."""
        self._closed = True
        self._moved.set()

    def put(self, index: int, item: Item) -> None:
        """Hand in an item; it and those waiting behind it are delivered when it is their turn."""
        self._early[index] = item
        while self._next in self._early:
            self._ready.put(self._early.pop(self._next))
            self._next += 1

    def end(self) -> None:
        self._ready.put(None)

    def take(self, number: int) -> None:
        """Make room: so many more items were taken."""
        self._taken += number
        self._moved.set()

    def __iter__(self) -> Iterator[list[Item]]:
        """Yield, in another thread, lists of the items that are ready; report them to `take`."""
        while True:
            number = min(_TAKEN_AT_ONCE, max(1, self._ready.qsize()))
            taken = [self._ready.get() for _ in range(number)]
            yield [item for item in taken if item is not None]
            if taken[-1] is None:
                return
