"""Evaluation: a classifier's scores on a split of a dataset, saved as a run on request."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentikit.classifiers.classifier import Classifier, Session
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.loading import LoadingOptions
from sentikit.classifiers.model_folder import ModelDescription
from sentikit.classifiers.plugin_classifier import MODEL_FORMAT, saved_format
from sentikit.datasets.labels import OWN, LabelScheme
from sentikit.datasets.opening import STATING_LABELS, OpenedDataset, open_dataset, with_path
from sentikit.errors import InputError, nearest
from sentikit.labelling.job import label_run
from sentikit.labelling.loading import find_classifier
from sentikit.labelling.rows import LabellingOptions, predicted
from sentikit.recipe.resolving import merge, parse_dataset_overrides
from sentikit.runs.folder import LabelledSplit, RunFolder, choose_run_folder, recorded_manifest
from sentikit.runs.writer import FinishedRun, RunPlan, SplitRows

#: Loading options that a run records.
_KEPT = ("revision", "label_map")


@dataclass(frozen=True)
class DatasetChoice:
    """The data that a classifier is scored on.

    Attributes:
        dataset: name or section of a dataset; None for the run's own.
        path: the folder of the dataset's files, or None.
        split: the split.
        settings: keys of the section, such as ``label_map={good: positive}``.
    """

    dataset: str | Mapping[str, Any] | None = None
    path: str | None = None
    split: str = "test"
    settings: Sequence[str] = ()

    @property
    def states_labels(self) -> bool:
        """Whether the labels are the run's own, or the user states or maps them."""
        section = self.dataset if isinstance(self.dataset, Mapping) else {}
        given = {*section, *parse_dataset_overrides(self.settings)}
        return self.dataset is None or bool(given & STATING_LABELS)


def evaluate(
    name: str | Path,
    dataset: str | Mapping[str, Any] | None = None,
    *,
    split: str = "test",
    path: str | Path | None = None,
    output: str | Path | None = None,
    max_cost: float | None = None,
    batch: bool = False,
    resume: bool = False,
    device: str = "auto",
    precision: str = "auto",
    calibrated: bool = False,
    revision: str | None = None,
    label_map: Mapping[str, str] | None = None,
) -> FinishedRun:
    """Score a classifier on a split of a dataset, like ``sentikit evaluate``.

    Args:
        name: a run, a recipe, a model folder, … as for `load`.
        dataset: its name, or its section (``{"name": "files", "test": "reviews.csv"}``); None for
            the run's own. Labels are the classifier's unless the section sets them.
        split: the split to score; each of its examples needs a gold label.
        path: the folder of the dataset's files.
        output: the folder of the run to save; None saves none.
        max_cost: maximum cost of LLMs in USD, or None.
        batch: send requests through the provider's batch service; needs `output`.
        resume: resume a run that was stopped or killed, or retry failed rows.
        device: as for `load`.
        precision: auto, fp32, bf16, fp16 or int8.
        calibrated: divide an encoder's logits by the temperature fitted on validation.
        revision: branch, tag or commit of a model on the hub.
        label_map: maps a transformers classifier's labels to classes.

    Returns:
        The scores, also by source, with counts and costs.

    Raises:
        InputError: an unknown classifier, dataset or split, labels that do not fit, a text without
            a label, or the folder is not empty.
        SentikitError: the classifier fails, or the budget is used up; the run can be resumed.
    """
    if output is None and (batch or resume):
        raise InputError("batch and resume need a run. Set output.")
    if isinstance(dataset, Mapping) and "name" not in dataset:
        raise InputError(
            "The dataset's section has no name. Give one, such as "
            "{'name': 'files', 'test': 'reviews.csv'}."
        )
    choice = DatasetChoice(dataset, None if path is None else str(path), split)
    loading = LoadingOptions(device, precision, calibrated, revision, label_map)
    found = find_classifier(name, loading)
    refuse_missing(name, choice)
    options = LabellingOptions(max_cost=max_cost, batch=batch, resume=resume)
    with run_to_write(None if output is None else Path(output), resume) as run:
        return score_split(str(name), found.load(), choice, run, options, _warn, loading)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)


@contextmanager
def run_to_write(output: Path | None, resume: bool) -> Iterator[RunFolder | None]:
    """Yield the locked run to write; refuse a folder that is not empty before any work."""
    if output is None:
        yield None
        return
    run = choose_run_folder(output, output.name, resume)
    with run.locked(new=not resume):
        yield run


def score_split(
    name: str,
    classifier: Classifier,
    choice: DatasetChoice,
    run: RunFolder | None,
    options: LabellingOptions,
    say: Callable[[str], None],
    loading: LoadingOptions,
) -> FinishedRun:
    """Score a classifier on a split, whose examples all need a gold label; see `label_run`."""
    plan, warned = _plan(name, classifier, choice, loading)
    for warning in warned:
        say(warning)
    return label_run(classifier, run, plan, options)


def refuse_missing(name: str | Path, choice: DatasetChoice) -> None:
    """Refuse a missing dataset, split or file before loading anything."""
    saved = Path(name).expanduser() / "model"
    scheme = ModelDescription.read(saved).scheme if saved_format(saved) == MODEL_FORMAT else None
    section = _section(str(name), choice, scheme)
    if choice.dataset is not None and scheme is None and "labels" not in section:
        # The classes are known only once the classifier is loaded.
        section = {k: v for k, v in section.items() if k not in ("label_map", "threshold")}
    opened = open_dataset(section) if scheme is None else _open(section, scheme)
    _refuse_unknown_split(opened, choice.split)


def follow(name: str, classifier: Classifier, choice: DatasetChoice) -> None:
    """Take part in an evaluation whose results another process writes."""
    plan, _ = _plan(name, classifier, choice)
    for _ in predicted(classifier, SplitRows(plan.split), Session()):
        pass


def _plan(
    name: str, classifier: Classifier, choice: DatasetChoice, options: LoadingOptions | None = None
) -> tuple[RunPlan, Sequence[str]]:
    section = _section(name, choice, classifier.scheme)
    opened = _open(section, classifier.scheme)
    _refuse_unknown_split(opened, choice.split)
    examples = opened.split(choice.split, empty_texts=True)
    if not choice.states_labels:
        opened.refuse_other_scheme(choice.split, examples)
    # A model of another tool may have the same classes in another order, or no order.
    scheme = opened.scheme if opened.scheme.ordered else classifier.scheme
    plan = RunPlan(
        kind="evaluate",
        recipe={
            "kind": "evaluate",
            "model": name,
            "dataset": section,
            "split": choice.split,
            **{key: value for key in _KEPT if (value := getattr(options, key, None))},
        },
        recipe_text="",
        split=LabelledSplit(examples, scheme.classes, opened.name, choice.split, scheme.ordered),
        manifest=_computed_by(classifier),
    )
    return plan, list(opened.warnings())


def _computed_by(classifier: Classifier) -> dict[str, Any]:
    if not isinstance(classifier, EncoderClassifier):
        return {}
    return {
        "calibrated": classifier.calibrated,
        "device": str(classifier.device),
        "precision": classifier.precision,
    }


def _section(name: str, choice: DatasetChoice, scheme: LabelScheme | None) -> dict[str, Any]:
    if choice.dataset is None:
        recipe = recorded_manifest(name).get("recipe") or {}
        own = recipe.get("evaluation_dataset") or recipe.get("dataset")
        if own is None:
            raise InputError(f"{name} has no dataset of its own. Name one with --dataset.")
        section = dict(own)
    else:
        given = choice.dataset
        section = dict(given) if isinstance(given, Mapping) else {"name": given}
        if scheme is not None and "labels" not in section:
            section |= _labels_of(scheme)
    return merge(with_path(section, choice.path), parse_dataset_overrides(choice.settings))


def _labels_of(scheme: LabelScheme) -> dict[str, Any]:
    if scheme.name != OWN:
        return {"labels": scheme.name}
    classes = list(scheme.classes)
    labels = {"classes": classes, "ordered": True} if scheme.ordered else classes
    return {"labels": labels} | ({"threshold": scheme.threshold} if scheme.threshold else {})


def _open(section: Mapping[str, Any], scheme: LabelScheme) -> OpenedDataset:
    opened = open_dataset(section)
    if set(opened.scheme.classes) != set(scheme.classes):
        own, others = ", ".join(scheme.classes), ", ".join(opened.scheme.classes)
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
