"""``sentikit recipes``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.cli import CommandGroup
from sentikit.cli.options import SETTINGS, resolved_recipe

if TYPE_CHECKING:
    from sentikit.recipe.resolving import ResolvedRecipe
    from sentikit.registry import Registry


@click.group(cls=CommandGroup)
def recipes() -> None:
    """List, show, copy and check recipes."""


@recipes.command("list", epilog="Example: sentikit recipes list --study")
@click.option("--study", is_flag=True, help="The study's 32 rows, with the figures it published.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_recipes(study: bool, as_json: bool) -> None:
    """List the recipes that plugins offer."""
    from dataclasses import asdict

    from sentikit.recipe.catalogue import list_recipes as offered
    from sentikit.registry import default_registry

    registry = default_registry()
    found = [asdict(recipe) for recipe in offered(registry)]
    if study:
        found = _study([recipe["name"] for recipe in found], registry)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif study:
        _print_study(found)
    else:
        _print_recipes(found)


def _print_recipes(found: list[dict[str, Any]]) -> None:
    from sentikit.terminal import print_table

    columns = ("name", "kind", "description")
    rows = [[recipe[column] for column in columns] for recipe in found]
    print_table("", ["recipe", *columns[1:]], rows)


def _study(names: list[str], registry: Registry) -> list[dict[str, Any]]:
    """Return the study's rows with their recipes, and with the recipes to run before those."""
    from dataclasses import asdict

    from sentikit.recipe.catalogue import recipes_before, recipes_of, study_rows
    from sentikit.recipe.resolving import resolve_recipe

    def described(name: str) -> dict[str, Any]:
        values = resolve_recipe(name, registry=registry).values
        return {"name": name, "after": recipes_before(values, names)}

    return [
        {**asdict(row), "recipes": [described(name) for name in recipes_of(row, names)]}
        for row in study_rows()
    ]


def _print_study(rows: list[dict[str, Any]]) -> None:
    from sentikit.recipe.catalogue import CITATION
    from sentikit.terminal import print_table

    numbers = ["macro-F1", "DynaSent R1", "DynaSent R2", "SST-3", "accuracy", "training"]
    table = []
    for row in rows:
        scores = [row["overall"], *row["by_source"].values()]
        shown = [f"{score['macro_f1']:.4f}" for score in scores]
        shown += [f"{row['overall']['accuracy']:.4f}", f"${row['training_usd']:.2f}"]
        names = "\n".join(recipe["name"] for recipe in row["recipes"]) or "(no recipe)"
        table.append([row["id"], names, *shown])
    print_table(f"Published, first round: {CITATION}", ["", "recipe", *numbers], table, numbers)


@recipes.command(epilog="Example: sentikit recipes show electra-large --resolved")
@click.argument("name", metavar="NAME|FILE")
@click.option("--resolved", is_flag=True, help="With all it extends, and where each value is from.")
@SETTINGS
def show(name: str, resolved: bool, settings: tuple[str, ...]) -> None:
    """Print a recipe as it is written, or resolved."""
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
    """Copy a recipe to a file of your own, with all it extends laid in."""
    from sentikit.errors import InputError
    from sentikit.files import write_text
    from sentikit.recipe.resolving import resolve_recipe

    if file.suffix not in (".yaml", ".yml"):
        raise InputError(
            f"{file}: let the name end in .yaml, so that --recipe knows it for a file."
        )
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
    """Check recipes, all bundled ones if none is named; exit 2 if one is wrong."""
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
    """Write a recipe with the origin of each value in a comment behind it."""
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
