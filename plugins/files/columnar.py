"""Columnar files: Parquet and Arrow, read in batches of rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentikit import InputError
from sentikit.extension import Rows, TableFormat, disk_errors

ROWS_PER_BATCH = 1_000
BUFFER_BYTES = 2**20


class Parquet(TableFormat):
    """The format of Parquet files, and of folders of them."""

    def open(self, path: Path, sheet: str | None = None) -> Rows:
        """Open a file, or all ``.parquet`` files of a folder in the order of their names."""
        if not path.is_dir():
            return ColumnarRows(path, "parquet")
        parts = sorted(part for part in path.glob("*.parquet") if part.name[0] not in "._")
        if not parts:
            raise InputError(f"{path} is a folder without .parquet files. Give a file.")
        return FolderRows(path, parts)


class Arrow(TableFormat):
    """The format of Arrow files and streams."""

    def open(self, path: Path, sheet: str | None = None) -> Rows:
        """Open a file."""
        return ColumnarRows(path, "arrow")


class ColumnarRows(Rows):
    """Rows of a Parquet or Arrow file.

    Raises:
        InputError: the file is missing, cannot be read or is not of this format.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._kind = kind
        with disk_errors(path):
            stream = path.open("rb")
        try:
            with self._damage(str(path)):
                if kind == "parquet":
                    # Without a buffer, pyarrow reads a whole column chunk, perhaps the whole file.
                    self._file: Any = pq.ParquetFile(
                        stream, buffer_size=BUFFER_BYTES, pre_buffer=False
                    )
                    self._schema = self._file.schema_arrow
                else:
                    self._file = _arrow(path)
                    self._schema = self._file.schema
            super().__init__(str(path), self._schema.names, stream.close)
        except InputError:
            stream.close()
            raise

    def fields(self, column: str) -> tuple[str, ...] | None:
        """Return the fields of a struct."""
        kind = self._schema.field(column).type
        return tuple(field.name for field in kind) if pa.types.is_struct(kind) else None

    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the number of each row and its values; a damaged file is refused."""
        batches = self._batches(list(dict.fromkeys(columns)))
        number = 0
        while True:
            with self._damage(self.name, number):
                batch = next(batches, None)
                if batch is None:
                    return
                known = {name: batch.column(name).to_pylist() for name in batch.schema.names}
            values = [known[name] for name in columns]
            for row in zip(*values, strict=True):
                number += 1
                yield number, row

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        if self._kind == "parquet":
            yield from self._file.iter_batches(ROWS_PER_BATCH, columns=columns)
            return
        if isinstance(self._file, pa.RecordBatchStreamReader):
            whole = iter(self._file)
        else:
            whole = (self._file.get_batch(n) for n in range(self._file.num_record_batches))
        for batch in whole:
            chosen = batch.select(columns)
            for start in range(0, chosen.num_rows, ROWS_PER_BATCH):
                yield chosen.slice(start, ROWS_PER_BATCH)

    @contextlib.contextmanager
    def _damage(self, name: str, read: int = 0) -> Iterator[None]:
        with disk_errors(name):
            try:
                yield
            except (pa.ArrowException, OSError) as error:
                if getattr(error, "errno", None):
                    raise
                reason = " ".join(str(error).split())
                kind = self._kind.capitalize()
                raise InputError(f"{name} is not a complete {kind} file ({reason}).") from error
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{name}, rows {read + 1} to {read + ROWS_PER_BATCH}: a text is not UTF-8. "
                    "Write the file again with UTF-8 texts."
                ) from error


class FolderRows(Rows):
    """The rows of Parquet files with the same columns, one file after the other."""

    def __init__(self, folder: Path, parts: Sequence[Path]) -> None:
        self._parts = parts
        self._open = ColumnarRows(parts[0], "parquet")
        super().__init__(str(folder), self._open.columns, lambda: self._open.close())

    def fields(self, column: str) -> tuple[str, ...] | None:
        """Return the fields of a struct."""
        return self._open.fields(column)

    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the number of each row, counted over all files, and its values."""
        number = 0
        for part in self._parts:
            self._open.close()
            self._open = ColumnarRows(part, "parquet")
            if missing := [name for name in self.columns if name not in self._open.columns]:
                raise InputError(
                    f"{part} has no column {missing[0]!r}, which {self._parts[0]} has. Give files "
                    "with the same columns."
                )
            for _, row in self._open.values(columns):
                number += 1
                yield number, row


def _arrow(path: Path) -> Any:
    """Open an Arrow file or stream."""
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source)
