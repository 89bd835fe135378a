"""The command line: one file a command, each imported only when it is used."""

from __future__ import annotations

import importlib
import os
import sys

import click

from sentikit import __version__
from sentikit.errors import SentikitError, did_you_mean
from sentikit.registry import Registry, default_registry

#: Core commands in the order of a user's day, with their line in ``--help``.
CORE_COMMANDS: dict[str, str] = {
    "train": "Train an encoder on a dataset and leave a run.",
    "evaluate": "Score a model on a dataset.",
    "predict": "Label a file or a pipe.",
    "recipes": "List, show, copy and check recipes.",
    "datasets": "List and describe datasets.",
    "runs": "List and show runs.",
    "plugins": "List, check and start plugins.",
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return core commands, then plugins' commands."""
        return [*CORE_COMMANDS, *_plugin_commands(default_registry())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; core commands cannot be replaced."""
        if cmd_name in CORE_COMMANDS:
            module = importlib.import_module(f"sentikit.cli.{cmd_name}")
            command = getattr(module, cmd_name)
        elif cmd_name in _plugin_commands(default_registry()):
            command = default_registry().load("register_commands", cmd_name)
        else:
            return None
        if not isinstance(command, click.Command):
            raise SentikitError(f"The command {cmd_name!r} is not a click command.")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx):
            default_registry().find("register_commands", name) if "/" in name else None
            raise click.UsageError(
                f"No such command {name!r}. {did_you_mean(name, self.list_commands(ctx))}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from their summaries, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(CORE_COMMANDS.items()))
        plugin_commands = _plugin_commands(default_registry())
        if plugin_commands:
            with formatter.section("Commands from plugins"):
                formatter.write_dl(list(plugin_commands.items()))


def _plugin_commands(registry: Registry) -> dict[str, str]:
    """Return plugins' commands and summaries, less those that claim a core command's name."""
    commands = {}
    for registration in registry.registrations("register_commands"):
        if registration.name in CORE_COMMANDS:
            registry.note_problem(
                registration.plugin,
                f"the command {registration.name!r} is a core command and cannot be replaced",
            )
        else:
            commands[registration.name] = registration.summary
    return commands


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nStart with: sentikit train --recipe quickstart",
)
@click.version_option(__version__, prog_name="sentikit")
@click.option("--debug", is_flag=True, help="Show the traceback when something fails.")
def sentikit(debug: bool) -> None:
    """Label sentiment well and cheaply: encoders and LLMs, alone or as a team."""
    if debug:
        os.environ["SENTIKIT_DEBUG"] = "1"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every failure is one sentence and an exit code."""
    try:
        sys.exit(sentikit.main(args=arguments, prog_name="sentikit", standalone_mode=False) or 0)
    except click.ClickException as error:
        _debug_traceback()
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (as `| head` does); there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        _debug_traceback()
        click.echo(
            f"Error: {type(error).__name__}: {error}\n"
            "This is not a mistake of yours. `sentikit --debug …` shows where it happened; "
            "please report it.",
            err=True,
        )
        sys.exit(1)


def _debug_traceback() -> None:
    if os.environ.get("SENTIKIT_DEBUG"):
        raise  # noqa: PLE0704 - called from an except block
