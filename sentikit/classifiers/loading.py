"""Loading and export of models from runs, model folders of any format, and the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sentikit.classifiers.hub import architectures, fetch_model, is_hub_id
from sentikit.classifiers.plugin_classifier import (
    CLASSIFIER_FORMAT,
    HOOK,
    MODEL_FORMAT,
    PluginClassifier,
    load_trained,
    saved_format,
)
from sentikit.components import check_component, refuse
from sentikit.errors import InputError
from sentikit.files import folder_writer, read_json
from sentikit.registry import Registry, default_registry

if TYPE_CHECKING:
    from sentikit.classifiers.classifier import Classifier, Example, Session
    from sentikit.classifiers.encoder_classifier import EncoderClassifier
    from sentikit.classifiers.model_format import ModelFormat
    from sentikit.classifiers.prediction import Prediction
    from sentikit.datasets.labels import LabelScheme


@dataclass(frozen=True)
class LoadingOptions:
    """Options for loading a model; `exportable` asks for transformers' own backbone.

    Otherwise, a lighter one that computes the same may be built.
    """

    device: str = "auto"
    precision: str = "auto"
    calibrated: bool = False
    revision: str | None = None
    label_map: Mapping[str, str] | None = None
    exportable: bool = False


def load_model(
    path: str | Path, options: LoadingOptions = LoadingOptions(), registry: Registry | None = None
) -> Classifier:
    """Load the model of a run, a model folder of any format, or the hub."""
    registry = registry or default_registry()
    folder, model_format = _find_model(path, registry, options.revision)
    takes_map = getattr(model_format, "takes_label_map", False)
    if options.label_map is not None and not takes_map:
        raise InputError(
            f"{folder} defines its classes. Leave out the label map, which is for classifiers of "
            "transformers."
        )
    if model_format is not None:
        mapped: dict[str, Any] = {"label_map": options.label_map} if takes_map else {}
        classifier = model_format.load(folder, options.device, options.precision, **mapped)
    elif saved_format(folder) == MODEL_FORMAT:
        from sentikit.classifiers.model_folder import load_native

        classifier = load_native(
            folder, options.device, options.precision, registry, options.exportable
        )
    elif options.calibrated:
        raise InputError(f"{folder} is not an encoder and cannot be calibrated. Leave it out.")
    else:
        return load_trained(folder, registry)
    if options.calibrated and classifier.temperature is None:
        raise InputError(
            f"{folder} has no temperature, because it was not calibrated on validation. Train it "
            "with this version of sentikit, or leave out the calibration."
        )
    classifier.calibrated, classifier.folder = options.calibrated, folder
    classifier.label_map = None if options.label_map is None else dict(options.label_map)
    return classifier


def load_encoder(
    path: str | Path, options: LoadingOptions = LoadingOptions(), registry: Registry | None = None
) -> EncoderClassifier:
    from sentikit.classifiers.encoder_classifier import EncoderClassifier

    found = load_model(path, options, registry)
    if not isinstance(found, EncoderClassifier):
        raise InputError(f"{path} is a classifier of a plugin. Give an encoder.")
    return found


def find_model_folder(
    named: str | Path, registry: Registry | None = None, revision: str | None = None
) -> Path:
    """Return the model folder of a run, of a folder, or in the hub's cache."""
    return _find_model(named, registry or default_registry(), revision)[0]


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
        folder: the new folder, which must be missing or empty; it appears once it is complete.
        format: the format's name, such as ``onnx``.
        options: the format's own settings, such as ``{"int8": True}``.
        registry: the registry of formats.
        revision: branch, tag or commit of a model on the hub.
        label_map: maps a transformers classifier's labels to classes.

    Returns:
        Notes for the user.

    Raises:
        InputError: an unknown model, format or option; `folder` is not empty; or the format does
            not support the model.
    """
    from sentikit.classifiers.model_folder import ModelDescription
    from sentikit.classifiers.model_format import ExportSource, ModelFormat

    registry = registry or default_registry()
    model_format, problems = check_component(
        registry, "register_formats", {**(options or {}), "name": format}
    )
    refuse(
        problems,
        lambda problem: f"Format {format}: {problem}".removeprefix(f"Format {format}: name: "),
    )
    assert isinstance(model_format, ModelFormat)
    target = Path(folder)
    if target.is_dir() and any(target.iterdir()):
        raise InputError(f"{target} is not empty. Choose a new or empty folder.")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file. Choose the name of a folder.")
    found = find_model_folder(path, registry, revision)
    is_native = saved_format(found) == MODEL_FORMAT
    description = ModelDescription.read(found) if is_native else None
    if description is not None and label_map is not None:
        raise InputError(f"{found} defines its classes. Leave out the label map.")
    in_fp32 = LoadingOptions("cpu", "fp32", label_map=label_map, exportable=True)
    source = ExportSource(
        Path(path), found, description, partial(load_encoder, found, in_fp32, registry)
    )
    with folder_writer(target) as temporary:
        notes = list(model_format.export(source, temporary))
    if description is not None and description.long_texts != "cut":
        notes.append(
            f"The model was trained with encoder.long_texts {description.long_texts}, but the "
            "exported one cuts long texts, unless the format contains a sentikit model."
        )
    return notes


class HubClassifier(PluginClassifier):
    """A short name for a model on the hub.

    `sentikit.load` loads the model by this name, with all its options.

    Attributes:
        model: its name on the hub, ``owner/name``.
    """

    model: ClassVar[str]

    @cached_property
    def _loaded(self) -> Classifier:
        return load_model(self.model)

    @property  # type: ignore[misc]  # nothing sets it
    def scheme(self) -> LabelScheme:
        return self._loaded.scheme

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        return self._loaded.classify(examples, session)


def hub_model(name: str, registry: Registry) -> str | None:
    """Return the hub model of a registered classifier, or None."""
    if name not in registry.names(HOOK):
        return None
    found = registry.load(HOOK, name)
    is_name = isinstance(found, type) and issubclass(found, HubClassifier)
    return found.model if is_name else None


def _find_model(
    named: str | Path, registry: Registry, revision: str | None
) -> tuple[Path, ModelFormat | None]:
    """Return the folder of a model, and its format unless it is one of sentikit's."""
    path = Path(named).expanduser()
    if not path.exists():
        named = hub_model(str(named), registry) or named
        path = Path(named).expanduser()
    if revision is not None and path.exists():
        raise InputError(f"{path} is local. Leave out the revision, which is for the hub.")
    on_hub = not path.exists() and is_hub_id(str(named))
    for folder in [fetch_model(str(named), revision)] if on_hub else [path / "model", path]:
        if folder.is_dir() and (_is_own(folder) or (known := _format_of(folder, registry))):
            return folder, None if _is_own(folder) else known
    if on_hub:
        raise InputError(f"{named} on the hub is not a classifier{_architecture_note(folder)}.")
    if not path.exists():
        raise InputError(f"{path} does not exist. Give a run folder or a model folder.")
    if (path / "manifest.json").is_file():
        raise _without_model(path)
    known_names = ", ".join(["sentikit", *registry.names("register_formats")])
    raise InputError(
        f"{path} is neither a run nor a model folder of a known format ({known_names})"
        f"{_architecture_note(path)}."
    )


def _is_own(folder: Path) -> bool:
    return saved_format(folder) in (CLASSIFIER_FORMAT, MODEL_FORMAT)


def _format_of(folder: Path, registry: Registry) -> ModelFormat | None:
    """Return the first registered format that recognises `folder`; skip failing ones."""
    for registration in registry.registrations("register_formats"):
        try:
            format_class: type[ModelFormat] = registration.load()
            model_format = format_class(format_class.Settings())
            if model_format.recognises(folder):
                return model_format
        except Exception as error:
            registry.note_problem(
                registration.plugin,
                f"format {registration.name!r} failed on {folder}: {type(error).__name__}: {error}",
            )
    return None


def _without_model(run: Path) -> InputError:
    manifest = read_json(run / "manifest.json")
    if manifest.get("kind") == "train" and manifest.get("status") != "finished":
        return InputError(
            f"{run} has no model yet: its status is {manifest.get('status')}. "
            "Finish it with sentikit train --resume, or choose another run."
        )
    return InputError(f"{run} is a run without a model. Give one that trained an encoder.")


def _architecture_note(path: Path) -> str:
    if not (path / "config.json").is_file():
        return ": it has no config.json"
    made_for = architectures(path)
    return f": its config.json is for {', '.join(made_for)}" if made_for else ""
