"""What kind a recipe is of."""

from __future__ import annotations

from sentikit.checking import Problem, refuse, validate
from sentikit.errors import did_you_mean
from sentikit.recipe.resolving import ResolvedRecipe
from sentikit.recipe.schema import KINDS

#: The command that runs a recipe of each kind.
COMMANDS = {
    "train": "train",
    "prompt": "prompt",
    "finetune": "gpt-finetune",
    "cascade": "cascade",
    "vote": "vote",
}


def kind_of(recipe: ResolvedRecipe) -> str:
    """Return a recipe's kind; without the key it is ``train``."""
    return str(recipe.values.get("kind", "train"))


def check_sections(recipe: ResolvedRecipe) -> list[Problem]:
    """Return what is wrong with a recipe's kind, sections and core keys, parts left aside."""
    kind = kind_of(recipe)
    if kind not in KINDS:
        return [Problem(("kind",), f"unknown kind {kind!r}. {did_you_mean(kind, KINDS)}")]
    return validate(KINDS[kind], recipe.values)[1]


def refuse_other_kind(recipe: ResolvedRecipe, wanted: str) -> None:
    """Refuse a recipe of another kind than a command needs.

    Raises:
        InputError: it is of another kind; says which command runs it.
    """
    kind = kind_of(recipe)
    if kind == wanted:
        return
    refuse(check_sections(recipe), recipe.describe)
    other = f" Run it with sentikit {COMMANDS[kind]}." if kind in COMMANDS else ""
    message = f"this command needs a recipe of kind {wanted}, not {kind}.{other}"
    refuse([Problem(("kind",), message)], recipe.describe)
