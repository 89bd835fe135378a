"""``sentikit predict``."""

from __future__ import annotations

from pathlib import Path

import click

from sentikit.cli.options import CALIBRATED, DEVICE, MODEL, PRECISION, THREADS
from sentikit.cli.processes import NPROC, joined_group, shared, start_processes
from sentikit.errors import InputError

#: Endings of files, of what is read and of what is written, and the kind that is written.
_KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tsv-unquoted": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
#: A user who names one of these would find text inside.
_NOT_WRITTEN = {".parquet", ".xlsx", ".xls", ".ods", ".json", ".arrow", ".feather"}


@click.command(
    epilog="\b\nExamples:\n"
    "  sentikit predict runs/quickstart reviews.csv --output labelled.csv\n"
    "  echo 'I love it' | sentikit predict runs/quickstart"
)
@MODEL
@click.argument("file", metavar="[FILE|-]", default="-")
@click.option("--text-column", metavar="C", help="The column of the texts, if not a usual name.")
@click.option(
    "--input-format",
    type=click.Choice(["csv", "tsv", "tsv-unquoted", "jsonl", "parquet", "text"]),
    help="What FILE or the pipe holds; default: by the file's ending, text for a pipe.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["jsonl", "csv", "tsv"]),
    help="What to write; default: by --output's ending, else like the input: csv, tsv or jsonl.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Default: standard output; compressed where the name ends in .gz.",
)
@DEVICE
@PRECISION
@CALIBRATED
@THREADS
@NPROC
@click.pass_context
def predict(
    context: click.Context,
    model: Path,
    file: str,
    text_column: str | None,
    input_format: str | None,
    output_format: str | None,
    output: Path | None,
    device: str,
    precision: str,
    calibrated: bool,
    threads: int | None,
    nproc: int | None,
) -> None:
    """Label a file or a pipe of any length; columns and order stay, labels are added.

    The new columns are predicted_label and a probability for each class. A row without text gets
    no label. Several processes, under torchrun or by --nproc, share the texts of a file.
    """
    from sentikit import load
    from sentikit.devices import set_threads
    from sentikit.labelling import check_shareable, help_label, label_rows, open_input, open_output

    check_shareable(file, nproc or 1)
    if output is not None and output.is_dir():
        raise InputError(f"--output {output} is a folder; a file is needed.")
    if output is not None and output.is_file() and file != "-" and _is_same(output, file):
        raise InputError(f"--output {output} is the file to label. Choose another name.")
    chosen = output_format or _format_like(output, file, input_format)
    if nproc is not None and nproc > 1:
        # Starting takes seconds a process: what is wrong with the file is said before.
        with open_input(file, input_format) as rows:
            rows.find_column("text", text_column, "--text-column")
    start_processes(context, nproc, device)
    with joined_group(device) as group, open_input(file, input_format, group.processes) as rows:
        set_threads(threads)
        column = rows.find_column("text", text_column, "--text-column")
        own = load(model, device=device, precision=precision, calibrated=calibrated)
        classifier = shared(own, group)
        if not group.is_main_process:
            help_label(classifier, rows, column)
            return
        with open_output(output, chosen, rows.columns, classifier.labels) as write:
            unlabelled = label_rows(classifier, rows, column, write)
    if unlabelled:
        rows_have = "1 row has" if unlabelled == 1 else f"{unlabelled} rows have"
        click.echo(f"{rows_have} no text and got no label.", err=True)


def _format_like(output: Path | None, file: str, input_format: str | None) -> str:
    """Return what to write: as the output is named, else as the input is."""
    if output is not None:
        ending = _ending(output.name)
        if ending in _NOT_WRITTEN:
            raise InputError(
                f"--output {output}: {ending} is not written. Name it .csv, .tsv or .jsonl, each "
                "also with .gz."
            )
        if ending in _KINDS:
            return _KINDS[ending]
    return _KINDS.get(f".{input_format}" if input_format else _ending(file), "jsonl")


def _is_same(output: Path, file: str) -> bool:
    return Path(file).is_file() and output.samefile(file)


def _ending(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).suffix
