"""``sentikit predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentikit.cli.options import (
    BATCH,
    CLASSIFIER,
    LOADING,
    NPROC,
    joined_group,
    shared,
    start_processes,
    warn,
)
from sentikit.command_options import ESTIMATE, FILE, MAX_COST, RESUME, THREADS, input_file
from sentikit.errors import InputError, unknown_name
from sentikit.files import refuse_overlap
from sentikit.processes.launching import command_arguments, resumable, typed_command
from sentikit.terminal import print_text

if TYPE_CHECKING:
    from sentikit.classifiers.classifier import Classifier
    from sentikit.classifiers.loading import LoadingOptions
    from sentikit.datasets.tables import InputFile
    from sentikit.labelling.table_writer import TableWriter

#: Compressed formats that can be read but not written.
_NOT_COMPRESSED = {".xz", ".bz2", ".zst"}


@click.command(
    epilog="\b\nExamples:\n"
    "  sentikit predict runs/quickstart reviews.csv --output labelled.csv\n"
    "  sentikit predict runs/cascade reviews.csv --output labelled.csv --max-cost 1\n"
    "  echo 'I love it' | sentikit predict runs/quickstart"
)
@CLASSIFIER
@input_file("[FILE|-]")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["jsonl", "csv", "tsv", "parquet"]),
    help="Format of the output; default: by --output's suffix, without it the input's, or jsonl.",
)
@click.option(
    "--output",
    type=FILE,
    metavar="FILE",
    help="Default: standard output. Replaces an existing file and its certificate; compresses "
    "one named .gz.",
)
@click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="In CSV and TSV, write ' before cells that Excel would run as formulas.",
)
@ESTIMATE
@MAX_COST
@BATCH
@RESUME
@LOADING
@THREADS
@NPROC
@click.option("--on", metavar="ENGINE", help="Label Parquet files on a cluster, such as ray.")
@click.pass_context
def predict(
    context: click.Context,
    on: str | None,
    model: str,
    source: InputFile,
    output_format: str | None,
    output: Path | None,
    estimate: bool,
    max_cost: float | None,
    batch: bool,
    resume: bool,
    spreadsheet_safe: bool,
    loading: LoadingOptions,
    threads: int | None,
    nproc: int | None,
) -> None:
    """Label a file or a pipe of any length with any classifier.

    X is a run of any kind, a recipe or a model folder. The output keeps all columns in their order
    and adds predicted_label and a probability for each class; for LLMs also the member that
    answered, its cost, and why a row has no label. A row without text gets no label. Several
    processes, under torchrun or with --nproc, share the texts of a file.
    """
    from sentikit.labelling.loading import find_classifier

    if on is not None:
        _predict_on(context, on)
        return
    if resume and output is None:
        raise InputError("--resume needs --output, because standard output is not kept.")
    if source.piped:
        _refuse_for_pipe(nproc, batch)
    _refuse_overlap(source, model, output)
    chosen = _kind_to_write(source, output, output_format, spreadsheet_safe)
    # Starting takes seconds, so a missing classifier and a malformed file are reported before.
    found = find_classifier(model, loading, warn)
    _refuse_without_llm(bool(found.backends), resume, batch)
    if not estimate:
        found.check_keys()
    source.count()
    start_processes(context, nproc, loading.device)

    from sentikit.classifiers.classifier import Session
    from sentikit.classifiers.prediction import LABEL_COLUMN
    from sentikit.devices import set_threads
    from sentikit.labelling.file_job import FileRows, label_file
    from sentikit.labelling.rows import LabellingOptions, predicted
    from sentikit.labelling.table_writer import refuse_taken

    with (
        resumable(context, output) as stop_requested,
        joined_group(loading.device) as group,
        source.open() as rows,
    ):
        set_threads(threads)
        source.columns(rows)
        refuse_taken(rows.columns, [LABEL_COLUMN])
        classifier = shared(found, group)
        if estimate:
            _estimate(classifier, source, batch)
            return
        if not group.is_main_process:
            for _ in predicted(classifier, FileRows(source, rows), Session()):
                pass
            return
        options = LabellingOptions(
            max_cost=max_cost, batch=batch, resume=resume, stop_requested=stop_requested
        )
        done = label_file(classifier, source, rows, output, chosen, options, spreadsheet_safe)
        if output is not None and (stale := _certificate_of(output)).is_file():
            stale.unlink()
    _report(context, done, classifier, source, output, chosen)


def _refuse_for_pipe(nproc: int | None, batch: bool) -> None:
    if nproc and nproc > 1:
        raise InputError(
            f"{nproc} processes cannot share standard input, because each reads all "
            "texts. Save the texts in a file and name it."
        )
    if batch:
        raise InputError("--batch reads the texts several times. Save them in a file and name it.")


def _refuse_without_llm(asks_llm: bool, resume: bool, batch: bool) -> None:
    if resume and not asks_llm:
        raise InputError(
            "There is nothing to resume, because only answers of LLMs are kept and this "
            "classifier uses none. Leave out --resume."
        )
    if batch and not asks_llm:
        raise InputError("--batch is for LLMs, but this classifier uses none. Leave it out.")


def _kind_to_write(
    source: InputFile, output: Path | None, wanted: str | None, spreadsheet_safe: bool
) -> str:
    from sentikit.labelling.table_writer import written_kind

    if output is not None and output.suffix.lower() in _NOT_COMPRESSED:
        raise InputError(
            f"--output {output}: {output.suffix} files cannot be written. Use .gz, as in "
            "labelled.csv.gz."
        )
    kind = wanted or written_kind(output, source.file, source.kind)
    if kind == "parquet" and output is None:
        raise InputError("Parquet cannot go to standard output. Add --output FILE.parquet.")
    if spreadsheet_safe and kind not in ("csv", "tsv"):
        raise InputError(f"--spreadsheet-safe is for CSV and TSV, but the output is {kind}.")
    return kind


def _predict_on(context: click.Context, engine: str) -> None:
    """Run a plugin's command for an engine, ``predict-on-ENGINE``, with the given options."""
    from sentikit.registry import default_registry

    registry, before = default_registry(), "predict-on-"
    known = registry.names("register_commands")
    engines = [name.removeprefix(before) for name in known if name.startswith(before)]
    if engine not in engines:
        raise unknown_name("engine", engine, engines)
    command = registry.load("register_commands", before + engine)
    assert isinstance(command, click.Command)
    own = {option for parameter in command.params for option in parameter.opts}
    typed = command_arguments(context, ["on"])[1:]
    given = [word for word in typed[: typed.index("--")] if word.startswith("--")]
    if foreign := [option for option in given if option not in own]:
        raise InputError(f"{foreign[0]} cannot be used with --on {engine}.")
    command.main(typed, f"sentikit {command.name}", standalone_mode=False)


def _estimate(classifier: Classifier, source: InputFile, batch: bool) -> None:
    from sentikit.labelling.file_job import FileRows, cache_of
    from sentikit.labelling.job import estimate

    with source.open() as rows:
        found = estimate(classifier, FileRows(source, rows), cache_of(classifier), batch)
    if not found:
        click.echo("This classifier uses no LLM and costs nothing.")
    click.echo("\n\n".join(counted.to_text() for counted in found))


def _report(
    context: click.Context,
    done: TableWriter,
    classifier: Classifier,
    source: InputFile,
    output: Path | None,
    kind: str,
) -> None:
    """Print a summary; exit with 1 if rows failed that could get a label later."""
    from sentikit.labelling.summary import TableSummary

    summary = TableSummary.of(done, classifier)
    for line in summary.lines(output, kind, source.text_columns):
        print_text(line, err=True)
    if done.totals.failed:
        again = ""
        if output is not None:
            typed = typed_command(
                context, ["output", "resume"], ["--output", str(output), "--resume"]
            )
            again = f" Retry them: {typed}"
        click.echo(f"{summary.failed()}{again}", err=True)
        raise click.exceptions.Exit(1)


def _certificate_of(output: Path) -> Path:
    return output.with_suffix(".certificate.json")


def _refuse_overlap(source: InputFile, model: str, output: Path | None) -> None:
    """Refuse to replace what is read, or to remove it as the certificate of an earlier table."""
    if output is not None:
        certificate = _certificate_of(output)
        stale = certificate if certificate.is_file() else None
        written = [("--output", output), ("The certificate of --output,", stale)]
        refuse_overlap(written, [*source.paths, model])
