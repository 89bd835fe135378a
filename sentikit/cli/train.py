"""``sentikit train``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.cli.options import OUTPUT, RECIPE, RUNS, SETTINGS, needed_recipe

if TYPE_CHECKING:
    from sentikit.training.job import FinishedTraining


@click.command(
    epilog="Example: sentikit train --recipe minilm --set dataset.name=demo --output runs/first"
)
@RECIPE
@SETTINGS
@OUTPUT
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped or killed.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; touch nothing.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of each process.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--interactive", is_flag=True, help="Ask at each epoch's end what to change.")
@click.option("--json", "as_json", is_flag=True, help="Print the result, or the plan, as JSON.")
def train(
    recipe: str | None,
    settings: tuple[str, ...],
    output: Path | None,
    resume: bool,
    dry_run: bool,
    threads: int | None,
    device: str,
    interactive: bool,
    as_json: bool,
) -> None:
    """Train an encoder on a dataset and leave a run: model, predictions, scores."""
    from sentikit.recipe.resolving import resolve_recipe
    from sentikit.recipe.train_parts import train_parts
    from sentikit.registry import default_registry
    from sentikit.runs.folder import choose_run_folder

    registry = default_registry()
    name = needed_recipe(recipe, registry)
    parts = train_parts(resolve_recipe(name, settings, registry), registry)
    if dry_run:
        _print_plan(parts, as_json)
        return
    run = choose_run_folder(output, parts.recipe.name, resume, RUNS)
    with _stop_on_signal(name, settings, run.path) as stop_requested:
        from sentikit.training.job import JobOptions
        from sentikit.training.job import train as run_training

        finished = run_training(
            parts, run.path, JobOptions(device, threads, resume, stop_requested, interactive)
        )
    _print_result(finished, as_json)


def _print_plan(parts: Any, as_json: bool) -> None:
    import json

    from sentikit.training.planning import plan_training

    plan = plan_training(parts)
    click.echo(json.dumps(plan.to_json(), indent=2) if as_json else plan.to_text())


@contextmanager
def _stop_on_signal(recipe: str, settings: tuple[str, ...], path: Path) -> Iterator[Any]:
    """Turn the first Ctrl-C (or SIGTERM) into a saved stop, the second into an immediate one."""
    from sentikit.training.trainer import Interrupted

    stops: list[int] = []

    def request(number: int, frame: object) -> None:
        if stops:
            raise KeyboardInterrupt
        stops.append(number)
        click.echo("Finishing the step and saving; once more stops at once.", err=True)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(stops)
    except (Interrupted, KeyboardInterrupt) as error:
        click.echo(f"Stopped. Go on with: {_resume_command(recipe, settings, path)}", err=True)
        raise click.exceptions.Exit(130) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _resume_command(recipe: str, settings: tuple[str, ...], path: Path) -> str:
    import shlex

    words = ["sentikit", "train", "--recipe", recipe]
    for setting in settings:
        words += ["--set", setting]
    return shlex.join([*words, "--output", str(path), "--resume"])


def _print_result(finished: FinishedTraining, as_json: bool) -> None:
    import json

    from sentikit.cli.tables import print_scores

    results = finished.results
    if as_json:
        head = {"run": str(finished.path), "best_epoch": finished.state.best_epoch}
        click.echo(json.dumps(head | results.metrics(finished.split), indent=2))
        return
    if finished.state.stopped:
        click.echo(f"Training ended early: {finished.state.stopped}.", err=True)
    print_scores(
        f"{finished.path}: best epoch {finished.state.best_epoch}, scores on {finished.split}",
        results.overall,
        results.by_source,
    )
