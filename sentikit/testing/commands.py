"""What is expected of a command."""

from __future__ import annotations

import click

from sentikit.testing.parts import require


def check_command(command: click.Command, name: str = "") -> None:
    """Ask a command, and each command below it, for its help.

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
