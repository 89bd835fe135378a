"""``sentikit recipes``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from sentikit.cli import CommandGroup
from sentikit.cli.options import resolved_recipe
from sentikit.command_options import SETTINGS, complete_recipe

if TYPE_CHECKING:
    from sentikit.recipe.resolving import ResolvedRecipe


@click.group(cls=CommandGroup)
def recipes() -> None:
    """List, show, copy and check recipes."""


@recipes.command("list", epilog="Example: sentikit recipes list --study")
@click.option("--study", is_flag=True, help="The study's 32 rows with their published figures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_recipes(context: click.Context, study: bool, as_json: bool) -> None:
    """List available recipes."""
    from dataclasses import asdict

    from sentikit.recipe.resolving import list_recipes as offered
    from sentikit.registry import default_registry
    from sentikit.terminal import print_table

    registry = default_registry()
    if study:
        command = registry.load("register_commands", "recipes study")
        context.invoke(command, as_json=as_json)
        return
    found = [asdict(recipe) for recipe in offered(registry)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    columns = ("name", "kind", "description")
    rows = [[recipe[column] for column in columns] for recipe in found]
    print_table("", ["recipe", *columns[1:]], rows)


@recipes.command(epilog="Example: sentikit recipes show electra-large --resolved")
@click.argument("name", metavar="NAME|FILE", shell_complete=complete_recipe)
@click.option("--resolved", is_flag=True, help="Merge what it extends, and show each origin.")
@SETTINGS
def show(name: str, resolved: bool, settings: tuple[str, ...]) -> None:
    """Print a recipe as written, or resolved."""
    from sentikit.recipe.resolving import recipe_path
    from sentikit.registry import default_registry
    from sentikit.yaml_files import read_utf8

    registry = default_registry()
    if resolved or settings:
        click.echo(_with_origins(resolved_recipe(name, settings, registry)))
        return
    click.echo(read_utf8(recipe_path(name, registry)), nl=False)


def _with_origins(recipe: ResolvedRecipe) -> str:
    """Return a recipe with the origin of each value in a comment."""
    lines = list(_origin_lines(recipe, recipe.values, ()))
    width = min(60, max((len(text) for text, origin in lines if origin), default=0))
    return "\n".join(f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines)


def _origin_lines(recipe: ResolvedRecipe, values: dict[str, Any], path: tuple[str, ...]) -> Any:
    indent = "  " * len(path)
    for key, value in values.items():
        here = (*path, key)
        if isinstance(value, dict):
            yield f"{indent}{key}:", ""
            yield from _origin_lines(recipe, value, here)
        else:
            yield f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}", recipe.origin(here)
