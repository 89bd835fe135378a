"""``sentikit datasets``: which datasets there are; plugins add what else can be done with them."""

from __future__ import annotations

import json

import click

from sentikit.cli import CommandGroup
from sentikit.terminal import print_table


@click.group(cls=CommandGroup, epilog="Example: sentikit datasets show demo")
def datasets() -> None:
    """List and describe datasets."""


@datasets.command("list", epilog="Example: sentikit datasets list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_datasets(as_json: bool) -> None:
    """List the datasets that plugins offer."""
    from sentikit.registry import default_registry

    registry = default_registry()
    entries = []
    for name in registry.names("register_datasets"):
        found = registry.find("register_datasets", name)
        entries.append({"name": name, "plugin": found.plugin, "summary": found.summary})
    if as_json:
        click.echo(json.dumps(entries, indent=2, ensure_ascii=False))
    else:
        columns = ("name", "plugin", "summary")
        print_table("", columns, [[entry[column] for column in columns] for entry in entries])
