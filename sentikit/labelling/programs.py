"""Evaluation and prompting from Python: what ``sentikit evaluate`` and ``sentikit prompt`` do."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sentikit.classifiers.loading import LoadingOptions
from sentikit.errors import InputError, did_you_mean
from sentikit.labelling import evaluation, prompting
from sentikit.labelling.loading import load, load_classifier, refuse_missing
from sentikit.labelling.rows import LabellingOptions
from sentikit.llm.recipe import prompt_parts
from sentikit.llm.settings import PromptRecipe
from sentikit.recipe.resolving import merge, resolve_recipe, resolve_values
from sentikit.registry import default_registry
from sentikit.runs.folder import choose_run_folder
from sentikit.runs.writer import FinishedRun

RUNS = Path("runs")


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
    """Score a classifier on a split of a dataset, as ``sentikit evaluate``.

    Args:
        name: what `load` takes: a run, a recipe, a model folder, …
        dataset: its name, or its section (``{"name": "files", "test": "reviews.csv"}``); None: the
            one that the run was made on. Labels are the classifier's unless the section says them.
        split: which split to score; each of its examples needs a gold label.
        path: the folder of the dataset's files.
        output: the folder of the run to leave; None: none is left.
        max_cost: USD that LLMs may cost at most, or None.
        batch: send requests through the provider's batch service; needs `output`.
        resume: resume the run that was stopped or killed, or ask again about the rows that failed.
        device: as for `load`, like all that follow.
        precision: auto, fp32, bf16, fp16 or int8.
        calibrated: divide an encoder's logits by the temperature fitted on validation.
        revision: branch, tag or commit of a model on the hub.
        label_map: for a classifier of transformers: its label to a class.

    Returns:
        The scores, also by source, with counts and costs.

    Raises:
        InputError: no such classifier, dataset or split, labels that do not fit, a text without a
            label, or the folder is taken.
        SentikitError: the classifier fails, or no money is left; the run can be resumed.
    """
    if output is None and (batch or resume):
        raise InputError("batch and resume work on a run: give output as well.")
    if isinstance(dataset, Mapping) and "name" not in dataset:
        raise InputError(
            "The dataset's section has no name. Give one, as "
            "{'name': 'files', 'test': 'reviews.csv'}."
        )
    folder = None if path is None else str(path)
    choice = evaluation.DatasetChoice(dataset, folder, split)
    loading = LoadingOptions(device, precision, calibrated, revision, label_map)
    refuse_missing(name, revision)
    evaluation.refuse_missing(str(name), choice)
    run = None
    if output is not None:
        run = choose_run_folder(Path(output), Path(output).name, resume, RUNS)
    options = LabellingOptions(max_cost=max_cost, batch=batch, resume=resume)
    with run.locked(new=not resume) if run else nullcontext():
        classifier = load_classifier(name, loading)
        return evaluation.evaluate(str(name), classifier, choice, run, options, _warn, loading)


def prompt(
    recipe: str | Path | Mapping[str, Any],
    *,
    output: str | Path | None = None,
    limit: int | None = None,
    max_cost: float | None = None,
    batch: bool = False,
    resume: bool = False,
    **settings: Any,
) -> FinishedRun:
    """Label a dataset with an LLM and save a run folder, as ``sentikit prompt``.

    Args:
        recipe: a recipe of kind ``prompt`` by name or file, or its sections.
        output: the run's folder; by default one under ``runs``.
        limit: label so many examples at most, or None.
        max_cost: USD for all that is asked, or None.
        batch: send requests through the provider's batch service.
        resume: resume the run that was stopped or killed, or ask again about the rows that failed.
        settings: what to change: a section (``dataset={"name": "demo"}``), or a path
            (``llm__model="gpt-4o-mini"``).

    Returns:
        Counts, costs and, where there are gold labels, scores.

    Raises:
        InputError: the recipe, a setting or the data cannot be used, or the folder is taken.
        SentikitError: an outage, too many failing rows, no money left; the run can be resumed.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit}: label one example at least.")
    if isinstance(recipe, Mapping):
        resolved = resolve_values({"kind": "prompt", **recipe}, "prompt", "the recipe")
    else:
        resolved = resolve_recipe(str(recipe))
    for said in resolved.warnings:
        _warn(said)
    values = resolved.values
    for key, value in settings.items():
        values = merge(values, _nested(key, value))
    changed = resolve_values(values, resolved.name, "the recipe and the settings given")
    parts = prompt_parts(changed, default_registry())
    folder = Path(output) if output is not None else None
    run = choose_run_folder(folder, resolved.name, resume, RUNS)
    options = LabellingOptions(max_cost=max_cost, batch=batch, resume=resume, limit=limit)
    return prompting.prompt(parts, run.path, options, load=load)


def _nested(key: str, value: Any) -> dict[str, Any]:
    """Return the sections that a keyword argument changes."""
    first, *inner = key.split("__")
    if first not in PromptRecipe.model_fields:
        known = list(PromptRecipe.model_fields)
        raise InputError(f"Unknown setting {key!r}. {did_you_mean(first, known)}")
    for name in reversed([first, *inner]):
        value = {name: value}
    return dict(value)


def _warn(said: str) -> None:
    warnings.warn(said, UserWarning, stacklevel=3)
