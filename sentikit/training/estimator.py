"""Training from Python: `sentikit.train` and the scikit-learn estimator."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from sentikit.classifiers.encoder_classifier import windows
from sentikit.classifiers.loading import LoadingOptions, load_model
from sentikit.components import ComponentSettings
from sentikit.datasets.examples import Examples
from sentikit.datasets.opening import DatasetLoader, DatasetOptions, OpenedDataset
from sentikit.errors import InputError, did_you_mean
from sentikit.recipe.resolving import ResolvedRecipe, assign, merge, resolve_recipe, resolve_values
from sentikit.registry import default_registry
from sentikit.runs.folder import choose_run_folder
from sentikit.training.job import JobOptions, TrainedRun
from sentikit.training.job import train as run_training
from sentikit.training.recipe import TrainRecipe, train_components
from sentikit.training.settings import TrainingSettings

if TYPE_CHECKING:
    from sentikit.classifiers.classifier import Classifier

#: The dataset section of a run that was trained on data in memory.
_IN_MEMORY = "memory"
_NAMES = ("recipe", "output", "device")


def train(
    recipe: str | Path | Mapping[str, Any],
    *,
    output: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    threads: int | None = None,
    **settings: Any,
) -> TrainedRun:
    """Train the model of a recipe and save a run folder, like ``sentikit train``.

    Args:
        recipe: a recipe by name or file, or its sections.
        output: the run's folder; by default one under ``runs``.
        resume: resume the run that was stopped or killed.
        device: auto, cpu, cuda, cuda:1, mps.
        threads: CPU threads, or None.
        settings: changes to the recipe: a key of the training section (``epochs=2``), a section
            (``dataset={"name": "demo"}``), or a path (``training__early_stopping__patience=3``).

    Raises:
        InputError: the recipe, a setting or the data are invalid.
        SentikitError: the disk failed, or the loss became NaN at once.
        Interrupted: the user asked to stop; the run can be resumed.
    """
    resolved = _resolved(recipe, settings)
    components = train_components(resolved, default_registry())
    folder = Path(output) if output is not None else None
    run = choose_run_folder(folder, resolved.name, resume)
    options = JobOptions(device=device, threads=threads, resume=bool(run.status))
    return run_training(components, run.path, options)


def _resolved(
    recipe: str | Path | Mapping[str, Any], settings: Mapping[str, Any]
) -> ResolvedRecipe:
    if isinstance(recipe, Mapping):
        resolved = resolve_values(recipe, "recipe", "the recipe")
    else:
        resolved = resolve_recipe(str(recipe))
    changes: dict[str, Any] = {}
    # Whole sections come first, because searches pass arguments in alphabetical order.
    given = [(_path(key), value) for key, value in settings.items()]
    for path, value in sorted(given, key=lambda setting: len(setting[0])):
        assign(changes, path, copy.deepcopy(value))
    values = merge(resolved.values, changes)
    return resolve_values(values, resolved.name, "the recipe and the settings given")


def _path(key: str) -> list[str]:
    """Return the path of keys that a keyword argument changes."""
    first, *inner = key.split("__")
    if first in TrainRecipe.model_fields:
        return [first, *inner]
    if first in TrainingSettings.model_fields:
        return ["training", first, *inner]
    known = [*TrainRecipe.model_fields, *TrainingSettings.model_fields]
    raise InputError(f"Unknown setting {key!r}. {did_you_mean(first, known)}")


class SentimentClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn estimator over a recipe: texts in, labels out.

    To choose an encoder's best epoch, a tenth of the training texts is held out; set
    ``dataset__validation_holdout`` to change that.

    Attributes:
        recipe: name or file of a recipe of kind ``train``, or its sections; its dataset is not
            used.
        output: the folder of the run, or None to keep nothing on disk.
        device: auto, cpu, cuda, …
        classes_: after fitting, the sorted labels.
        classifier_: after fitting, the underlying `sentikit.Classifier`.
    """

    def __init__(
        self,
        recipe: str | Path | Mapping[str, Any] = "minilm",
        *,
        output: str | Path | None = None,
        device: str = "auto",
        **settings: Any,
    ) -> None:
        self.recipe = recipe
        self.output = output
        self.device = device
        self._settings = settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the recipe and all settings as the user gave them."""
        return {name: getattr(self, name) for name in _NAMES} | self._settings

    def set_params(self, **params: Any) -> SentimentClassifier:
        """Change settings: ``lr=1e-4``, ``training__warmup=0.1``, ``encoder={…}``.

        Raises:
            InputError: there is no such setting.
        """
        for name, value in params.items():
            if name in _NAMES:
                setattr(self, name, value)
            else:
                _path(name)
                self._settings = {**self._settings, name: value}
        return self

    def fit(self, texts: Any, labels: Any) -> SentimentClassifier:
        """Train on texts and their labels.

        Args:
            texts: a list, array or series of strings.
            labels: one for each text, strings or numbers.

        Raises:
            InputError: `texts` is a table or an array of another shape, or the labels do not fit.
        """
        given = _texts(texts)
        gold = np.asarray(labels)
        if gold.shape != (len(given),):
            raise InputError(
                f"{len(given)} texts need as many labels, not an array of shape {gold.shape}."
            )
        classes, numbers = np.unique(gold, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"Training needs at least two classes, not {len(classes)}.")
        names = [str(name) for name in classes.tolist()]
        examples = Examples.from_columns(given, [names[number] for number in numbers])
        with tempfile.TemporaryDirectory(prefix="sentikit-") as temporary:
            path = Path(self.output) if self.output is not None else Path(temporary) / "run"
            self._train(examples, tuple(names), path)
            self.classifier_: Classifier = load_model(path, LoadingOptions(self.device))
        self.classes_ = classes
        return self

    def _train(self, examples: Examples, classes: tuple[str, ...], path: Path) -> None:
        resolved = _resolved(self.recipe, self._settings)
        own = {k: v for k, v in resolved.values.get("dataset", {}).items() if k in _SPLITTING}
        holdout = 0.0 if "classifier" in resolved.values else 0.1
        section = {"validation_holdout": holdout, **own}
        section |= {"name": _IN_MEMORY, "labels": list(classes)}
        values = {**resolved.values, "dataset": section}
        values.pop("evaluation_dataset", None)
        components = train_components(
            resolve_values(values, resolved.name, "the recipe and the settings given"),
            default_registry(),
            _InMemory(examples).opened(section),
        )
        run_training(components, path, JobOptions(device=self.device, quiet=True))

    def predict(self, texts: Any) -> NDArray[Any]:
        """Return the label of each text."""
        best = self.predict_proba(texts).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, texts: Any) -> NDArray[np.float64]:
        """Return probabilities, (texts, classes), with columns in the order of `classes_`."""
        if not hasattr(self, "classifier_"):
            raise NotFittedError("This SentimentClassifier is not fitted yet. Call fit first.")
        found = self.classifier_.predict_proba(_texts(texts))
        columns = [self.classifier_.labels.index(str(name)) for name in self.classes_.tolist()]
        return np.asarray(found[:, columns])

    def __sklearn_tags__(self) -> Any:
        """Declare that the inputs are strings."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


#: Keys of a recipe's dataset section that also apply to data in memory.
_SPLITTING = ("validation_holdout", "sample", "seed", "threshold")


class _InMemory(DatasetLoader):
    def __init__(self, examples: Examples) -> None:
        super().__init__(ComponentSettings())
        self._examples = examples

    def splits(self) -> tuple[str, ...]:
        return ("train",)

    def load(self, split: str) -> Examples:
        return self._examples

    def locate(self, split: str, row: int) -> str:
        return f"text {row} (from 0)"

    def opened(self, section: Mapping[str, Any]) -> OpenedDataset:
        options = {key: value for key, value in section.items() if key != "name"}
        return OpenedDataset(_IN_MEMORY, self, DatasetOptions.model_validate(options))


def _texts(given: Any) -> list[str]:
    if hasattr(given, "columns"):
        columns = ", ".join(map(str, list(given.columns)[:5]))
        raise InputError(
            f"texts must be a list of strings, not a table (columns {columns}). Give the column "
            "with the texts, for example table['text']."
        )
    if getattr(given, "ndim", 1) != 1:
        raise InputError(f"texts must be one-dimensional, not of shape {given.shape}.")
    return [str(text) for window in windows(given) for text in window]
