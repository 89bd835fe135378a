"""The command line: one module per command, imported only when the command runs."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import TYPE_CHECKING

import click

from sentikit import __version__
from sentikit.errors import did_you_mean, one_line, printable
from sentikit.hookspecs import PROJECT
from sentikit.registry import Registry, default_registry
from sentikit.stopping import Terminated, clean_up_at_sigterm

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from sentikit.registration import Registration

#: Core commands in the order of typical use, with their lines in ``--help``.
CORE_COMMANDS: dict[str, str] = {
    "train": "Train a classifier on a dataset and save a run.",
    "evaluate": "Score a classifier on a dataset.",
    "predict": "Label a file or a pipe.",
    "prompt": "Label a dataset with an LLM and save a run.",
    "cascade": "Combine classifiers: each answers where it is confident.",
    "vote": "Take the majority label of several runs.",
    "compare": "Judge runs: scores, significance, cost, and which one to use.",
    "recipes": "List, show, copy and check recipes.",
    "datasets": "List and describe datasets.",
    "runs": "List and show runs.",
    "plugins": "List, check and start plugins.",
}
#: Core commands with subcommands, to which plugins may add theirs.
CORE_GROUPS = ("datasets", "plugins", "recipes", "runs")
#: Those whose subcommands are all of plugins.
_PLUGIN_GROUPS = ("datasets", "recipes", "runs")


class CommandGroup(click.Group):
    """A group of core commands, to which plugins can add commands but not replace any.

    A plugin's command is imported only to run it. Plugins are loaded only for ``--help`` and for
    names that are not core commands.
    """

    @property
    def prefix(self) -> str:
        """The prefix with which plugins register commands of this group, such as ``"runs "``."""
        return f"{self.name} "

    def own(self) -> dict[str, str]:
        return {name: command.get_short_help_str(100) for name, command in self.commands.items()}

    def added(self, registry: Registry) -> dict[str, Registration]:
        """Return plugins' commands; one with a core command's name becomes ``plugin/name``."""
        commands = {}
        for name in registry.names("register_commands"):
            found = registry.find("register_commands", name)
            command = found.name.removeprefix(self.prefix)
            if not found.name.startswith(self.prefix) or " " in command:
                continue
            if command in self.own():
                registry.note_problem(
                    found.plugin,
                    f"the command {found.name!r} is a core command and cannot be replaced; "
                    f"write sentikit {self.prefix}{found.plugin}/{command}",
                )
                command = f"{found.plugin}/{command}"
            elif "/" in name:
                command = f"{found.plugin}/{command}"
            commands[command] = found
        return commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.own(), *self.added(default_registry())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.own():
            return super().get_command(ctx, cmd_name)
        registry = default_registry()
        plugin, slash, command = cmd_name.rpartition("/")
        registered = f"{plugin}{slash}{self.prefix}{command}"
        claimed = registry.registrations("register_commands")
        if not any(registered in (r.name, r.qualified_name) for r in claimed):
            return None
        found = registry.load("register_commands", registered)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest similar ones."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not name.startswith("-"):
            known = self.list_commands(ctx)
            advice = f"{did_you_mean(name, known)} {default_registry().advice()}".rstrip()
            raise click.UsageError(f"No such command {name!r}. {advice}", ctx)
        return super().resolve_command(ctx, args) if command is None else (name, command, args[1:])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete options and commands, without importing any command."""
        from click.shell_completion import CompletionItem

        added = {name: r.summary for name, r in self.added(default_registry()).items()}
        known = {**self.own(), **added}
        items = [CompletionItem(n, help=s) for n, s in known.items() if n.startswith(incomplete)]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their summaries, without importing any."""
        shown = dict(self.own())
        foreign: dict[str, str] = {}
        for name, registration in self.added(default_registry()).items():
            bundled = registration.distribution == PROJECT
            (shown if bundled else foreign)[name] = registration.summary
        with formatter.section("Commands"):
            formatter.write_dl(list(shown.items()))
        if foreign:
            with formatter.section("Commands from plugins"):
                formatter.write_dl(list(foreign.items()))


class _RootGroup(CommandGroup):
    """The root group, which imports a core command only to run it."""

    prefix = ""

    def own(self) -> dict[str, str]:
        return CORE_COMMANDS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in CORE_COMMANDS:
            return super().get_command(ctx, cmd_name)
        if cmd_name in _PLUGIN_GROUPS:
            return CommandGroup(cmd_name, help=CORE_COMMANDS[cmd_name])
        command = getattr(importlib.import_module(f"sentikit.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return core commands, then plugins'; report those that cannot be called."""
        registry = default_registry()
        for name in CORE_GROUPS:
            group = self.get_command(ctx, name)
            assert isinstance(group, CommandGroup)
            group.added(registry)
        for registration in registry.registrations("register_commands"):
            group_name, space, _ = registration.name.partition(" ")
            if space and group_name not in CORE_GROUPS:
                registry.note_problem(
                    registration.plugin,
                    f"the command {registration.name!r} cannot be called: there is no group "
                    f"{group_name!r}. {did_you_mean(group_name, CORE_GROUPS)}",
                )
        return super().list_commands(ctx)

    def invoke(self, ctx: click.Context) -> None:
        """Run the command; its return value is not an exit code."""
        super().invoke(ctx)


@click.group(
    cls=_RootGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nStart with: sentikit train --recipe quickstart",
)
@click.version_option(__version__, prog_name="sentikit")
@click.option("--debug", is_flag=True, help="Show the traceback when something fails.")
@click.option("--local_rank", hidden=True, expose_value=False)  # the deepspeed launcher adds it
def sentikit(debug: bool) -> None:
    """Label sentiment with encoders and LLMs, alone or combined."""
    if debug:
        os.environ["SENTIKIT_DEBUG"] = "1"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every failure is one sentence and an exit code."""
    clean_up_at_sigterm()
    _write_utf8()
    # Read when torch is loaded. By default, idle threads spin, which makes training take five times
    # as long if another program keeps one core busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Keeps pydantic from searching all installed distributions for its own plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    code = 1
    try:
        code = sentikit.main(args=arguments, prog_name="sentikit", standalone_mode=False) or 0
    except click.ClickException as error:
        _debug_traceback()
        # All processes of a job have the same arguments, so only one reports wrong usage.
        if not isinstance(error, click.UsageError) or os.environ.get("RANK", "0") == "0":
            error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        # Click replaces Ctrl-C by its own Abort.
        when = str(error.__cause__ or error)
        _say(f"Stopped {when}." if when else "Stopped.")
        code = 130
    except BrokenPipeError:
        # The reader of the output has closed it, as `| head` does.
        _give_up_output()
    except OSError as error:
        _debug_traceback()
        _give_up_output()
        place = f"{error.filename}: " if error.filename else ""
        _say(f"Error: {place}{error.strerror or error}.")
    except SystemExit as error:
        # sys.exit(0) inside a component is not success.
        fault = "" if isinstance(error, Terminated) else default_registry().fault(error)
        if not fault:
            raise
        _debug_traceback()
        _say(f"Error: {fault}")
    except Exception as error:
        _debug_traceback()
        _say(f"Error: {_unexpected(error)}")
    sys.exit(code)


def _write_utf8() -> None:
    """Write UTF-8 with Unix line ends on every system, except to a terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")


def _unexpected(error: BaseException) -> str:
    from sentikit.keys import redacted

    if fault := default_registry().fault(error):
        return redacted(fault)
    return (
        f"{type(error).__name__}: {redacted(one_line(error))}\nThis is a bug in sentikit. Please "
        "report it with the output of `sentikit --debug …`."
    )


def _say(message: str) -> None:
    """Write to standard error without click, which a plugin may have changed."""
    sys.stderr.write(f"{printable(message)}\n")


def _give_up_output() -> None:
    """Drop output that could not be written, which Python would try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _debug_traceback() -> None:
    if os.environ.get("SENTIKIT_DEBUG"):
        import traceback

        traceback.print_exc()
