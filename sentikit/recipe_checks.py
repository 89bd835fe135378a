"""Says everything that is wrong with a recipe, whatever its kind."""

from __future__ import annotations

from sentikit.components import Problem
from sentikit.ensembles.recipe import check_ensemble
from sentikit.finetuning.recipe import check_finetune
from sentikit.llm.recipe import check_prompt
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


def check_recipe(recipe: ResolvedRecipe, registry: Registry) -> list[Problem]:
    """Return all that is wrong with a recipe of any kind; nothing is loaded."""
    kind = kind_of(recipe)
    check = _CHECKS.get(kind)
    return check(recipe, registry) if check else [unknown_kind(kind)]
