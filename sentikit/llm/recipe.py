"""Recipes of kind `prompt`: the sections, and the components made of them or all that is wrong."""

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
    """What turns a split's examples into messages.

    Attributes:
        recipe: the resolved recipe, as written beside the run.
        dataset: holds the split.
        split: its name.
        examples_dataset: holds the examples that strategies show.
        strategy: turns a text into messages.
        strategy_options: the core's keys of the section.
    """

    recipe: ResolvedRecipe
    dataset: OpenedDataset
    split: str
    examples_dataset: OpenedDataset
    strategy: PromptStrategy
    strategy_options: StrategyOptions

    @property
    def strategy_name(self) -> str:
        """The strategy's name in the recipe."""
        return str(self.recipe.values.get("strategy", {}).get("name", DEFAULT_STRATEGY))


def check_strategy_parts(
    recipe: ResolvedRecipe, registry: Registry, splits: Iterable[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """Make the parts of `StrategyParts`, or say all that is wrong; no data is touched.

    Args:
        recipe: of kind prompt or finetune.
        registry: where to look for parts.
        splits: whose examples are put into messages.

    Returns:
        Keywords of `StrategyParts`, those that could be made, and the problems.
    """
    made, problems = _dataset(registry, recipe.values.get("dataset"))
    found, more = _strategy(registry, recipe.values.get("strategy"))
    made, problems = made | found, problems + more
    options = made.get("strategy_options")
    if options:
        made["examples_dataset"], more = _examples_dataset(registry, options, made.get("dataset"))
        problems += more
    if options and made["strategy"]:
        problems += _check_needs(recipe.values, made["strategy"], options, set(splits))
    return made, problems


def _dataset(registry: Registry, raw: Any) -> tuple[dict[str, Any], list[Problem]]:
    if not isinstance(raw, Mapping):
        return {}, []  # the schema has said that it must be a section
    dataset, problems = check_dataset(registry, raw, ("dataset",))
    return {"dataset": dataset}, problems


def _strategy(registry: Registry, raw: Any) -> tuple[dict[str, Any], list[Problem]]:
    section = {"name": DEFAULT_STRATEGY} if raw is None else raw
    if not isinstance(section, Mapping):
        return {}, []
    part, options, problems = check_section(
        registry,
        "register_prompt_strategies",
        StrategyOptions,
        section,
        ("strategy",),
        PromptStrategy,
    )
    return {"strategy": part, "strategy_options": options}, problems


def _examples_dataset(
    registry: Registry, options: StrategyOptions, own: OpenedDataset | None
) -> tuple[OpenedDataset | None, list[Problem]]:
    """Open the dataset that examples come from: the recipe's own unless another is named."""
    if options.examples.dataset is None:
        return own, []
    return check_dataset(registry, options.examples.dataset, ("strategy", "examples", "dataset"))


def _check_needs(
    values: Mapping[str, Any],
    strategy: PromptStrategy,
    options: StrategyOptions,
    splits: set[str],
) -> list[Problem]:
    """Compare what a strategy needs with what the recipe gives it."""
    section = values.get("strategy") or {}
    name, needs, examples = section.get("name"), strategy.needs(), options.examples
    problems = []
    if needs.opinion and options.adviser is None:
        message = (
            f"the strategy {name!r} shows a prediction. Name the classifier that "
            "makes it: a model, a run, a results file or PATH#encoder."
        )
        problems.append(Problem(("strategy", "adviser"), message))
    elif needs.encoder and (examples.encoder or options.adviser) is None:
        message = f"the strategy {name!r} needs an encoder to find examples. Name a model or a run."
        problems.append(Problem(("strategy", "adviser"), message))
    own_dataset = examples.dataset is None or examples.dataset == values.get("dataset")
    if needs.examples and own_dataset and examples.split in splits:
        message = (
            f"the split {examples.split!r} is the one to label: an example from it would give its "
            "label away. Choose another split."
        )
        problems.append(Problem(("strategy", "examples", "split"), message))
    return problems


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
