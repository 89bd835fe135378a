"""``sentikit prompt``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentikit.cli.options import BATCH, resolved_recipe
from sentikit.command_options import ESTIMATE, MAX_COST, OUTPUT, RECIPE, RESUME, SETTINGS
from sentikit.errors import InputError, printable
from sentikit.processes.launching import resumable
from sentikit.terminal import print_scores, usd_text

if TYPE_CHECKING:
    from sentikit.llm.recipe import PromptComponents
    from sentikit.runs.writer import FinishedRun


@click.command(
    epilog="\b\nExample: sentikit prompt --recipe b3-gpt-4o-mini-zero-shot --show 1\n"
    "         sentikit prompt --recipe b3-gpt-4o-mini-zero-shot --max-cost 2.50 --output runs/b3"
)
@RECIPE
@SETTINGS
@OUTPUT
@click.option("--show", type=click.IntRange(min=1), metavar="N", help="Print N prompts; send none.")
@ESTIMATE
@MAX_COST
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Label N examples at most.")
@BATCH
@click.option(
    "--fail-on-error",
    metavar="N|FRACTION",
    help="Stop once N rows, or this fraction of all, have failed; default: never.",
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
    from sentikit.labelling.prompting import run_prompt
    from sentikit.labelling.rows import LabellingOptions
    from sentikit.llm.recipe import prompt_components
    from sentikit.llm.settings import FailureLimit
    from sentikit.recipe.resolving import needed_recipe
    from sentikit.registry import default_registry
    from sentikit.runs.folder import choose_run_folder

    if (show is not None) + estimate + resume > 1:
        raise InputError("--show, --estimate and --resume are mutually exclusive. Give one.")
    registry = default_registry()
    name = needed_recipe(recipe, "prompt", registry)
    components = prompt_components(resolved_recipe(name, settings, registry), registry)
    if show:
        _show(components, show, as_json)
        return
    if estimate:
        _estimate(components, limit, batch, output, as_json)
        return
    components.llm.check_key()
    failure_limit = FailureLimit.parse(fail_on_error) if fail_on_error else None
    run = choose_run_folder(output, components.recipe.name, resume)
    with resumable(context, run.path) as stop_requested:
        options = LabellingOptions(max_cost, failure_limit, batch, resume, stop_requested, limit)
        finished = run_prompt(components, run.path, options)
    _print(finished, as_json)


def _show(components: PromptComponents, number: int, as_json: bool) -> None:
    from sentikit.labelling.prompting import shown_prompts

    asked = shown_prompts(components, number)
    if as_json:
        shown = [{"id": own, "messages": [m.__dict__ for m in messages]} for own, messages in asked]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for identifier, messages in asked:
        click.secho(f"=== example {printable(identifier)}", err=True, bold=True)
        for message in messages:
            click.secho(f"--- {printable(message.role)}", err=True, dim=True)
            click.echo(printable(message.content))


def _estimate(
    components: PromptComponents, limit: int | None, batch: bool, output: Path | None, as_json: bool
) -> None:
    from sentikit.labelling.job import estimate
    from sentikit.labelling.loading import refuse_missing_model
    from sentikit.labelling.prompting import split_classifier, split_to_label
    from sentikit.llm.session import CACHE
    from sentikit.runs.folder import RUNS
    from sentikit.runs.writer import SplitRows

    refuse_missing_model(components)
    cache = components.llm_options.cache or (output.resolve().parent if output else RUNS) / CACHE
    split = split_to_label(components, limit)
    classifier = split_classifier(components, split)
    found = estimate(classifier, SplitRows(split), cache, batch)
    # An adviser that is an LLM has its own estimate.
    counted = [one.to_json() for one in found]
    if as_json:
        click.echo(json.dumps(counted[0] if len(counted) == 1 else counted, indent=2))
    else:
        click.echo("\n\n".join(one.to_text() for one in found))


def _print(finished: FinishedRun, as_json: bool) -> None:
    totals, scores = finished.totals, finished.scores
    probing = finished.cost_usd.get("probing", 0.0)
    paid = None if totals.paid is None or probing is None else totals.paid + probing
    if as_json:
        result = {
            "run": str(finished.path),
            "split": finished.split,
            "rows": totals.rows,
            "invalid": totals.invalid,
            "failed": totals.failed,
            "cost_usd": finished.cost_usd,
            "paid_usd": paid,
            "answers_without_usage": totals.unmetered,
            "overall": None if scores is None else scores.to_json(),
            "by_source": {name: own.to_json() for name, own in finished.by_source.items()},
        }
        click.echo(json.dumps(result, indent=2))
        return
    if scores is not None:
        print_scores(f"{finished.path}: scores on {finished.split}", finished.metrics())
    else:
        click.echo(f"{finished.path}: {totals.rows:,} rows labelled, none has a gold label")
    rate = totals.invalid / max(1, totals.texts)
    facts = [f"{totals.invalid:,} of {totals.texts:,} answers invalid ({rate:.1%})"]
    if totals.without_text:
        facts.append(f"{totals.without_text:,} rows without text")
    if totals.repaired:
        facts.append(f"{totals.repaired:,} repaired")
    if totals.failed:
        facts.append(f"{totals.failed:,} rows failed (see error in predictions.jsonl)")
    facts.append("cost unknown" if paid is None else f"${usd_text(paid)} paid")
    if totals.paid is not None and totals.cost and totals.cost > totals.paid:
        facts.append(f"${usd_text(totals.cost - totals.paid)} saved by the cache")
    if totals.unmetered:
        counted = "their cost is unknown" if paid is None else "counted at their worst case"
        facts.append(f"{totals.unmetered:,} answers without usage, {counted}")
    click.echo(", ".join(facts) + ".", err=True)
