"""Runs of prompt recipes, which label a split with an LLM."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sentikit.chat import Message
from sentikit.classifiers.classifier import Session
from sentikit.errors import InputError, did_you_mean
from sentikit.labelling.job import label_run
from sentikit.labelling.loading import load, refuse_missing_model
from sentikit.labelling.rows import LabellingOptions
from sentikit.llm.classifier import LLMClassifier, split_context
from sentikit.llm.context import encoder_cost
from sentikit.llm.prices import model_facts, price_record
from sentikit.llm.recipe import PromptComponents, prompt_components
from sentikit.llm.settings import PromptRecipe
from sentikit.recipe.resolving import merge, resolve_recipe, resolve_values
from sentikit.registry import Registry, default_registry
from sentikit.runs.folder import LabelledSplit, RunFolder, choose_run_folder
from sentikit.runs.writer import FinishedRun, RunPlan, SplitRows


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
    """Label a dataset with an LLM and save a run folder, like ``sentikit prompt``.

    Args:
        recipe: a recipe of kind ``prompt`` by name or file, or its sections.
        output: the run's folder; by default one under ``runs``.
        limit: maximum number of examples to label, or None.
        max_cost: maximum cost in USD, or None.
        batch: send requests through the provider's batch service.
        resume: resume a run that was stopped or killed, or retry failed rows.
        settings: changes to the recipe: a section (``dataset={"name": "demo"}``), or a path
            (``llm__model="gpt-4o-mini"``).

    Returns:
        Counts, costs and, if there are gold labels, scores.

    Raises:
        InputError: the recipe, a setting or the data are invalid, or the folder is not empty.
        SentikitError: an outage, too many failed rows, no budget left; the run can be resumed.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, not {limit}.")
    if isinstance(recipe, Mapping):
        resolved = resolve_values({"kind": "prompt", **recipe}, "prompt", "the recipe")
    else:
        resolved = resolve_recipe(str(recipe))
    for warning in resolved.warnings:
        warnings.warn(warning, UserWarning, stacklevel=2)
    values = resolved.values
    for key, value in settings.items():
        values = merge(values, _nested(key, value))
    changed = resolve_values(values, resolved.name, "the recipe and the settings given")
    components = prompt_components(changed, default_registry())
    folder = Path(output) if output is not None else None
    run = choose_run_folder(folder, resolved.name, resume)
    options = LabellingOptions(max_cost=max_cost, batch=batch, resume=resume, limit=limit)
    return run_prompt(components, run.path, options)


def _nested(key: str, value: Any) -> dict[str, Any]:
    first, *inner = key.split("__")
    if first not in PromptRecipe.model_fields:
        known = list(PromptRecipe.model_fields)
        raise InputError(f"Unknown setting {key!r}. {did_you_mean(first, known)}")
    for name in reversed([first, *inner]):
        value = {name: value}
    return dict(value)


def run_prompt(components: PromptComponents, path: Path, options: LabellingOptions) -> FinishedRun:
    """Label the split of a prompt recipe and save the run in `path`; see `label_run`."""
    split = split_to_label(components, options.limit)
    run = RunFolder(path)
    with run.locked(new=not options.resume):
        refuse_missing_model(components)
        classifier = split_classifier(components, split)
        facts = model_facts(components.llm.model, provider=components.llm.provider)
        plan = RunPlan(
            kind="prompt",
            recipe=components.recipe.values,
            recipe_text=components.recipe.to_yaml(),
            split=split,
            manifest={
                "limit": options.limit,
                "seed": components.strategy_options.examples.seed,
                "model": components.llm.model,
                "prices": price_record(facts, components.llm_options.prices, components.llm.billed),
            },
            costs=earlier_costs(components),
        )
        return label_run(
            classifier, run, plan, options, components.llm_options.cache, components.trackers
        )


def split_to_label(components: PromptComponents, limit: int | None = None) -> LabelledSplit:
    """Load the split that a recipe labels; gold labels may be missing."""
    examples = components.dataset.split(components.split, labelled=False, empty_texts=True)
    if limit is not None:
        examples = examples.select(np.arange(min(limit, len(examples))))
    scheme, name = components.dataset.scheme, components.dataset.name
    return LabelledSplit(examples, scheme.classes, name, components.split, scheme.ordered)


def split_classifier(
    components: PromptComponents, split: LabelledSplit, registry: Registry | None = None
) -> LLMClassifier:
    registry = registry or default_registry()
    context = split_context(components, split, registry, partial(load, registry=registry))
    return LLMClassifier(components, context)


def shown_prompts(
    components: PromptComponents, number: int
) -> list[tuple[str, tuple[Message, ...]]]:
    """Return the ids and messages of the first examples with text, without sending them."""
    split = split_to_label(components)
    with_text = (place for place, row in enumerate(SplitRows(split)) if row.has_text)
    first = np.fromiter(islice(with_text, number), np.int64)
    split = replace(split, examples=split.examples.select(first))
    examples = (row.example for row in SplitRows(split))
    asked = split_classifier(components, split).messages(examples, Session())
    return [(example.id, messages) for example, messages in asked]


def earlier_costs(components: PromptComponents) -> dict[str, float | None]:
    """Return the known costs of fine-tuning the model and training the adviser."""
    costs: dict[str, float | None] = {}
    if components.fine_tuned and components.fine_tuned.cost is not None:
        costs["fine_tuning"] = components.fine_tuned.cost
    if components.strategy.needs().encoder:
        encoder = encoder_cost(components.strategy_options.adviser)
        costs |= {"encoder": encoder} if encoder else {}
    return costs
