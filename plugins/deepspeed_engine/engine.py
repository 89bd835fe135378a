"""Training steps with DeepSpeed ZeRO, which partitions optimizer state, gradients and parameters.

Three choices make it equivalent to the engine ``torch``. Parameters stay in float32, and half
precision is autocast inside the model that DeepSpeed sees, so the weights are the master weights.
The optimizer is torch's: one from DeepSpeed's configuration would be compiled at first use.
Learning rates are set before each step, so DeepSpeed has no schedule.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from sentikit import InputError
from sentikit.extension import (
    DistributedEngine,
    Hardware,
    MemoryNeed,
    ModelSize,
    ParameterGroup,
    StepPlan,
    choose_device,
)

from .configuration import BUCKET, Configuration, DeepSpeedSettings, configure

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .precision import LossScale

#: Earlier versions apply fp16 steps that overflowed (0.18.9, 0.19.0, 0.19.5, 0.19.7), or compute
#: other gradients when accumulating them (0.18.0).
OLDEST = "0.19.8"


class DeepSpeedEngine(DistributedEngine):
    """DeepSpeed ZeRO, on any number of processes."""

    Settings = DeepSpeedSettings
    needs_group = True

    settings: DeepSpeedSettings
    _configuration: Configuration
    _model: nn.Module
    _groups: Sequence[ParameterGroup]
    _plan: StepPlan
    _engine: Any = None
    _linear: Callable[..., Tensor]
    _scale: LossScale

    @classmethod
    def suits(cls, hardware: Hardware) -> int:
        """Return 2 on machines with several GPUs if DeepSpeed is installed, else 0."""
        installed = importlib.util.find_spec("deepspeed") is not None
        return 2 if hardware.gpus > 1 and installed else 0

    def start(self, device: str) -> None:
        """Import DeepSpeed for the device and join the other processes.

        Raises:
            InputError: DeepSpeed is not installed, or its configuration cannot be used.
        """
        _check_installed()
        self._configuration = configure(self.settings)
        if choose_device(device).type == "cpu":
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        # Imported first: later, defaults of its functions would keep a reference to the group.
        with _quiet():
            _import_deepspeed()
        super().start(device)
        atexit.register(_leave)
        # DeepSpeed uses the GPU of this number, and asks MPI if it is not set.
        os.environ["LOCAL_RANK"] = str(self.device.index or 0)
        # Torch's deprecation warnings about DeepSpeed do not concern the user.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")

    def prepare(self, model: nn.Module, groups: Sequence[ParameterGroup], plan: StepPlan) -> None:
        """Give DeepSpeed the model, and an optimizer with its parameter groups.

        Raises:
            InputError: DeepSpeed refuses the user's configuration.
        """
        import deepspeed
        from torch import nn

        from .precision import InPrecision, LossScale

        self._model, self._groups, self._plan = model.to(self.device), groups, plan
        self._scale = LossScale.starting(plan.precision == "fp16")
        self._linear = nn.functional.linear
        try:
            with _quiet():
                self._engine, *_ = deepspeed.initialize(
                    model=InPrecision(model, self.device, plan.precision),
                    optimizer=self._build_optimizer(),
                    config=self._configuration.for_steps(plan, self.processes),
                    dist_init_required=False,
                )
        except (ValueError, AssertionError, TypeError, _configuration_error()) as error:
            if self._configuration.path is None:
                raise
            reason = " ".join(str(error).split())[:400] or type(error).__name__
            raise InputError(
                f"engine.config: DeepSpeed refuses {self._configuration.path}: {reason}"
            ) from error
        self._tell_scale()

    def memory(self, size: ModelSize, processes: int) -> dict[str, MemoryNeed]:
        """Return a process's memory need at each stage, without offloads."""
        from .memory import need

        return {f"stage {stage}": need(size, stage, processes, BUCKET) for stage in range(4)}

    def warnings(self) -> list[str]:
        """Return which keys of the user's file the recipe decides."""
        overridden = self._configuration.overridden
        if not overridden:
            return []
        keys = ", ".join(f"{key} ({place})" for key, place in overridden.items())
        return [f"{self._configuration.path}: sentikit sets these keys itself: {keys}."]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the logits."""
        moved = [tensor.to(self.device, non_blocking=True) for tensor in inputs]
        logits: Tensor = self._engine(*moved)
        return logits

    def training_mode(self, on: bool) -> None:
        """Switch dropout on or off."""
        self._engine.train(on)

    def micro_step(self, last: bool) -> AbstractContextManager[object]:
        """Tell DeepSpeed which micro-batch ends the step, since their number varies."""
        self._engine.set_gradient_accumulation_boundary(last)
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients; DeepSpeed only averages over the processes."""
        by_deepspeed = self._configuration.stage > 0
        scaled = loss if by_deepspeed else loss * self._scale.value
        self._engine.backward(scaled, scale_wrt_gas=False)

    def step(self, rates: Sequence[float]) -> Tensor | float:
        """Clip, step, clear."""
        for group, rate in zip(self._engine.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        if self._configuration.stage == 0:
            return self._plain_step()
        self._engine.step()
        self._scale.update(self._engine.was_step_applied())
        self._tell_scale()
        norm: Tensor | float = self._engine.get_global_grad_norm()
        return norm

    def weights(self) -> dict[str, Tensor]:
        """Gather all weights, for the main process."""
        from .partitions import whole_weights

        return whole_weights(self._model, self.is_main_process)

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set all weights."""
        from .partitions import set_whole_weights

        set_whole_weights(self._model, weights)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Gather the optimizer's tensors, for the main process."""
        import torch

        from .partitions import whole_optimizer_state

        optimizer, scale = (
            self._engine.optimizer,
            self._scale.state() if self.is_main_process else {},
        )
        if self._configuration.stage:
            return scale | whole_optimizer_state(optimizer, self._names(), self.is_main_process)
        return scale | {
            f"{name}/{key}": torch.as_tensor(value).detach().cpu().clone()
            for parameter, name in self._names().items()
            for key, value in optimizer.state.get(parameter, {}).items()
            if self.is_main_process and value is not None
        }

    def load_optimizer_state(self, state: dict[str, Tensor]) -> None:
        """Set the optimizer's tensors."""
        from .partitions import set_whole_optimizer_state

        self._scale.load(state)
        self._tell_scale()
        optimizer = self._engine.optimizer
        if self._configuration.stage:
            set_whole_optimizer_state(optimizer, self._names(), state)
            return
        by_number: dict[int, dict[str, Tensor]] = {}
        for number, name in enumerate(self._names().values()):
            own = {k: v.clone() for k, v in state.items() if k.rpartition("/")[0] == name}
            by_number[number] = {key.rpartition("/")[2]: value for key, value in own.items()}
        optimizer.load_state_dict({**optimizer.state_dict(), "state": by_number})

    def finish(self) -> None:
        """Shut DeepSpeed down."""
        if self._engine is not None:
            self._engine.destroy()
            from torch import nn

            # Stage 3 replaces it for the whole process and does not restore it.
            nn.functional.linear = self._linear

    def _build_optimizer(self) -> torch.optim.Optimizer:
        groups = [
            {
                "params": list(group.parameters.values()),
                "lr": group.lr,
                "weight_decay": group.weight_decay,
            }
            for group in self._groups
        ]
        from .lazy_adagrad import LazyAdagrad

        chosen = self._plan.optimizer
        if chosen.name == "adagrad" and self._configuration.stage:
            return LazyAdagrad(groups, **chosen.model_dump(exclude={"name"}))
        return chosen.build(groups)

    def _plain_step(self) -> Tensor:
        """Unscale, clip and step, without ZeRO."""
        import torch

        parameters = list(self._names())
        if self._scale.enabled:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(1.0 / self._scale.value)
        limit = self._plan.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        applied = not self._scale.enabled or bool(norm.isfinite())
        if applied:
            self._engine.step()
        else:
            self._engine.zero_grad()
        self._scale.update(applied)
        return norm

    def _tell_scale(self) -> None:
        if self._scale.enabled and self._configuration.stage:
            self._engine.optimizer.override_loss_scale(self._scale.value)

    def _names(self) -> dict[nn.Parameter, str]:
        return {p: name for group in self._groups for name, p in group.parameters.items()}


def _check_installed() -> None:
    if importlib.util.find_spec("deepspeed") is None:
        raise InputError(
            "The engine deepspeed needs the package deepspeed: "
            "pip install 'sentikit[deepspeed]', or set engine.name=torch."
        )
    from importlib.metadata import version

    from packaging.version import Version

    if Version(version("deepspeed")) < Version(OLDEST):
        raise InputError(
            f"The engine deepspeed needs deepspeed {OLDEST} or newer, but "
            f"{version('deepspeed')} is installed: pip install --upgrade 'sentikit[deepspeed]'."
        )


def _import_deepspeed() -> None:
    import logging

    import deepspeed.ops

    if not os.environ.get("SENTIKIT_DEBUG"):
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # An extension for CPUs that would be compiled now, for half a minute; and a process killed
    # meanwhile leaves a lock for which all later ones wait.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _configuration_error() -> type[Exception]:
    from deepspeed.runtime.config import DeepSpeedConfigError

    found: type[Exception] = DeepSpeedConfigError
    return found


def _leave() -> None:
    """Drop DeepSpeed's references to the process groups, so that they end."""
    import deepspeed

    if deepspeed.comm.is_initialized():
        deepspeed.comm.destroy_process_group()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep DeepSpeed's prints and log away from standard output."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
