"""``sentikit annotate`` and ``sentikit sample``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit import InputError
from sentikit.extension import FILE, input_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentikit.extension import InputFile

    from .annotation import Annotation
    from .checked import Check

_LABELS = "negative,neutral,positive"


@click.command(
    epilog="\b\nExamples:\n"
    "  sentikit annotate reviews.csv --size 300 --output checked.csv\n"
    "  sentikit annotate reviews.csv --for labelled.csv --output accuracy.csv\n"
    "  sentikit annotate queue.csv --output checked-queue.csv --annotator Ada"
)
@input_file("[FILE]")
@click.option(
    "--output",
    type=FILE,
    required=True,
    metavar="CHECKED.csv",
    help="Each answer is saved here immediately; an unfinished file is resumed.",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    metavar="N",
    help="Number of texts to draw, uniformly unless --for or --by is given.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw.")
@click.option(
    "--for",
    "labelled",
    type=FILE,
    metavar="LABELLED",
    help="Draw by strata of this table's confidence: for estimates, not for a certificate.",
)
@click.option(
    "--by",
    metavar="COLUMN",
    help="Draw the same number for each value of a column, or for each period, such as date:month.",
)
@click.option(
    "--annotator",
    metavar="NAME",
    default="",
    help="The person who answers; several people can share a file.",
)
@click.option(
    "--labels",
    metavar="A,B,…",
    help="The labels, in the order of the keys; default: those of CHECKED.csv so far or of --for, "
    f"else {_LABELS}.",
)
@click.option(
    "--guidelines",
    type=FILE,
    metavar="FILE",
    help="Instructions that annotators can unfold.",
)
@click.option("--terminal", is_flag=True, help="Ask in the terminal instead of on a page.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="P",
    help="Port of the page; default: a free one.",
)
@click.option("--decide", is_flag=True, help="Show the texts that annotators label differently.")
@click.option(
    "--agreement", is_flag=True, help="Print the agreement between annotators; ask nothing."
)
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write the answers as Label Studio's JSON.",
)
@click.option(
    "--import",
    "imported",
    type=FILE,
    metavar="FILE",
    help="Add the answers of a Label Studio export, or of another table, to CHECKED.csv.",
)
def annotate(source: InputFile, output: Path, **given: Any) -> None:
    """Check texts by hand, on a local page or in the terminal.

    Keys: 1 2 3 label, n not sure, s skip, u undo, e note, g guidelines, m show the model's label.
    The page is only served to this machine; only you can read the file of answers.
    """
    if given["imported"]:
        _import(given["imported"], output)
    elif given["export"]:
        _export(given["export"], output)
    elif given["agreement"]:
        _agreement(output, _labels(given["labels"], output, None))
    else:
        annotation = _annotation(source, output, given)
        with annotation.session():
            _ask(annotation, given["terminal"], given["port"])


def _labels(spelled: str | None, output: Path, labelled: InputFile | None) -> list[str]:
    from .checked import read_draw
    from .tables import read_labelled

    if spelled is None and (begun := read_draw(output).get("labels")):
        return list(begun)
    if spelled is None and labelled is not None:
        spelled = ",".join(read_labelled(labelled).labels.classes)
    spelled = _LABELS if spelled is None else spelled
    labels = [label.strip() for label in spelled.split(",") if label.strip()]
    if not 2 <= len(labels) <= 9 or len(set(labels)) < len(labels):
        raise InputError(
            "--labels needs two to nine different names, such as negative,neutral,positive."
        )
    return labels


def _annotation(source: InputFile, output: Path, given: dict[str, Any]) -> Annotation:
    from sentikit.extension import disk_errors, refuse_overlap

    from .annotation import Annotation
    from .checked_files import refuse_foreign
    from .draws import DrawOptions, conflict_items, drawn_items, labelled_table

    refuse_foreign(output)
    predicted = labelled_table(source, given["labelled"]) if given["labelled"] else None
    labels, guidelines = _labels(given["labels"], output, predicted), ""
    if given["guidelines"]:
        with disk_errors(given["guidelines"]):
            guidelines = given["guidelines"].read_text(encoding="utf-8", errors="replace")
    if given["decide"]:
        return Annotation(conflict_items(output), output, labels, deciding=True, repeats=0)
    source.refuse_pipe()
    if given["labelled"] and given["by"]:
        raise InputError("--for and --by are mutually exclusive. Give one of them.")
    if Path(source.file).exists() and output.exists() and output.samefile(source.file):
        raise InputError(f"--output {output} is the file to check. Choose another name.")
    written = [("--output", output), ("The record of --output,", Path(f"{output}.json"))]
    refuse_overlap(written, [*source.paths, given["labelled"], given["guidelines"]], output)
    options = DrawOptions(given["size"], given["seed"], given["labelled"], given["by"])
    drawn = drawn_items(source, output, options)
    annotator = given["annotator"]
    return Annotation(drawn.items, output, labels, annotator, guidelines, record=drawn.record)


def _ask(annotation: Annotation, terminal: bool, port: int | None) -> None:
    if terminal:
        _ask_here(annotation)
        return
    from .server import AnnotationServer

    with AnnotationServer(annotation, port or 0) as server:
        annotation.begin()
        click.echo(f"Open: {server.address}", err=True)
        if annotation.twice:
            click.echo(_twice(annotation), err=True)
        click.echo("Every answer is saved at once. Ctrl-C ends.", err=True)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            click.echo(_progress(annotation), err=True)


def _twice(annotation: Annotation) -> str:
    total = annotation.state()["total"]
    return (
        f"{total:,} questions: {total - annotation.twice:,} texts, {annotation.twice:,} of them "
        "twice, which shows whether you answer alike."
    )


def _progress(annotation: Annotation) -> str:
    state = annotation.state()
    if state["item"] is None:
        return f"All {state['total']:,} questions are answered."
    return (
        f"{state['done']:,} of {state['total']:,} questions are answered. "
        "The same command continues with the others."
    )


def _ask_here(annotation: Annotation) -> None:
    """Ask in the terminal, with one key per text."""
    keys = " ".join(f"[{n}] {_printable(label)}" for n, label in enumerate(annotation.labels, 1))
    click.echo(f"{keys} [n] not sure [s] skip [u] undo [m] model [g] guidelines [q] quit", err=True)
    state, revealed = annotation.state(), False
    while item := state["item"]:
        click.echo(f"\n{state['done']} of {state['total']}", err=True)
        click.echo(_printable(item["text"]))
        try:
            key = click.getchar()
        except OSError as error:
            raise InputError(
                "--terminal needs a terminal to read keys from. Leave it out to check "
                "texts on a page."
            ) from error
        annotation.begin()
        if key in ("q", "\x04", "\x03", ""):
            break
        if key.isdigit() and 0 < int(key) <= len(annotation.labels):
            label, status = annotation.labels[int(key) - 1], "checked"
        elif key in "ns":
            label, status = None, "not sure" if key == "n" else "skipped"
        else:
            if key == "u":
                state = annotation.undo()
            elif key == "m":
                predicted = _printable(annotation.reveal(item["row"])["predicted"] or "")
                click.echo(
                    f"The model says {predicted}." if predicted else "No model has labelled it."
                )
                revealed = True
            elif key == "g":
                click.echo(_printable(annotation.guidelines) or "There are no guidelines.")
            continue
        state = annotation.answer(item["row"], item["repeat"], label, status, "", revealed)
        revealed = False
    click.echo(_progress(annotation), err=True)


def _printable(text: str) -> str:
    """Return a text without control characters, which a terminal would execute."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def _agreement(output: Path, labels: list[str]) -> None:
    from .agreement import annotator_agreement, self_agreement
    from .checked import read_checked

    checked = read_checked(output)
    found = annotator_agreement(checked.answers, labels)
    found["with_themselves"] = self_agreement(checked.repeats)
    found["conflicts"] = len(checked.conflicts())
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))


def _export(path: Path, output: Path) -> None:
    from sentikit.extension import refuse_overlap, write_json

    from .checked import read_checked
    from .checked_files import label_studio

    refuse_overlap([("--export", path)], [output, f"{output}.json"])
    tasks = label_studio(read_checked(output).answers)
    write_json(path, tasks)
    click.echo(f"Written: {path} ({len(tasks):,} tasks)", err=True)


def _import(path: Path, output: Path) -> None:
    from sentikit.extension import read_json, refuse_overlap

    from .checked import read_checked, read_draw
    from .checked_files import append_answer, from_label_studio

    refuse_overlap([("--output", output)], [path], output)
    checks: Sequence[Check]
    if path.suffix.lower() == ".json":
        checks = from_label_studio(read_json(path), str(path))
    else:
        checks = read_checked(path).answers
    drawn = read_draw(output).get("drawn")
    other = [check for check in checks if drawn is not None and check.row not in drawn]
    if other:
        raise InputError(
            f"{path} holds {len(other)} answers about rows that were not drawn for {output} and "
            "would spoil it. Choose another --output."
        )
    for check in checks:
        append_answer(output, check)
    click.echo(f"Added to {output}: {len(checks):,} answers.", err=True)


@click.command(
    epilog="\b\nExamples:\n"
    "  sentikit sample reviews.csv --size 2000 --output sample.csv\n"
    "  sentikit sample labelled.csv --size 500 --least-sure --output unsure.csv"
)
@input_file("FILE")
@click.option(
    "--size", type=click.IntRange(min=1), required=True, metavar="N", help="Rows to draw."
)
@click.option(
    "--output",
    type=FILE,
    required=True,
    metavar="SAMPLE.csv",
    help="The rows, with all their columns, as CSV or JSON Lines. Replaces an existing file, but "
    "none with checks.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw.")
@click.option(
    "--least-sure",
    is_flag=True,
    help="Take the rows of a labelled table with the lowest confidence instead. In our benchmark, "
    "training on them was worse than on random rows.",
)
def sample(source: InputFile, size: int, output: Path, seed: int, least_sure: bool) -> None:
    """Draw rows of a table, uniformly, for an LLM or for people to label.

    A cheap classifier learns the labels of such a sample; see docs/label-a-pile.md.
    """
    import csv

    import numpy as np

    from sentikit.extension import atomic_writer, refuse_overlap

    from .draws import least_sure as least_sure_rows
    from .draws import uniform_draw
    from .pile import scan_pile

    if output.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError(f"--output {output}: name it .csv or .jsonl.")
    source.refuse_pipe()
    refuse_overlap([("--output", output)], source.paths)
    drawn = (
        least_sure_rows(source, size)
        if least_sure
        else np.sort(uniform_draw(scan_pile(source).rows, size, seed).rows)
    )
    wanted = frozenset(drawn.tolist())
    with source.open() as rows, atomic_writer(output) as stream:
        chosen = (dict(row) for number, (_, row) in enumerate(rows) if number in wanted)
        if output.suffix.lower() == ".csv":
            writer = csv.DictWriter(stream, rows.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(chosen)
        else:
            stream.writelines(
                json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in chosen
            )
    click.echo(f"Written: {output} ({len(wanted):,} rows)", err=True)
