"""The check of recipes of any kind, and the keys of their sections that belong to the core."""

from __future__ import annotations

from collections.abc import Iterable

from sentikit.classifiers.encoder import Encoder, EncoderOptions, Head, HeadOptions
from sentikit.classifiers.model_format import ModelFormat
from sentikit.components import Component, Problem
from sentikit.datasets.opening import DatasetLoader, DatasetOptions
from sentikit.ensembles.recipe import check_ensemble
from sentikit.finetuning.fine_tuner import FineTuner
from sentikit.finetuning.recipe import FinetuneOptions, check_finetune
from sentikit.llm.backend import LLMBackend
from sentikit.llm.recipe import check_prompt
from sentikit.llm.settings import LLMOptions, StrategyOptions
from sentikit.llm.strategy import PromptStrategy
from sentikit.recipe.resolving import ResolvedRecipe, kind_of, unknown_kind
from sentikit.registry import Registry
from sentikit.training.recipe import check_train

_CHECKS = {
    "train": lambda recipe, registry: check_train(recipe, registry)[1],
    "prompt": lambda recipe, registry: check_prompt(recipe, registry)[1],
    "finetune": lambda recipe, registry: check_finetune(recipe, registry)[1],
    "cascade": check_ensemble,
    "vote": check_ensemble,
}

#: By interface, the keys of a component's section that are not its own settings.
_CORE_KEYS: dict[type[Component], Iterable[str]] = {
    DatasetLoader: DatasetOptions.model_fields,
    Encoder: EncoderOptions.model_fields,
    Head: HeadOptions.model_fields,
    LLMBackend: ("backend", *LLMOptions.model_fields),
    PromptStrategy: StrategyOptions.model_fields,
    FineTuner: ("provider", *FinetuneOptions.model_fields),
    ModelFormat: ("format",),
}


def recipe_problems(recipe: ResolvedRecipe, registry: Registry) -> list[Problem]:
    """Return every problem of a recipe of any kind, without loading anything."""
    kind = kind_of(recipe)
    check = _CHECKS.get(kind)
    return check(recipe, registry) if check else [unknown_kind(kind)]


def core_keys(component_class: type[Component]) -> frozenset[str]:
    """Return the keys that a component cannot use for its settings, as the core reads them."""
    kinds = [keys for kind, keys in _CORE_KEYS.items() if issubclass(component_class, kind)]
    return frozenset(["name"]).union(*kinds)
