"""Training steps in plain PyTorch; DistributedDataParallel where several processes were started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sentikit import (
    Engine,
    Hardware,
    ParameterGroup,
    PartSettings,
    StepPlan,
    autocast,
    choose_device,
)


class TorchEngine(Engine):
    """Plain PyTorch: fused optimizers, autocast, gradients exchanged once a step."""

    class Settings(PartSettings):
        """No settings of its own."""

    _model: nn.Module
    _forward: nn.Module
    _groups: Sequence[ParameterGroup]
    _plan: StepPlan
    _optimizer: torch.optim.Optimizer
    _scaler: torch.amp.GradScaler

    @classmethod
    def suits(cls, hardware: Hardware) -> int:
        """Fit any machine."""
        return 1

    def start(self, device: str) -> None:
        """Join the process group that torchrun, the deepspeed launcher or Slurm described."""
        self.device = choose_device(device)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            if not distributed.is_initialized():
                distributed.init_process_group(backend)
            self.rank = distributed.get_rank()
            self.processes = distributed.get_world_size()

    def prepare(self, model: nn.Module, groups: Sequence[ParameterGroup], plan: StepPlan) -> None:
        """Move the model to the device, wrap it for several processes, build the optimizer."""
        self._model = self._forward = model.to(self.device)
        self._groups, self._plan = groups, plan
        if self.processes > 1:
            self._forward = DistributedDataParallel(model, gradient_as_bucket_view=True)
        self._optimizer = plan.optimizer.build(
            [
                {
                    "params": list(group.parameters.values()),
                    "lr": group.lr,
                    "weight_decay": group.weight_decay,
                }
                for group in groups
            ]
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=plan.precision == "fp16")

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the logits."""
        moved = [tensor.to(self.device, non_blocking=True) for tensor in inputs]
        with autocast(self.device, self._plan.precision):
            # Without gradients DDP would still insist that all processes take part.
            module = self._forward if torch.is_grad_enabled() else self._model
            logits: Tensor = module(*moved)
        return logits

    def training_mode(self, on: bool) -> None:
        """Switch dropout on or off."""
        self._forward.train(on)

    def micro_step(self, last: bool) -> AbstractContextManager[object]:
        """Hold back the exchange of gradients until the step's last micro-batch."""
        if isinstance(self._forward, DistributedDataParallel) and not last:
            return self._forward.no_sync()
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, rates: Sequence[float]) -> Tensor | float:
        """Clip, step, clear."""
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._scaler.unscale_(self._optimizer)
        parameters = [p for group in self._groups for p in group.parameters.values()]
        limit = self._plan.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def weights(self) -> dict[str, Tensor]:
        """Return all weights on the CPU."""
        # A clone, since on a CPU these would be the tensors that training goes on changing.
        return {name: t.detach().cpu().clone() for name, t in self._model.state_dict().items()}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set all weights."""
        self._model.load_state_dict(weights)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimizer's tensors, and the loss scale under fp16."""
        state = {
            f"{name}/{key}": torch.as_tensor(value).detach().cpu().clone()
            for name, parameter in self._named_parameters()
            for key, value in self._optimizer.state.get(parameter, {}).items()
            if value is not None
        }
        if self._scaler.is_enabled():
            state["loss/scale"] = torch.tensor(self._scaler.get_scale())
        return state

    def load_optimizer_state(self, state: dict[str, Tensor]) -> None:
        """Set the optimizer's tensors."""
        if self._scaler.is_enabled() and "loss/scale" in state:
            self._scaler.load_state_dict(
                {**self._scaler.state_dict(), "scale": float(state["loss/scale"])}
            )
        for name, parameter in self._named_parameters():
            own = {
                key.rpartition("/")[2]: v
                for key, v in state.items()
                if key.rpartition("/")[0] == name
            }
            self._optimizer.state[parameter] = {
                key: value.clone() if value.ndim == 0 else value.to(self.device, copy=True)
                for key, value in own.items()
            }

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sum over the processes."""
        total = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        if self.processes > 1:
            distributed.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def gather(self, array: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Collect every process's array."""
        if self.processes == 1:
            return [array]
        gathered: list[Any] = [None] * self.processes
        distributed.all_gather_object(gathered, array)
        return gathered

    def broadcast(self, value: Any) -> Any:
        """Return what process 0 has."""
        if self.processes == 1:
            return value
        boxed = [value]
        distributed.broadcast_object_list(boxed, src=0)
        return boxed[0]

    def finish(self) -> None:
        """Leave the process group."""
        if distributed.is_initialized():
            distributed.destroy_process_group()

    def _named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [item for group in self._groups for item in group.parameters.items()]
