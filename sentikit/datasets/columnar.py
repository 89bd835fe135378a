"""Reads Parquet, a batch of rows at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentikit.errors import InputError
from sentikit.files import disk_errors

ROWS_PER_BATCH = 1_000
# Without a buffer of its own pyarrow reads the whole chunk of a column, which may be the file.
BUFFER_BYTES = 2**20


class ParquetTable:
    """A Parquet file, open until `close`.

    Attributes:
        columns: names of the top-level columns.

    Raises:
        InputError: the file is missing, may not be read or is not Parquet.
    """

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        with disk_errors(path):
            self._stream = path.open("rb")
        try:
            with _damage(self._name):
                self._file = pq.ParquetFile(
                    self._stream, buffer_size=BUFFER_BYTES, pre_buffer=False
                )
        except InputError:
            self._stream.close()
            raise
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the row number, from 1, and the values of `columns`; no other column is read.

        Raises:
            InputError: the file is damaged, or a text in it is not UTF-8.
        """
        batches = self._file.iter_batches(ROWS_PER_BATCH, columns=list(columns))
        number = 0
        while True:
            with _damage(self._name), _not_utf8(self._name, number + 1):
                batch = next(batches, None)
                if batch is None:
                    return
                values = [batch.column(name).to_pylist() for name in columns]
            for row in zip(*values, strict=True):
                number += 1
                yield number, row

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._stream.close()


@contextlib.contextmanager
def _damage(name: str) -> Iterator[None]:
    with disk_errors(name):
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None):
                raise
            reason = " ".join(str(error).split())
            raise InputError(f"{name} is not a whole Parquet file ({reason}).") from error


@contextlib.contextmanager
def _not_utf8(name: str, first: int) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}, rows {first} to {first + ROWS_PER_BATCH - 1}: a text is not UTF-8. "
            "Write the file again with UTF-8 texts."
        ) from error
