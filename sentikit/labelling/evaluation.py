"""Evaluation: a classifier scored on a split of a dataset, and left as a run on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentikit.classifiers.classifier import Classifier
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.loading import LoadingOptions
from sentikit.datasets.labels import OWN
from sentikit.datasets.opening import OpenedDataset, open_dataset, with_path
from sentikit.errors import InputError, nearest
from sentikit.labelling.job import label_run
from sentikit.labelling.rows import LabellingOptions, has_text
from sentikit.recipe.resolving import merge, parse_dataset_overrides
from sentikit.runs.folder import LabelledSplit, RunFolder
from sentikit.runs.writer import FinishedRun, RunPlan, split_rows

#: What a run keeps of how its classifier was loaded.
_KEPT = ("revision", "label_map")


@dataclass(frozen=True)
class DatasetChoice:
    """What a classifier is scored on.

    Attributes:
        dataset: name or section of a dataset; None: the one that the run was made on.
        path: the folder of the dataset's files, or None.
        split: which split.
        settings: keys of the section, as ``label_map={good: positive}``.
    """

    dataset: str | Mapping[str, Any] | None = None
    path: str | None = None
    split: str = "test"
    settings: Sequence[str] = field(default_factory=tuple)


def evaluate(
    name: str,
    classifier: Classifier,
    choice: DatasetChoice,
    run: RunFolder | None = None,
    options: LabellingOptions | None = None,
    say: Callable[[str], None] = lambda warning: None,
    loading: LoadingOptions | None = None,
) -> FinishedRun:
    """Score a classifier on a split, whose examples all need a gold label.

    Raises:
        InputError: no such dataset or split, labels that do not fit, a text without a label.
        SentikitError: the classifier fails.
    """
    plan, warnings = _plan(name, classifier, choice, loading)
    for warning in warnings:
        say(warning)
    return label_run(classifier, run, plan, options or LabellingOptions())


def refuse_missing(name: str, choice: DatasetChoice) -> None:
    """Refuse a dataset, a split or a file that does not exist, before the classifier is loaded.

    Raises:
        InputError: it does not exist, or its settings are wrong.
    """
    section = _section(name, choice, None)
    if choice.dataset is not None:
        # Which classes there are is known once the classifier is loaded.
        section = {
            k: v for k, v in section.items() if k not in ("labels", "label_map", "threshold")
        }
    _refuse_unknown_split(open_dataset(section), choice.split)


def follow(name: str, classifier: Classifier, choice: DatasetChoice) -> None:
    """Take part in an evaluation that another process writes down."""
    plan, _ = _plan(name, classifier, choice)
    examples = (row.example for row in split_rows(plan.split) if has_text(row.example))
    for _prediction in classifier.classify(examples):
        pass


def _plan(
    name: str,
    classifier: Classifier,
    choice: DatasetChoice,
    loading: LoadingOptions | None = None,
) -> tuple[RunPlan, Sequence[str]]:
    """Return what the run is, and the dataset's warnings."""
    section = _section(name, choice, classifier)
    opened = _open(section, classifier)
    _refuse_unknown_split(opened, choice.split)
    examples = opened.split(choice.split, empty_texts=True)
    # A model made elsewhere may have the same classes in another order, or not know of any.
    scheme = opened.scheme if opened.scheme.ordered else classifier.scheme
    plan = RunPlan(
        kind="evaluate",
        recipe={
            "kind": "evaluate",
            "model": name,
            "dataset": section,
            "split": choice.split,
            **{key: value for key in _KEPT if (value := getattr(loading, key, None))},
        },
        recipe_text="",
        split=LabelledSplit(examples, scheme.classes, opened.name, choice.split, scheme.ordered),
        manifest=_computed_by(classifier),
    )
    return plan, list(opened.warnings())


def _computed_by(classifier: Classifier) -> dict[str, Any]:
    """Return what the manifest says of an encoder."""
    if not isinstance(classifier, EncoderClassifier):
        return {}
    return {
        "calibrated": classifier.calibrated,
        "device": str(classifier.device),
        "precision": classifier.precision,
    }


def _section(name: str, choice: DatasetChoice, classifier: Classifier | None) -> dict[str, Any]:
    """Return the dataset section to open: the run's own, or what the user says."""
    if choice.dataset is None:
        run = RunFolder(Path(name).expanduser())
        recipe = run.manifest.get("recipe", {}) if run.status else {}
        own = recipe.get("evaluation_dataset") or recipe.get("dataset")
        if own is None:
            raise InputError(f"Which dataset? {name} has none of its own: give --dataset.")
        section = dict(own)
    else:
        given = choice.dataset
        section = dict(given) if isinstance(given, Mapping) else {"name": given}
        if classifier is not None and "labels" not in section:
            section |= _labels_of(classifier)
    return merge(with_path(section, choice.path), parse_dataset_overrides(choice.settings))


def _labels_of(classifier: Classifier) -> dict[str, Any]:
    """Return the keys of a dataset's section for the classifier's own classes."""
    if classifier.scheme.name != OWN:
        return {"labels": classifier.scheme.name}
    listed = {"classes": list(classifier.labels), "ordered": True}
    found: dict[str, Any] = {
        "labels": listed if classifier.scheme.ordered else list(classifier.labels)
    }
    if classifier.scheme.threshold is not None:
        found["threshold"] = classifier.scheme.threshold
    return found


def _open(section: Mapping[str, Any], classifier: Classifier) -> OpenedDataset:
    opened = open_dataset(section)
    if set(opened.scheme.classes) != set(classifier.labels):
        own, others = ", ".join(classifier.labels), ", ".join(opened.scheme.classes)
        raise InputError(
            f"The model's classes are {own}, those of the dataset {others}. Choose the dataset's "
            "with --set labels=…, or another model."
        )
    return opened


def _refuse_unknown_split(opened: OpenedDataset, split: str) -> None:
    if split in opened.splits:
        return
    likely = nearest(split, opened.splits) or [s for s in opened.splits if s != "train"]
    options = " or ".join(f"--split {name}" for name in likely or opened.splits)
    raise InputError(
        f"The dataset {opened.name!r} has no split {split!r}. Give {options}, or score a file with "
        "--dataset files --set test=FILE."
    )
