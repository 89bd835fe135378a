"""Half precision: autocast inside the model, and dynamic loss scaling for fp16.

The scale follows the rule and numbers of torch.amp.GradScaler; see
https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling. DeepSpeed takes the value
(``override_loss_scale``) and reports whether a step overflowed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sentikit.extension import autocast

_FACTOR, _INTERVAL = 2.0, 2000
_SCALE, _GROWTH = "loss/scale", "loss/growth"


class InPrecision(nn.Module):
    """A model whose forward pass runs under autocast.

    DeepSpeed disables an autocast around it, so this one is inside.
    """

    def __init__(self, model: nn.Module, device: torch.device, precision: str) -> None:
        super().__init__()
        self.model = model
        self._device, self._precision = device, precision

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the model's logits."""
        with autocast(self._device, self._precision):
            logits: Tensor = self.model(*inputs)
        return logits


@dataclass
class LossScale:
    """A factor for the loss, so that half-precision gradients do not vanish.

    Attributes:
        enabled: whether the precision is fp16; otherwise the scale stays 1.
        value: the scale.
        growth: steps without overflow since the last change.
    """

    enabled: bool
    value: float = 1.0
    growth: int = 0

    @classmethod
    def starting(cls, enabled: bool) -> LossScale:
        """Return the initial scale of a training."""
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
        """Return the state for a checkpoint."""
        if not self.enabled:
            return {}
        return {_SCALE: torch.tensor(self.value), _GROWTH: torch.tensor(self.growth)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the state of a checkpoint."""
        if self.enabled and _SCALE in state:
            self.value, self.growth = float(state[_SCALE]), int(state[_GROWTH])
