"""Loading of models: of a run, a model folder of any format, or the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sentikit.classifiers.plugin_classifier import HOOK, PluginClassifier
from sentikit.errors import InputError
from sentikit.files import read_json
from sentikit.registry import Registry, default_registry

if TYPE_CHECKING:
    from sentikit.classifiers.classifier import Classifier, Example, Session
    from sentikit.classifiers.encoder_classifier import EncoderClassifier
    from sentikit.classifiers.model_format import ModelFormat
    from sentikit.classifiers.prediction import Prediction
    from sentikit.datasets.labels import LabelScheme


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    calibrated: bool = False,
    revision: str | None = None,
    label_map: Mapping[str, str] | None = None,
    registry: Registry | None = None,
) -> Classifier:
    """Load a model: an encoder, or a classifier that has trained itself.

    Arguments and errors are those of `load_encoder`.
    """
    from sentikit.classifiers.plugin_classifier import is_trained, load_trained

    registry = registry or default_registry()
    folder = find_model_folder(path, registry, revision)
    if not is_trained(folder):
        return load_encoder(
            folder,
            device=device,
            precision=precision,
            calibrated=calibrated,
            label_map=label_map,
            registry=registry,
        )
    if calibrated or label_map is not None:
        raise InputError(f"{folder} is not an encoder: it takes no calibration and no label map.")
    return load_trained(folder, registry)


def load_encoder(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    calibrated: bool = False,
    revision: str | None = None,
    label_map: Mapping[str, str] | None = None,
    registry: Registry | None = None,
) -> EncoderClassifier:
    """Load an encoder.

    Args:
        path: a run that trained a model; a model folder, native, of a registered format or of
            transformers; or a model on the hub, as ``owner/name``.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto (bf16 where it is faster), fp32, bf16, fp16, or int8 for an ONNX folder
            that holds it.
        calibrated: divide the logits by the temperature fitted on validation.
        revision: branch, tag or commit of a model on the hub.
        label_map: for a classifier of transformers: its label to a class.
        registry: where to look for plugins' components.

    Raises:
        InputError: there is no model there, it is damaged, or its components are not installed.
        SentikitError: the hub cannot be reached.
    """
    from sentikit.classifiers.hub_classifier import is_text_classifier, load_text_classifier
    from sentikit.classifiers.model_folder import is_native, load_native

    registry = registry or default_registry()
    folder = find_model_folder(path, registry, revision)
    if is_native(folder):
        classifier = load_native(folder, device, precision, registry)
    elif is_text_classifier(folder):
        classifier = load_text_classifier(folder, device, precision, label_map)
    else:
        model_format = _recognising_format(folder, registry)
        if model_format is None:
            raise InputError(f"{folder} is a classifier of a plugin, and an encoder is needed.")
        classifier = model_format.load(folder, device, precision)
    if label_map is not None and not is_text_classifier(folder):
        raise InputError(
            f"{folder} names its classes itself; a label map is for classifiers of transformers."
        )
    if calibrated and classifier.temperature is None:
        raise InputError(
            f"{folder} has no temperature: it was not calibrated on validation. Train it with "
            "this version of sentikit, or leave the calibration out."
        )
    classifier.calibrated, classifier.folder = calibrated, folder
    classifier.label_map = None if label_map is None else dict(label_map)
    return classifier


def find_model_folder(
    named: str | Path, registry: Registry | None = None, revision: str | None = None
) -> Path:
    """Return the folder of a model: of a run, the folder itself, or in the hub's cache.

    Raises:
        InputError: there is none.
        SentikitError: the hub cannot be reached.
    """
    from sentikit.classifiers.hub_classifier import fetch_model, is_hub_id

    registry = registry or default_registry()
    path = Path(named).expanduser()
    if not path.exists():
        named = hub_model(str(named), registry) or named
        path = Path(named).expanduser()
    if revision is not None and path.exists():
        raise InputError(f"{path} is here; a revision is for models on the hub.")
    for folder in (path / "model", path):
        if _is_model(folder, registry):
            return folder
    if not path.exists() and is_hub_id(str(named)):
        folder = fetch_model(str(named), revision)
        if _is_model(folder, registry):
            return folder
        raise InputError(f"{named} on the hub holds no classifier{_what_it_says(folder)}.")
    if not path.exists():
        raise InputError(f"{path} does not exist. Give a run folder or a model folder.")
    if (path / "manifest.json").is_file():
        raise _without_model(path)
    known = ", ".join(["sentikit", *registry.names("register_formats")])
    raise InputError(
        f"{path} is neither a run nor a model folder of a known format ({known})"
        f"{_what_it_says(path)}."
    )


class HubClassifier(PluginClassifier):
    """A short name for a model on the hub.

    `sentikit.load` of the name loads the model itself, with device, revision and all other options.

    Attributes:
        model: on the hub, as ``owner/name``.
    """

    model: ClassVar[str]

    @cached_property
    def _loaded(self) -> Classifier:
        return load(self.model)

    @property  # type: ignore[misc]  # nothing sets it
    def scheme(self) -> LabelScheme:
        """The classes of the model, which is fetched for them."""
        return self._loaded.scheme

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        """Yield one prediction for each example, in order."""
        return self._loaded.classify(examples, session)


def hub_model(name: str, registry: Registry) -> str | None:
    """Return the model on the hub that a registered classifier's name means, or None.

    Raises:
        SentikitError: the plugin's class cannot be imported.
    """
    if name not in registry.names(HOOK):
        return None
    found = registry.load(HOOK, name)
    is_name = isinstance(found, type) and issubclass(found, HubClassifier)
    return found.model if is_name else None


def _without_model(run: Path) -> InputError:
    manifest = read_json(run / "manifest.json")
    if manifest.get("kind") == "train" and manifest.get("status") != "finished":
        return InputError(
            f"{run} has no model yet: it is {manifest.get('status')}. "
            "Finish it with sentikit train --resume, or choose another run."
        )
    return InputError(f"{run} is a run without a model; give one that trained an encoder.")


def _is_model(folder: Path, registry: Registry) -> bool:
    from sentikit.classifiers.hub_classifier import is_text_classifier
    from sentikit.classifiers.model_folder import is_native
    from sentikit.classifiers.plugin_classifier import is_trained

    if not folder.is_dir():
        return False
    if is_native(folder) or is_text_classifier(folder) or is_trained(folder):
        return True
    return _recognising_format(folder, registry) is not None


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
