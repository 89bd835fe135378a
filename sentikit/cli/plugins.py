"""``sentikit plugins``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sentikit.cli import CommandGroup
from sentikit.terminal import print_table

if TYPE_CHECKING:
    from sentikit.registration import Registration
    from sentikit.registry import PluginReport, Registry


@click.group(cls=CommandGroup, epilog="Example: sentikit plugins list")
def plugins() -> None:
    """List, check and start plugins."""


@plugins.command("list", epilog="Example: sentikit plugins list --hook register_heads")
@click.option("--hook", metavar="HOOK", help="Only plugins of this hook, such as heads.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_plugins(hook: str | None, as_json: bool) -> None:
    """List every plugin: its package, its state, what it registers and its problems."""
    registry = _registry()
    reports = registry.reports()
    if hook is not None:
        reports = _offering(reports, _full_hook_name(hook))
    _warn_of_unknown_names(registry)
    if as_json:
        click.echo(json.dumps([_report_json(report) for report in reports], indent=2))
        return
    columns = ["plugin", "distribution", "version", "state", "offers"]
    print_table("", columns, [_report_row(report) for report in reports])
    for report in reports:
        for problem in report.problems:
            click.echo(f"{report.name}: {problem}")


def _registry() -> Registry:
    from sentikit.cli import sentikit
    from sentikit.registry import default_registry

    sentikit.list_commands(click.Context(sentikit))  # records unreachable commands
    return default_registry()


def _full_hook_name(hook: str) -> str:
    from sentikit.errors import unknown_name
    from sentikit.hookspecs import KINDS

    short = hook.removeprefix("register_")
    known = [name.removeprefix("register_") for name in KINDS]
    if short not in known:
        raise unknown_name("hook", hook, known)
    return f"register_{short}"


def _offering(reports: Sequence[PluginReport], hook: str) -> list[PluginReport]:
    """Keep the plugins that register something through `hook`, and only those registrations."""
    from dataclasses import replace

    kept = []
    for report in reports:
        own = tuple(r for r in report.registrations if r.hook == hook)
        if own:
            kept.append(replace(report, registrations=own))
    return kept


def _warn_of_unknown_names(registry: Registry) -> None:
    from sentikit.errors import did_you_mean
    from sentikit.hookspecs import DISABLE_VARIABLE

    known = [report.name for report in registry.reports()]
    for name in registry.unknown_disabled():
        advice = did_you_mean(name, known)
        click.echo(f"{DISABLE_VARIABLE} names no plugin with {name!r}. {advice}", err=True)


def _by_kind(registrations: Sequence[Registration]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for registration in registrations:
        names.setdefault(registration.kind, []).append(registration.name)
    return names


def _report_row(report: PluginReport) -> list[str]:
    # There are many recipes; `sentikit recipes list` has their names.
    offers = [
        f"{len(names):,} recipes"
        if kind == "recipe" and len(names) > 3
        else f"{kind} {', '.join(names)}"
        for kind, names in _by_kind(report.registrations).items()
    ]
    return [report.name, report.distribution, report.version, report.state, "; ".join(offers)]


def _report_json(report: PluginReport) -> dict[str, Any]:
    return {
        "name": report.name,
        "distribution": report.distribution,
        "version": report.version,
        "location": report.location,
        "state": report.state,
        "offers": _by_kind(report.registrations),
        "problems": list(report.problems),
    }
