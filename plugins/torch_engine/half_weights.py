"""Half-precision copies of linear weights, beside the float32 ones of the optimizer.

Autocast would cast each of them in every pass, and each gradient back, which are several hundred
small operations per step with the same results.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class HalfWeights:
    """The linear weights of a model, which then computes with the copies."""

    def __init__(self, model: nn.Module, kind: torch.dtype) -> None:
        elsewhere = {
            parameter
            for module in model.modules()
            if not isinstance(module, nn.Linear)
            for parameter in module.parameters(recurse=False)
        }
        halves: dict[nn.Parameter, nn.Parameter] = {}
        for module in model.modules():
            if not isinstance(module, nn.Linear):
                continue
            for name, whole in list(module.named_parameters(recurse=False)):
                if whole.dtype != torch.float32 or whole in elsewhere:
                    continue
                if whole not in halves:
                    halves[whole] = nn.Parameter(whole.detach().to(kind), whole.requires_grad)
                setattr(module, name, halves[whole])
        self._halves = halves
        self._wholes: dict[Tensor, nn.Parameter] = {half: w for w, half in halves.items()}
        self._trained = [(w, half) for w, half in halves.items() if w.requires_grad]
        self._gradients = {w: torch.empty_like(w) for w, _ in self._trained}

    def whole(self, tensor: nn.Parameter) -> nn.Parameter:
        """Return the float32 weights of a copy, or another tensor itself."""
        return self._wholes.get(tensor, tensor)

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Add the copies' gradients to those of the float32 weights."""
        copied: tuple[list[Tensor], list[Tensor]] = ([], [])
        added: tuple[list[Tensor], list[Tensor]] = ([], [])
        for w, half in self._trained:
            if half.grad is None:
                continue
            targets, sources = copied if w.grad is None else added
            if w.grad is None:
                w.grad = self._gradients[w]
            targets.append(w.grad)
            sources.append(half.grad)
            half.grad = None
        if copied[0]:
            torch._foreach_copy_(*copied)
        if added[0]:
            torch._foreach_add_(*added)

    @torch.no_grad()
    def update(self) -> None:
        """Copy the float32 weights that are trained."""
        if self._trained:
            torch._foreach_copy_([half for _, half in self._trained], [w for w, _ in self._trained])

    @torch.no_grad()
    def load(self, names: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Set the float32 weights.

        Args:
            names: the model's tensors by name, copies included.
            weights: values by the same names.
        """
        for name, tensor in names.items():
            if tensor in self._wholes:
                self._wholes[tensor].copy_(weights[name])
