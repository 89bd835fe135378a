"""Training steps in plain PyTorch; DistributedDataParallel where several processes were started."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sentikit import InputError, SentikitError
from sentikit.extension import (
    DistributedEngine,
    Hardware,
    ParameterGroup,
    PartSettings,
    StepPlan,
    autocast,
)

from .half_weights import HalfWeights

_SCALE, _GROWTH = "loss/scale", "loss/growth"


class TorchEngine(DistributedEngine):
    """Plain PyTorch: fused optimizers, autocast, gradients exchanged once a step."""

    class Settings(PartSettings):
        """How steps run; nothing needs to be set."""

        compile: bool = Field(
            False,
            description="compile the encoder's layers with torch.compile: a minute at the start, "
            "faster steps on a GPU",
        )
        find_unused_parameters: bool = Field(
            False, description="for an encoder with parameters the loss does not depend on; slower"
        )

    #: Whether linear weights are kept in half precision beside the float32 ones.
    keeps_half_weights: ClassVar[bool] = True

    settings: Settings
    _model: nn.Module
    _forward: nn.Module
    _groups: Sequence[ParameterGroup]
    _plan: StepPlan
    _optimizer: torch.optim.Optimizer
    _scaler: torch.amp.GradScaler
    _half: HalfWeights | None = None
    _checked: bool = False
    _remarks: tuple[str, ...] = ()

    @classmethod
    def suits(cls, hardware: Hardware) -> int:
        """Fit any machine."""
        return 1

    def prepare(self, model: nn.Module, groups: Sequence[ParameterGroup], plan: StepPlan) -> None:
        """Move the model to the device, wrap it for several processes, build the optimizer."""
        self._model = self._forward = model.to(self.device)
        self._groups, self._plan = groups, plan
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        # Several processes would exchange gradients in half precision.
        if plan.precision in kinds and self.processes == 1 and self.keeps_half_weights:
            self._half = HalfWeights(model, kinds[plan.precision])
        if self.settings.compile:
            self._compile(model)
        if self.processes > 1:
            self._forward = DistributedDataParallel(
                model,
                gradient_as_bucket_view=True,
                find_unused_parameters=self.settings.find_unused_parameters,
            )
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
            try:
                logits: Tensor = module(*moved)
            except torch._dynamo.exc.TorchDynamoException as error:
                reason = " ".join(str(error).split())[:200]
                raise SentikitError(
                    f"engine.compile: torch cannot compile this model ({reason}). Set "
                    "engine.compile=false and resume with --resume."
                ) from error
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
        if self._half is not None:
            self._half.collect_gradients()

    def step(self, rates: Sequence[float]) -> Tensor | float:
        """Clip, step, clear.

        Raises:
            InputError: parameters without a gradient, which several processes would wait for.
        """
        self._check_all_used()
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._scaler.unscale_(self._optimizer)
        parameters = [p for group in self._groups for p in group.parameters.values()]
        limit = self._plan.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._half is not None:
            self._half.update()
        return norm

    def weights(self) -> dict[str, Tensor]:
        """Return all weights on the CPU, on the main process."""
        if not self.is_main_process:
            return {}
        # A clone, since on a CPU these would be the tensors that training goes on changing.
        state = self._model.state_dict(keep_vars=True)
        if self._half is not None:
            state = self._half.whole(state)
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set all weights."""
        self._model.load_state_dict(weights)
        if self._half is not None:
            self._half.load(self._model.state_dict(keep_vars=True), weights)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimizer's tensors, and the loss scale under fp16, where `weights` does."""
        if not self.is_main_process:
            return {}
        state = {
            f"{name}/{key}": torch.as_tensor(value).detach().cpu().clone()
            for name, parameter in self._named_parameters()
            for key, value in self._optimizer.state.get(parameter, {}).items()
            if value is not None
        }
        if self._scaler.is_enabled():
            scaler = self._scaler.state_dict()
            state[_SCALE] = torch.tensor(float(scaler["scale"]))
            state[_GROWTH] = torch.tensor(int(scaler["_growth_tracker"]))
        return state

    def load_optimizer_state(self, state: dict[str, Tensor]) -> None:
        """Set the optimizer's tensors."""
        if self._scaler.is_enabled() and _SCALE in state:
            scaler = {"scale": float(state[_SCALE]), "_growth_tracker": int(state[_GROWTH])}
            self._scaler.load_state_dict({**self._scaler.state_dict(), **scaler})
        numbers = {name: number for number, (name, _) in enumerate(self._named_parameters())}
        by_number: dict[int, dict[str, Tensor]] = {}
        for entry, value in state.items():
            name, _, key = entry.rpartition("/")
            if name in numbers:
                by_number.setdefault(numbers[name], {})[key] = value.clone()
        # torch's own loading knows which of the tensors belong on the device.
        own = self._optimizer.state_dict()
        self._optimizer.load_state_dict({**own, "state": by_number})

    def remarks(self) -> list[str]:
        """Say where compiling was asked for and is impossible."""
        return list(self._remarks)

    def _compile(self, model: nn.Module) -> None:
        """Compile the layers one by one: all share one program, made in a fraction of the time."""
        try:
            with warnings.catch_warnings(action="ignore"):
                torch.compile(torch.sin)(torch.ones(2, device=self.device))
        except Exception as error:  # whatever a compiler that is missing or broken raises
            reason = " ".join(str(error).split())[:200]
            self._remarks = (f"engine.compile: nothing can be compiled here ({reason}).",)
            return
        for layer in _repeated_layers(model):
            layer.compile(dynamic=True)

    def _check_all_used(self) -> None:
        if self._checked or self.processes == 1 or self.settings.find_unused_parameters:
            return
        self._checked = True
        unused = [name for name, parameter in self._named_parameters() if parameter.grad is None]
        if unused:
            raise InputError(
                f"{len(unused)} parameters of the encoder take no part in the loss ({unused[0]}, "
                "…), and several processes would wait for their gradients for ever. "
                "Set engine.find_unused_parameters=true."
            )

    def _named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [item for group in self._groups for item in group.parameters.items()]


def _repeated_layers(model: nn.Module) -> Sequence[nn.Module]:
    """Return the layers of the largest list of modules of one kind."""
    lists = [list(m) for m in model.modules() if isinstance(m, nn.ModuleList)]
    alike = [layers for layers in lists if len({type(layer) for layer in layers}) == 1]
    sizes = [sum(p.numel() for layer in layers for p in layer.parameters()) for layers in alike]
    return max(zip(sizes, alike, strict=True), key=lambda pair: pair[0], default=(0, []))[1]
