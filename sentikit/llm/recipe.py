"""Recipes of kind `prompt`: the components made of them, or all that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentikit.components import Problem, check_section, refuse, validate
from sentikit.datasets.opening import OpenedDataset, check_dataset
from sentikit.errors import InputError
from sentikit.llm.backend import LLMBackend
from sentikit.llm.fine_tuned import FineTunedRun, check_taught, find_fine_tuned
from sentikit.llm.settings import LLMOptions, PromptRecipe, StrategyOptions
from sentikit.llm.strategy import PromptStrategy
from sentikit.recipe.resolving import ResolvedRecipe, refuse_other_kind
from sentikit.registry import Registry
from sentikit.tracking import check_trackers

if TYPE_CHECKING:
    from sentikit.tracking import Tracker


DEFAULT_STRATEGY = "zero-shot"


@dataclass(frozen=True)
class StrategyParts:
    """What turns a split's examples into messages."""

    recipe: ResolvedRecipe
    dataset: OpenedDataset
    split: str
    examples_dataset: OpenedDataset
    strategy: PromptStrategy
    strategy_options: StrategyOptions

    @property
    def strategy_name(self) -> str:
        return str(self.recipe.values.get("strategy", {}).get("name", DEFAULT_STRATEGY))


def check_strategy_parts(
    recipe: ResolvedRecipe, registry: Registry, splits: Iterable[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the keywords of `StrategyParts` that can be made, and all that is wrong."""
    made: dict[str, Any] = {}
    problems: list[Problem] = []
    raw, section = recipe.values.get("dataset"), recipe.values.get("strategy")
    # The schema says that a section must be one.
    if isinstance(raw, Mapping):
        made["dataset"], problems = check_dataset(registry, raw, ("dataset",))
    if section is None:
        section = {"name": DEFAULT_STRATEGY}
    if not isinstance(section, Mapping):
        return made, problems
    strategy, options, more = check_section(
        registry,
        "register_prompt_strategies",
        StrategyOptions,
        section,
        ("strategy",),
        PromptStrategy,
    )
    made |= {"strategy": strategy, "strategy_options": options}
    problems += more
    if options:
        made["examples_dataset"] = made.get("dataset")
        if options.examples.dataset is not None:
            place = ("strategy", "examples", "dataset")
            named, more = check_dataset(registry, options.examples.dataset, place)
            made["examples_dataset"] = named
            problems += more
    if options and strategy:
        problems += _check_needs(recipe.values, strategy, options, set(splits))
    return made, problems


def _check_needs(
    values: Mapping[str, Any],
    strategy: PromptStrategy,
    options: StrategyOptions,
    splits: set[str],
) -> list[Problem]:
    """Compare what a strategy needs with what the recipe gives it."""
    section = values.get("strategy") or {}
    name, needs, examples = section.get("name"), strategy.needs(), options.examples
    found = {}
    if needs.prediction and options.adviser is None:
        found["adviser"] = (
            f"the strategy {name!r} shows a prediction. Name the classifier that "
            "makes it: a model, a run, a results file or PATH#encoder."
        )
    elif needs.encoder and (examples.encoder or options.adviser) is None:
        found["adviser"] = (
            f"the strategy {name!r} needs an encoder to find examples. Name a model or a run."
        )
    own_dataset = examples.dataset is None or examples.dataset == values.get("dataset")
    if needs.examples and own_dataset and examples.split in splits:
        found["examples.split"] = (
            f"the split {examples.split!r} is the one to label: an example from it would give its "
            "label away. Choose another split."
        )
    return [Problem(("strategy", *key.split(".")), message) for key, message in found.items()]


@dataclass(frozen=True)
class PromptParts(StrategyParts):
    """Everything an LLM's run is made of; `split` is the one to label."""

    llm: LLMBackend
    llm_options: LLMOptions
    trackers: Mapping[str, Tracker]
    fine_tuned: FineTunedRun | None = None


def prompt_parts(recipe: ResolvedRecipe, registry: Registry) -> PromptParts:
    """Make the components of a prompt recipe, or refuse it with all that is wrong."""
    refuse_other_kind(recipe, "prompt")
    parts, problems = check_prompt(recipe, registry)
    refuse(problems, recipe.describe)
    assert parts is not None
    return parts


def check_prompt(
    recipe: ResolvedRecipe, registry: Registry
) -> tuple[PromptParts | None, list[Problem]]:
    """Make the components, or say all that is wrong; neither data nor server is touched."""
    settings, problems = validate(PromptRecipe, recipe.values)
    splits = [settings.split] if settings else []
    made, more = check_strategy_parts(recipe, registry, splits)
    problems += more
    found, more = _llm(registry, recipe.values.get("llm"))
    made, problems = made | found, problems + more
    llm, options = made.get("llm"), made.get("strategy_options")
    if llm and options and options.rationale and not llm.writes_text:
        message = "this LLM backend only chooses among the labels. Leave the rationale out."
        problems.append(Problem(("strategy", "rationale"), message))
    made["trackers"], more = check_trackers(registry, recipe.values.get("trackers", []))
    problems += more
    if not problems and options and made["fine_tuned"]:
        classes = made["dataset"].scheme.classes
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
