"""Runs of an LLM: a prompt recipe's split labelled, and left as a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sentikit.classifiers.classifier import Classifier, Session
from sentikit.errors import InputError
from sentikit.labelling.job import label_run
from sentikit.labelling.rows import LabellingOptions
from sentikit.llm.classifier import LLMClassifier, context_source, split_context
from sentikit.llm.context import encoder_cost
from sentikit.llm.prices import model_facts, price_record
from sentikit.llm.recipe import PromptParts, missing_run, prompt_parts
from sentikit.llm.strategy import Message
from sentikit.recipe.resolving import ResolvedRecipe
from sentikit.registry import Registry, default_registry
from sentikit.runs.folder import LabelledSplit, RunFolder
from sentikit.runs.writer import FinishedRun, RunPlan, split_rows


def prompt(
    parts: PromptParts,
    path: Path,
    options: LabellingOptions,
    registry: Registry | None = None,
    split: LabelledSplit | None = None,
    load: Callable[[str], Classifier] | None = None,
) -> FinishedRun:
    """Label a split with an LLM and leave a run in `path`.

    Raises:
        Interrupted: the user asked to stop; the run can be resumed.
        InputError: something the user gave cannot be used; nothing is written.
        SentikitError: an outage, too many failing rows, no money left; the run can be resumed.
    """
    registry = registry or default_registry()
    split = split or split_to_label(parts, options.limit)
    run = RunFolder(path)
    with run.locked(new=not options.resume):
        refuse_missing(parts)
        classifier = split_classifier(parts, split, registry, load)
        plan = RunPlan(
            kind="prompt",
            recipe=parts.recipe.values,
            recipe_text=parts.recipe.to_yaml(),
            split=split,
            manifest={
                "limit": options.limit,
                "seed": parts.strategy_options.examples.seed,
                "model": parts.llm.model,
                "prices": price_record(
                    model_facts(parts.llm.model, provider=parts.llm.provider),
                    parts.llm_options.prices,
                    parts.llm.billed,
                ),
            },
            costs=earlier_costs(parts),
        )
        return label_run(classifier, run, plan, options, parts.llm_options.cache, parts.trackers)


def split_to_label(parts: PromptParts, limit: int | None = None) -> LabelledSplit:
    """Load the split that a recipe asks to label; gold labels may be missing.

    Raises:
        InputError: there is no such split, or it cannot be read.
    """
    examples = parts.dataset.split(parts.split, labelled=False, empty_texts=True)
    if limit is not None:
        examples = examples.select(np.arange(min(limit, len(examples))))
    scheme, name = parts.dataset.scheme, parts.dataset.name
    return LabelledSplit(examples, scheme.classes, name, parts.split, scheme.ordered)


def split_classifier(
    parts: PromptParts,
    split: LabelledSplit,
    registry: Registry,
    load: Callable[[str], Classifier] | None = None,
) -> LLMClassifier:
    """Return the classifier of a prompt recipe for its own split.

    Raises:
        InputError: the adviser cannot be loaded, has other classes or lacks what is shown; too few
            examples to show.
    """
    return LLMClassifier(parts, split_context(parts, split, registry, load))


def load_llm(
    recipe: ResolvedRecipe, registry: Registry, load: Callable[[str], Classifier]
) -> LLMClassifier:
    """Load the LLM of a prompt recipe.

    Raises:
        InputError: the recipe is wrong, or its adviser cannot be loaded.
    """
    parts = prompt_parts(recipe, registry)
    refuse_missing(parts)
    return LLMClassifier(parts, context_source(parts, load))


def shown_prompts(
    parts: PromptParts, number: int, load: Callable[[str], Classifier]
) -> list[tuple[str, tuple[Message, ...]]]:
    """Return the ids and messages of the first examples; nothing is asked.

    Raises:
        InputError: the adviser cannot be used.
        SentikitError: the strategy fails.
    """
    split = split_to_label(parts, number)
    classifier = split_classifier(parts, split, default_registry(), load)
    examples = (row.example for row in split_rows(split))
    return [
        (example.id, messages) for example, messages in classifier.messages(examples, Session())
    ]


def refuse_missing(parts: PromptParts) -> None:
    """Refuse a model that is meant to be the run of a fine-tuning, and is not there yet.

    Raises:
        InputError: it is not there; says how to make it.
    """
    missing = missing_run(parts.llm.model)
    if missing:
        raise InputError(missing)


def earlier_costs(parts: PromptParts) -> dict[str, float | None]:
    """Return what fine-tuning the model and training the adviser cost, as far as is known."""
    costs: dict[str, float | None] = {}
    if parts.fine_tuned and parts.fine_tuned.cost is not None:
        costs["fine_tuning"] = parts.fine_tuned.cost
    if parts.strategy.needs().encoder:
        encoder = encoder_cost(parts.strategy_options.adviser)
        costs |= {"encoder": encoder} if encoder else {}
    return costs
