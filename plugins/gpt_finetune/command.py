"""``sentikit gpt-finetune``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentikit import InputError
from sentikit.extension import (
    DEVICE,
    ESTIMATE,
    OUTPUT,
    RECIPE,
    THREADS,
    FiniteRange,
    joined_processes,
    launch_processes,
    typed_command,
)

from .showing import cost_words, finished_json, report_table

if TYPE_CHECKING:
    from .job import FineTuning, FinishedFineTuning

_NOT_AGAIN = ["output", "resume", "no_wait", "cancel", "prepare_only"]


@click.command(
    "gpt-finetune",
    epilog="\b\nExample: sentikit gpt-finetune --recipe finetune-gpt-4o-mini-minimal --estimate\n"
    "         sentikit gpt-finetune --recipe finetune-gpt-4o-mini-minimal --max-cost 20",
)
@RECIPE
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change one value of the recipe, such as finetune.epochs=3; repeatable.",
)
@OUTPUT
@click.option("--prepare-only", is_flag=True, help="Write and check the files; start no job.")
@ESTIMATE
@click.option(
    "--max-cost",
    type=FiniteRange(min=0, min_open=True),
    metavar="USD",
    help="Refuse to start if the estimate is higher.",
)
@click.option("--no-wait", is_flag=True, help="Start the provider's job without waiting for it.")
@click.option("--resume", is_flag=True, help="Resume an unfinished run, or follow its job again.")
@click.option("--cancel", is_flag=True, help="Cancel the provider's job of an unfinished run.")
@click.option(
    "--nproc", type=click.IntRange(min=1), help="Processes to start, if the provider trains here."
)
@THREADS
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def gpt_finetune(
    context: click.Context,
    recipe: str | None,
    settings: tuple[str, ...],
    output: Path | None,
    prepare_only: bool,
    estimate: bool,
    max_cost: float | None,
    no_wait: bool,
    resume: bool,
    cancel: bool,
    nproc: int | None,
    threads: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Fine-tune an LLM on a dataset and save a run, to be used as llm.model in recipes."""
    from .job import FineTuningOptions, open_fine_tuning

    _refuse_contradictions(estimate, prepare_only, cancel)
    with joined_processes() as is_main_process:
        job = open_fine_tuning(recipe, settings)
        for warning in job.components.recipe.warnings if is_main_process else ():
            click.echo(f"Warning: {warning}", err=True)
        if estimate:
            found = job.estimate
            click.echo(json.dumps(found.to_json(), indent=2) if as_json else found.to_text())
            return
        if cancel:
            path = _run_to_cancel(job, output)
            job.cancel(path)
            click.echo(f"{path}: cancelled.", err=True)
            return
        path = job.choose_folder(output, resume)
        if prepare_only:
            _prepare(context, job, path, as_json)
            return
        if nproc is not None and nproc > 1:
            _refuse_processes(job)
            launch_processes(context, nproc, device)
        with _resumable(context, job, path, is_main_process) as stop_requested:
            options = FineTuningOptions(
                max_cost, not no_wait, resume, device, threads, stop_requested
            )
            finished = job.run(path, options)
            _interrupt(finished, stop_requested())
        if is_main_process:
            _print_result(context, finished, as_json)


def _refuse_contradictions(estimate: bool, prepare_only: bool, cancel: bool) -> None:
    if estimate + prepare_only + cancel > 1:
        raise InputError(
            "--estimate, --prepare-only and --cancel are mutually exclusive: give one."
        )


def _run_to_cancel(job: FineTuning, output: Path | None) -> Path:
    try:
        return job.choose_folder(output, resume=True)
    except InputError as error:
        place = f"{output} has no unfinished run" if output else "this recipe has no unfinished run"
        raise InputError(
            f"There is nothing to cancel: {place}. Name the run's folder with --output."
        ) from error


def _prepare(context: click.Context, job: FineTuning, path: Path, as_json: bool) -> None:
    """Write and check the files, and print how to resume."""
    report = job.prepare(path)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report_table(report))
    advice = typed_command(context, _NOT_AGAIN, ["--output", str(path), "--resume"])
    click.echo(f"Written to {path}. Resume with: {advice}", err=True)


def _interrupt(finished: FinishedFineTuning, stopped: bool) -> None:
    """Raise an interruption if the user stopped while a job was running."""
    from sentikit.extension import Interrupted

    if stopped and not finished.model:
        raise Interrupted


def _refuse_processes(job: FineTuning) -> None:
    if not job.trains_here:
        raise InputError("This provider trains on its own servers: leave --nproc out.")


@contextmanager
def _resumable(
    context: click.Context, job: FineTuning, path: Path, is_main_process: bool
) -> Iterator[Callable[[], bool]]:
    """Stop cleanly at the first Ctrl-C or SIGTERM, and print how to resume."""
    from sentikit.extension import Interrupted, stop_on_signal

    def tell(number: int) -> None:
        if is_main_process and job.trains_here:
            click.echo("Saving after this step. Press Ctrl-C again to stop at once.", err=True)

    try:
        with stop_on_signal(tell) as stop_requested:
            yield stop_requested
    except (Interrupted, KeyboardInterrupt) as error:
        if is_main_process:
            click.echo(_coming_back(context, path, job.trains_here), err=True)
        raise click.exceptions.Exit(130) from error


def _coming_back(context: click.Context, path: Path, trains_here: bool) -> str:
    again = typed_command(context, _NOT_AGAIN, ["--output", str(path), "--resume"])
    if trains_here:
        return f"Stopped. Resume with: {again}"
    cancel = typed_command(context, _NOT_AGAIN, ["--output", str(path), "--cancel"])
    return f"Detached; a job that was started continues.\nFollow: {again}\nCancel: {cancel}"


def _print_result(context: click.Context, finished: FinishedFineTuning, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(finished_json(finished), indent=2))
    elif finished.model:
        cost = cost_words(finished.cost_usd)
        click.echo(f"{finished.path}: {finished.model} (from {finished.base_model}{cost})")
    if finished.model:
        use = f"sentikit prompt --recipe … --set llm.model={finished.path}"
        click.echo(f"Use it in a prompt recipe of the same strategy: {use}", err=True)
    else:
        click.echo(_coming_back(context, finished.path, False), err=True)
