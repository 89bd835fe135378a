"""The recipes there are, for the lists that people choose from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sentikit.errors import InputError, SentikitError
from sentikit.recipe.kinds import kind_of
from sentikit.recipe.resolving import resolve_recipe
from sentikit.registry import Registry


@dataclass(frozen=True)
class ListedRecipe:
    """One line of a list.

    Attributes:
        name: as `--recipe` takes it.
        kind: which command runs it; "" where the recipe cannot be read.
        description: what it is for, or why it cannot be read.
        plugin: who offers it.
    """

    name: str
    kind: str
    description: str
    plugin: str


def list_recipes(registry: Registry, kind: str | None = None) -> list[ListedRecipe]:
    """Return the recipes that plugins offer, e2 before e10; of one kind where it is given."""
    names = sorted(registry.names("register_recipes"), key=_natural_order)
    listed = [_listed(name, registry) for name in names]
    return [recipe for recipe in listed if kind in (None, recipe.kind)]


def needed_recipe(recipe: str | None, kind: str, registry: Registry) -> str:
    """Return the recipe, or list those of a kind where none was given.

    Raises:
        InputError: no recipe was given.
    """
    if recipe:
        return recipe
    choices = list_recipes(registry, kind)
    width = max((len(choice.name) for choice in choices), default=0)
    lines = [f"  {choice.name:<{width}}  {choice.description}".rstrip() for choice in choices]
    raise InputError(
        "\n".join(["Which recipe? Choose one with --recipe, or give a YAML file:", *lines])
    )


def _listed(name: str, registry: Registry) -> ListedRecipe:
    plugin = registry.find("register_recipes", name).plugin
    try:
        recipe = resolve_recipe(name, registry=registry)
    except SentikitError as error:
        return ListedRecipe(name, "", error.message, plugin)
    return ListedRecipe(name, kind_of(recipe), str(recipe.values.get("description", "")), plugin)


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in a name by their size."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
