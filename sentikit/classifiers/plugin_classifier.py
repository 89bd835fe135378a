"""Classifiers of plugins: their interface, training, and the check of their predictions.

The model folder of a trained one::

    config.json     its name, settings and classes
    classifier/     whatever its `fit` wrote
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator

from sentikit.classifiers.classifier import Classifier, Example, Session, checked
from sentikit.components import Component, ComponentSettings, check_component, refuse, validate
from sentikit.datasets.labels import OWN, SCHEMES, LabelScheme, label_scheme, scheme_for_classes
from sentikit.errors import InputError, SentikitError
from sentikit.files import folder_checksum, folder_writer, read_json, write_json
from sentikit.registry import Registry

if TYPE_CHECKING:
    from sentikit.classifiers.prediction import Prediction
    from sentikit.datasets.examples import Examples

HOOK = "register_classifiers"
#: The ``format`` in ``config.json``: a classifier of a plugin, or an encoder with a head.
CLASSIFIER_FORMAT, MODEL_FORMAT = "sentikit-classifier", "sentikit-model"
VERSION = 1
CONFIG, FILES = "config.json", "classifier"
_JOINING = threading.RLock()


class PluginClassifier(Component, Classifier, ABC):
    """A plugin's kind of classifier, made from its settings.

    A subclass implements `classify`. One that is trained also implements `fit` and `load`: a
    recipe's ``classifier`` section names it, and ``sentikit train`` trains it. One that uses other
    classifiers names them in `members`, so that LLMs among them share the job's budget, journal and
    batches; this needs no training. `asks_llm` is True for one that pays for answers elsewhere.
    """

    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__(settings)
        self._scheme: LabelScheme = SCHEMES["neg_neu_pos"]

    @property
    def scheme(self) -> LabelScheme:
        """The classes, which the core sets before `fit` and `load`; ``neg_neu_pos`` until then.

        A classifier with its own classes overrides this.
        """
        return self._scheme

    @scheme.setter
    def scheme(self, scheme: LabelScheme) -> None:
        self._scheme = scheme

    @classmethod
    def learns(cls) -> bool:
        """Return whether it must be trained before it can label."""
        return cls.fit is not PluginClassifier.fit

    def fit(self, examples: Examples, validation: Examples | None, folder: Path) -> None:
        """Train on examples, and write everything that `load` needs into `folder`; no pickle.

        Args:
            examples: the training split; labels are class names of `scheme`.
            validation: the validation split, or None.
            folder: an empty folder.

        Raises:
            sentikit.InputError: the examples or the settings are unsuitable.
        """
        raise NotImplementedError

    def load(self, folder: Path) -> None:
        """Load what `fit` wrote into `folder`.

        Raises:
            sentikit.InputError: a file is missing or damaged.
        """
        raise NotImplementedError


class SavedModel(ComponentSettings):
    """The ``config.json`` of a trained model, besides its format and version."""

    FORMAT: ClassVar[str]

    label_scheme: str
    classes: tuple[str, ...] = Field(min_length=2)
    ordered: bool = False
    threshold: float | None = Field(None, ge=0, le=1)
    #: Of the encoder, the head or the classifier: plugin, distribution and version.
    components: list[dict[str, str]] = Field(default_factory=list)

    @field_validator("classes")
    @classmethod
    def _are_different(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("each class needs its own name")
        return classes

    @property
    def scheme(self) -> LabelScheme:
        if self.label_scheme == OWN:
            return scheme_for_classes(self.classes, self.threshold, self.ordered)
        return replace(label_scheme(self.label_scheme, self.threshold), classes=self.classes)

    def to_json(self) -> dict[str, Any]:
        return {"format": self.FORMAT, "version": VERSION, **self.model_dump(mode="json")}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``config.json``; refuse another format or version, or an incomplete file."""
        if saved_format(folder) != cls.FORMAT:
            raise InputError(f"{folder} is not a sentikit model (config.json does not say so).")
        config = read_json(folder / CONFIG)
        if config.get("version") != VERSION:
            raise InputError(
                f"{folder} has model version {config.get('version')!r}, but this sentikit reads "
                f"{VERSION}. Use the version of sentikit that wrote it."
            )
        known = {key: value for key, value in config.items() if key in cls.model_fields}
        description, problems = validate(cls, known)
        refuse(problems, lambda problem: f"{folder / CONFIG}: {problem}")
        assert description is not None
        return description


def saved_format(folder: Path) -> str | None:
    """Return the ``format`` in a model folder's ``config.json``, or None."""
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else None
    return str(config.get("format")) if isinstance(config, dict) else None


class _SavedClassifier(SavedModel):
    FORMAT = CLASSIFIER_FORMAT

    classifier: dict[str, Any]


class CheckedClassifier(Classifier):
    """A plugin's classifier with every prediction checked.

    Attributes:
        inner: the plugin's classifier.
        title: the name of the classifier and its plugin, for messages.
        folder: the model folder of a trained one, or None.
    """

    def __init__(self, inner: Classifier, title: str, folder: Path | None = None) -> None:
        self.inner, self.title, self.folder, self._calls = inner, title, folder, 0
        self.members, self.asks_llm = _checked_members(inner, title), inner.asks_llm

    @property
    def scheme(self) -> LabelScheme:
        return self.inner.scheme

    def describe(self) -> dict[str, Any]:
        files = None if self.folder is None else folder_checksum(self.folder)
        return self.inner.describe() | {"files": files}

    def prepare(self, session: Session) -> None:
        if self.asks_llm and session.limited:
            raise InputError(
                f"{self.title} pays for answers outside the job, which budgets and batches do not "
                "cover. Leave out --max-cost and --batch, or name its LLM in its members."
            )
        self.inner.prepare(session)

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        session = session or self.job
        with self._joined(session):
            for _, prediction in checked(self.title, self.inner, examples, session):
                yield prediction

    @contextlib.contextmanager
    def _joined(self, session: Session | None) -> Iterator[None]:
        """Let the members take part in a job, even where a plugin calls them without its session.

        They leave it after the last of several simultaneous calls, as from a server's threads.
        """
        with _JOINING:
            self._calls += 1
            _join(self.inner, session)
        try:
            yield
        finally:
            with _JOINING:
                self._calls -= 1
                if not self._calls:
                    _join(self.inner, self.job)


def _join(classifier: Classifier, session: Session | None) -> None:
    for member in classifier.members.values():
        member.job = session
        _join(member, session)


def _checked_members(classifier: Classifier, title: str) -> Mapping[str, Classifier]:
    members: Any = classifier.members
    if isinstance(members, Mapping) and all(isinstance(m, Classifier) for m in members.values()):
        return members
    raise SentikitError(f"{title}: members must map names to classifiers, not be {members!r}.")


def untrained_classifier(registry: Registry, name: str) -> Classifier:
    """Make a plugin's classifier that needs no training, from its default settings."""
    made = _made(registry, {"name": name})
    if made.learns():
        raise InputError(
            f"The classifier {name!r} must be trained first. Name it in the classifier section of "
            "a recipe, run sentikit train, and give the run."
        )
    return CheckedClassifier(made, registry.title(HOOK, name))


def fit_classifier(
    registry: Registry,
    section: Mapping[str, Any],
    scheme: LabelScheme,
    examples: Examples,
    validation: Examples | None,
    folder: Path,
) -> Classifier:
    """Train the classifier of a recipe's section, and return it, loaded from `folder`."""
    classifier = _made(registry, section)
    name = str(section["name"])
    if not classifier.learns():
        raise InputError(f"The classifier {name!r} needs no training. Use it directly.")
    classifier.scheme = scheme
    with folder_writer(folder) as temporary:
        files = temporary / FILES
        files.mkdir()
        classifier.fit(examples, validation, files)
        saved = _SavedClassifier(
            classifier=dict(section),
            label_scheme=scheme.name,
            classes=scheme.classes,
            ordered=scheme.ordered,
            threshold=scheme.threshold,
            components=[registry.find(HOOK, name).component()],
        )
        write_json(temporary / CONFIG, saved.to_json())
    return load_trained(folder, registry)


def load_trained(folder: Path, registry: Registry) -> Classifier:
    saved = _SavedClassifier.read(folder)
    name = str(saved.classifier.get("name"))
    registry.require(HOOK, name, saved.components, f"{folder / CONFIG}")
    classifier = _made(registry, saved.classifier)
    classifier.scheme = saved.scheme
    classifier.load(folder / FILES)
    return CheckedClassifier(classifier, registry.title(HOOK, name), folder)


def _made(registry: Registry, section: Mapping[str, Any]) -> PluginClassifier:
    component, problems = check_component(registry, HOOK, section, ("classifier",))
    refuse(problems)
    assert isinstance(component, PluginClassifier)
    return component
