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
    input_file,
    joined_group,
    shared,
    start_processes,
    warn,
)
from sentikit.command_options import ESTIMATE, MAX_COST, RESUME, THREADS
from sentikit.errors import InputError
from sentikit.files import refuse_unwritable
from sentikit.processes.launching import resumable
from sentikit.terminal import print_text

if TYPE_CHECKING:
    from sentikit.classifiers.classifier import Classifier
    from sentikit.classifiers.encoder_classifier import EncoderClassifier
    from sentikit.classifiers.loading import LoadingOptions
    from sentikit.datasets.tables import InputFile
    from sentikit.labelling.table_writer import TableWriter

#: Compression that is read and not written.
_NOT_COMPRESSED = {".xz", ".bz2", ".zst"}

#: Shares of labels that the summary shows.
_MOST_SHARES = 6


@click.command(
    epilog="\b\nExamples:\n"
    "  sentikit predict runs/quickstart reviews.csv --output labelled.csv\n"
    "  sentikit predict runs/cascade reviews.csv --output labelled.csv --max-cost 1\n"
    "  echo 'I love it' | sentikit predict runs/quickstart"
)
@CLASSIFIER
@input_file
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["jsonl", "csv", "tsv", "parquet"]),
    help="What to write; default: by --output's ending, else like the input, or jsonl.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Default: standard output. A file there is replaced; one named .gz is compressed.",
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
@click.option("--on", metavar="ENGINE", help="Label Parquet beyond this machine, as on ray.")
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

    X is a run of any kind, a recipe or a model folder. Columns and order stay; predicted_label and
    a probability for each class are added, and, where LLMs are asked, which member answered, what
    it cost and why a row has no label. A row without text gets no label. Several processes, under
    torchrun or by --nproc, share the texts of a file.
    """
    from sentikit.labelling.loading import load_classifier, refuse_missing

    if on is not None:
        _predict_on(context, on)
        return
    if resume and output is None:
        raise InputError("--resume needs --output: what went to standard output is not kept.")
    if source.piped:
        _refuse_for_pipe(nproc, batch)
    chosen = _kind_to_write(source, output, output_format, spreadsheet_safe)
    # Starting takes seconds: what does not exist, or is wrong with the file, is said before.
    refuse_missing(model, loading.revision)
    source.count()
    start_processes(context, nproc, loading.device)

    from sentikit.classifiers.classifier import Session
    from sentikit.devices import set_threads
    from sentikit.labelling.file_job import FileRows, label_file
    from sentikit.labelling.rows import LabellingOptions, predicted

    with (
        resumable(context, output) as stop_requested,
        joined_group(loading.device) as group,
        source.open() as rows,
    ):
        set_threads(threads)
        source.columns(rows)
        classifier = shared(load_classifier(model, loading, warn), group)
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
        _forget_certificate(output, source.file)
    _report(context, done, classifier, output)


def _refuse_for_pipe(nproc: int | None, batch: bool) -> None:
    if nproc and nproc > 1:
        raise InputError(
            f"{nproc} processes cannot share standard input: each reads all texts. "
            "Save them in a file and name it."
        )
    if batch:
        raise InputError("--batch reads the texts several times. Save them in a file and name it.")


def _kind_to_write(
    source: InputFile, output: Path | None, wanted: str | None, spreadsheet_safe: bool
) -> str:
    """Return the kind of table to write; refuse one that cannot be written where it should go."""
    from sentikit.labelling.table_writer import written_kind

    if output is not None and output.is_dir():
        raise InputError(f"--output {output} is a folder; a file is needed.")
    if output is not None and output.is_file() and _is_same(output, source.file):
        raise InputError(f"--output {output} is the file to label. Choose another name.")
    if output is not None and output.suffix.lower() in _NOT_COMPRESSED:
        raise InputError(
            f"--output {output}: {output.suffix} is not written; the compressed form that can be "
            "written is .gz, as in labelled.csv.gz."
        )
    kind = wanted or written_kind(output, source.file, source.kind)
    if kind == "parquet" and output is None:
        raise InputError("Parquet is not written to standard output. Give --output FILE.parquet.")
    if spreadsheet_safe and kind not in ("csv", "tsv"):
        raise InputError(f"--spreadsheet-safe is for CSV and TSV, and {kind} is written.")
    if output is not None:
        refuse_unwritable(output)
    return kind


def _predict_on(context: click.Context, engine: str) -> None:
    """Hand over to the command that a plugin brings for an engine: ``predict-on-ENGINE``."""
    from click.core import ParameterSource

    from sentikit.errors import unknown_name
    from sentikit.registry import default_registry

    registry, before = default_registry(), "predict-on-"
    known = registry.names("register_commands")
    engines = [name.removeprefix(before) for name in known if name.startswith(before)]
    if engine not in engines:
        raise unknown_name("engine", engine, engines)
    command = registry.load("register_commands", before + engine)
    assert isinstance(command, click.Command)
    own = {parameter.name: parameter for parameter in command.params}
    typed = ["--", context.params["model"], context.params["file"]]
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        given = context.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if not given or name == "on" or isinstance(parameter, click.Argument):
            continue
        several = isinstance(value, tuple) and len(value) > 1
        if name not in own or several:
            raise InputError(f"{parameter.opts[-1]} does not go together with --on {engine}.")
        if value is not True:
            typed.insert(0, str(value[0] if isinstance(value, tuple) else value))
        typed.insert(0, own[name].opts[-1])
    command.main(typed, f"sentikit {command.name}", standalone_mode=False)


def _estimate(classifier: Classifier, source: InputFile, batch: bool) -> None:
    """Print what the LLMs would cost; nothing is asked."""
    from sentikit.labelling.file_job import FileRows, cache_of
    from sentikit.labelling.job import estimate

    with source.open() as rows:
        found = estimate(classifier, FileRows(source, rows), cache_of(classifier), batch)
    if not found:
        click.echo("This classifier asks no LLM: it costs nothing.")
    click.echo("\n\n".join(counted.to_text() for counted in found))


def _encoders(classifier: Classifier) -> list[EncoderClassifier]:
    from sentikit.classifiers.encoder_classifier import EncoderClassifier

    own = [classifier] if isinstance(classifier, EncoderClassifier) else []
    return own + [one for member in classifier.members.values() for one in _encoders(member)]


def _report(
    context: click.Context, done: TableWriter, classifier: Classifier, output: Path | None
) -> None:
    """Say what the rows came to, and fail where some have no label and may get one."""
    from sentikit.processes.launching import typed_command
    from sentikit.terminal import usd_text

    totals = done.totals
    print_text(_summary(done, output), err=True)
    if empty := totals.without_text:
        rows_have = "1 row has" if empty == 1 else f"{empty:,} rows have"
        click.echo(f"{rows_have} no text and got no label.", err=True)
    for encoder in _encoders(classifier):
        if encoder.cut:
            left = "middle" if encoder.long_texts == "head_tail" else "end"
            click.echo(
                f"{_texts(encoder.cut)} more than {encoder.max_length} word pieces; the {left} was "
                "not read.",
                err=True,
            )
        if encoder.unknown:
            click.echo(
                f"{_texts(encoder.unknown)} mostly characters that the model does not know; such "
                "labels mean little.",
                err=True,
            )
    if totals.answers:
        cost = "an unknown amount" if totals.paid is None else f"${usd_text(totals.paid)}"
        click.echo(f"{totals.answers:,} of {totals.texts:,} rows asked, {cost} paid.", err=True)
    if totals.misread:
        said = f"{totals.misread:,} rows have no label: the answer is none (see error)."
        click.echo(said, err=True)
    if totals.failed:
        again = ""
        if output is not None:
            typed = typed_command(
                context, ["output", "resume"], ["--output", str(output), "--resume"]
            )
            again = f" Ask about these again: {typed}"
        rows_have = "1 row has" if totals.failed == 1 else f"{totals.failed:,} rows have"
        without = totals.invalid - totals.misread
        label = " and no label" if without == totals.failed else f", {without:,} without a label"
        click.echo(f"{rows_have} failed{label} (see error).{again}", err=True)
        raise click.exceptions.Exit(1)


def _texts(count: int) -> str:
    return "1 text has" if count == 1 else f"{count:,} texts have"


def _summary(done: TableWriter, output: Path | None) -> str:
    """Return the rows and the shares of the labels, and how the shares are corrected."""
    import shlex

    count = sum(done.labelled.values())
    said = f"{count:,} of {done.totals.rows:,} rows labelled"
    if done.without_words:
        said += f", {done.without_words:,} of them without words"
    if not count:
        return f"{said}."
    most = sorted(done.labelled, key=lambda label: -done.labelled[label])[:_MOST_SHARES]
    shares = [f"{done.labelled[c] / count:.1%} {c}" for c in done.labelled if c in most]
    if len(done.labelled) > len(most):
        shares.append(f"{len(done.labelled) - len(most)} more")
    table = "LABELLED" if output is None else shlex.quote(str(output))
    return (
        f"{said}: {', '.join(shares)} (uncorrected).\n"
        f"To correct the shares by checked texts: sentikit estimate {table} --checked CHECKED.csv"
    )


def _certificate_of(output: Path) -> Path:
    """Return where a labelled table's certificate is unless it is named."""
    return output.with_suffix(".certificate.json")


def _forget_certificate(output: Path | None, file: str) -> None:
    """Remove the certificate of the table that stood at `output` before."""
    stale = None if output is None else _certificate_of(output)
    if stale is not None and stale.is_file() and not _is_same(stale, file):
        stale.unlink()


def _is_same(output: Path, file: str) -> bool:
    return output.exists() and Path(file).is_file() and output.samefile(file)
