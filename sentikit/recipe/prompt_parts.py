"""Turns a resolved recipe of kind `prompt` into its parts, or says everything that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentikit.checking import Problem, check_part, refuse, split_options, validate
from sentikit.data.opening import OpenedDataset, check_dataset
from sentikit.prompting.backend import LLMBackend
from sentikit.prompting.section import LLMOptions, StrategyOptions
from sentikit.prompting.strategy import PromptStrategy
from sentikit.recipe.kinds import refuse_other_kind
from sentikit.recipe.resolving import ResolvedRecipe
from sentikit.recipe.schema import PromptRecipe
from sentikit.recipe.trackers import check_trackers
from sentikit.registry import Registry

if TYPE_CHECKING:
    from sentikit.tracking import Tracker


@dataclass(frozen=True)
class PromptParts:
    """Everything an LLM's run is made of.

    Attributes:
        recipe: the resolved recipe, as written beside the run.
        dataset: holds the split to label.
        split: its name.
        examples_dataset: holds the examples that strategies show.
        llm: answers the messages.
        llm_options: the core's keys of the section.
        strategy: turns a text into messages.
        strategy_options: the core's keys of the section.
        trackers: where the run is shown besides, by name.
    """

    recipe: ResolvedRecipe
    dataset: OpenedDataset
    split: str
    examples_dataset: OpenedDataset
    llm: LLMBackend
    llm_options: LLMOptions
    strategy: PromptStrategy
    strategy_options: StrategyOptions
    trackers: Mapping[str, Tracker]


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
    made: dict[str, Any] = {}
    for section, check in _SECTION_CHECKS.items():
        found, more = check(registry, recipe.values.get(section))
        made |= found
        problems += more
    made["trackers"], more = check_trackers(registry, recipe.values.get("trackers", []))
    problems += more
    options = made.get("strategy_options")
    if options:
        made["examples_dataset"], more = _examples_dataset(registry, options, made.get("dataset"))
        problems += more
    if settings and options and made["strategy"]:
        problems += _check_needs(settings, made["strategy"], options)
    if problems or settings is None:
        return None, problems
    return PromptParts(recipe=recipe, split=settings.split, **made), []


def _dataset(registry: Registry, raw: Any) -> tuple[dict[str, Any], list[Problem]]:
    if not isinstance(raw, Mapping):
        return {}, []  # the schema has said that it must be a section
    dataset, problems = check_dataset(registry, raw, ("dataset",))
    return {"dataset": dataset}, problems


def _llm(registry: Registry, raw: Any) -> tuple[dict[str, Any], list[Problem]]:
    if not isinstance(raw, Mapping):
        return {}, []
    core, own = split_options(LLMOptions, raw)
    options, problems = validate(LLMOptions, core, ("llm",))
    known = ["backend", *LLMOptions.model_fields]
    part, more = check_part(registry, "register_llm_backends", own, ("llm",), known, "backend")
    problems += more
    if part is not None and not isinstance(part, LLMBackend):
        problems.append(Problem(("llm", "backend"), f"{raw['backend']!r} is not an LLMBackend."))
    return {"llm": part, "llm_options": options}, problems


def _strategy(registry: Registry, raw: Any) -> tuple[dict[str, Any], list[Problem]]:
    section = {"name": "zero-shot"} if raw is None else raw
    if not isinstance(section, Mapping):
        return {}, []
    core, own = split_options(StrategyOptions, section)
    options, problems = validate(StrategyOptions, core, ("strategy",))
    known = ["name", *StrategyOptions.model_fields]
    part, more = check_part(registry, "register_prompt_strategies", own, ("strategy",), known)
    problems += more
    if part is not None and not isinstance(part, PromptStrategy):
        wrong = f"{section['name']!r} is not a PromptStrategy."
        problems.append(Problem(("strategy", "name"), wrong))
        part = None
    return {"strategy": part, "strategy_options": options}, problems


_SECTION_CHECKS = {"dataset": _dataset, "llm": _llm, "strategy": _strategy}


def _examples_dataset(
    registry: Registry, options: StrategyOptions, own: OpenedDataset | None
) -> tuple[OpenedDataset | None, list[Problem]]:
    """Open the dataset that examples come from: the recipe's own unless another is named."""
    if options.examples.dataset is None:
        return own, []
    return check_dataset(registry, options.examples.dataset, ("strategy", "examples", "dataset"))


def _check_needs(
    settings: PromptRecipe, strategy: PromptStrategy, options: StrategyOptions
) -> list[Problem]:
    """Compare what a strategy needs with what the recipe gives it."""
    name, needs, examples = settings.strategy.get("name"), strategy.needs(), options.examples
    problems = []
    if needs.opinion and options.encoder is None:
        message = (
            f"the strategy {name!r} shows an encoder's opinion. Name a model, a run, a results "
            "file or PATH#encoder."
        )
        problems.append(Problem(("strategy", "encoder"), message))
    elif needs.examples and (examples.encoder or options.encoder) is None:
        message = f"the strategy {name!r} needs an encoder to find examples. Name a model or a run."
        problems.append(Problem(("strategy", "encoder"), message))
    own_dataset = examples.dataset is None or examples.dataset == settings.dataset
    if needs.examples and own_dataset and examples.split == settings.split:
        message = (
            f"the split {settings.split!r} is the one to label: an example from it would give its "
            "label away. Choose another split."
        )
        problems.append(Problem(("strategy", "examples", "split"), message))
    return problems
