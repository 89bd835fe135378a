"""Conformance checks of datasets, recipes and commands."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sentikit import Examples, SentikitError
from sentikit.extension import (
    DatasetLoader,
    ExamplesBuilder,
    Registry,
    TableFormat,
    default_registry,
    recipe_problems,
    resolve_recipe,
)

from .components import check_component, require


def check_dataset(loader_class: type[DatasetLoader], settings: Mapping[str, Any]) -> None:
    """Load every split twice and check the examples.

    Raises:
        AssertionError: splits, ids, texts or labels break a rule.
    """
    loader = check_component(loader_class, settings)
    name = loader_class.__name__
    splits = loader.splits()
    require(
        isinstance(splits, tuple) and splits and all(isinstance(s, str) and s for s in splits),
        f"{name}.splits() must return a tuple of names, not {splits!r}.",
    )
    require(len(set(splits)) == len(splits), f"{name}.splits() names one twice: {splits!r}.")
    for split in splits:
        examples = loader.load(split)
        _check_examples(f"{name}.load({split!r})", examples)
        again = loader_class(loader.settings).load(split)
        require(
            again.fingerprint() == examples.fingerprint(),
            f"{name}.load({split!r}) gives other examples the second time.",
        )
        place = loader.locate(split, len(examples) - 1)
        require(
            isinstance(place, str) and place,
            f"{name}.locate({split!r}, row) must say where a row stands, not {place!r}.",
        )


def _check_examples(where: str, examples: object) -> None:
    if not isinstance(examples, Examples):
        raise AssertionError(
            f"{where} must return sentikit.Examples, not {type(examples).__name__}."
        )
    schema = ExamplesBuilder().finish().table.schema
    require(
        examples.table.select(schema.names).schema.equals(schema),
        f"{where} has other columns than ExamplesBuilder makes: {examples.table.schema}.",
    )
    require(len(examples), f"{where} is empty; leave an empty split out of splits().")
    ids, texts = examples.ids, examples.texts
    require(all(ids), f"{where} has an empty id.")
    repeated = next((name for name, count in Counter(ids).items() if count > 1), None)
    require(repeated is None, f"{where} has an id twice: {repeated!r}.")
    blank = next((row for row, text in enumerate(texts) if not text or text.isspace()), None)
    require(blank is None, f"{where} has an empty text, at row {blank}.")
    for column in ("label", "source"):
        require("" not in examples.column(column), f"{where} has an empty {column}; give None.")


def check_table_format(format_class: type[TableFormat], settings: Mapping[str, Any]) -> None:
    """Check that a table format refuses unreadable files with a clear message.

    Raises:
        AssertionError: it does not. Other exceptions of the format are not caught.
    """
    reader = check_component(format_class, settings)
    with tempfile.TemporaryDirectory() as folder:
        missing, empty = Path(folder, "missing"), Path(folder, "empty")
        empty.touch()
        for path in (missing, empty):
            try:
                with reader.open(path) as rows:
                    refused = not list(rows)
            except SentikitError:
                refused = True
            require(
                refused, f"{format_class.__name__}.open() must refuse a file that is {path.name}."
            )


def check_recipe(path: str | Path, registry: Registry | None = None) -> None:
    """Resolve a recipe's file and check every section; nothing is loaded.

    Raises:
        AssertionError: it has a problem, or changes when written and read again.
        sentikit.InputError: the file is missing or not YAML.
    """
    registry = registry or default_registry()
    recipe = resolve_recipe(str(path), registry=registry)
    problems = [recipe.describe(problem) for problem in recipe_problems(recipe, registry)]
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


def check_command(command: click.Command, name: str = "") -> None:
    """Check the help of a command and its subcommands.

    Args:
        command: what the plugin registers.
        name: the name it is registered under; its own by default.

    Raises:
        AssertionError: a command has no help, or fails to print it.
    """
    from click.testing import CliRunner

    require(isinstance(command, click.Command), f"{command!r} must be a click command.")
    full_name = name or command.name or ""
    require(command.help, f"The command {full_name!r} has no help; give it a docstring.")
    result = CliRunner().invoke(command, ["--help"], prog_name=f"sentikit {full_name}")
    require(
        result.exit_code == 0,
        f"sentikit {full_name} --help ends with {result.exit_code}: {result.exception!r}",
    )
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            below = command.get_command(context, inner)
            require(below is not None, f"sentikit {full_name} lists {inner!r} without having it.")
            assert below is not None
            check_command(below, f"{full_name} {inner}")
