"""The model to train: its frozen layers, adapters, parameter groups and the check of its shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentikit.errors import InputError, SentikitError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from sentikit.classifiers.encoder import Lora
    from sentikit.classifiers.torch_model import SentimentModel
    from sentikit.training.settings import TrainingSettings


def check_shapes(model: SentimentModel, classes: int, names: Mapping[str, str]) -> None:
    """Pass two short texts through a model, and refuse NaN and wrong shapes."""
    import torch

    hidden = int(model.encoder.config.hidden_size)
    ids = torch.ones(2, 3, dtype=torch.int64)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    was_training = model.training
    model.eval()
    with torch.no_grad():
        found = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        _check(f"The encoder {names['encoder']!r}", found, (2, 3, hidden))
        pooled = model.embed(ids, mask)
        _check(f"The pooling {model.pooling!r}", pooled, (2, hidden))
        _check(f"The head {names['head']!r}", model.head(pooled), (2, classes))
    model.train(was_training)


def _check(what: str, found: Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(found.shape) != wanted:
        raise SentikitError(f"{what} returned shape {tuple(found.shape)} instead of {wanted}.")
    if not found.isfinite().all():
        raise SentikitError(f"{what} returned NaN or infinite numbers. Check its weights and code.")


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate.

    Attributes:
        name: such as ``layer 11`` or ``head``, with ``, no decay`` for biases and norms.
        parameters: name to parameter.
        lr: base rate, before the schedule.
        weight_decay: their weight decay.
    """

    name: str
    parameters: dict[str, nn.Parameter]
    lr: float
    weight_decay: float


def encoder_layers(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name and the list of the backbone's layers, bottom first."""
    from torch import nn

    config = encoder.config
    wanted = getattr(config, "num_hidden_layers", None)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return name, module
    raise InputError(
        f"The encoder {type(encoder).__name__} has no list of layers, which training.layer_decay "
        "and training.finetune_layers need. Leave them at 1.0 and all."
    )


def add_adapters(backbone: PreTrainedModel, lora: Lora) -> None:
    """Add low-rank adapters to the backbone's linear layers, and freeze everything else."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError(
            "encoder.lora needs peft. Install it with: pip install 'sentikit[local]'"
        ) from error
    names = lora.layers if isinstance(lora.layers, str) else list(lora.layers)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=names
    )
    try:
        inject_adapter_in_model(config, backbone)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"encoder.lora.layers does not fit this encoder: {reason}") from error


def merged_adapters(weights: dict[str, Tensor], lora: Lora) -> dict[str, Tensor]:
    """Return the weights under their original names, with the adapters merged in."""
    scale = lora.alpha / lora.rank
    merged = {}
    for name, tensor in weights.items():
        if ".lora_" in name:
            continue
        layer, base, kind = name.partition(".base_layer.")
        down = weights.get(f"{layer}.lora_A.default.weight") if kind == "weight" else None
        if base and down is not None:
            up = weights[f"{layer}.lora_B.default.weight"]
            tensor = tensor + scale * (up.float() @ down.float()).to(tensor.dtype)
        merged[f"{layer}.{kind}" if base else name] = tensor
    return merged


def freeze(model: SentimentModel, finetune_layers: int | str) -> None:
    """Freeze the layers of the encoder that are not trained.

    Call it before the groups are built and the engine gets the model.
    """
    if finetune_layers == "all":
        return
    model.encoder.requires_grad_(False)
    if finetune_layers == "none":
        return
    _, layers = encoder_layers(model.encoder)
    if int(finetune_layers) > len(layers):
        raise InputError(
            f"training.finetune_layers is {finetune_layers}, but the encoder has {len(layers)} "
            f"layers. Use at most {len(layers)}, or all."
        )
    for layer in layers[-int(finetune_layers) :]:
        layer.requires_grad_(True)


def parameter_groups(model: SentimentModel, settings: TrainingSettings) -> list[ParameterGroup]:
    """Put each trainable parameter into exactly one group.

    The head has its own rate. The i-th layer from the top (from 0) has lr · decay^i, the modules
    below the layers (embeddings and their projection) lr · decay^layers, those above them lr.
    """
    tiers = _tiers(model, settings)
    # Weight decay harms vectors: biases, and the parameters of norms.
    vectors = {name for name, parameter in model.named_parameters() if parameter.ndim < 2}
    skipped = set() if settings.decay_biases else vectors
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
    lr, decay = settings.lr, settings.layer_decay
    layered = decay < 1
    inside, count = "", 0
    if layered:
        layers_name, layers = encoder_layers(model.encoder)
        inside, count = f"encoder.{layers_name}.", len(layers)
    seen_layers = False
    for name, parameter in model.named_parameters():
        if name.startswith("head."):
            tier, rate = "head", settings.head_lr or lr
        elif not layered:
            tier, rate = "encoder", lr
        elif name.startswith(inside):
            number = int(name.removeprefix(inside).split(".")[0])
            seen_layers = True
            tier, rate = f"layer {number}", lr * decay ** (count - 1 - number)
        elif seen_layers and "embedding" not in name:
            tier, rate = "above the layers", lr
        else:
            tier, rate = "embeddings", lr * decay**count
        if parameter.requires_grad:
            tiers.setdefault(tier, (rate, {}))[1][name] = parameter
    return tiers
