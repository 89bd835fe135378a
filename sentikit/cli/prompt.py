"""``sentikit prompt``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.amounts import usd_text
from sentikit.cli.options import OUTPUT, RECIPE, RUNS, SETTINGS
from sentikit.errors import InputError
from sentikit.finite_numbers import FiniteRange

if TYPE_CHECKING:
    from sentikit.llm.parts import PromptParts
    from sentikit.llm.results import FinishedPrompting


@click.command(
    epilog="\b\nExample: sentikit prompt --recipe b3-gpt-4o-mini-zero-shot --show 1\n"
    "         sentikit prompt --recipe b3-gpt-4o-mini-zero-shot --max-cost 2.50 --output runs/b3"
)
@RECIPE
@SETTINGS
@OUTPUT
@click.option("--show", type=click.IntRange(min=1), metavar="N", help="Print N prompts; ask none.")
@click.option("--estimate", is_flag=True, help="Count tokens and dollars offline; ask nothing.")
@click.option(
    "--max-cost",
    type=FiniteRange(min=0, min_open=True),
    metavar="USD",
    help="Never spend more: each call's worst is set aside before it is made.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Label N examples at most.")
@click.option("--batch", is_flag=True, help="Use the provider's batch service: slower, cheaper.")
@click.option(
    "--fail-on-error",
    metavar="N|FRACTION",
    help="Stop once N rows, or this fraction of all, have failed. Default: failing rows are rows.",
)
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped or killed.")
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
    """Label a dataset with an LLM and leave a run: predictions, scores, costs."""
    from sentikit.llm.job import PromptOptions
    from sentikit.llm.job import prompt as run_prompt
    from sentikit.llm.requests.settings import FailureLimit
    from sentikit.runs.folder import choose_run_folder

    if (show is not None) + estimate + resume > 1:
        raise InputError("--show, --estimate and --resume are different errands: give one.")
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
        options = PromptOptions(limit, max_cost, failure_limit, batch, resume, stop_requested)
        finished = run_prompt(parts, run.path, options)
    _print_result(finished, as_json)


def _parts(recipe: str | None, settings: tuple[str, ...]) -> PromptParts:
    from sentikit.llm.parts import prompt_parts
    from sentikit.recipe.catalogue import needed_recipe
    from sentikit.recipe.resolving import resolve_recipe
    from sentikit.registry import default_registry

    registry = default_registry()
    name = needed_recipe(recipe, "prompt", registry)
    return prompt_parts(resolve_recipe(name, settings, registry), registry)


def _questions(parts: PromptParts, limit: int | None) -> Iterator[Any]:
    """Return the questions of a recipe, and read no more of the split than is needed."""
    from sentikit.llm.asking import questions
    from sentikit.llm.briefing import brief
    from sentikit.llm.split import split_to_label
    from sentikit.registry import default_registry

    split = split_to_label(parts, limit)
    return questions(parts, split, brief(parts, split, default_registry()))


def _show(parts: PromptParts, number: int, as_json: bool) -> None:
    import json

    asked = [question.request for question in islice(_questions(parts, number), number)]
    if as_json:
        shown = [{"id": r.example_id, "messages": [m.__dict__ for m in r.messages]} for r in asked]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for request in asked:
        click.secho(f"=== example {request.example_id}", err=True, bold=True)
        for message in request.messages:
            click.secho(f"--- {message.role}", err=True, dim=True)
            click.echo(message.content)


def _estimate(
    parts: PromptParts, limit: int | None, batch: bool, output: Path | None, as_json: bool
) -> None:
    import json

    from sentikit.llm.estimating import estimate
    from sentikit.llm.job import refuse_missing
    from sentikit.llm.requests.job import CACHE

    refuse_missing(parts)
    cache = parts.llm_options.cache or (output.resolve().parent if output else RUNS) / CACHE
    found = estimate(parts.llm, _questions(parts, limit), parts.llm_options, cache, batch)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else found.to_text())


@contextmanager
def resumable(context: click.Context, path: Path | None) -> Iterator[Any]:
    """Finish calls at the first Ctrl-C (or SIGTERM), and say how to go on after a stop."""
    from sentikit.processes.launching import typed_command
    from sentikit.stopping import Interrupted, stop_on_signal

    def tell(number: int) -> None:
        click.echo("Waiting for the calls under way; once more stops at once.", err=True)

    try:
        with stop_on_signal(tell) as stop_requested:
            yield stop_requested
    except (Interrupted, KeyboardInterrupt) as error:
        add = ["--output", str(path)] if path is not None else []
        again = typed_command(context, ["output", "resume"], [*add, "--resume"])
        click.echo(f"Stopped. Go on with: {again}", err=True)
        raise click.exceptions.Exit(130) from error


def _print_result(finished: FinishedPrompting, as_json: bool) -> None:
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


def _result(finished: FinishedPrompting) -> dict[str, Any]:
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


def _summary(finished: FinishedPrompting) -> str:
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
