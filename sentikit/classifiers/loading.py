"""Loads a classifier from a run or a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.classifiers.encoder import Encoder, most_positions
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.format import ModelFormat
from sentikit.classifiers.model import SentimentModel
from sentikit.classifiers.predictor import TorchPredictor
from sentikit.classifiers.saving import FORMAT, VERSION, WEIGHTS, ModelDescription
from sentikit.components import refuse, validate
from sentikit.datasets.labels import LabelScheme, label_scheme
from sentikit.devices import choose_device, choose_precision
from sentikit.errors import InputError, SentikitError
from sentikit.files import read_json
from sentikit.registry import Registry, default_registry
from sentikit.weights import read_weights, refuse_unfitting

if TYPE_CHECKING:
    from torch import Tensor, nn


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    calibrated: bool = False,
    registry: Registry | None = None,
) -> EncoderClassifier:
    """Load a classifier.

    Args:
        path: a run that trained a model, or a model folder, also one of a registered format.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto (bf16 where it is faster), fp32, bf16, fp16, or int8 for an ONNX folder
            that holds it.
        calibrated: divide the logits by the temperature fitted on validation.
        registry: where to look for plugins' parts.

    Raises:
        InputError: there is no model there, it is damaged, or its parts are not installed.
    """
    registry = registry or default_registry()
    folder = find_model_folder(Path(path), registry)
    if is_native(folder):
        classifier = _load_native(folder, device, precision, registry)
    else:
        model_format = _recognising_format(folder, registry)
        assert model_format is not None
        classifier = model_format.load(folder, device, precision)
    if calibrated and classifier.temperature is None:
        raise InputError(
            f"{folder} has no temperature: it was not calibrated on validation. Train it with "
            "this version of sentikit, or leave the calibration out."
        )
    classifier.calibrated = calibrated
    return classifier


def find_model_folder(path: Path, registry: Registry | None = None) -> Path:
    """Return the model folder of a run, or `path` itself; native or of a registered format.

    Raises:
        InputError: there is none.
    """
    registry = registry or default_registry()
    for folder in (path / "model", path):
        if is_native(folder) or (folder.is_dir() and _recognising_format(folder, registry)):
            return folder
    if not path.exists():
        raise InputError(
            f"{path} does not exist. Give a run folder or a model folder.{_how_to_fetch(path)}"
        )
    if (path / "manifest.json").is_file():
        raise _without_model(path)
    known = ", ".join(["sentikit", *registry.names("register_formats")])
    raise InputError(
        f"{path} is neither a run nor a model folder of a known format ({known})"
        f"{_what_it_says(path)}."
    )


def _without_model(run: Path) -> InputError:
    manifest = read_json(run / "manifest.json")
    if manifest.get("kind") == "train" and manifest.get("status") != "finished":
        return InputError(
            f"{run} has no model yet: it is {manifest.get('status')}. "
            "Finish it with sentikit train --resume, or choose another run."
        )
    return InputError(f"{run} is a run without a model; give one that trained an encoder.")


def _how_to_fetch(path: Path) -> str:
    """Advise those who name a model on the hub."""
    if path.is_absolute() or len(path.parts) != 2 or path.parts[0] in ("runs", "..", "~"):
        return ""
    return f" If it is a model on the hub: hf download {path} --local-dir DIR"


def is_native(folder: Path) -> bool:
    """Say whether `folder` holds a model in sentikit's own format."""
    path = folder / "config.json"
    return path.is_file() and _format_of(read_json(path)) == FORMAT


def _format_of(config: object) -> object:
    return config.get("format") if isinstance(config, dict) else None


def _what_it_says(path: Path) -> str:
    """Quote what a foreign ``config.json`` says of its model, for the message."""
    if not (path / "config.json").is_file():
        return ": it has no config.json"
    config = read_json(path / "config.json")
    made_for = config.get("architectures") if isinstance(config, dict) else None
    return f": its config.json is for {', '.join(map(str, made_for))}" if made_for else ""


def _recognising_format(folder: Path, registry: Registry) -> ModelFormat | None:
    """Return the first registered format that knows `folder`; a failing one is passed over."""
    for registration in registry.registrations("register_formats"):
        try:
            format_class: type[ModelFormat] = registration.load()
            model_format = format_class(format_class.Settings())
            if model_format.recognises(folder):
                return model_format
        except Exception as error:
            registry.note_problem(
                registration.plugin,
                f"format {registration.name!r}, asked about {folder}: "
                f"{type(error).__name__}: {error}",
            )
    return None


def _load_native(
    folder: Path, device: str, precision: str, registry: Registry
) -> EncoderClassifier:
    description = read_description(folder)
    where = choose_device(device)
    if precision == "int8":
        raise InputError(
            "precision int8 is for ONNX folders: sentikit export MODEL DIR --format onnx --int8"
        )
    tokenizer, model = _build(folder, description, registry)
    set_weights(model, read_weights(folder / WEIGHTS), folder / WEIGHTS)
    return EncoderClassifier(
        TorchPredictor(model, where, choose_precision(precision, where)),
        tokenizer,
        _scheme(description),
        # What comes behind the learnt positions cannot be read, whatever the file says.
        min(description.max_length, most_positions(model.encoder) or description.max_length),
        description.temperature,
    )


def read_description(folder: Path) -> ModelDescription:
    """Read ``config.json`` of a model folder.

    Raises:
        InputError: not a model of ours, of a later version, or incomplete.
    """
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f"{folder} is not a sentikit model (config.json does not say so).")
    if config.get("version") != VERSION:
        raise InputError(
            f"{folder} has model version {config.get('version')!r}; this sentikit reads {VERSION}. "
            "Use the sentikit that wrote it."
        )
    known = {key: value for key, value in config.items() if key in ModelDescription.model_fields}
    description, problems = validate(ModelDescription, known)
    refuse(problems, lambda problem: f"{folder}/config.json: {problem}")
    assert description is not None
    return description


def _scheme(description: ModelDescription) -> LabelScheme:
    known = label_scheme(description.label_scheme, description.threshold)
    return LabelScheme(known.name, description.classes, known.meanings, description.threshold)


def _build(
    folder: Path, description: ModelDescription, registry: Registry
) -> tuple[Any, SentimentModel]:
    encoder_class = _encoder_class(description.encoder.get("name", ""), registry)
    try:
        tokenizer, backbone = encoder_class.restore(folder / "encoder")
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}/encoder cannot be read: {reason}") from error
    settings = {key: value for key, value in description.head.items() if key != "name"}
    head_class = registry.load("register_heads", description.head["name"])
    chosen, problems = validate(head_class.Settings, settings, ("head",))
    refuse(problems, lambda problem: f"{folder}/config.json: {problem}")
    head = head_class(chosen)
    layers = head.build(backbone.config.hidden_size, len(description.classes))
    return tokenizer, SentimentModel(backbone, layers, description.pooling)


def _encoder_class(name: str, registry: Registry) -> type[Encoder]:
    """Return the plugin's class, or the common one: most backbones need no more to be restored."""
    try:
        found: type[Encoder] = registry.load("register_encoders", name)
    except SentikitError:
        return Encoder
    return found


def set_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Give `model` all its weights, read from `path`.

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
    model.load_state_dict(weights)
