"""Runs a prompt recipe in a test, from its sections to a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentikit.labelling.prompting import PromptOptions, prompt
from sentikit.labelling.run_writer import FinishedRun
from sentikit.llm.parts import PromptParts, prompt_parts
from sentikit.recipe.resolving import resolve_values
from sentikit.registry import default_registry


def make_parts(**sections: Any) -> PromptParts:
    """Make the components of a recipe of kind prompt."""
    recipe = resolve_values({"kind": "prompt", **sections}, "own", "the test")
    return prompt_parts(recipe, default_registry())


def run_prompts(parts: PromptParts, folder: Path, limit: int | None = None) -> FinishedRun:
    """Label a recipe's split and leave a run."""
    return prompt(parts, folder, PromptOptions(limit=limit))
