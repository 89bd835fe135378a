"""``sentikit recipes copy`` and ``sentikit recipes check``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sentikit import InputError, SentikitError
from sentikit.extension import (
    SETTINGS,
    Registry,
    atomic_writer,
    complete_recipe,
    default_registry,
    print_text,
    recipe_problems,
    resolve_recipe,
)


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
        recipe = resolve_recipe(name, settings, registry)
        for note in recipe.notes:
            print_text(f"Note: {note}", err=True)
        for warning in recipe.warnings:
            print_text(f"Warning: {warning}", err=True)
        return [recipe.describe(problem) for problem in recipe_problems(recipe, registry)]
    except SentikitError as error:
        return [error.message]
