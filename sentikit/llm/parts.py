"""Turns a resolved recipe of kind `prompt` into its parts, or says everything that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentikit.components import Problem, check_section, refuse, validate
from sentikit.errors import InputError
from sentikit.llm.backend import LLMBackend
from sentikit.llm.fine_tuned import FineTunedRun, check_taught, find_fine_tuned
from sentikit.llm.recipe import PromptRecipe
from sentikit.llm.section import LLMOptions
from sentikit.llm.strategy_parts import StrategyParts, check_strategy_parts
from sentikit.recipe.resolving import ResolvedRecipe, refuse_other_kind
from sentikit.registry import Registry
from sentikit.tracking import check_trackers

if TYPE_CHECKING:
    from sentikit.tracking import Tracker


@dataclass(frozen=True)
class PromptParts(StrategyParts):
    """Everything an LLM's run is made of; `split` is the one to label.

    Attributes:
        llm: answers the messages.
        llm_options: the core's keys of the section.
        trackers: where the run is shown besides, by name.
        fine_tuned: the run that made the model, where one here did.
    """

    llm: LLMBackend
    llm_options: LLMOptions
    trackers: Mapping[str, Tracker]
    fine_tuned: FineTunedRun | None = None


def prompt_parts(recipe: ResolvedRecipe, registry: Registry) -> PromptParts:
    """Make the parts of a prompt recipe.

    Raises:
        InputError: anything wrong with the recipe; all problems at once, each with its place.
    """
    refuse_other_kind(recipe, "prompt")
    parts, problems = check_prompt(recipe, registry)
    refuse(problems, recipe.describe)
    assert parts is not None
    return parts


def check_prompt(
    recipe: ResolvedRecipe, registry: Registry
) -> tuple[PromptParts | None, list[Problem]]:
    """Make the parts, or say all that is wrong; no data, no model and no server is touched."""
    settings, problems = validate(PromptRecipe, recipe.values)
    splits = [settings.split] if settings else []
    made, more = check_strategy_parts(recipe, registry, splits)
    problems += more
    found, more = _llm(registry, recipe.values.get("llm"))
    made, problems = made | found, problems + more
    made["trackers"], more = check_trackers(registry, recipe.values.get("trackers", []))
    problems += more
    if not problems and made["fine_tuned"]:
        options, classes = made["strategy_options"], made["dataset"].scheme.classes
        problems += check_taught(made["fine_tuned"], made["strategy"], options, classes, registry)
    if problems or settings is None:
        return None, problems
    return PromptParts(recipe=recipe, split=settings.split, **made), []


def _llm(registry: Registry, raw: Any) -> tuple[dict[str, Any], list[Problem]]:
    if not isinstance(raw, Mapping):
        return {}, []
    try:
        run = find_fine_tuned(raw)
    except InputError as error:
        return {}, [Problem(("llm", "model"), error.message)]
    section = run.section(raw) if run else raw
    part, options, problems = check_section(
        registry, "register_llm_backends", LLMOptions, section, ("llm",), LLMBackend, "backend"
    )
    return {"llm": part, "llm_options": options, "fine_tuned": run}, problems
