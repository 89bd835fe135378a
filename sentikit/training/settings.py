"""The training section: optimizers, schedules, early stopping and checkpoints."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sentikit.components import ComponentSettings, as_section
from sentikit.errors import did_you_mean
from sentikit.metrics import HOOK as METRICS
from sentikit.metrics import metrics_for
from sentikit.registry import Registry, default_registry

if TYPE_CHECKING:
    import torch

    from sentikit.datasets.labels import LabelScheme

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class _OptimizerSettings(ComponentSettings):
    """An optimizer of torch.optim; its arguments have torch's names."""

    _always: ClassVar[int] = 1

    name: str

    @property
    def moments(self) -> int:
        options = ("momentum", "centered", "amsgrad")
        return self._always + sum(bool(getattr(self, option, False)) for option in options)

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """Build the optimizer over parameter groups with their own lr and weight decay.

        It uses torch's fused kernels where they exist.
        """
        import torch

        optimizer_class = getattr(torch.optim, type(self).__name__)
        arguments = self.model_dump(exclude={"name"})
        on_cpu = all(p.device.type == "cpu" for group in groups for p in group["params"])
        # torch has no fused RMSprop, and a fused Adagrad only for the CPU.
        if type(self).__name__ != "RMSprop" and (type(self).__name__ != "Adagrad" or on_cpu):
            arguments["fused"] = True
        built: torch.optim.Optimizer = optimizer_class(list(groups), **arguments)
        return built


class _AdamSettings(_OptimizerSettings):
    _always: ClassVar[int] = 2
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8
    amsgrad: bool = False


class AdamW(_AdamSettings):
    """https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html."""

    name: Literal["adamw"] = "adamw"


class Adam(_AdamSettings):
    """https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html."""

    name: Literal["adam"] = "adam"


class SGD(_OptimizerSettings):
    """https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html."""

    _always: ClassVar[int] = 0
    name: Literal["sgd"] = "sgd"
    momentum: Share = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> SGD:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("nesterov needs a momentum above 0 and a dampening of 0")
        return self


class Adagrad(_OptimizerSettings):
    """https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html."""

    name: Literal["adagrad"] = "adagrad"
    lr_decay: Annotated[float, Field(ge=0)] = 0.0
    initial_accumulator_value: Annotated[float, Field(ge=0)] = 0.0
    eps: Positive = 1e-10


class RMSprop(_OptimizerSettings):
    """https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html."""

    name: Literal["rmsprop"] = "rmsprop"
    alpha: Share = 0.99
    eps: Positive = 1e-8
    momentum: Share = 0.0
    centered: bool = False


#: A section with a name, or the name alone.
Optimizer = Annotated[
    AdamW | Adam | SGD | Adagrad | RMSprop, Field(discriminator="name"), BeforeValidator(as_section)
]


# Schedules are pure functions of the step, so they have no state to save. Only
# `reduce_on_plateau` depends on scores; the loop keeps its factor in the training state.

Rate = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Moment:
    step: int
    total_steps: int
    steps_per_epoch: int
    warmup_steps: int

    @property
    def epochs(self) -> float:
        """Epochs done, including the fraction of the current one."""
        return self.step / self.steps_per_epoch

    @property
    def progress(self) -> float:
        """Share of the steps after warm-up that is done, 0 to 1."""
        left = max(1, self.total_steps - self.warmup_steps)
        return min(1.0, max(0.0, (self.step - self.warmup_steps) / left))


class _ScheduleSettings(ComponentSettings, ABC):
    name: str

    @abstractmethod
    def rate(self, base: float, moment: Moment) -> float:
        """Return a group's rate from its base rate."""

    def longest_epochs(self) -> float:
        """Return the epochs after which the schedule has taken effect, or 0."""
        return 0


class Constant(_ScheduleSettings):
    """The base rate throughout."""

    name: Literal["constant"] = "constant"

    def rate(self, base: float, moment: Moment) -> float:
        return base


class Linear(_ScheduleSettings):
    """Falls in a straight line to `end_factor` of the base rate."""

    name: Literal["linear"] = "linear"
    end_factor: Annotated[float, Field(ge=0, le=1)] = 0.0

    def rate(self, base: float, moment: Moment) -> float:
        return base * (1 - moment.progress * (1 - self.end_factor))


class Cosine(_ScheduleSettings):
    """Falls along half a cosine to `eta_min` (Loshchilov and Hutter, arXiv:1608.03983)."""

    name: Literal["cosine"] = "cosine"
    eta_min: Rate = 0.0

    def rate(self, base: float, moment: Moment) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * moment.progress)) / 2


#: In epochs: far less than a step, and far more than the rounding error of a sum of periods.
_ROUNDING = 1e-9


class CosineWarmRestarts(_ScheduleSettings):
    """Cosine annealing that restarts every `t_0` epochs, each period `t_mult` times longer."""

    name: Literal["cosine_warm_restarts"] = "cosine_warm_restarts"
    t_0: Annotated[float, Field(gt=0)] = 5
    t_mult: Annotated[float, Field(ge=1)] = 1
    eta_min: Rate = 0.0

    def rate(self, base: float, moment: Moment) -> float:
        """Return the rate within the current period (arXiv:1608.03983, equation 5)."""
        # Rounding must not move a step at a restart into the previous period.
        epochs = moment.epochs + _ROUNDING
        begun, period = 0.0, self.t_0
        if self.t_mult == 1:
            begun = epochs // period * period
        while epochs - begun >= period:
            begun, period = begun + period, period * self.t_mult
        share = max(0.0, moment.epochs - begun) / period
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * share)) / 2

    def longest_epochs(self) -> float:
        return self.t_0


class Step(_ScheduleSettings):
    """Multiplies the rate by `gamma` every `step_size` epochs."""

    name: Literal["step"] = "step"
    step_size: Annotated[int, Field(ge=1)] = 1
    gamma: Factor = 0.1

    def rate(self, base: float, moment: Moment) -> float:
        return base * self.gamma ** int(moment.epochs // self.step_size)

    def longest_epochs(self) -> float:
        return self.step_size


class MultiStep(_ScheduleSettings):
    """Multiplies the rate by `gamma` at each milestone, in epochs."""

    name: Literal["multi_step"] = "multi_step"
    milestones: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    gamma: Factor = 0.1

    def rate(self, base: float, moment: Moment) -> float:
        return base * self.gamma ** sum(moment.epochs >= m for m in self.milestones)

    def longest_epochs(self) -> float:
        return max(self.milestones)


class Exponential(_ScheduleSettings):
    """Multiplies the rate by `gamma` once an epoch, spread evenly over its steps."""

    name: Literal["exponential"] = "exponential"
    gamma: Factor = 0.9

    def rate(self, base: float, moment: Moment) -> float:
        return float(base * self.gamma**moment.epochs)


class Cyclic(_ScheduleSettings):
    """Cycles linearly between `low_factor` · base and base (Smith, arXiv:1506.01186)."""

    name: Literal["cyclic"] = "cyclic"
    epochs_up: Annotated[float, Field(gt=0)] = 1
    epochs_down: Annotated[float, Field(gt=0)] | None = None
    low_factor: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def rate(self, base: float, moment: Moment) -> float:
        down = self.epochs_down or self.epochs_up
        position = moment.epochs % (self.epochs_up + down)
        rising = position / self.epochs_up
        height = rising if rising <= 1 else 1 - (position - self.epochs_up) / down
        return base * (self.low_factor + (1 - self.low_factor) * height)

    def longest_epochs(self) -> float:
        return self.epochs_up + (self.epochs_down or self.epochs_up)


class ReduceOnPlateau(_ScheduleSettings):
    """Multiplies the rate by `factor` after `patience` evaluations without improvement.

    The metric is that of early stopping. https://docs.pytorch.org/docs/stable/generated/
    torch.optim.lr_scheduler.ReduceLROnPlateau.html
    """

    name: Literal["reduce_on_plateau"] = "reduce_on_plateau"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: Annotated[int, Field(ge=0)] = 2
    threshold: Annotated[float, Field(ge=0)] = 1e-4
    min_factor: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def rate(self, base: float, moment: Moment) -> float:
        """Return the base rate; the loop multiplies it by the factor reached so far."""
        return base


Schedule = Annotated[
    Constant
    | Linear
    | Cosine
    | CosineWarmRestarts
    | Step
    | MultiStep
    | Exponential
    | Cyclic
    | ReduceOnPlateau,
    Field(discriminator="name"),
    BeforeValidator(as_section),
]


def rate_at(schedule: _ScheduleSettings, base: float, moment: Moment) -> float:
    """Return a group's rate at a moment, warm-up included: rate · (step + 1) / warm-up steps."""
    rate = schedule.rate(base, moment)
    if moment.step < moment.warmup_steps:
        return rate * (moment.step + 1) / moment.warmup_steps
    return rate


#: The metrics that early stopping can watch without a plugin.
OWN_METRICS = ("macro_f1", "accuracy", "loss")


class EarlyStopping(ComponentSettings):
    """The conditions for stopping before the last epoch.

    Training stops after ``patience`` epochs without an improvement of more than ``tolerance``, or
    once ``target`` is reached. The best weights are kept, even if they are only slightly better.
    """

    metric: str = Field(
        "macro_f1",
        description="the metric to watch on the validation split: macro_f1, accuracy, loss, or a "
        "plugin's metric",
    )
    patience: int | None = Field(None, ge=1, description="epochs without improvement; null: never")
    tolerance: float = Field(0.0, ge=0, description="an improvement must be more than this")
    target: float | None = Field(None, description="stop once the metric is this good")

    def is_better(self, value: float, best: float | None, tolerance: float = 0.0) -> bool:
        if best is None:
            return True
        return value < best - tolerance if self._falls else value > best + tolerance

    def reached(self, value: float) -> bool:
        if self.target is None:
            return False
        return value <= self.target if self._falls else value >= self.target

    @property
    def _falls(self) -> bool:
        if self.metric in OWN_METRICS:
            return self.metric == "loss"
        return not default_registry().load(METRICS, self.metric).higher_is_better


def unsuitable_metric(metric: str, scheme: LabelScheme, registry: Registry) -> str:
    known = [*OWN_METRICS, *(found.name for found in metrics_for(scheme, registry))]
    if metric in known:
        return ""
    if metric in registry.names(METRICS):
        return f"the metric {metric!r} cannot score the classes {', '.join(scheme.classes)}."
    return f"there is no metric {metric!r}. {did_you_mean(metric, known)}"


class Checkpoints(ComponentSettings):
    """How often the state is saved, from which a killed run resumes."""

    every_epochs: int | None = Field(1, ge=1, description="epochs between checkpoints; null: none")
    every_minutes: float | None = Field(10, gt=0, description="minutes between checkpoints")
    keep: int = Field(1, ge=1, description="number of checkpoints to keep")


class Change(ComponentSettings):
    """Settings that change between two epochs, as ``--interactive`` records them."""

    after_epoch: int = Field(ge=1, description="epochs done when the change takes effect")
    lr: float | None = Field(
        None, gt=0, description="learning rate of the top layer; the others change in proportion"
    )
    epochs: int | None = Field(None, ge=1, description="total number of epochs")
    patience: int | None = Field(
        None, ge=0, description="epochs without improvement before stopping; 0: never stop"
    )
    tolerance: float | None = Field(None, ge=0, description="an improvement must be more than this")
    target: float | None = Field(None, description="stop once the watched metric is this good")
    checkpoint: int | None = Field(None, ge=1, description="epochs between checkpoints")


#: Settings that may change when a run resumes. `changes` that have taken effect are in the
#: checkpoint.
CHANGEABLE = frozenset(
    "changes checkpoints early_stopping log_every micro_batch_size micro_batch_tokens prefetch "
    "workers".split()
)


class LoopSettings(ComponentSettings):
    """Settings of the training loop. Sizes count texts; rates are per optimizer step."""

    epochs: int = Field(3, ge=1, description="passes over the training split")
    batch_size: int = Field(
        32, ge=1, description="texts per optimizer step, over all processes and micro-batches"
    )
    micro_batch_size: int | None = Field(
        None, ge=1, description="texts per forward pass and process; null: chosen by device"
    )
    micro_batch_tokens: int | None = Field(
        None, ge=8, description="word pieces per forward pass and process; null: chosen by device"
    )
    lr: float = Field(5e-5, gt=0, description="learning rate")
    optimizer: Optimizer = Field(default_factory=AdamW, description="name and arguments")
    weight_decay: float = Field(0.01, ge=0, description="decoupled for adamw, L2 for the others")
    schedule: Schedule = Field(default_factory=Linear, description="name and arguments")
    warmup: float = Field(
        0.1, ge=0, description="warm-up steps: a number, or below 1 a share of all steps"
    )
    clip_norm: float | None = Field(1.0, gt=0, description="gradient norm limit; null: none")
    early_stopping: EarlyStopping = Field(default_factory=EarlyStopping)
    checkpoints: Checkpoints = Field(default_factory=Checkpoints)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 if it is faster on the device, else fp32"
    )
    prefetch: int = Field(
        2, ge=0, le=64, description="batches prepared ahead of their step; 0: none"
    )
    workers: int = Field(1, ge=1, le=64, description="threads that prepare batches")
    log_every: int = Field(
        10, ge=1, description="steps between two log lines; each makes the device wait"
    )
    changes: tuple[Change, ...] = Field(
        (), description="settings that change between epochs, as --interactive records them"
    )
    seed: int = Field(
        42, ge=0, lt=2**63, description="seed of initial weights, data order and dropout"
    )

    def deciding(self) -> dict[str, Any]:
        """Return the settings that must not change when a run resumes, as JSON values.

        They include the metric of early stopping, because the best value so far is a value of it.
        """
        deciding = self.model_dump(mode="json", exclude=set(CHANGEABLE))
        return deciding | {"early_stopping": {"metric": self.early_stopping.metric}}

    def after(self, epochs: int, changes: Sequence[Mapping[str, Any]] = ()) -> Self:
        """Return the settings in force once `epochs` are done.

        Args:
            epochs: epochs done.
            changes: the user's changes during training, besides the recipe's.
        """
        own = [change.model_dump(exclude_none=True) for change in self.changes]
        update: dict[str, Any] = {}
        stopping: dict[str, Any] = {}
        for change in sorted([*own, *changes], key=lambda change: change["after_epoch"]):
            if change["after_epoch"] > epochs:
                break
            update |= {key: change[key] for key in ("lr", "epochs") if key in change}
            stopping |= {k: change[k] for k in ("patience", "tolerance", "target") if k in change}
            if "checkpoint" in change:
                every = {"every_epochs": change["checkpoint"]}
                update["checkpoints"] = self.checkpoints.model_copy(update=every)
        if "patience" in stopping:
            stopping["patience"] = stopping["patience"] or None
        if stopping:
            update["early_stopping"] = self.early_stopping.model_copy(update=stopping)
        return self.model_copy(update=update)

    @model_validator(mode="after")
    def _fits_batch(self) -> Self:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide "
                f"batch_size {self.batch_size}"
            )
        return self


class TrainingSettings(LoopSettings):
    """Settings for training an encoder with its head."""

    lr: float = Field(5e-5, gt=0, description="learning rate of the encoder's top layer")
    head_lr: float | None = Field(None, gt=0, description="learning rate of the head; null: lr")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the rate from each layer to the one below"
    )
    finetune_layers: Annotated[int, Field(ge=1)] | Literal["all", "none"] = Field(
        "all", description="all, none (train only the head), or how many of the last layers"
    )
    decay_biases: bool = Field(False, description="apply weight decay to biases and norms too")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="probability spread evenly over all classes"
    )
    oversample: Literal["none", "source", "class"] | dict[str, Annotated[int, Field(ge=1)]] = Field(
        "none",
        description="repeat training texts: source or class for about as many as the largest one, "
        "or a mapping of sources or classes to how often",
    )
    class_weights: Literal["none", "balanced"] | dict[str, float] = Field(
        "none", description="none, balanced (inverse frequency), or a mapping of class to weight"
    )
