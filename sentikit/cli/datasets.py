"""``sentikit datasets``."""

from __future__ import annotations

import json

import click

from sentikit.cli import CommandGroup


@click.group(cls=CommandGroup, epilog="Example: sentikit datasets show demo")
def datasets() -> None:
    """List and describe datasets."""


@datasets.command("list", epilog="Example: sentikit datasets list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_datasets(as_json: bool) -> None:
    """List available datasets."""
    from sentikit.registry import default_registry
    from sentikit.terminal import print_table

    registry = default_registry()
    found = [registry.find("register_datasets", n) for n in registry.names("register_datasets")]
    entries = [{"name": r.name, "plugin": r.plugin, "summary": r.summary} for r in found]
    if as_json:
        click.echo(json.dumps(entries, indent=2, ensure_ascii=False))
    else:
        print_table("", ("name", "plugin", "summary"), [list(entry.values()) for entry in entries])
