"""The native model folder: weights, tokenizer and settings.

::

    config.json          classes, encoder, head, pooling, max_length, temperature, checksums
    model.safetensors    encoder.* and head.*
    encoder/             the backbone's configuration and the tokenizer
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from sentikit.classifiers.batches import FastTokenizer, LongTexts
from sentikit.classifiers.encoder import Encoder, Head, Pooling, most_positions
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.plugin_classifier import MODEL_FORMAT, SavedModel
from sentikit.components import refuse, validate
from sentikit.devices import choose_device, choose_precision
from sentikit.errors import InputError, SentikitError
from sentikit.files import checksums, file_checksum, folder_writer, read_json, write_json
from sentikit.registry import Registry, default_registry
from sentikit.weights import read_weights, refuse_impossible_sizes, refuse_unfitting, write_weights

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


WEIGHTS = "model.safetensors"


class ModelDescription(SavedModel):
    """The description of a model in ``config.json``: everything besides the weights.

    Attributes:
        encoder: the encoder section of the recipe.
        head: the head section's name and settings, without pooling.
        temperature: fitted on validation for calibrated probabilities, or None.
    """

    FORMAT = MODEL_FORMAT

    encoder: dict[str, Any]
    head: dict[str, Any]
    pooling: Pooling
    max_length: int = Field(ge=3)
    long_texts: LongTexts = "cut"
    temperature: float | None = Field(gt=0)

    @field_validator("encoder", "head")
    @classmethod
    def _has_a_name(cls, component: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(component.get("name"), str):
            raise ValueError("the name of the component is missing")
        return component


def save_model(
    folder: Path,
    description: ModelDescription,
    weights: dict[str, Tensor],
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
    backbone: PreTrainedModel,
) -> None:
    """Write a model folder, replacing an old one only once the new one is complete."""
    named = {"encoder": description.encoder, "head": description.head}
    components = default_registry().components(named)
    description = description.model_copy(update={"components": components})
    with folder_writer(folder) as temporary:
        write_weights(temporary / WEIGHTS, weights)
        encoder.save(temporary / "encoder", tokenizer, backbone)
        sums = {"sha256": checksums(temporary)}
        write_json(temporary / "config.json", description.to_json() | sums)


def refuse_damaged(folder: Path, inside: str) -> None:
    """Refuse missing or changed files whose names begin with `inside`, by their checksums.

    Folders of versions without checksums are not checked.
    """
    for name, expected in dict(read_json(folder / "config.json").get("sha256") or {}).items():
        if name.startswith(inside) and file_checksum(folder / name) != expected:
            raise InputError(
                f"{folder / name} is damaged: its checksum differs from config.json. Copy or train "
                "the model again."
            )


def load_native(
    folder: Path, device: str, precision: str, registry: Registry, exportable: bool = False
) -> EncoderClassifier:
    description = ModelDescription.read(folder)
    if precision == "int8":
        raise InputError(
            "precision int8 is for ONNX folders: sentikit export MODEL DIR --format onnx --int8"
        )
    where = choose_device(device)
    from sentikit.classifiers.torch_model import SentimentModel, TorchPredictor

    refuse_damaged(folder, "encoder/")
    tokenizer, backbone = _restored(folder, description, registry, exportable)
    head = _head(folder, description, registry)
    try:
        layers = head.build_on(backbone.config, len(description.classes))
    except AttributeError:
        # A plugin's head may use attributes that only transformers' configuration has.
        tokenizer, backbone = _restored(folder, description, registry, exportable=True)
        layers = head.build_on(backbone.config, len(description.classes))
    model = SentimentModel(backbone, layers, description.pooling)
    set_weights(model, read_weights(folder / WEIGHTS), folder / WEIGHTS)
    refuse_damaged(folder, WEIGHTS)
    return EncoderClassifier(
        TorchPredictor(model, where, choose_precision(precision, where)),
        tokenizer,
        description.scheme,
        # The model cannot read beyond its learned positions.
        min(description.max_length, most_positions(model.encoder) or description.max_length),
        description.temperature,
        description.long_texts,
    )


def _restored(
    folder: Path, description: ModelDescription, registry: Registry, exportable: bool
) -> tuple[Any, Any]:
    """Return the tokenizer and the backbone, without values for its weights."""
    if description.encoder.get("trust_remote_code"):
        raise InputError(
            f"{folder} was trained with encoder.trust_remote_code: its encoder needs Python code "
            "from the model, which is not run from a model folder. Train on a model whose "
            "architecture is part of transformers."
        )
    inner = folder / "encoder"
    encoder_class = _encoder_class(description.encoder.get("name", ""), registry)
    common = encoder_class.restore.__func__ is Encoder.restore.__func__  # type: ignore[attr-defined]
    try:
        if common and not exportable:
            refuse_impossible_sizes(inner, folder / WEIGHTS)
            tokenizer, backbone = FastTokenizer(inner), encoder_class.restore_light(inner)
            if backbone is not None:
                return tokenizer, backbone
        return encoder_class.restore(inner)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{inner} cannot be read: {reason}") from error


def _head(folder: Path, description: ModelDescription, registry: Registry) -> Head:
    settings = {key: value for key, value in description.head.items() if key != "name"}
    name = description.head["name"]
    registry.require("register_heads", name, description.components, f"{folder}/config.json")
    head_class: type[Head] = registry.load("register_heads", name)
    chosen, problems = validate(head_class.Settings, settings, ("head",))
    refuse(problems, lambda problem: f"{folder}/config.json: {problem}")
    assert chosen is not None
    return head_class(chosen)


def _encoder_class(name: str, registry: Registry) -> type[Encoder]:
    """Return the plugin's class, or the base class, which can restore most backbones."""
    try:
        found: type[Encoder] = registry.load("register_encoders", name)
    except SentikitError:
        return Encoder
    return found


def set_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Set all weights of `model`, read from `path`.

    Raises:
        InputError: a tensor is missing, unknown or of another shape.
    """
    own = model.state_dict()
    shapes = {
        name: (tuple(weights[name].shape), tuple(tensor.shape))
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    }
    missing, unknown = own.keys() - weights.keys(), weights.keys() - own.keys()
    refuse_unfitting(path, missing, shapes, unknown, exact=True)
    # A module on the meta device has no storage to copy values into. It gets copies of the tensors,
    # because these are mapped to the file, which may be overwritten later.
    assign = any(tensor.is_meta for tensor in own.values())
    if assign:
        weights = {name: tensor.clone() for name, tensor in weights.items()}
    model.load_state_dict(weights, assign=assign)
