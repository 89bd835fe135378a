"""``sentikit evaluate``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit.cli.options import (
    CALIBRATED,
    DATASET_SETTINGS,
    DEVICE,
    MODEL,
    OUTPUT,
    PLOTS,
    PRECISION,
    THREADS,
    check_plots,
    draw,
)
from sentikit.cli.processes import NPROC, joined_group, shared, start_processes
from sentikit.errors import InputError

if TYPE_CHECKING:
    from sentikit.classifiers.encoder_classifier import EncoderClassifier
    from sentikit.datasets.opening import OpenedDataset
    from sentikit.runs.folder import RunFolder


@click.command(
    epilog="Example: sentikit evaluate runs/quickstart --dataset files --set test=reviews.csv"
)
@MODEL
@click.option("--dataset", metavar="NAME", help="A dataset; default: the one the run was made on.")
@click.option("--path", metavar="DIR", help="The folder of the dataset's files.")
@click.option("--split", default="test", show_default=True, help="Which split to score.")
@DATASET_SETTINGS
@OUTPUT
@DEVICE
@PRECISION
@CALIBRATED
@THREADS
@PLOTS
@NPROC
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@click.pass_context
def evaluate(
    context: click.Context,
    model: Path,
    dataset: str | None,
    path: str | None,
    split: str,
    settings: tuple[str, ...],
    output: Path | None,
    device: str,
    precision: str,
    calibrated: bool,
    threads: int | None,
    plots: bool,
    nproc: int | None,
    as_json: bool,
) -> None:
    """Score a model or a run's model on a split of a dataset; --output leaves a run.

    Several processes, under torchrun or by --nproc, share the texts.
    """
    import json

    from sentikit.cli.tables import print_scores
    from sentikit.devices import set_threads
    from sentikit.runs.results import judge

    if plots and output is None:
        raise InputError("--plots draws into the run's folder: give --output DIR as well.")
    check_plots(plots)
    start_processes(context, nproc, device)
    with _run_to_write(output) as run, joined_group(device) as group:
        set_threads(threads)
        from sentikit.classifiers.loading import load_encoder

        own = load_encoder(model, device=device, precision=precision, calibrated=calibrated)
        classifier = shared(own, group)
        section = _section(model, dataset, path, settings, classifier)
        opened = _open(section, classifier)
        _refuse_unknown_split(opened, split)
        examples = opened.split(split)
        for warning in opened.warnings() if group.is_main_process else ():
            click.echo(f"Warning: {warning}", err=True)
        probabilities = classifier.predict_proba(
            text for batch in examples.batches() for text in batch["text"]
        )
        if not group.is_main_process:
            return
        results = judge(examples, probabilities, classifier.scheme)
        if run:
            _write_run(run, model, section, opened, split, results, classifier)
    if output and plots:
        draw(output)
    if as_json:
        click.echo(json.dumps(results.metrics(split), indent=2))
    else:
        print_scores(f"{model} on {opened.name}, {split}", results.overall, results.by_source)


def _section(
    model: Path,
    dataset: str | None,
    path: str | None,
    settings: tuple[str, ...],
    classifier: EncoderClassifier,
) -> dict[str, Any]:
    """Return the dataset section to open: the run's own, or what the options say."""
    from sentikit.datasets.labels import OWN
    from sentikit.datasets.opening import with_path
    from sentikit.recipe.resolving import merge, parse_dataset_overrides
    from sentikit.runs.folder import RunFolder

    if dataset is None:
        run = RunFolder(model)
        if not run.status:
            raise InputError("Which dataset? A model folder has none of its own: give --dataset.")
        recipe = run.manifest["recipe"]
        section = dict(recipe.get("evaluation_dataset") or recipe["dataset"])
    elif classifier.scheme.name == OWN:
        section = {"name": dataset, "labels": list(classifier.labels)}
        if classifier.scheme.threshold is not None:
            section["threshold"] = classifier.scheme.threshold
    else:
        section = {"name": dataset, "labels": classifier.scheme.name}
    return merge(with_path(section, path), parse_dataset_overrides(settings))


def _open(section: dict[str, Any], classifier: EncoderClassifier) -> OpenedDataset:
    from sentikit import open_dataset

    opened = open_dataset(section)
    # A model made elsewhere may have the same classes in another order.
    if set(opened.scheme.classes) != set(classifier.labels):
        own, others = ", ".join(classifier.labels), ", ".join(opened.scheme.classes)
        raise InputError(
            f"The model's classes are {own}, those of the dataset {others}. Choose the dataset's "
            "with --set labels=…, or another model."
        )
    return opened


def _refuse_unknown_split(opened: OpenedDataset, split: str) -> None:
    from sentikit.errors import nearest

    if split in opened.splits:
        return
    likely = nearest(split, opened.splits) or [s for s in opened.splits if s != "train"]
    options = " or ".join(f"--split {name}" for name in likely or opened.splits)
    raise InputError(
        f"The dataset {opened.name!r} has no split {split!r}. Give {options}, or score a file with "
        "--dataset files --set test=FILE."
    )


@contextmanager
def _run_to_write(output: Path | None) -> Iterator[RunFolder | None]:
    """Lend the run to leave, locked; a folder that is taken is refused before any work."""
    from sentikit.cli.options import RUNS
    from sentikit.processes.launching import is_main_process
    from sentikit.runs.folder import choose_run_folder

    if output is None or not is_main_process():
        yield None
        return
    run = choose_run_folder(output, output.name, False, RUNS)
    with run.locked(new=True):
        yield run


def _write_run(
    run: RunFolder,
    model: Path,
    section: dict[str, Any],
    opened: OpenedDataset,
    split: str,
    results: Any,
    classifier: EncoderClassifier,
) -> None:
    from sentikit.runs.folder import FINISHED
    from sentikit.runs.manifest import command_line, describe_split, now, versions

    examples = results.examples
    run.update_manifest(kind="evaluate", started=now(), status="running")
    run.write_results(results, split)
    run.update_manifest(
        status=FINISHED,
        finished=now(),
        recipe={"kind": "evaluate", "model": str(model), "dataset": section},
        calibrated=classifier.calibrated,
        command=command_line(),
        dataset=describe_split(opened.name, split, len(examples), examples.fingerprint()),
        classes=list(classifier.labels),
        versions=versions(),
        device=str(classifier.device),
        precision=classifier.precision,
        cost_usd={},
    )
