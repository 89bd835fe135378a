"""Logits of a whole split, shared among the processes, every text once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.batches import BATCH_LIMITS, batches_by_length

if TYPE_CHECKING:
    from torch import Tensor

    from sentikit.training.engine import Engine


class ModelInputs(Protocol):
    """What a model is fed with: tokenised texts, or features of a frozen encoder."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The size of each text, by which batches are planned."""

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Return the model's inputs for some rows."""


def shared_logits(engine: Engine, inputs: ModelInputs, classes: int) -> NDArray[np.float32]:
    """Return the logits of all texts, (texts, classes), on every process.

    Batches of like length are dealt out in turn. Where the last round is incomplete, a process
    repeats a batch and drops the result: engines may need every process in every pass.
    """
    import torch

    batches = list(batches_by_length(inputs.lengths, *BATCH_LIMITS[engine.device.type]))
    rounds = -(-len(batches) // engine.processes)
    own = np.zeros((len(inputs), classes), np.float32)
    engine.training_mode(False)
    with torch.no_grad():
        for number in range(rounds):
            position = number * engine.processes + engine.rank
            rows = batches[min(position, len(batches) - 1)]
            logits = engine.forward(*inputs.batch(rows)).cpu().numpy()
            if position < len(batches):
                own[rows] = logits
    engine.training_mode(True)
    exchange_rows(engine, batches, own)
    return own


def exchange_rows(
    engine: Engine, batches: Sequence[NDArray[np.int64]], rows: NDArray[np.float32]
) -> None:
    """Fill in the rows that other processes have worked out; each sends its own and no more.

    Args:
        engine: who takes part.
        batches: row numbers; batch b was worked out by process b mod processes.
        rows: (rows, …), the own ones filled in.
    """
    if engine.processes == 1:
        return
    nothing = np.empty(0, np.int64)
    shares = [
        np.concatenate([nothing, *batches[rank :: engine.processes]])
        for rank in range(engine.processes)
    ]
    pieces = engine.gather(rows[shares[engine.rank]])
    for share, piece in zip(shares, pieces, strict=True):
        rows[share] = piece
