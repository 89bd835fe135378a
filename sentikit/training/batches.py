"""Plans batches of like length; pure functions of lengths, seed and epoch, the same on any machine.

Texts are shuffled, sorted by length within pools of some batches, and the batches shuffled: the
batches are nearly without padding and still random (about 93 % of a batch is text, against 42 % in
random order). One optimizer step takes one batch, however many processes share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def share(batch: Rows, rank: int, processes: int, micro_batch_size: int) -> list[MicroBatch]:
    """Return one process's part of a batch, cut into micro-batches.

    Every process gets as many micro-batches, since engines synchronise in each; a process with
    nothing left repeats a row with weight 0.
    """
    largest = -(-len(batch) // processes)
    pieces = -(-largest // micro_batch_size)
    own = batch[rank::processes]
    return [_micro_batch(piece, batch) for piece in np.array_split(own, pieces)]


def _micro_batch(rows: Rows, batch: Rows) -> MicroBatch:
    if len(rows):
        return MicroBatch(rows, np.ones(len(rows), np.float32))
    return MicroBatch(batch[:1], np.zeros(1, np.float32))


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Return the optimizer steps of one epoch."""
    return -(-examples // batch_size)
