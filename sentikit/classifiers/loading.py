"""Loads a classifier from a run or a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sentikit.errors import InputError
from sentikit.files import read_json
from sentikit.registry import Registry, default_registry

if TYPE_CHECKING:
    from sentikit.classifiers.encoder_classifier import EncoderClassifier
    from sentikit.classifiers.model_format import ModelFormat


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
    from sentikit.classifiers.model_folder import is_native, load_native

    registry = registry or default_registry()
    folder = find_model_folder(Path(path), registry)
    if is_native(folder):
        classifier = load_native(folder, device, precision, registry)
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
    from sentikit.classifiers.model_folder import is_native

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
