"""``sentikit doctor``."""

from __future__ import annotations

from typing import Any

import click


@click.command(
    epilog="\b\nExample: sentikit doctor\n"
    "         sentikit doctor --base-url http://localhost:8000/v1\n"
    "         sentikit doctor --models --base-url https://api.mistral.ai/v1"
)
@click.option(
    "--base-url", metavar="URL", help="An LLM server to test, such as http://localhost:8000/v1."
)
@click.option(
    "--model", metavar="NAME", help="The model to test; default: the server's only model."
)
@click.option(
    "--models",
    is_flag=True,
    help="List models with price, context and end date; --base-url adds a provider's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def doctor(base_url: str | None, model: str | None, models: bool, as_json: bool) -> None:
    """Check this machine, the installation, API keys and an LLM server.

    Testing a server takes a few short calls, which a provider bills. Keys are never shown.
    """
    import json

    from .machine import machine_report
    from .server import server_report

    if models:
        _list_models(base_url, as_json)
        return
    report = machine_report()
    if base_url or model:
        report["server"] = server_report(base_url, model)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    problem = report.get("server", {}).get("error")
    if problem:
        raise click.exceptions.Exit(1)


def _list_models(base_url: str | None, as_json: bool) -> None:
    import json

    from sentikit.extension import print_table

    from .server import models_report

    found = models_report(base_url)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    numbers = ["prompt", "cached", "completion", "context"]
    columns = ["model", *numbers, "ends", "successor", "source", "as of"]
    keys = [column.replace(" ", "_") for column in columns]
    rows = [[_cell(entry[key]) for key in keys] for entry in found]
    print_table("Models, USD per million tokens", columns, rows, numbers)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else _word(value)


def _print(report: dict[str, Any]) -> None:
    for section, values in report.items():
        click.secho(section.replace("_", " ").capitalize(), bold=True)
        for line in _lines(values):
            click.echo(f"  {line}")


def _lines(values: Any) -> list[str]:
    if not isinstance(values, dict):
        return [_word(values)]
    width = max((len(str(key)) for key in values), default=0)
    lines = []
    for key, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = [" ".join(str(word) for word in entry.values()) for entry in value]
        name = str(key) if str(key).isupper() else str(key).replace("_", " ")
        lines.append(f"{name:<{width}}  {_word(value)}")
    return lines


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ([], {}, ""):
        return "-"
    if isinstance(value, list):
        return ", ".join(_word(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_word(item)}" for key, item in value.items())
    return str(value)
