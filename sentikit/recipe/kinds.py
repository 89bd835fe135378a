"""What kind a recipe is of, and which command runs it."""

from __future__ import annotations

from sentikit.checking import Problem, refuse
from sentikit.errors import did_you_mean
from sentikit.recipe.resolving import ResolvedRecipe

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


def unknown_kind(kind: str) -> Problem:
    """Return the problem of a kind that there is not."""
    return Problem(("kind",), f"unknown kind {kind!r}. {did_you_mean(kind, COMMANDS)}")


def refuse_other_kind(recipe: ResolvedRecipe, wanted: str) -> None:
    """Refuse a recipe of another kind than a command needs.

    Raises:
        InputError: it is of another kind; says which command runs it.
    """
    kind = kind_of(recipe)
    if kind == wanted:
        return
    if kind not in COMMANDS:
        refuse([unknown_kind(kind)], recipe.describe)
    message = f"this command needs a recipe of kind {wanted}, not {kind}. "
    problem = Problem(("kind",), f"{message}Run it with sentikit {COMMANDS[kind]}.")
    refuse([problem], recipe.describe)
