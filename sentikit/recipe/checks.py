"""Says everything that is wrong with a recipe, whatever its kind."""

from __future__ import annotations

from sentikit.checking import Problem
from sentikit.recipe.finetune_parts import check_finetune
from sentikit.recipe.kinds import check_sections, kind_of
from sentikit.recipe.prompt_parts import check_prompt
from sentikit.recipe.resolving import ResolvedRecipe
from sentikit.recipe.team_parts import check_team
from sentikit.recipe.train_parts import check_train
from sentikit.registry import Registry

_CHECKS = {
    "train": lambda recipe, registry: check_train(recipe, registry)[1],
    "prompt": lambda recipe, registry: check_prompt(recipe, registry)[1],
    "finetune": lambda recipe, registry: check_finetune(recipe, registry)[1],
    "cascade": check_team,
    "vote": check_team,
}


def check_recipe(recipe: ResolvedRecipe, registry: Registry) -> list[Problem]:
    """Return all that is wrong with a recipe of any kind; nothing is loaded."""
    check = _CHECKS.get(kind_of(recipe))
    return check(recipe, registry) if check else check_sections(recipe)
