"""Memory per process of each ZeRO stage (https://arxiv.org/abs/1910.02054), in float32.

DeepSpeed keeps a float32 copy of its partition even if the parameters are float32.
"""

from __future__ import annotations

from sentikit.extension import MemoryNeed, ModelSize, replicated

FLOAT32 = 4


def need(size: ModelSize, stage: int, processes: int, bucket: int) -> MemoryNeed:
    """Return the memory that a process needs for the training state and gradients.

    Args:
        size: of the model.
        stage: of ZeRO, 0 to 3.
        processes: number that share the state.
        bucket: size of the buffer for exchanging gradients.
    """
    whole = replicated(size)
    if stage == 0:
        return whole
    copy = -(-FLOAT32 * size.trained // processes)
    return MemoryNeed(
        weights=copy + (-(-whole.weights // processes) if stage == 3 else whole.weights),
        gradients=-(-whole.gradients // processes) if stage >= 2 else whole.gradients,
        optimizer=-(-whole.optimizer // processes),
        buffers=FLOAT32 * bucket,
    )
