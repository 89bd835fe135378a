"""What is expected of a recipe."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sentikit.recipe.resolving import resolve_recipe
from sentikit.recipe_checks import check_recipe as problems_of
from sentikit.registry import Registry, default_registry
from sentikit.testing.parts import require


def check_recipe(path: str | Path, registry: Registry | None = None) -> None:
    """Resolve a recipe's file and check every section; nothing is loaded.

    Raises:
        AssertionError: something is wrong with it, or it does not survive being written down.
        sentikit.InputError: the file is missing or no YAML.
    """
    registry = registry or default_registry()
    recipe = resolve_recipe(str(path), registry=registry)
    problems = [recipe.describe(problem) for problem in problems_of(recipe, registry)]
    require(not problems, f"{path}: " + "; ".join(problems))
    require(
        recipe.values.get("description"), f"{path}: give it a description, one line for the lists."
    )
    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary) / "recipe.yaml"
        written.write_text(recipe.to_yaml(), encoding="utf-8")
        again = resolve_recipe(str(written), registry=registry)
    require(
        again.values == recipe.values, f"{path} changes when it is written down and read again."
    )
