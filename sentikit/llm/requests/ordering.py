"""Puts answers that come in any order back into the order of their questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class OrderedDelivery(Generic[Item]):
    """Holds what comes early, never more than a window of it.

    Args:
        deliver: called once an index, in order.
        window: how far ahead of the oldest item not yet taken others may be.
        held: whether delivered items fill the window until `take` is called.
    """

    def __init__(
        self, deliver: Callable[[Item], None], window: int = 4096, held: bool = False
    ) -> None:
        self._deliver = deliver
        self._window, self._held = window, held
        self._waiting: dict[int, Item] = {}
        self._next = self._taken = 0
        self._moved = asyncio.Event()
        self._closed = False

    async def room(self, index: int) -> None:
        """Wait until the item of `index` may be started, or nothing more will be delivered."""
        while index - self._taken >= self._window and not self._closed:
            self._moved.clear()
            await self._moved.wait()

    def close(self) -> None:
        """Let go of whoever waits for room."""
        self._closed = True
        self._moved.set()

    def put(self, index: int, item: Item) -> None:
        """Hand in an item; it and those waiting behind it are delivered when it is their turn."""
        self._waiting[index] = item
        while self._next in self._waiting:
            self._deliver(self._waiting.pop(self._next))
            self._next += 1
        if not self._held:
            self.take(self._next - self._taken)

    def take(self, number: int) -> None:
        """Make room: so many more items have left the queue behind the delivery."""
        self._taken += number
        self._moved.set()
