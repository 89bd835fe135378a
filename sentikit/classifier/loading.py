"""Loads a classifier from a run or a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.classifier.encoder import Encoder
from sentikit.classifier.model import SentimentModel
from sentikit.classifier.prediction import Classifier
from sentikit.classifier.saving import FORMAT, VERSION, WEIGHTS, ModelDescription
from sentikit.data.labels import LabelScheme, label_scheme
from sentikit.devices import choose_device, choose_precision
from sentikit.errors import InputError, SentikitError
from sentikit.files import disk_errors, read_json
from sentikit.registry import Registry, default_registry

if TYPE_CHECKING:
    from torch import Tensor

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    calibrated: bool = False,
    registry: Registry | None = None,
) -> Classifier:
    """Load a classifier.

    Args:
        path: a run that trained a model, or a model folder.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto (bf16 where it is faster), fp32, bf16 or fp16.
        calibrated: divide the logits by the temperature fitted on validation.
        registry: where to look for plugins' parts.

    Raises:
        InputError: there is no model there, it is damaged, or its parts are not installed.
    """
    folder = find_model_folder(Path(path))
    description = read_description(folder)
    registry = registry or default_registry()
    where = choose_device(device)
    tokenizer, model = _build(folder, description, registry)
    _fill(model, read_weights(folder / WEIGHTS), folder)
    if calibrated and description.temperature is None:
        raise InputError(f"{folder} has no temperature: it was not calibrated on validation.")
    return Classifier(
        model.to(where).eval(),
        tokenizer,
        _scheme(description),
        description.max_length,
        where,
        choose_precision(precision, where),
        (description.temperature or 1.0) if calibrated else 1.0,
    )


def find_model_folder(path: Path) -> Path:
    """Return the model folder of a run, or `path` itself.

    Raises:
        InputError: there is none.
    """
    for folder in (path / "model", path):
        if (folder / "config.json").is_file():
            return folder
    if not path.exists():
        raise InputError(f"{path} does not exist. Give a run folder or a model folder.")
    if (path / "manifest.json").is_file():
        raise InputError(f"{path} is a run without a model; give one that trained an encoder.")
    raise InputError(f"{path} is neither a run nor a model folder: it has no config.json.")


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
            f"{folder} has model version {config.get('version')}; this sentikit reads {VERSION}. "
            "Use the sentikit that wrote it."
        )
    try:
        fields = {key: config[key] for key in ModelDescription.__dataclass_fields__}
    except KeyError as error:
        raise InputError(f"{folder}/config.json lacks {error}; the file is damaged.") from error
    return ModelDescription(**{**fields, "classes": tuple(fields["classes"])})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: missing, damaged, or only pickled weights are there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    pickled = [p.name for pattern in _PICKLED for p in sorted(path.parent.glob(pattern))]
    if not path.is_file() and pickled:
        raise InputError(
            f"{path.parent} holds only pickled weights ({pickled[0]}), which can run code when "
            "opened and are refused. Convert them to safetensors where you trust them."
        )
    with disk_errors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is damaged or truncated ({error}). Copy it again.") from error


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
    head = head_class(head_class.Settings(**settings))
    layers = head.build(backbone.config.hidden_size, len(description.classes))
    return tokenizer, SentimentModel(backbone, layers, description.pooling)


def _encoder_class(name: str, registry: Registry) -> type[Encoder]:
    """Return the plugin's class, or the common one: most backbones need no more to be restored."""
    try:
        found: type[Encoder] = registry.load("register_encoders", name)
    except SentikitError:
        return Encoder
    return found


def _fill(model: SentimentModel, weights: dict[str, Tensor], folder: Path) -> None:
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{folder / WEIGHTS} does not fit its config.json: {reason}") from error
    if missing or unexpected:
        names = ", ".join([*missing, *unexpected][:3])
        raise InputError(
            f"{folder / WEIGHTS} does not fit its config.json: {len(missing)} tensors missing, "
            f"{len(unexpected)} unknown ({names}, …)."
        )
