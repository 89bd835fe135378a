"""``sentikit evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentikit.cli.options import (
    BATCH,
    CLASSIFIER,
    DATASET_SETTINGS,
    LOADING,
    NPROC,
    PLOTS,
    check_plots,
    draw,
    joined_group,
    shared,
    start_processes,
    warn,
)
from sentikit.command_options import MAX_COST, OUTPUT, RESUME, THREADS
from sentikit.errors import InputError
from sentikit.processes.launching import is_main_process, resumable

if TYPE_CHECKING:
    from sentikit.classifiers.loading import LoadingOptions


@click.command(
    epilog="Example: sentikit evaluate runs/quickstart --dataset files --set test=reviews.csv"
)
@CLASSIFIER
@click.option("--dataset", metavar="NAME", help="A dataset; default: the run's own.")
@click.option("--path", metavar="DIR", help="The folder of the dataset's files.")
@click.option("--split", default="test", show_default=True, help="The split to score.")
@DATASET_SETTINGS
@OUTPUT
@MAX_COST
@BATCH
@RESUME
@LOADING
@THREADS
@PLOTS
@NPROC
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@click.pass_context
def evaluate(
    context: click.Context,
    model: str,
    dataset: str | None,
    path: str | None,
    split: str,
    settings: tuple[str, ...],
    output: Path | None,
    max_cost: float | None,
    batch: bool,
    resume: bool,
    loading: LoadingOptions,
    threads: int | None,
    plots: bool,
    nproc: int | None,
    as_json: bool,
) -> None:
    """Score a classifier on a split of a dataset; --output saves a run.

    X is a run of any kind, a recipe or a model folder. Several processes, under torchrun or with
    --nproc, share the texts.
    """
    from sentikit.devices import set_threads
    from sentikit.labelling import evaluation
    from sentikit.labelling.loading import find_classifier
    from sentikit.labelling.rows import LabellingOptions
    from sentikit.terminal import print_scores

    if output is None and (plots or batch or resume):
        raise InputError("--plots, --batch and --resume need a run. Add --output DIR.")
    check_plots(plots)
    choice = evaluation.DatasetChoice(dataset, path, split, settings)
    # Starting takes seconds, so missing files are reported before.
    found = find_classifier(model, loading, warn)
    found.check_keys()
    evaluation.refuse_missing(model, choice)
    start_processes(context, nproc, loading.device)
    with (
        resumable(context, output) as stop_requested,
        evaluation.run_to_write(output if is_main_process() else None, resume) as run,
        joined_group(loading.device) as group,
    ):
        set_threads(threads)
        options = LabellingOptions(
            max_cost=max_cost, batch=batch, resume=resume, stop_requested=stop_requested
        )
        own = shared(found, group)
        if not group.is_main_process:
            evaluation.follow(model, own, choice)
            return
        done = evaluation.score_split(model, own, choice, run, options, warn, loading)
    if output and plots:
        draw(output)
    if as_json:
        click.echo(json.dumps(done.metrics(), indent=2))
    else:
        print_scores(f"{model} on {done.dataset}, {split}", done.metrics())
