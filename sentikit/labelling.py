"""Labels tables: every row as it came, with its label and probabilities behind it."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import tee
from pathlib import Path
from typing import IO, Any

from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.tables import Rows, read_rows
from sentikit.errors import InputError
from sentikit.files import atomic_writer
from sentikit.runs.result_columns import LABEL_COLUMN

#: In tables one column a class, ``probability_negative``; in JSON Lines one object.
PROBABILITIES_COLUMN = "probabilities"
#: Tables that can be written, by kind.
DELIMITERS = {"csv": ",", "tsv": "\t"}

Row = Mapping[str, Any]
Write = Callable[[Row, Prediction | None], None]


def check_shareable(file: str, processes: int) -> None:
    """Refuse several processes on standard input.

    Raises:
        InputError: there are several, and each would have to read it all.
    """
    if file == "-" and processes > 1:
        raise InputError(
            f"{processes} processes cannot share standard input: each reads all texts. "
            "Save them in a file and name it."
        )


def open_input(file: str, kind: str | None, processes: int = 1) -> Rows:
    """Open a file, or standard input for ``-``.

    Raises:
        InputError: it cannot be read, is a terminal, or is to be shared by several processes.
    """
    check_shareable(file, processes)
    if file != "-":
        return read_rows(file, kind)
    if sys.stdin.isatty():
        raise InputError(
            "There is nothing to label: name a file, or pipe texts in, one a line "
            "(echo 'I love it' | sentikit predict MODEL)."
        )
    return read_rows(sys.stdin.buffer, kind)


@contextlib.contextmanager
def open_output(
    output: Path | None, kind: str, columns: Sequence[str], labels: Sequence[str]
) -> Iterator[Write]:
    """Open the place labelled rows go to and yield what writes one.

    A file appears only when it is complete, compressed if its name ends in ``.gz``; standard
    output is written as rows are labelled.

    Args:
        output: the file; None: standard output.
        kind: csv, tsv or jsonl.
        columns: of the input.
        labels: the classifier's classes.

    Raises:
        InputError: the input has a column of a name that is added here.
    """
    added = _table_columns(labels) if kind in DELIMITERS else [LABEL_COLUMN, PROBABILITIES_COLUMN]
    taken = [column for column in columns if column in added]
    if taken:
        raise InputError(f"The input already has a column {taken[0]!r}. Rename it first.")
    with _stream(output) as stream:
        if kind in DELIMITERS:
            yield _table_writer(stream, columns, labels, DELIMITERS[kind])
        else:
            yield _json_writer(stream, labels)


@contextlib.contextmanager
def _stream(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
    elif output.suffix.lower() != ".gz":
        with atomic_writer(output) as stream:
            yield stream
    else:
        # Without a name and a time in it, the same rows give the same file.
        with (
            atomic_writer(output, "wb") as binary,
            gzip.GzipFile("", "wb", fileobj=binary, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as stream,
        ):
            yield stream


def label_rows(classifier: EncoderClassifier, rows: Rows, text_column: str, write: Write) -> int:
    """Label every row in order, some thousands ahead at most; return how many have no text."""
    for_texts, for_writing = tee(row for _, row in rows)
    without = 0
    for prediction in classifier.classify(_text(row, text_column) for row in for_texts):
        row = next(for_writing)
        empty = not _text(row, text_column).strip()
        without += empty
        write(row, None if empty else prediction)
    return without


def help_label(classifier: EncoderClassifier, rows: Rows, text_column: str) -> None:
    """Take part in labelling rows that another process writes."""
    for _ in classifier.logits(_text(row, text_column) for _, row in rows):
        pass


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)


def _table_columns(labels: Iterable[str]) -> list[str]:
    return [LABEL_COLUMN, *(f"probability_{label}" for label in labels)]


def _table_writer(
    stream: IO[str], columns: Sequence[str], labels: Sequence[str], delimiter: str
) -> Write:
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow([*columns, *_table_columns(labels)])
    known = frozenset(columns)

    def write(row: Row, prediction: Prediction | None) -> None:
        if late := [column for column in row if column not in known]:
            raise InputError(
                f"The column {late[0]!r} comes too late for a table: earlier rows have none. "
                "Write JSON Lines with --format jsonl."
            )
        cells = [_cell(row.get(column)) for column in columns]
        found = None if prediction is None else prediction.probabilities
        shown = [""] * len(labels) if found is None else [f"{found[label]:.6f}" for label in labels]
        added = ["" if prediction is None else prediction.label, *shown]
        writer.writerow([*cells, *added])

    return write


def _cell(value: Any) -> Any:
    """Write nested JSON values as JSON, all others as they are."""
    if not isinstance(value, dict | list):
        return value
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, which knows no infinity and no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _json_writer(stream: IO[str], labels: Sequence[str]) -> Write:
    def write(row: Row, prediction: Prediction | None) -> None:
        added: dict[str, Any] = {LABEL_COLUMN: None, PROBABILITIES_COLUMN: None}
        if prediction is not None:
            known = prediction.probabilities
            rounded = None if known is None else {n: round(known[n], 6) for n in labels}
            added = {LABEL_COLUMN: prediction.label, PROBABILITIES_COLUMN: rounded}
        record = {**{name: _plain(value) for name, value in row.items()}, **added}
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, default=str)
        stream.write(line + "\n")

    return write
