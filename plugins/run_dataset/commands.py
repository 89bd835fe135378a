"""``sentikit runs list`` and ``sentikit runs show``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sentikit.extension import (
    complete_classifier,
    find_runs,
    print_scores,
    print_table,
    print_text,
    read_summary,
    spent_usd,
)


@click.command("list", epilog="Example: sentikit runs list --json")
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_runs(folder: Path, as_json: bool) -> None:
    """List the runs under FOLDER (runs/ if left out), newest last."""
    found = find_runs(folder)
    if as_json:
        click.echo(json.dumps([run.to_json() for run in found], indent=2))
        return
    if not found:
        click.echo(f"There are no runs under {folder}/.", err=True)
        return
    columns = ["run", "kind", "status", "dataset", "macro-F1", "accuracy", "started"]
    rows = [
        [
            run.path,
            run.kind,
            run.status,
            run.dataset,
            _score(run.macro_f1),
            _score(run.accuracy),
            run.started,
        ]
        for run in found
    ]
    print_table("", columns, rows, ["macro-F1", "accuracy"])
    for run in found:
        if run.problem:
            print_text(f"{run.path} is damaged: {run.problem}", err=True)


#: The rows of a run that has not finished, and the usual file of answers beside runs.
_PARTIAL, _ANSWERS = "predictions.partial.jsonl", "answers.sqlite"
#: The keys of a manifest that are shown.
_SHOWN = (
    *("failure", "started", "finished", "device", "precision", "seed", "best_epoch", "stopped"),
    *("provider", "base_model", "trained_tokens", "cost_usd", "spent_usd", "other_metrics"),
)


@click.command(epilog="Example: sentikit runs show runs/quickstart")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete_classifier)
@click.option("--json", "as_json", is_flag=True, help="Print manifest and metrics as JSON.")
def show(run: Path, as_json: bool) -> None:
    """Show a run's settings, cost and scores."""
    summary, manifest, metrics = read_summary(run)
    manifest |= _spent_by_a_killed_run(run, manifest)
    if as_json:
        click.echo(json.dumps({"manifest": manifest, "metrics": metrics}, indent=2))
        return
    own = ((metrics or {}).get("overall") or {}).get("metrics") or {}
    manifest["other_metrics"] = {name: _score(value) for name, value in own.items()}
    print_text(f"{summary.path}: {summary.kind}, {summary.status}")
    for key in _SHOWN:
        if manifest.get(key) not in (None, {}, []):
            print_text(f"{key.replace('_', ' '):<14} {_spelled(manifest[key])}")
    made = manifest.get("fine_tuned") or {}
    if made:
        print_text(f"{'model':<14} {made.get('model') or run / str(made.get('folder'))}")
    else:
        _print_metrics(metrics, summary.status)
    if summary.status != "finished" and (run / _PARTIAL).is_file():
        click.echo(f"The rows labelled so far are in {run / _PARTIAL}.", err=True)


def _spelled(value: object) -> str:
    """Return a manifest's value as text, with unknown costs as ``unknown``."""
    if not isinstance(value, dict):
        return str(value)
    shown = {item: "unknown" if part is None else part for item, part in value.items()}
    return ", ".join(f"{item} {part}" for item, part in shown.items())


def _spent_by_a_killed_run(run: Path, manifest: dict[str, Any]) -> dict[str, float]:
    """Return a killed run's cost from the answer journal.

    Calls in flight count at their worst-case cost, because they may have been billed.
    """
    if manifest.get("status") != "running" or not manifest.get("run_id"):
        return {}
    journal = run / manifest.get("answers", f"../{_ANSWERS}")
    return {"spent_usd": spent_usd(manifest["run_id"], journal)} if journal.is_file() else {}


def _print_metrics(metrics: dict[str, Any] | None, status: str) -> None:
    if metrics and "overall" in metrics:
        print_scores(f"scores on {metrics.get('split', '')}", metrics)
        return
    finished = "No scores: this data has no labels to score against."
    click.echo(finished if status == "finished" else "No scores yet.", err=True)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
