"""The tables that `predict` writes: the input's rows with predictions in added columns."""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sentikit.classifiers.classifier import Classifier, Example, asks_llms
from sentikit.classifiers.prediction import LABEL_COLUMN, Prediction
from sentikit.datasets.text_files import COMPRESSED
from sentikit.errors import InputError
from sentikit.files import atomic_writer, is_stream
from sentikit.keys import redacted
from sentikit.runs.writer import RowTotals, rounded
from sentikit.terminal import data_output

#: One object in JSON Lines; tables have one column per class, such as ``probability_negative``.
PROBABILITIES_COLUMN = "probabilities"
ANSWERED_BY_COLUMN, COST_COLUMN, ERROR_COLUMN = "answered_by", "cost", "error"
RATIONALE_COLUMN = "rationale"
#: Tables of text that can be written, by kind.
DELIMITERS = {"csv": ",", "tsv": "\t"}
_ROWS_PER_GROUP = 10_000
#: Suffix of an input or output file to the kind of table that is written.
_KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tsv-unquoted": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
#: First characters of cells that a spreadsheet runs as formulas, unless they are numbers.
_FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
_SIGNED_NUMBER = re.compile(r"[+-]\d+([.,]\d+)?(e[+-]?\d+)?", re.IGNORECASE)

Record = Mapping[str, Any]
Write = Callable[[Record, Record], None]


@dataclass(frozen=True)
class AddedColumns:
    """The columns that a classifier adds.

    Attributes:
        labels: the classes.
        answered_by: whether there is a column for the member that answered.
        paid: whether there are columns for costs and errors.
        rationale: whether there is a column for an LLM's reason.
    """

    labels: tuple[str, ...]
    answered_by: bool = False
    paid: bool = False
    rationale: bool = False

    @classmethod
    def of(cls, classifier: Classifier) -> AddedColumns:
        composed = bool(classifier.members) and not classifier.asks_llm
        if not asks_llms(classifier):
            return cls(classifier.labels, composed)
        from sentikit.llm.classifier import language_models

        models = language_models(classifier)
        rationale = any(model.components.strategy_options.rationale for model in models)
        return cls(classifier.labels, composed, True, rationale)

    def names(self, nested: bool) -> list[str]:
        """Return the columns; `nested` keeps probabilities in one column."""
        shares = [PROBABILITIES_COLUMN] if nested else self._share_columns
        more = [ANSWERED_BY_COLUMN] if self.answered_by else []
        more += [RATIONALE_COLUMN] if self.rationale else []
        return [LABEL_COLUMN, *shares, *more, *([COST_COLUMN, ERROR_COLUMN] if self.paid else [])]

    def values(self, prediction: Prediction | None, nested: bool) -> dict[str, Any]:
        """Return a row's values by column; all are None for a row without text."""
        known = prediction or Prediction(None)
        error = known.error or invalid_answer(known)
        shares = rounded(known.probabilities, self.labels)
        row: dict[str, Any] = {LABEL_COLUMN: known.label}
        if nested:
            row[PROBABILITIES_COLUMN] = shares
        elif shares is None:
            row |= dict.fromkeys(self._share_columns)
        else:
            row |= zip(self._share_columns, shares.values(), strict=True)
        if self.answered_by:
            row[ANSWERED_BY_COLUMN] = known.answered_by
        if self.rationale:
            row[RATIONALE_COLUMN] = None if known.rationale is None else redacted(known.rationale)
        if self.paid:
            unpaid = known.cost is None or (known.error is not None and not known.cost)
            cost = None if unpaid else round(known.cost or 0.0, 9)
            row[COST_COLUMN] = None if prediction is None else cost
            row[ERROR_COLUMN] = redacted(error) if error else None
        return row

    @functools.cached_property
    def _share_columns(self) -> list[str]:
        return [f"probability_{label}" for label in self.labels]


def invalid_answer(prediction: Prediction) -> str | None:
    if prediction.label is not None or prediction.answer is None:
        return None
    return f"The answer is not a label: {prediction.answer[:60]!r}"


class TableWriter:
    """Writes the rows of a job with their predictions.

    Attributes:
        totals: counts, tokens and costs of the rows.
        without_words: number of labelled rows whose text has no letter and no digit.
        labelled: class to the number of rows with its label.
    """

    def __init__(self, write: Write, added: AddedColumns, nested: bool) -> None:
        self._write, self._added, self._nested = write, added, nested
        self.totals, self.without_words = RowTotals(), 0
        self.labelled = dict.fromkeys(added.labels, 0)

    def add(self, example: Example, gold: str | None, prediction: Prediction) -> None:
        """Write a row's columns and its prediction, which is left out if there is no text."""
        has_text = bool(example.text.strip())
        row = self._added.values(prediction if has_text else None, self._nested)
        self.totals.add(prediction, has_text)
        if has_text and prediction.label is not None:
            self.labelled[prediction.label] += 1
            self.without_words += not any(map(str.isalnum, example.text))
        self._write(example.columns, row)


def written_kind(output: Path | None, file: str, input_format: str | None = None) -> str:
    """Return the kind of table to write, by a file's suffix, else by the input.

    Raises:
        InputError: no table is written with this suffix.
    """
    if output is not None and not is_stream(output):
        if kind := kind_of(output):
            return kind
        ending = "".join(output.suffixes[-2:] if output.suffix.lower() == ".gz" else output.suffix)
        what = f"{ending} files" if ending else "a file without an ending"
        raise InputError(
            f"{output}: {what} cannot be written. Use .csv, .tsv or .jsonl, each also with .gz, or "
            ".parquet."
        )
    path = Path(file)
    read = path.stem if path.suffix.lower() in COMPRESSED else path.name
    kind = _KINDS.get(f".{input_format}" if input_format else _ending(read), "jsonl")
    return "jsonl" if kind == "parquet" and output is None else kind


def refuse_taken(columns: Iterable[str], added: Sequence[str]) -> None:
    """Refuse a table that already has one of the columns to add.

    Raises:
        InputError: it has one.
    """
    if taken := [column for column in columns if column in added]:
        raise InputError(f"The input already has a column {taken[0]!r}. Rename it first.")


def kind_of(output: Path) -> str | None:
    """Return the kind of table that a file's suffix stands for."""
    kind = _KINDS.get(_ending(output.name))
    return None if kind == "parquet" and output.suffix.lower() == ".gz" else kind


def _ending(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).suffix


@contextlib.contextmanager
def open_table(
    output: Path | None,
    kind: str,
    columns: Sequence[str],
    added: AddedColumns,
    spreadsheet_safe: bool = False,
) -> Iterator[TableWriter]:
    """Open the output and yield its writer.

    A file appears once it is complete, compressed if its name ends in ``.gz``; standard output,
    for `output` None, is written row by row. `columns` are the input's. `spreadsheet_safe` puts
    ``'`` before cells of CSV and TSV that a spreadsheet would run as formulas.
    """
    nested = kind == "jsonl"
    names = added.names(nested)
    refuse_taken(columns, names)
    if kind == "parquet":
        assert output is not None
        with (
            atomic_writer(output, "wb") as binary,
            _parquet_writer(binary, columns, added) as write,
        ):
            yield TableWriter(write, added, nested)
        return
    with _stream(output) as stream:
        if kind in DELIMITERS:
            write = _delimited_writer(stream, columns, names, DELIMITERS[kind], spreadsheet_safe)
        else:
            write = _json_writer(stream)
        yield TableWriter(write, added, nested)


@contextlib.contextmanager
def _stream(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield data_output()
    elif output.suffix.lower() != ".gz":
        with atomic_writer(output) as stream:
            yield stream
    else:
        # Without a name and a time, the same rows give the same file.
        with (
            atomic_writer(output, "wb") as binary,
            gzip.GzipFile("", "wb", fileobj=binary, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as stream,
        ):
            yield stream


def _delimited_writer(
    stream: IO[str],
    columns: Sequence[str],
    added: Sequence[str],
    delimiter: str,
    spreadsheet_safe: bool,
) -> Write:
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    known, made = frozenset(columns), without_formula if spreadsheet_safe else None
    writer.writerow(map(made, [*columns, *added]) if made else [*columns, *added])

    def write(row: Record, predicted: Record) -> None:
        _refuse_late(row, known)
        cells = [v if type(v) is str else _cell(v) for v in map(row.get, columns)]
        cells += [_number(predicted[column], column) for column in added]
        writer.writerow(map(made, cells) if made else cells)

    return write


def _refuse_late(row: Record, known: frozenset[str]) -> None:
    if late := [column for column in row if column not in known]:
        raise InputError(
            f"The column {late[0]!r} comes too late for a table: earlier rows have none. "
            "Write JSON Lines with --format jsonl."
        )


def _number(value: Any, column: str) -> Any:
    """Write probabilities with six digits and costs with nine, never with an exponent."""
    if not isinstance(value, float):
        return value
    return f"{value:.9f}" if column == COST_COLUMN else f"{value:.6f}"


def without_formula(cell: Any) -> Any:
    """Return a cell that a spreadsheet shows as it is and never runs (OWASP, CSV injection)."""
    if not isinstance(cell, str) or not cell.lstrip().startswith(_FORMULA_STARTS):
        return cell
    return cell if _SIGNED_NUMBER.fullmatch(cell) else f"'{cell}"


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


def _json_writer(stream: IO[str]) -> Write:
    def write(row: Record, predicted: Record) -> None:
        record = {**{name: _plain(value) for name, value in row.items()}, **predicted}
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, default=str)
        stream.write(line + "\n")

    return write


@contextlib.contextmanager
def _parquet_writer(
    stream: IO[bytes], columns: Sequence[str], added: AddedColumns
) -> Iterator[Write]:
    """Write row groups; the first decides the types of the input's columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    writers: list[pq.ParquetWriter] = []
    known = frozenset(columns)
    types = dict.fromkeys(added.names(nested=False), pa.float64())
    texts = [LABEL_COLUMN, ANSWERED_BY_COLUMN, RATIONALE_COLUMN, ERROR_COLUMN]
    types |= dict.fromkeys(texts, pa.string())

    def flush() -> None:
        batch = pa.Table.from_pylist(rows)
        if not writers:
            own = [batch.field(column) for column in columns]
            fields = [
                pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in own
            ]
            fields += [pa.field(name, types[name]) for name in added.names(nested=False)]
            writers.append(pq.ParquetWriter(stream, pa.schema(fields)))
        try:
            writers[0].write_table(pa.Table.from_pylist(rows, writers[0].schema))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(
                f"The rows do not fit one Parquet table ({' '.join(str(error).split())}). Write "
                "JSON Lines with --format jsonl."
            ) from error
        rows.clear()

    def write(row: Record, predicted: Record) -> None:
        _refuse_late(row, known)
        rows.append({**dict.fromkeys(columns), **row, **predicted})
        if len(rows) >= _ROWS_PER_GROUP:
            flush()

    yield write
    if rows:
        flush()
    for writer in writers:
        writer.close()
