"""Turns a resolved recipe of kind `finetune` into its parts, or says everything that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sentikit.components import Problem, refuse, split_options, validate
from sentikit.errors import InputError
from sentikit.finetuning.choosing import fine_tuner_class
from sentikit.finetuning.fine_tuner import FineTuner
from sentikit.finetuning.recipe import FinetuneRecipe
from sentikit.finetuning.section import FinetuneOptions
from sentikit.llm.recipe import StrategyParts, check_strategy_parts
from sentikit.recipe.resolving import ResolvedRecipe, refuse_other_kind
from sentikit.registry import Registry
from sentikit.tracking import check_trackers
from sentikit.training.engine import check_engine

if TYPE_CHECKING:
    from sentikit.tracking import Tracker
    from sentikit.training.engine import Engine


@dataclass(frozen=True)
class FinetuneParts(StrategyParts):
    """Everything the fine-tuning of an LLM is made of; `split` is the one to learn from.

    Attributes:
        provider: the backend's name.
        fine_tuner: teaches the model.
        options: the core's keys of the section.
        engine: how steps run, where the fine-tuner trains here; else None.
        trackers: where the run is shown besides, by name.
    """

    provider: str
    fine_tuner: FineTuner
    options: FinetuneOptions
    engine: Engine | None
    trackers: Mapping[str, Tracker]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits to read: the one to learn from and, where there is one, the other."""
        return tuple(split for split in (self.split, self.options.validation) if split)

    def of_split(self, split: str) -> FinetuneParts:
        """Return the same parts for another split's messages."""
        return replace(self, split=split)


def finetune_parts(recipe: ResolvedRecipe, registry: Registry) -> FinetuneParts:
    """Make the parts of a fine-tuning recipe.

    Raises:
        InputError: anything wrong with the recipe; all problems at once, each with its place.
    """
    refuse_other_kind(recipe, "finetune")
    parts, problems = check_finetune(recipe, registry)
    refuse(problems, recipe.describe)
    assert parts is not None
    return parts


def check_finetune(
    recipe: ResolvedRecipe, registry: Registry
) -> tuple[FinetuneParts | None, list[Problem]]:
    """Make the parts, or say all that is wrong; no data, no model and no server is touched."""
    settings, problems = validate(FinetuneRecipe, recipe.values)
    made, more = _fine_tuner(registry, recipe.values.get("finetune"))
    problems += more
    options = made.get("options")
    splits = [s for s in (options.train, options.validation) if s] if options else []
    found, more = check_strategy_parts(recipe, registry, splits)
    made, problems = made | found, problems + more
    made["engine"], more = _engine(registry, recipe.values, made.get("fine_tuner"))
    problems += more
    made["trackers"], more = check_trackers(registry, recipe.values.get("trackers", []))
    problems += more
    if problems or settings is None or options is None:
        return None, problems
    return FinetuneParts(recipe=recipe, split=options.train, **made), []


def _fine_tuner(registry: Registry, raw: Any) -> tuple[dict[str, Any], list[Problem]]:
    if not isinstance(raw, Mapping):
        return {}, []  # the schema has said that it must be a section
    core, own = split_options(FinetuneOptions, raw)
    options, problems = validate(FinetuneOptions, core, ("finetune",))
    provider = own.pop("provider", None)
    made: dict[str, Any] = {"options": options, "provider": str(provider)}
    try:
        chosen = fine_tuner_class(provider, registry)
    except InputError as error:
        return made, [*problems, Problem(("finetune", "provider"), error.message)]
    known = ["provider", *FinetuneOptions.model_fields]
    values, more = validate(chosen.Settings, own, ("finetune",), known)
    problems += more
    if values is None:
        return made, problems
    try:
        made["fine_tuner"] = chosen(values)
    except InputError as error:
        problems.append(Problem(("finetune",), error.message))
    return made, problems


def _engine(
    registry: Registry, values: Mapping[str, Any], fine_tuner: FineTuner | None
) -> tuple[Any, list[Problem]]:
    """Make the engine where it has something to do; elsewhere nobody asks for it."""
    raw = values.get("engine")
    if fine_tuner is None:
        return None, []
    if not fine_tuner.trains_here:
        message = "this provider trains elsewhere; an engine has nothing to do. Leave it out."
        return None, [] if raw is None else [Problem(("engine",), message)]
    return check_engine(registry, {"name": "auto"} if raw is None else raw, ("engine",))
