"""``sentikit prompt``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.cli.options import (
    BATCH,
    ESTIMATE,
    MAX_COST,
    OUTPUT,
    RECIPE,
    RESUME,
    RUNS,
    SETTINGS,
    resolved_recipe,
    resumable,
)
from sentikit.errors import InputError
from sentikit.terminal import usd_text

if TYPE_CHECKING:
    from sentikit.llm.recipe import PromptParts
    from sentikit.runs.writer import FinishedRun


@click.command(
    epilog="\b\nExample: sentikit prompt --recipe b3-gpt-4o-mini-zero-shot --show 1\n"
    "         sentikit prompt --recipe b3-gpt-4o-mini-zero-shot --max-cost 2.50 --output runs/b3"
)
@RECIPE
@SETTINGS
@OUTPUT
@click.option("--show", type=click.IntRange(min=1), metavar="N", help="Print N prompts; ask none.")
@ESTIMATE
@MAX_COST
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Label N examples at most.")
@BATCH
@click.option(
    "--fail-on-error",
    metavar="N|FRACTION",
    help="Stop once N rows, or this fraction of all, have failed. Default: failing rows are rows.",
)
@RESUME
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def prompt(
    context: click.Context,
    recipe: str | None,
    settings: tuple[str, ...],
    output: Path | None,
    show: int | None,
    estimate: bool,
    max_cost: float | None,
    limit: int | None,
    batch: bool,
    fail_on_error: str | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Label a dataset with an LLM and save a run: predictions, scores, costs."""
    from sentikit.labelling.loading import load
    from sentikit.labelling.prompting import PromptOptions
    from sentikit.labelling.prompting import prompt as run_prompt
    from sentikit.llm.settings import FailureLimit
    from sentikit.runs.folder import choose_run_folder

    if (show is not None) + estimate + resume > 1:
        raise InputError("--show, --estimate and --resume are mutually exclusive: give one.")
    parts = _parts(recipe, settings)
    if show:
        _show(parts, show, as_json)
        return
    if estimate:
        _estimate(parts, limit, batch, output, as_json)
        return
    failure_limit = FailureLimit.parse(fail_on_error) if fail_on_error else None
    run = choose_run_folder(output, parts.recipe.name, resume, RUNS)
    with resumable(context, run.path) as stop_requested:
        options = PromptOptions(max_cost, failure_limit, batch, resume, stop_requested, limit)
        finished = run_prompt(parts, run.path, options, load=load)
    _print_result(finished, as_json)


def _parts(recipe: str | None, settings: tuple[str, ...]) -> PromptParts:
    from sentikit.llm.recipe import prompt_parts
    from sentikit.recipe.catalogue import needed_recipe
    from sentikit.registry import default_registry

    registry = default_registry()
    name = needed_recipe(recipe, "prompt", registry)
    return prompt_parts(resolved_recipe(name, settings, registry), registry)


def _show(parts: PromptParts, number: int, as_json: bool) -> None:
    import json

    from sentikit.labelling.loading import load
    from sentikit.labelling.prompting import shown_prompts

    asked = shown_prompts(parts, number, load)
    if as_json:
        shown = [{"id": own, "messages": [m.__dict__ for m in messages]} for own, messages in asked]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for identifier, messages in asked:
        click.secho(f"=== example {identifier}", err=True, bold=True)
        for message in messages:
            click.secho(f"--- {message.role}", err=True, dim=True)
            click.echo(message.content)


def _estimate(
    parts: PromptParts, limit: int | None, batch: bool, output: Path | None, as_json: bool
) -> None:
    import json

    from sentikit.labelling.job import estimate
    from sentikit.labelling.loading import load
    from sentikit.labelling.prompting import refuse_missing, split_classifier, split_to_label
    from sentikit.llm.session import CACHE
    from sentikit.registry import default_registry
    from sentikit.runs.writer import split_rows

    refuse_missing(parts)
    cache = parts.llm_options.cache or (output.resolve().parent if output else RUNS) / CACHE
    split = split_to_label(parts, limit)
    classifier = split_classifier(parts, split, default_registry(), load)
    found = estimate(classifier, split_rows(split), cache, batch)
    if as_json:
        click.echo(json.dumps(found[0].to_json(), indent=2))
    else:
        click.echo("\n\n".join(counted.to_text() for counted in found))


def _print_result(finished: FinishedRun, as_json: bool) -> None:
    import json

    from sentikit.cli.tables import print_scores

    if as_json:
        click.echo(json.dumps(_result(finished), indent=2))
        return
    title = f"{finished.path}: scores on {finished.split}"
    if finished.scores is not None:
        print_scores(title, finished.scores, finished.by_source)
    else:
        click.echo(
            f"{finished.path}: {finished.totals.rows:,} rows labelled, none has a gold label"
        )
    click.echo(_summary(finished), err=True)


def _result(finished: FinishedRun) -> dict[str, Any]:
    totals = finished.totals
    return {
        "run": str(finished.path),
        "split": finished.split,
        "rows": totals.rows,
        "invalid": totals.invalid,
        "failed": totals.failed,
        "cost_usd": finished.cost_usd,
        "paid_usd": totals.paid,
        "answers_without_usage": totals.unmetered,
        "overall": None if finished.scores is None else finished.scores.to_json(),
        "by_source": {name: scores.to_json() for name, scores in finished.by_source.items()},
    }


def _summary(finished: FinishedRun) -> str:
    """Return the line about answers and money."""
    totals = finished.totals
    parts = [f"{totals.invalid:,} of {totals.rows:,} answers invalid ({_rate(totals):.1%})"]
    if totals.repaired:
        parts.append(f"{totals.repaired:,} repaired")
    if totals.failed:
        parts.append(f"{totals.failed:,} rows failed (see error in predictions.jsonl)")
    if totals.paid is None:
        parts.append("cost unknown")
    else:
        parts.append(f"${usd_text(totals.paid)} paid")
        if totals.cost and totals.cost > totals.paid:
            parts.append(f"${usd_text(totals.cost - totals.paid)} saved by the cache")
    if totals.unmetered:
        counted = "their cost is unknown" if totals.paid is None else "counted at their worst case"
        parts.append(f"{totals.unmetered:,} answers without usage, {counted}")
    return ", ".join(parts) + "."


def _rate(totals: Any) -> float:
    return float(totals.invalid / max(1, totals.rows))
