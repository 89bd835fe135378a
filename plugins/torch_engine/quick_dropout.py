"""Dropout for the CPU, whose random numbers cost a third of torch's own.

torch draws a number for each element; here a 64-bit number serves four, so that the probability is
a multiple of 2⁻¹⁶.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LEVELS = 2**16


def use_quick_dropout(model: nn.Module) -> None:
    """Replace a model's dropout layers; they draw from torch's default generator as before."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout and not child.inplace and 0 < child.p < 1:
                setattr(module, name, QuickDropout(child.p).train(child.training))


class QuickDropout(nn.Dropout):
    """A dropout layer that draws a number for every four elements."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as torch calls it
        """Zero elements at random and scale the others up, while training."""
        if not self.training:
            return input
        dropped: Tensor = _Dropout.apply(input, self.p)  # type: ignore[no-untyped-call]
        return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        size = values.numel()
        numbers = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = numbers.view(torch.int16)[:size] >= round(p * _LEVELS) - _LEVELS // 2
        factors = kept.to(values.dtype).mul_(1 / (1 - p)).view(values.shape)
        ctx.save_for_backward(factors)
        return values * factors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (factors,) = ctx.saved_tensors
        return gradients[0] * factors, None
