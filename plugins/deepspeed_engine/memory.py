"""What each stage of ZeRO keeps in a process: https://arxiv.org/abs/1910.02054, in float32.

DeepSpeed works on a float32 copy of its partition also where the parameters are float32 already.
"""

from __future__ import annotations

from sentikit.extension import MemoryNeed, ModelSize, replicated

FLOAT32 = 4


def need(size: ModelSize, stage: int, processes: int, bucket: int) -> MemoryNeed:
    """Return what one of several processes needs for the state and its gradients.

    Args:
        size: of the model.
        stage: of ZeRO, 0 to 3.
        processes: that share the state.
        bucket: numbers in the buffer in which gradients are exchanged.
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
