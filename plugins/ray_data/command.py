"""``sentikit predict-on-ray``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from sentikit import InputError
from sentikit.extension import (
    DEVICE,
    MAX_COST,
    RESUME,
    TEXT_COLUMNS,
    complete_classifier,
    print_text,
    resumable,
    typed_command,
)


@click.command(
    "predict-on-ray",
    epilog="Example: sentikit predict-on-ray runs/mine reviews/ --output labelled/ --workers 8",
)
@click.argument("classifier", metavar="X", shell_complete=complete_classifier)
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="The folder of the labelled parts.",
)
@TEXT_COLUMNS
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Actors.")
@click.option(
    "--rows-per-part",
    type=click.IntRange(1),
    help="Rows per output file; a killed worker repeats one. Default: 1/256 of the rows, from "
    "1,024 to 100,000.",
)
@MAX_COST
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Address of a cluster; default: start one on this machine.",
)
@DEVICE
@RESUME
@click.pass_context
def predict_on_ray(
    context: click.Context,
    classifier: str,
    path: Path,
    output: Path,
    text_columns: tuple[str, ...],
    workers: int,
    rows_per_part: int | None,
    max_cost: float | None,
    address: str | None,
    device: str,
    resume: bool,
) -> None:
    """Label the Parquet files at PATH with X, one classifier per Ray Data actor.

    The output is a folder of Parquet files, one per part, in the order of the input. It does not
    depend on the number of workers, which share one --max-cost. --resume keeps finished parts, and
    labels the rest and parts with failed rows.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError(
            "Labelling on Ray needs the extra ray: pip install 'sentikit[ray]'; or leave --on out."
        )
    from sentikit.extension import LoadingOptions, find_classifier

    # The workers of a cluster may have devices and keys that this machine lacks.
    found = find_classifier(classifier, LoadingOptions(device if address is None else "auto"))
    if address is None:
        found.check_keys()
    from .job import Job
    from .labelling import run

    job = Job(
        classifier=classifier,
        path=path,
        output=output,
        text_column=text_columns[0] if len(text_columns) == 1 else text_columns or None,
        rows_per_part=rows_per_part,
        max_cost=max_cost,
        device=device,
    )
    with resumable(context, output, "Stopping after the next part. Ctrl-C again stops now.") as (
        stop_requested
    ):
        done = run(job, workers, address, resume, stop_requested)
    click.echo(f"{done.rows:,} rows in {done.parts:,} parts at {output}.", err=True)
    for line in done.summary.lines(output):
        print_text(line, err=True)
    if done.summary.counts["failed"]:
        again = typed_command(context, ["resume"], ["--resume"])
        click.echo(f"{done.summary.failed()} Retry them: {again}", err=True)
        raise click.exceptions.Exit(1)
