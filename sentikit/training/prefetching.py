"""Makes batches ahead of the training step, in threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Plan = TypeVar("Plan")
Batch = TypeVar("Batch")


def prefetched(
    plans: Iterable[Plan], make: Callable[[Plan], Batch], workers: int, ahead: int
) -> Iterator[tuple[Plan, Batch]]:
    """Yield each plan with what `make` makes of it, in order.

    Args:
        plans: what to make.
        make: called in a worker thread; an error comes out when its turn comes.
        workers: threads.
        ahead: how many are made beforehand; 0 makes each one when asked for, without threads.
    """
    if ahead == 0:
        for plan in plans:
            yield plan, make(plan)
        return
    remaining = iter(plans)
    waiting: deque[tuple[Plan, Future[Batch]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
        try:
            for plan in islice(remaining, ahead):
                waiting.append((plan, pool.submit(make, plan)))
            while waiting:
                plan, made = waiting.popleft()
                for upcoming in islice(remaining, 1):
                    waiting.append((upcoming, pool.submit(make, upcoming)))
                yield plan, made.result()
        finally:
            for _, unneeded in waiting:
                unneeded.cancel()
