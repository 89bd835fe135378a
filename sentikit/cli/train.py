"""``sentikit train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentikit.cli.options import NPROC, PLOTS, draw, resolved_recipe, start_processes
from sentikit.command_options import DEVICE, OUTPUT, RECIPE, SETTINGS, THREADS
from sentikit.processes.launching import is_main_process, job_id, process_count, resumable

if TYPE_CHECKING:
    from sentikit.runs.folder import RunFolder
    from sentikit.training.job import TrainedRun
    from sentikit.training.recipe import ClassifierComponents, TrainComponents

_STOPPING = "Saving after this step. Press Ctrl-C again to stop at once."


@click.command(
    epilog="Example: sentikit train --recipe minilm --set dataset.name=demo --output runs/first"
)
@RECIPE
@SETTINGS
@OUTPUT
@click.option("--resume", is_flag=True, help="Resume a run that was stopped or killed.")
@click.option("--dry-run", is_flag=True, help="Print the plan; train and write nothing.")
@NPROC
@THREADS
@DEVICE
@click.option("--interactive", is_flag=True, help="Ask for changes after each epoch.")
@PLOTS
@click.option("--json", "as_json", is_flag=True, help="Print the result, or the plan, as JSON.")
@click.pass_context
def train(
    context: click.Context,
    recipe: str | None,
    settings: tuple[str, ...],
    output: Path | None,
    resume: bool,
    dry_run: bool,
    nproc: int | None,
    threads: int | None,
    device: str,
    interactive: bool,
    plots: bool,
    as_json: bool,
) -> None:
    """Train a classifier on a dataset and save a run: model, predictions, scores.

    Under torchrun, the deepspeed launcher or srun, it joins the existing processes.
    """
    from sentikit.processes.group import joined_processes

    with joined_processes() as is_main_process:
        components = _components(recipe, settings)
        if plots:
            from sentikit.reports import report_format

            report_format().check_plotting()
        if device != "auto":
            from sentikit.devices import choose_device

            choose_device(device)  # refuse a missing device before choosing a folder
        if dry_run:
            components.check_splits("classifier" not in components.recipe.values)
            if is_main_process:
                _print_plan(components, nproc or process_count(), as_json)
            return
        run = _run_folder(output, components.recipe.name, resume)
        components.check_splits("classifier" not in components.recipe.values)
        if nproc:
            from sentikit.training.engine import check_processes

            check_processes(components.training, nproc)
            start_processes(context, nproc, device)
        with resumable(context, run.path, _STOPPING) as stop_requested:
            from sentikit.training.job import JobOptions
            from sentikit.training.job import train as run_training

            options = JobOptions(device, threads, bool(run.status), stop_requested, interactive)
            finished = run_training(components, run.path, options)
        if is_main_process:
            _print_result(finished, as_json)
            if plots:
                draw(finished.path)


def _components(
    recipe: str | None, settings: tuple[str, ...]
) -> TrainComponents | ClassifierComponents:
    from sentikit.recipe.resolving import needed_recipe
    from sentikit.registry import default_registry
    from sentikit.training.recipe import train_components

    registry = default_registry()
    name = needed_recipe(recipe, "train", registry)
    return train_components(resolved_recipe(name, settings, registry), registry)


def _run_folder(output: Path | None, name: str, resume: bool) -> RunFolder:
    """Choose the run's folder; only the main process may look at it."""
    from sentikit.runs.folder import RUNS, RunFolder, choose_run_folder

    if not is_main_process():
        return RunFolder(output or RUNS / name)
    return choose_run_folder(output, name, resume, job=job_id())


def _print_plan(
    components: TrainComponents | ClassifierComponents, processes: int, as_json: bool
) -> None:
    import json
    from dataclasses import asdict

    from sentikit.training.job import plan_training

    plan = plan_training(components, processes)
    click.echo(json.dumps(asdict(plan), indent=2) if as_json else plan.to_text())


def _print_result(finished: TrainedRun, as_json: bool) -> None:
    import json

    from sentikit.terminal import print_scores

    results = finished.results
    if as_json:
        head = {"run": str(finished.path), "best_epoch": finished.best_epoch}
        click.echo(json.dumps(head | results.metrics(), indent=2))
        return
    best = f"best epoch {finished.best_epoch}, " if finished.best_epoch else ""
    print_scores(f"{finished.path}: {best}scores on {results.split}", results.metrics())
