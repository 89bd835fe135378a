"""What a training process keeps in memory, by arithmetic; activations are left out."""

from __future__ import annotations

from dataclasses import dataclass

from sentikit.errors import SentikitError

FLOAT32 = 4


@dataclass(frozen=True)
class ModelSize:
    """What the memory of a training depends on.

    Attributes:
        parameters: of the whole model.
        trained: those that are not frozen.
        moments: numbers the optimizer keeps for each trained parameter; Adam two.
    """

    parameters: int
    trained: int
    moments: int


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one process with its gradients; everything is kept in float32.

    Attributes:
        weights: parameters, and copies of them that the optimizer works on.
        gradients: of the trained parameters.
        optimizer: its moments.
        buffers: what the exchange between processes needs besides.
    """

    weights: int
    gradients: int
    optimizer: int
    buffers: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.gradients + self.optimizer + self.buffers


def replicated(size: ModelSize) -> MemoryNeed:
    """Return what a process needs that keeps everything itself."""
    trained = FLOAT32 * size.trained
    return MemoryNeed(FLOAT32 * size.parameters, trained, size.moments * trained)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is that of a device or machine whose memory is full."""
    if isinstance(error, MemoryError):
        return True
    said = str(error).lower()
    full = "out of memory" in said or "can't allocate memory" in said
    return isinstance(error, RuntimeError) and full


def out_of_memory(error: BaseException) -> SentikitError:
    """Return what to tell the user of it."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return SentikitError(
        f"There is not enough memory ({reason}). Lower training.micro_batch_size or "
        "training.micro_batch_tokens, and go on with --resume."
    )
