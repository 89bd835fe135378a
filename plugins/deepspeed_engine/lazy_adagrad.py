"""Adagrad that creates its state at the first step.

ZeRO replaces an optimizer's parameters with partitions. torch.optim.Adagrad creates its state in
the constructor, so DeepSpeed constructs it again, with one learning rate and weight decay for all,
and loses layer-wise groups. Like torch's other optimizers, this one creates its state later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim.adagrad import adagrad


class LazyAdagrad(torch.optim.Optimizer):
    """torch.optim.Adagrad with state that is created when first needed."""

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr_decay: float,
        initial_accumulator_value: float,
        eps: float,
    ) -> None:
        defaults = {"lr_decay": lr_decay, "initial": initial_accumulator_value, "eps": eps}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Apply the gradients; `closure` is not used."""
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            for parameter in trained:
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["sum"] = torch.full_like(parameter, group["initial"])
            adagrad(
                trained,
                [parameter.grad for parameter in trained],
                [self.state[parameter]["sum"] for parameter in trained],
                [self.state[parameter]["step"] for parameter in trained],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                lr_decay=group["lr_decay"],
                eps=group["eps"],
                maximize=False,
            )
