"""The generator of docs/cli.md, from the commands' help; `--check` only compares."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

TARGET = Path(__file__).parent / "cli.md"
HEADER = """# Command line reference

Made from the commands' own help by `make docs`; a test keeps it up to date.
"""


def pages(command: click.Command, names: tuple[str, ...]) -> Iterator[str]:
    """Yield the help of a command and of all its subcommands, as Markdown."""
    context = click.Context(
        command, info_name=" ".join(names), max_content_width=100, terminal_width=100
    )
    level = "#" * min(4, len(names) + 1)
    yield f"{level} {' '.join(names)}\n\n```\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from pages(found, (*names, name))


def reference() -> str:
    """Return the whole page; only bundled plugins count."""
    from sentikit.cli import sentikit

    return "\n".join([HEADER, *pages(sentikit, ("sentikit",))])


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    text = reference()
    if "--check" in sys.argv:
        sys.exit(
            0 if TARGET.read_text(encoding="utf-8") == text else "docs/cli.md: run `make docs`"
        )
    TARGET.write_text(text, encoding="utf-8")
