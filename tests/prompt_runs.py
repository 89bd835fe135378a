"""Prompt recipes run by tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentikit.classifiers.classifier import Session
from sentikit.labelling.prompting import run_prompt, split_to_label
from sentikit.labelling.rows import LabellingOptions
from sentikit.llm.classifier import prompt_input, split_context
from sentikit.llm.context import Memory
from sentikit.llm.recipe import PromptComponents, prompt_components
from sentikit.llm.strategy import PromptInput
from sentikit.recipe.resolving import resolve_values
from sentikit.registry import default_registry
from sentikit.runs.writer import FinishedRun, SplitRows


def make_components(**sections: Any) -> PromptComponents:
    """Make the components of a recipe of kind prompt."""
    recipe = resolve_values({"kind": "prompt", **sections}, "own", "the test")
    return prompt_components(recipe, default_registry())


def run_prompts(
    components: PromptComponents, folder: Path, limit: int | None = None
) -> FinishedRun:
    """Label a recipe's split and leave a run."""
    return run_prompt(components, folder, LabellingOptions(limit=limit))


def prompt_inputs(components: PromptComponents, memory: Memory | None = None) -> list[PromptInput]:
    """Return what a strategy is given for each example of the split to label."""
    split = split_to_label(components)
    source = split_context(components, split, default_registry())
    examples = (row.example for row in SplitRows(split))
    return [
        prompt_input(example, split.classes, context)
        for example, context in source.stream(examples, Session(), memory)
    ]
