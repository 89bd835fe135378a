"""``sentikit recipes list``, ``show``, ``copy`` and ``check``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sentikit import InputError, SentikitError
from sentikit.extension import (
    SETTINGS,
    Registry,
    atomic_writer,
    complete_recipe,
    default_registry,
    list_recipes,
    print_table,
    print_text,
    recipe_problems,
    recipe_text,
    resolve_recipe,
)


@click.command("list", epilog="Example: sentikit recipes list --study")
@click.option("--study", is_flag=True, help="The study's 32 rows with their published figures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_all(context: click.Context, study: bool, as_json: bool) -> None:
    """List available recipes."""
    if study:
        from .study import study as study_rows

        context.invoke(study_rows, as_json=as_json)
        return
    found = [asdict(recipe) for recipe in list_recipes(default_registry())]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    columns = ("name", "kind", "description")
    rows = [[recipe[column] for column in columns] for recipe in found]
    print_table("", ["recipe", *columns[1:]], rows)


@click.command(epilog="Example: sentikit recipes show electra-large --resolved")
@click.argument("name", metavar="NAME|FILE", shell_complete=complete_recipe)
@click.option("--resolved", is_flag=True, help="Merge what it extends, and show each origin.")
@SETTINGS
def show(name: str, resolved: bool, settings: tuple[str, ...]) -> None:
    """Print a recipe as written, or resolved."""
    if resolved or settings:
        click.echo(_with_origins(_resolved(name, settings, default_registry())))
        return
    click.echo(recipe_text(name), nl=False)


def _with_origins(recipe: Any) -> str:
    """Return a recipe with the origin of each value in a comment."""
    lines = list(_origin_lines(recipe, recipe.values, ()))
    width = min(60, max((len(text) for text, origin in lines if origin), default=0))
    return "\n".join(f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines)


def _origin_lines(recipe: Any, values: dict[str, Any], path: tuple[str, ...]) -> Any:
    indent = "  " * len(path)
    for key, value in values.items():
        here = (*path, key)
        if isinstance(value, dict):
            yield f"{indent}{key}:", ""
            yield from _origin_lines(recipe, value, here)
        else:
            yield f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}", recipe.origin(here)


@click.command(epilog="Example: sentikit recipes copy electra-base mine.yaml")
@click.argument("name", metavar="NAME|FILE", shell_complete=complete_recipe)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def copy(name: str, file: Path, force: bool) -> None:
    """Copy a recipe to a new file, merged with all it extends."""
    if file.suffix not in (".yaml", ".yml"):
        raise InputError(f"{file} must end in .yaml, so that --recipe recognises it as a file.")
    if file.is_dir():
        raise InputError(f"{file} is a folder; a file is needed. Choose another name.")
    if file.exists() and not force:
        raise InputError(f"{file} exists. Choose another name, or replace it with --force.")
    text = resolve_recipe(name).to_yaml()
    with atomic_writer(file) as stream:
        stream.write(text)
    click.echo(f"Wrote {file}. Try: sentikit recipes check {file}", err=True)


@click.command(epilog="Example: sentikit recipes check mine.yaml --set training.lr=1e-5")
@click.argument("names", metavar="[NAME|FILE]...", nargs=-1, shell_complete=complete_recipe)
@SETTINGS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(names: tuple[str, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Check recipes, by default all registered ones; exit 2 if one is invalid."""
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
    try:
        recipe = _resolved(name, settings, registry)
        return [recipe.describe(problem) for problem in recipe_problems(recipe, registry)]
    except SentikitError as error:
        return [error.message]


def _resolved(name: str, settings: tuple[str, ...], registry: Registry) -> Any:
    recipe = resolve_recipe(name, settings, registry)
    for note in recipe.notes:
        print_text(f"Note: {note}", err=True)
    for warning in recipe.warnings:
        print_text(f"Warning: {warning}", err=True)
    return recipe
