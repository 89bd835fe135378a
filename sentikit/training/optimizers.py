"""Optimizers by name, each with its own arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from sentikit.components import PartSettings, as_section

if TYPE_CHECKING:
    import torch

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class _OptimizerSettings(PartSettings):
    """An optimizer of torch.optim; its arguments bear torch's names."""

    _always: ClassVar[int] = 1

    name: str

    @property
    def moments(self) -> int:
        """Numbers kept for each parameter."""
        options = ("momentum", "centered", "amsgrad")
        return self._always + sum(bool(getattr(self, option, False)) for option in options)

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """Build the optimizer over parameter groups that carry their own lr and weight decay.

        The fused kernels are taken where torch has them: one pass over the parameters a step.
        """
        import torch

        optimizer_class = getattr(torch.optim, type(self).__name__)
        arguments = self.model_dump(exclude={"name"})
        on_cpu = all(p.device.type == "cpu" for group in groups for p in group["params"])
        # torch has no fused RMSprop, and a fused Adagrad for the CPU alone.
        if type(self).__name__ != "RMSprop" and (type(self).__name__ != "Adagrad" or on_cpu):
            arguments["fused"] = True
        built: torch.optim.Optimizer = optimizer_class(list(groups), **arguments)
        return built


class AdamW(_OptimizerSettings):
    """https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html."""

    _always: ClassVar[int] = 2
    name: Literal["adamw"] = "adamw"
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8
    amsgrad: bool = False


class Adam(_OptimizerSettings):
    """https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html."""

    _always: ClassVar[int] = 2
    name: Literal["adam"] = "adam"
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8
    amsgrad: bool = False


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
