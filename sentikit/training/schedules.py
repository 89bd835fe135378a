"""Learning-rate schedules: pure functions of the step, so that nothing of them needs saving.

`reduce_on_plateau` alone depends on scores; the loop keeps its factor in the training state.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from sentikit.components import PartSettings, as_section

Rate = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Moment:
    """Where training stands.

    Attributes:
        step: optimizer steps done.
        total_steps: of the whole training.
        steps_per_epoch: optimizer steps in one epoch.
        warmup_steps: steps of linearly rising rate at the start.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    warmup_steps: int

    @property
    def epochs(self) -> float:
        """Epochs done, with the fraction of the present one."""
        return self.step / self.steps_per_epoch

    @property
    def progress(self) -> float:
        """Share of the steps after warm-up that is done, 0 to 1."""
        left = max(1, self.total_steps - self.warmup_steps)
        return min(1.0, max(0.0, (self.step - self.warmup_steps) / left))


class _ScheduleSettings(PartSettings, ABC):
    name: str

    @abstractmethod
    def rate(self, base: float, moment: Moment) -> float:
        """Return a group's rate, from its base rate."""

    def longest_epochs(self) -> float:
        """Return the epochs before which the schedule does nothing, or 0."""
        return 0


class Constant(_ScheduleSettings):
    """The base rate throughout."""

    name: Literal["constant"] = "constant"

    def rate(self, base: float, moment: Moment) -> float:
        """Return the base rate."""
        return base


class Linear(_ScheduleSettings):
    """Falls in a straight line to `end_factor` of the base rate."""

    name: Literal["linear"] = "linear"
    end_factor: Annotated[float, Field(ge=0, le=1)] = 0.0

    def rate(self, base: float, moment: Moment) -> float:
        """Return base · (1 - progress · (1 - end_factor))."""
        return base * (1 - moment.progress * (1 - self.end_factor))


class Cosine(_ScheduleSettings):
    """Falls along half a cosine to `eta_min` (Loshchilov and Hutter, arXiv:1608.03983)."""

    name: Literal["cosine"] = "cosine"
    eta_min: Rate = 0.0

    def rate(self, base: float, moment: Moment) -> float:
        """Return eta_min + (base - eta_min) · (1 + cos(π · progress)) / 2."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * moment.progress)) / 2


#: Far less than a step, in epochs, and far more than what sums of periods are off by.
_ROUNDING = 1e-9


class CosineWarmRestarts(_ScheduleSettings):
    """Cosine annealing that starts anew every `t_0` epochs, each period `t_mult` times longer."""

    name: Literal["cosine_warm_restarts"] = "cosine_warm_restarts"
    t_0: Annotated[float, Field(gt=0)] = 5
    t_mult: Annotated[float, Field(ge=1)] = 1
    eta_min: Rate = 0.0

    def rate(self, base: float, moment: Moment) -> float:
        """Return the rate within the present period (arXiv:1608.03983, equation 5)."""
        # Of a step that lies on a restart, rounding must not make the last of the period before.
        epochs = moment.epochs + _ROUNDING
        begun, period = 0.0, self.t_0
        if self.t_mult == 1:
            begun = epochs // period * period
        while epochs - begun >= period:
            begun, period = begun + period, period * self.t_mult
        share = max(0.0, moment.epochs - begun) / period
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * share)) / 2

    def longest_epochs(self) -> float:
        """Return the first period."""
        return self.t_0


class Step(_ScheduleSettings):
    """Multiplies the rate by `gamma` every `step_size` epochs."""

    name: Literal["step"] = "step"
    step_size: Annotated[int, Field(ge=1)] = 1
    gamma: Factor = 0.1

    def rate(self, base: float, moment: Moment) -> float:
        """Return base · gamma^⌊epochs / step_size⌋."""
        return base * self.gamma ** int(moment.epochs // self.step_size)

    def longest_epochs(self) -> float:
        """Return the epochs before the first change."""
        return self.step_size


class MultiStep(_ScheduleSettings):
    """Multiplies the rate by `gamma` at each milestone, in epochs."""

    name: Literal["multi_step"] = "multi_step"
    milestones: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    gamma: Factor = 0.1

    def rate(self, base: float, moment: Moment) -> float:
        """Return base · gamma^(milestones passed)."""
        return base * self.gamma ** sum(moment.epochs >= m for m in self.milestones)

    def longest_epochs(self) -> float:
        """Return the last milestone."""
        return max(self.milestones)


class Exponential(_ScheduleSettings):
    """Multiplies the rate by `gamma` once an epoch, spread evenly over its steps."""

    name: Literal["exponential"] = "exponential"
    gamma: Factor = 0.9

    def rate(self, base: float, moment: Moment) -> float:
        """Return base · gamma^epochs."""
        return float(base * self.gamma**moment.epochs)


class Cyclic(_ScheduleSettings):
    """Swings in a triangle between `low_factor` · base and base (Smith, arXiv:1506.01186)."""

    name: Literal["cyclic"] = "cyclic"
    epochs_up: Annotated[float, Field(gt=0)] = 1
    epochs_down: Annotated[float, Field(gt=0)] | None = None
    low_factor: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def rate(self, base: float, moment: Moment) -> float:
        """Return the rate at this place of the present cycle."""
        down = self.epochs_down or self.epochs_up
        position = moment.epochs % (self.epochs_up + down)
        rising = position / self.epochs_up
        height = rising if rising <= 1 else 1 - (position - self.epochs_up) / down
        return base * (self.low_factor + (1 - self.low_factor) * height)

    def longest_epochs(self) -> float:
        """Return one cycle."""
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
