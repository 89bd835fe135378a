"""Training steps in plain PyTorch, with DistributedDataParallel for several processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field

from sentikit import InputError
from sentikit.extension import (
    ComponentSettings,
    DistributedEngine,
    Hardware,
    ParameterGroup,
    StepPlan,
    autocast,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .graphs import PassGraphs
    from .half_weights import HalfWeights

_SCALE, _GROWTH = "loss/scale", "loss/growth"


class TorchEngine(DistributedEngine):
    """An engine in plain PyTorch: fused optimizers, autocast, one gradient exchange per step."""

    class Settings(ComponentSettings):
        """Optional settings of the steps."""

        graphs: bool = Field(
            True,
            description="on one GPU, record the passes of an encoder as CUDA graphs, one for each "
            "shape of a batch: several times faster for short texts",
        )
        find_unused_parameters: bool = Field(
            False, description="for an encoder with parameters the loss does not depend on; slower"
        )

    #: Whether to keep half-precision copies of linear weights.
    keeps_half_weights: ClassVar[bool] = True

    settings: Settings
    _model: nn.Module
    _forward: nn.Module
    _groups: Sequence[ParameterGroup]
    _plan: StepPlan
    _optimizer: torch.optim.Optimizer
    _scaler: torch.amp.GradScaler
    _half: HalfWeights | None = None
    _graphs: PassGraphs | None = None
    _checked: bool = False

    @classmethod
    def suits(cls, hardware: Hardware) -> int:
        """Return 1: the engine works on any machine."""
        return 1

    def prepare(self, model: nn.Module, groups: Sequence[ParameterGroup], plan: StepPlan) -> None:
        """Move the model to the device, wrap it for several processes, build the optimizer."""
        import torch
        from torch.nn.parallel import DistributedDataParallel

        from .graphs import PassGraphs
        from .half_weights import HalfWeights

        self._model = self._forward = model.to(self.device)
        self._groups, self._plan = groups, plan
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        # Not with several processes, which would exchange gradients in half precision.
        if plan.precision in kinds and self.processes == 1 and self.keeps_half_weights:
            self._half = HalfWeights(model, kinds[plan.precision])
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
        capturable = self.device.type == "cuda" and getattr(model, "is_capturable", False)
        # Not for fp16, where it failed, and not for several processes, which exchange gradients.
        capturable = capturable and plan.precision != "fp16" and self.processes == 1
        if self.settings.graphs and capturable:
            trained = [(p, self._whole(p)) for p in model.parameters() if p.requires_grad]
            parameters, wholes = zip(*trained, strict=True)
            self._graphs = PassGraphs(self._logits, parameters, wholes, self.device)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the logits."""
        import torch

        if self._graphs is not None and torch.is_grad_enabled():
            return self._graphs.forward(inputs)
        moved = [tensor.to(self.device, non_blocking=True) for tensor in inputs]
        return self._logits(*moved)

    def _logits(self, *inputs: Tensor) -> Tensor:
        import torch

        with autocast(self.device, self._plan.precision):
            # Without gradients, DDP would still need all processes.
            module = self._forward if torch.is_grad_enabled() else self._model
            logits: Tensor = module(*inputs)
        return logits

    def _whole(self, parameter: nn.Parameter) -> nn.Parameter:
        return parameter if self._half is None else self._half.whole(parameter)

    def training_mode(self, on: bool) -> None:
        """Switch dropout on or off."""
        self._forward.train(on)

    def micro_step(self, last: bool) -> AbstractContextManager[object]:
        """Delay the exchange of gradients until the step's last micro-batch."""
        from torch.nn.parallel import DistributedDataParallel

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
            InputError: a parameter has no gradient, and several processes would wait for it.
        """
        self._check_all_used()
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._scaler.unscale_(self._optimizer)
        norm = self._clip()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        # Graphs add to the gradients in place.
        self._optimizer.zero_grad(set_to_none=self._graphs is None)
        if self._half is not None:
            self._half.update()
        return norm

    def _clip(self) -> Tensor:
        """Return the gradients' norm, and clip now or in the optimizer's step."""
        import torch

        parameters = [p for group in self._groups for p in group.parameters.values()]
        limit = self._plan.clip_norm or float("inf")
        if self.device.type != "cpu" or not self._optimizer.defaults.get("fused"):
            return torch.nn.utils.clip_grad_norm_(parameters, limit)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        # A fused kernel divides gradients by this while reading them, which saves a pass; it needs
        # a float32 number, whatever the type of the gradients.
        cast(Any, self._optimizer).grad_scale = torch.clamp(norm.float() / limit, min=1.0)
        return norm

    def weights(self) -> dict[str, Tensor]:
        """Return all weights on the CPU, on the main process."""
        if not self.is_main_process:
            return {}
        # A clone, since on a CPU training would change these tensors.
        return {
            name: self._whole(tensor).detach().to("cpu", copy=True)
            for name, tensor in self._model.state_dict(keep_vars=True).items()
        }

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set all weights."""
        self._model.load_state_dict(weights)
        if self._half is not None:
            self._half.load(self._model.state_dict(keep_vars=True), weights)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimizer's tensors, and the loss scale for fp16, on the main process."""
        import torch

        if not self.is_main_process:
            return {}
        state = {
            f"{name}/{key}": torch.as_tensor(value).detach().to("cpu", copy=True)
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
        # Torch's loading decides which tensors belong on the device.
        own = self._optimizer.state_dict()
        self._optimizer.load_state_dict({**own, "state": by_number})

    def finish(self) -> None:
        """Free the graphs' memory."""
        if self._graphs is not None:
            self._graphs.close()
            self._graphs = None

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
