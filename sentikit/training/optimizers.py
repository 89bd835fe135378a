"""Optimizers by name, and the parameter groups they work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from sentikit.components import PartSettings, as_section
from sentikit.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sentikit.classifiers.torch_model import SentimentModel
    from sentikit.training.recipe import TrainingSettings


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


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a rate.

    Attributes:
        name: as ``layer 11`` or ``head``, with ``, no decay`` for biases and norms.
        parameters: name to parameter.
        lr: base rate, before the schedule.
        weight_decay: of these parameters.
    """

    name: str
    parameters: dict[str, nn.Parameter]
    lr: float
    weight_decay: float


def encoder_layers(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name and the list of the backbone's layers, bottom first.

    Raises:
        InputError: the backbone has no list of `num_hidden_layers` layers.
    """
    from torch import nn

    config = encoder.config
    wanted = getattr(config, "num_hidden_layers", None)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return name, module
    raise InputError(
        f"The encoder {type(encoder).__name__} has no list of layers, so training.layer_decay and "
        "training.finetune_layers cannot be used with it. Leave them at 1.0 and all."
    )


def freeze(model: SentimentModel, finetune_layers: int | str) -> None:
    """Stop gradients of the encoder parts that are not to be trained.

    Must run before groups are built and before an engine sees the model.

    Raises:
        InputError: more layers are asked for than the encoder has.
    """
    if finetune_layers == "all":
        return
    model.encoder.requires_grad_(False)
    if finetune_layers == "none":
        return
    _, layers = encoder_layers(model.encoder)
    if int(finetune_layers) > len(layers):
        raise InputError(
            f"training.finetune_layers: {finetune_layers} layers are asked for, the encoder has "
            f"{len(layers)}. Use at most {len(layers)}, or all."
        )
    for layer in layers[-int(finetune_layers) :]:
        layer.requires_grad_(True)


def parameter_groups(model: SentimentModel, settings: TrainingSettings) -> list[ParameterGroup]:
    """Put each trainable parameter into exactly one group.

    The head has its own rate; the i-th layer from the top (from 0) has lr · decay^i; what lies
    below the layers (embeddings and their projection) lr · decay^layers; what lies above them lr.
    """
    tiers = _tiers(model, settings)
    skipped = set() if settings.decay_biases else _biases_and_norms(model)
    groups = []
    for tier, (rate, names) in tiers.items():
        for suffix, decay in (("", settings.weight_decay), (", no decay", 0.0)):
            chosen = {n: p for n, p in names.items() if (n in skipped) == bool(suffix)}
            if chosen:
                groups.append(ParameterGroup(tier + suffix, chosen, rate, decay))
    return groups


def _tiers(
    model: SentimentModel, settings: TrainingSettings
) -> dict[str, tuple[float, dict[str, nn.Parameter]]]:
    tiers: dict[str, tuple[float, dict[str, nn.Parameter]]] = {}
    head_rate = settings.head_lr or settings.lr
    layered = settings.layer_decay < 1
    layers_name, count = "", 0
    if layered:
        layers_name, layers = encoder_layers(model.encoder)
        count = len(layers)
    seen_layers = False
    for name, parameter in model.named_parameters():
        inside = f"encoder.{layers_name}." if layered else ""
        if name.startswith("head."):
            tier, rate = "head", head_rate
        elif not layered:
            tier, rate = "encoder", settings.lr
        elif name.startswith(inside):
            number = int(name.removeprefix(inside).split(".")[0])
            seen_layers = True
            tier, rate = (
                f"layer {number}",
                settings.lr * settings.layer_decay ** (count - 1 - number),
            )
        elif seen_layers and "embedding" not in name:
            tier, rate = "above the layers", settings.lr
        else:
            tier, rate = "embeddings", settings.lr * settings.layer_decay**count
        if parameter.requires_grad:
            tiers.setdefault(tier, (rate, {}))[1][name] = parameter
    return tiers


def _biases_and_norms(model: nn.Module) -> set[str]:
    """Return the parameters weight decay does harm to: vectors, and whatever a norm holds."""
    return {name for name, parameter in model.named_parameters() if parameter.ndim < 2}
