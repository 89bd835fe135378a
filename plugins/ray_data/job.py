"""A job on Ray: its input, cut into parts, and how the rows of a part are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sentikit import InputError
from sentikit.extension import disk_errors

from .labeller import TableRows, chosen

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows labelled together, and a row group of the output.
BATCH = 8192
#: Unless they are chosen, rows of a part follow from the rows of the input, never from the number
#: of workers: so many parts that no worker is left without work long before the others.
_PARTS, _FEWEST_ROWS, _MOST_ROWS = 256, 1024, 100_000


@dataclass(frozen=True)
class Job:
    """The input, the output and the settings of a job.

    Attributes:
        classifier: whatever `sentikit.load` takes.
        path: a Parquet file, or a folder of them.
        output: the folder of the parts.
        text_column: the column or columns of the texts, or None.
        rows_per_part: rows of one output file, or None: as fits the rows of the input.
        max_cost: USD for all workers together, or None.
        device: of every actor.
    """

    classifier: str
    path: Path
    output: Path
    text_column: str | tuple[str, ...] | None
    rows_per_part: int | None
    max_cost: float | None
    device: str


@dataclass(frozen=True)
class Part:
    """Rows of one input file that become one output file.

    Attributes:
        number: in the order of the input.
        file: the input.
        start: its first row.
        stop: one past its last row.
    """

    number: int
    file: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The file name of the output."""
        return f"part-{self.number:06d}.parquet"

    @property
    def attempts(self) -> str:
        """The name of the file that counts how often the part was started."""
        return f".part-{self.number:06d}.attempts"


def parts_of(job: Job) -> list[Part]:
    """Return the parts of a Parquet file or of the files of a folder, in order.

    Raises:
        InputError: there is no Parquet file, no column of texts, or the output is inside the input.
    """
    path = job.path
    if path.is_dir() and job.output.resolve().is_relative_to(path.resolve()):
        raise InputError(f"--output {job.output} is inside the input. Choose another folder.")
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .parquet file.")
    totals = [_rows_of(file, job.text_column) for file in files]
    rows = job.rows_per_part or min(max(math.ceil(sum(totals) / _PARTS), _FEWEST_ROWS), _MOST_ROWS)
    spans = [
        (str(file.resolve()), start, min(total, start + rows))
        for file, total in zip(files, totals, strict=True)
        for start in range(0, total, rows)
    ]
    return [Part(number, *span) for number, span in enumerate(spans)]


def _rows_of(file: Path, text_column: str | tuple[str, ...] | None) -> int:
    """Return the number of rows of a file.

    Raises:
        InputError: it is not Parquet, or has no column of texts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with disk_errors(file), pq.ParquetFile(file) as opened:
            schema, rows = opened.schema_arrow, opened.metadata.num_rows
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{file} is not Parquet, which is all that Ray labels here. Write it as Parquet, or "
            "leave --on ray out."
        ) from error
    table = TableRows(schema.empty_table(), str(file))
    for column in table.find_text_columns(chosen(text_column), "--text-column COLUMN"):
        if column in schema.names and pa.types.is_nested(kind := schema.field(column).type):
            inner = ", ".join(f"{column}.{field}" for field in table.fields(column) or ())
            raise InputError(
                f"{file}: the column {column!r} has values of type {kind} instead of texts."
                + (f" Name a field inside it: {inner}." if inner else "")
            )
    return int(rows)


@contextmanager
def reading(file: str) -> Iterator[None]:
    """Translate errors while reading a file whose footer was readable.

    Raises:
        InputError: pyarrow cannot read it.
    """
    from pyarrow import ArrowException

    try:
        yield
    except ArrowException as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file} cannot be read: {reason}") from error


def tables_of(part: Part) -> Iterator[pa.Table]:
    """Yield the rows of a part as tables of equal size, reading only its row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(part.file) as file:
        groups, first, begins = [], 0, None
        for number in range(file.num_row_groups):
            size = file.metadata.row_group(number).num_rows
            if first < part.stop and first + size > part.start:
                groups.append(number)
                begins = first if begins is None else begins
            first += size
        skip, left = part.start - (begins or 0), part.stop - part.start
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for batch in file.iter_batches(BATCH, row_groups=groups):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            batch = batch.slice(skip, left)
            skip, left = 0, left - batch.num_rows
            waiting.append(batch)
            rows += batch.num_rows
            while rows >= BATCH or (left == 0 and rows):
                table = pa.Table.from_batches(waiting)
                yield table.slice(0, BATCH)
                rest = table.slice(BATCH)
                waiting, rows = rest.to_batches(), rest.num_rows
            if left == 0:
                return
