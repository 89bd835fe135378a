"""The export of a trained model into another format."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sentikit.classifiers.loading import find_model_folder, load_encoder
from sentikit.classifiers.model_folder import is_native, read_description
from sentikit.classifiers.model_format import ExportSource, ModelFormat
from sentikit.components import check_part, refuse
from sentikit.errors import InputError
from sentikit.files import folder_writer
from sentikit.registry import Registry, default_registry


def export_model(
    path: str | Path,
    folder: str | Path,
    format: str,  # noqa: A002 - the word users know
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
    *,
    revision: str | None = None,
    label_map: Mapping[str, str] | None = None,
) -> list[str]:
    """Write the model of a run or model folder in another format.

    Args:
        path: a run that trained a model, or a model folder of any known format.
        folder: where to; it must not exist or be empty, and appears only when it is complete.
        format: the format's name, as ``onnx``.
        options: the format's own settings, as ``{"int8": True}``.
        registry: where to look for formats.
        revision: branch, tag or commit of a model on the hub.
        label_map: for a classifier of transformers: its label to a class.

    Returns:
        Remarks for the user.

    Raises:
        InputError: no such model, format or option; `folder` holds something; or the format
            cannot hold the model.
    """
    registry = registry or default_registry()
    model_format, problems = check_part(
        registry, "register_formats", {**(options or {}), "name": format}
    )
    refuse(problems, lambda problem: f"Format {format}: {problem}")
    assert isinstance(model_format, ModelFormat)
    target = Path(folder)
    _check_free(target)
    source = _source(Path(path), registry, revision, label_map)
    with folder_writer(target) as temporary:
        return [*model_format.export(source, temporary), *_lost(source)]


def _lost(source: ExportSource) -> list[str]:
    """Say what other formats do not keep of a native model."""
    if source.description is None or source.description.long_texts == "cut":
        return []
    return [
        f"The model was trained with encoder.long_texts {source.description.long_texts}; the "
        "exported one cuts long texts, unless the format holds a sentikit model."
    ]


def _source(
    path: Path, registry: Registry, revision: str | None, label_map: Mapping[str, str] | None
) -> ExportSource:
    folder = find_model_folder(path, registry, revision)
    description = read_description(folder) if is_native(folder) else None
    if description is not None and label_map is not None:
        raise InputError(f"{folder} names its classes itself; leave the label map out.")
    in_fp32 = partial(
        load_encoder,
        folder,
        device="cpu",
        precision="fp32",
        label_map=label_map,
        registry=registry,
    )
    return ExportSource(path, folder, description, in_fp32)


def _check_free(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} holds files already. Choose a new or empty folder.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; an export needs a folder. Choose another name.")
