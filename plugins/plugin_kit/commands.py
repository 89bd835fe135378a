"""The commands ``plugins check`` and ``plugins new``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit import InputError
from sentikit.extension import LiveBar, default_registry, print_table, unknown_name

if TYPE_CHECKING:
    from sentikit.extension import PluginReport, Registry

    from .examination import Finding


@click.command(epilog="Example: sentikit plugins check heads")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def check(name: str | None, as_json: bool) -> None:
    """Run sentikit's conformance kit on one plugin, or on all; exit 1 if one fails.

    Components that may load large files or use the network are not run; a plugin's own tests run
    them, with sentikit.plugins.plugin_kit.checks.
    """
    _command_names()  # reports plugins whose commands cannot be called
    registry = default_registry()
    findings = _findings(_checked_reports(registry, name), registry)
    if as_json:
        click.echo(json.dumps([_finding_json(finding) for finding in findings], indent=2))
    else:
        _print_findings(findings)
    failed = sorted({finding.plugin for finding in findings if finding.problem})
    if failed:
        click.echo(f"Failed: {', '.join(failed)}.", err=True)
        raise click.exceptions.Exit(1)


@click.command(epilog="Example: sentikit plugins new film-club")
@click.argument("name")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the distribution; default: NAME.",
)
@click.option(
    "--kind",
    metavar="KIND",
    help="One component: classifier, command, dataset, encoder, head, llm_backend, metric, "
    "prompt_strategy, report, table_format or tracker; default: a dataset, a head and a command.",
)
def new(name: str, output: Path | None, kind: str | None) -> None:
    """Create a plugin to start from, with tests."""
    from .new_plugin import KINDS, write_plugin

    if kind is not None and kind not in KINDS:
        raise unknown_name("kind of component", kind, KINDS)
    folder = output or Path(name)
    for path in write_plugin(name, folder, default_registry(), _command_names(), kind):
        click.echo(path)
    install, test = f"pip install -e '{folder}[test]'", f"pytest {folder}"
    click.echo(f"Next: {install} && {test} && sentikit plugins check {name}", err=True)


def _command_names() -> list[str]:
    """Return the names of all commands."""
    context = click.get_current_context().find_root()
    group = context.command
    return group.list_commands(context) if isinstance(group, click.Group) else []


def _checked_reports(registry: Registry, name: str | None) -> list[PluginReport]:
    """Return the plugins to check: the named one, or all that are enabled.

    Raises:
        InputError: there is no such plugin, or it is disabled.
    """
    reports = registry.reports()
    if name is None:
        return [report for report in reports if report.state != "disabled"]
    chosen = [report for report in reports if report.name == name]
    if not chosen:
        raise unknown_name("plugin", name, [report.name for report in reports])
    if chosen[0].state == "disabled":
        raise InputError(f"The plugin {name!r} is {chosen[0].problems[0]}; enable it to check it.")
    return chosen


def _findings(reports: Sequence[PluginReport], registry: Registry) -> list[Finding]:
    from .examination import examine

    findings: list[Finding] = []
    with LiveBar("components") as bar:
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
    return "passed" if finding.tried else "passed, not run"


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "plugin": finding.plugin,
        "kind": finding.kind,
        "name": finding.name,
        "passed": not finding.problem,
        "put_to_work": finding.tried,
        "problem": finding.problem or None,
    }
