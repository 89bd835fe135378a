"""Dynamic loss scaling for fp16, by the rule of torch.amp.GradScaler and with its numbers.

https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling; DeepSpeed scales by whatever value
it is given (``override_loss_scale``), and says whether a step overflowed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_FACTOR, _INTERVAL = 2.0, 2000
_SCALE, _GROWTH = "loss/scale", "loss/growth"


@dataclass
class LossScale:
    """What losses are multiplied by, so that half-precision gradients do not vanish.

    Attributes:
        enabled: under fp16; otherwise the scale is 1 for ever.
        value: the scale.
        growth: steps without overflow since it last changed.
    """

    enabled: bool
    value: float = 1.0
    growth: int = 0

    @classmethod
    def starting(cls, enabled: bool) -> LossScale:
        """Return the scale a training starts with."""
        return cls(enabled, 2.0**16 if enabled else 1.0)

    def update(self, applied: bool) -> None:
        """Halve after an overflow, double after many steps without one."""
        if not self.enabled:
            return
        if not applied:
            self.value, self.growth = self.value / _FACTOR, 0
            return
        self.growth += 1
        if self.growth == _INTERVAL:
            self.value, self.growth = self.value * _FACTOR, 0

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        if not self.enabled:
            return {}
        return {_SCALE: torch.tensor(self.value), _GROWTH: torch.tensor(self.growth)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up what a checkpoint kept."""
        if self.enabled and _SCALE in state:
            self.value, self.growth = float(state[_SCALE]), int(state[_GROWTH])
