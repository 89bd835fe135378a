"""``sentikit recipes``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.cli import CommandGroup
from sentikit.cli.options import resolved_recipe
from sentikit.command_options import SETTINGS

if TYPE_CHECKING:
    from sentikit.recipe.resolving import ResolvedRecipe
    from sentikit.registry import Registry


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
@click.argument("name", metavar="NAME|FILE")
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


@recipes.command(epilog="Example: sentikit recipes copy electra-base mine.yaml")
@click.argument("name", metavar="NAME|FILE")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def copy(name: str, file: Path, force: bool) -> None:
    """Copy a recipe to a new file, merged with all it extends."""
    from sentikit.errors import InputError
    from sentikit.files import write_text
    from sentikit.recipe.resolving import resolve_recipe

    if file.suffix not in (".yaml", ".yml"):
        raise InputError(f"{file} must end in .yaml, so that --recipe recognises it as a file.")
    if file.is_dir():
        raise InputError(f"{file} is a folder; a file is needed. Choose another name.")
    if file.exists() and not force:
        raise InputError(f"{file} exists. Choose another name, or replace it with --force.")
    write_text(file, resolve_recipe(name).to_yaml())
    click.echo(f"Wrote {file}. Try: sentikit recipes check {file}", err=True)


@recipes.command(epilog="Example: sentikit recipes check mine.yaml --set training.lr=1e-5")
@click.argument("names", metavar="[NAME|FILE]...", nargs=-1)
@SETTINGS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(names: tuple[str, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Check recipes, by default all registered ones; exit 2 if one is invalid."""
    from sentikit.registry import default_registry

    registry = default_registry()
    chosen = names or tuple(registry.names("register_recipes"))
    report = {name: _problems(name, settings, registry) for name in chosen}
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        for name, problems in report.items():
            click.echo(f"{name}: {'ok' if not problems else ''}".rstrip())
            for problem in problems:
                click.echo(f"  {problem}")
    if any(report.values()):
        raise click.exceptions.Exit(2)


def _problems(name: str, settings: tuple[str, ...], registry: Registry) -> list[str]:
    from sentikit.cli.options import resolved_recipe
    from sentikit.errors import SentikitError
    from sentikit.recipe_checks import recipe_problems

    try:
        recipe = resolved_recipe(name, settings, registry)
        return [recipe.describe(problem) for problem in recipe_problems(recipe, registry)]
    except SentikitError as error:
        return [error.message]


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
