"""Batches of texts of like length, planned from seed and epoch and assembled ahead in threads.

Texts are shuffled, sorted by length within pools of some batches, and the batches shuffled: the
batches are nearly without padding and still random (about 93 % of a batch is text, against 42 % in
random order). One optimizer step takes one batch, however many processes share it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Batches in a pool that is sorted by length: more means less padding and less randomness.
POOL_BATCHES = 50
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class MicroBatch:
    """What one process passes forward at once.

    Attributes:
        rows: row numbers; never empty, see `weights`.
        weights: 1 for a row that counts, 0 for one that only keeps processes in step.
    """

    rows: Rows
    weights: NDArray[np.float32]


def plan_epoch(lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Return the batches of an epoch, every row once; only one batch may be smaller.

    Args:
        lengths: word pieces of each text.
        batch_size: texts in a batch.
        seed: of the run.
        epoch: from 0; every epoch has its own order.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    pool = batch_size * POOL_BATCHES
    batches: list[Rows] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def share(
    batch: Rows,
    lengths: NDArray[np.int64],
    rank: int,
    processes: int,
    most_rows: int,
    most_tokens: int,
) -> list[MicroBatch]:
    """Return one process's part of a batch, cut into micro-batches.

    Every process gets as many micro-batches, since engines synchronise in each; a process with
    nothing left repeats a row with weight 0.

    Args:
        batch: row numbers.
        lengths: word pieces of every row of the split.
        rank: of the process, from 0.
        processes: how many share the batch.
        most_rows: texts in a micro-batch.
        most_tokens: word pieces in a micro-batch, padding counted; one text may be more.
    """
    parts = [batch[number::processes] for number in range(processes)]
    cuts = [_cut(part, lengths, most_rows, most_tokens) for part in parts]
    pieces = max(map(len, cuts))
    idle = MicroBatch(batch[:1], np.zeros(1, np.float32))
    own = [MicroBatch(rows, np.ones(len(rows), np.float32)) for rows in cuts[rank]]
    return own + [idle] * (pieces - len(own))


def _cut(rows: Rows, lengths: NDArray[np.int64], most_rows: int, most_tokens: int) -> list[Rows]:
    """Cut rows into pieces of like length, longest first, as few as the limits allow."""
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    pieces: list[Rows] = []
    start = 0
    while start < len(ordered):
        longest = max(1, int(lengths[ordered[start]]))
        count = max(1, min(most_rows, most_tokens // longest))
        pieces.append(ordered[start : start + count])
        start += count
    return pieces


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Return the optimizer steps of one epoch."""
    return -(-examples // batch_size)


def pinned(tensors: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Return tensors that a GPU can fetch while it computes, or as they are for other devices."""
    if device.type != "cuda":
        return tensors
    return tuple(tensor.pin_memory() for tensor in tensors)


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
