"""``sentikit plugins``: which plugins there are, whether they are sound, and a new one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.cli import CommandGroup
from sentikit.cli.tables import print_table

if TYPE_CHECKING:
    from sentikit.registration import Registration
    from sentikit.registry import PluginReport, Registry
    from sentikit.testing.plugins import Finding


@click.group(cls=CommandGroup, epilog="Example: sentikit plugins list")
def plugins() -> None:
    """List, check and start plugins."""


@plugins.command("list", epilog="Example: sentikit plugins list --hook register_heads")
@click.option("--hook", metavar="HOOK", help="Only what is offered through this hook, as heads.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_plugins(hook: str | None, as_json: bool) -> None:
    """List every plugin: where it comes from, its state, what it offers, what is wrong."""
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


@plugins.command(epilog="Example: sentikit plugins check heads")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def check(name: str | None, as_json: bool) -> None:
    """Run sentikit's conformance kit on one plugin, or on all; exit 1 if one fails.

    Parts that may load much or reach a network are imported and their settings checked; a
    plugin's own tests put them to work, with sentikit.testing.
    """
    registry = _registry()
    findings = _findings(_checked_reports(registry, name), registry)
    if as_json:
        click.echo(json.dumps([_finding_json(finding) for finding in findings], indent=2))
    else:
        _print_findings(findings)
    failed = sorted({finding.plugin for finding in findings if finding.problem})
    if failed:
        click.echo(f"Failed: {', '.join(failed)}.", err=True)
        raise click.exceptions.Exit(1)


@plugins.command(epilog="Example: sentikit plugins new film-club")
@click.argument("name")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the distribution goes; default: a folder called NAME.",
)
@click.option(
    "--kind",
    metavar="KIND",
    help="One component: classifier, command, dataset, encoder, head, llm_backend, metric, "
    "prompt_strategy or tracker; default: a dataset, a head and a command.",
)
def new(name: str, output: Path | None, kind: str | None) -> None:
    """Write a plugin to start from, with its tests."""
    from sentikit.cli import CORE_COMMANDS
    from sentikit.errors import unknown_name
    from sentikit.new_plugin import KINDS, write_plugin

    if kind is not None and kind not in KINDS:
        raise unknown_name("kind of component", kind, KINDS)
    folder = output or Path(name)
    for path in write_plugin(name, folder, _registry(), CORE_COMMANDS, kind):
        click.echo(path)
    install, test = f"pip install -e '{folder}[test]'", f"pytest {folder}"
    click.echo(f"Next: {install} && {test} && sentikit plugins check {name}", err=True)


def _registry() -> Registry:
    from sentikit.cli import note_unreachable_commands
    from sentikit.registry import default_registry

    registry = default_registry()
    note_unreachable_commands(registry)
    return registry


def _full_hook_name(hook: str) -> str:
    from sentikit.errors import unknown_name
    from sentikit.hookspecs import KINDS

    short = hook.removeprefix("register_")
    known = [name.removeprefix("register_") for name in KINDS]
    if short not in known:
        raise unknown_name("hook", hook, known)
    return f"register_{short}"


def _offering(reports: Sequence[PluginReport], hook: str) -> list[PluginReport]:
    """Keep the plugins that offer something through `hook`, and of them only that."""
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
    offers = [f"{kind} {', '.join(ns)}" for kind, ns in _by_kind(report.registrations).items()]
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


def _checked_reports(registry: Registry, name: str | None) -> list[PluginReport]:
    """Return the plugins to check: the one named, or all that are switched on.

    Raises:
        InputError: there is no such plugin, or it is switched off.
    """
    from sentikit.errors import InputError, unknown_name

    reports = registry.reports()
    if name is None:
        return [report for report in reports if report.state != "disabled"]
    chosen = [report for report in reports if report.name == name]
    if not chosen:
        raise unknown_name("plugin", name, [report.name for report in reports])
    if chosen[0].state == "disabled":
        raise InputError(
            f"The plugin {name!r} is {chosen[0].problems[0]}; switch it on to check it."
        )
    return chosen


def _findings(reports: Sequence[PluginReport], registry: Registry) -> list[Finding]:
    from sentikit.live_bar import LiveBar
    from sentikit.testing.plugins import examine

    findings: list[Finding] = []
    with LiveBar("parts") as bar:
        bar.update(total=sum(1 + len(report.registrations) for report in reports))
        for finding in examine(reports, registry, {}):
            findings.append(finding)
            bar.update(len(findings), line=f"Checking {finding.plugin}")
    return findings


def _print_findings(findings: Sequence[Finding]) -> None:
    rows = [[f.plugin, f.kind, f.name, _verdict(f)] for f in findings]
    print_table("", ["plugin", "kind", "name", "result"], rows)
    for finding in findings:
        if finding.problem:
            click.echo(f"{finding.plugin}, {finding.kind} {finding.name}: {finding.problem}")


def _verdict(finding: Finding) -> str:
    if finding.problem:
        return "failed"
    return "passed" if finding.tried else "passed, not put to work"


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "plugin": finding.plugin,
        "kind": finding.kind,
        "name": finding.name,
        "passed": not finding.problem,
        "put_to_work": finding.tried,
        "problem": finding.problem or None,
    }
