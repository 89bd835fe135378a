"""Examples in Arrow tables: texts with ids and, where known, gold labels and sources."""

from __future__ import annotations

import hashlib
import json
import mmap
import tempfile
import unicodedata
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentikit.files import disk_errors

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("source", pa.string()),
    ]
)
ROWS_PER_BATCH = 10_000
#: A row's other columns as a JSON object, for datasets that keep them.
COLUMNS = pa.field("columns", pa.large_string())


@dataclass(frozen=True)
class Examples:
    """A split: rows of an Arrow table, optionally in another order.

    Attributes:
        table: columns ``id``, ``text``, ``label`` (gold label as spelled in the data, or null),
            ``source`` (or null) and, if the dataset keeps other columns for prompts, ``columns``.
        order: row numbers into `table`, or None for the table's own order. Selecting and shuffling
            change only this, so texts on disk stay there.
        mapped: the memory-mapped files of a `table` on disk.
    """

    table: pa.Table
    order: NDArray[np.int64] | None = None
    mapped: tuple[mmap.mmap, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def from_columns(
        cls,
        texts: Sequence[str],
        labels: Sequence[str | None] | None = None,
        sources: Sequence[str | None] | str | None = None,
        ids: Sequence[str] | None = None,
    ) -> Examples:
        """Build examples from columns; without ids, they are made from the texts."""
        builder = ExamplesBuilder()
        for row, text in enumerate(texts):
            builder.add(
                text,
                label=labels[row] if labels is not None else None,
                source=sources if sources is None or isinstance(sources, str) else sources[row],
                id=ids[row] if ids is not None else None,
            )
        return builder.finish()

    @classmethod
    def concatenate(cls, splits: Sequence[Examples]) -> Examples:
        """Concatenate splits without copying."""
        tables = [split.table for split in splits] or [SCHEMA.empty_table()]
        table = pa.concat_tables(tables, promote_options="default")
        mapped = tuple(file for split in splits for file in split.mapped)
        if all(split.order is None for split in splits):
            return cls(table, mapped=mapped)
        starts = np.cumsum([0] + [split.table.num_rows for split in splits])
        orders = [split.row_numbers() + start for split, start in zip(splits, starts, strict=False)]
        return cls(table, np.concatenate(orders), mapped)

    def __len__(self) -> int:
        return self.table.num_rows if self.order is None else len(self.order)

    def row_numbers(self) -> NDArray[np.int64]:
        """Return row numbers into `table` in this split's order."""
        if self.order is None:
            return np.arange(self.table.num_rows, dtype=np.int64)
        return self.order

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Examples:
        """Return the examples at `rows`, in that order."""
        chosen = np.asarray(rows, dtype=np.int64)
        order = chosen if self.order is None else self.order[chosen]
        return replace(self, order=order)

    def column(self, name: str) -> list[Any]:
        """Return a whole column as Python values."""
        column = self.table.column(name)
        return (column if self.order is None else column.take(self.order)).to_pylist()  # type: ignore[no-any-return]

    @property
    def ids(self) -> list[str]:
        """All ids."""
        return self.column("id")

    @property
    def texts(self) -> list[str]:
        """All texts; for large splits prefer `batches`."""
        return self.column("text")

    @property
    def labels(self) -> list[str | None]:
        """All gold labels, None where unknown."""
        return self.column("label")

    @property
    def sources(self) -> list[str | None]:
        """All sources, None where unknown."""
        return self.column("source")

    def replace_column(self, name: str, values: pa.Array) -> Examples:
        """Return examples with one column changed; `values` are in the table's own order."""
        position = SCHEMA.get_field_index(name)
        return replace(self, table=self.table.set_column(position, SCHEMA.field(position), values))

    def in_order(self) -> Examples:
        """Return examples whose table is in this split's order, copied if necessary."""
        return self if self.order is None else Examples(self.table.take(self.order))

    def identified_by_text(self) -> Examples:
        """Return examples in order, with ids made from the texts."""
        examples, made = self.in_order(), TextIds()
        ids = (made.make(row, text) for row, text in enumerate(examples.values("text")))
        column = pa.chunked_array([pa.array(ids, pa.string())])
        return examples.replace_column("id", made.number_repeated(column))

    def batches(self, rows: int = ROWS_PER_BATCH) -> Iterator[dict[str, list[Any]]]:
        """Yield the columns of up to `rows` examples at a time."""
        for piece in self.pieces(rows):
            yield piece.to_pydict()

    def rows(self) -> Iterator[tuple[str, str, str | None, str | None, dict[str, Any]]]:
        """Yield each row's id, text, label, source and other columns, in constant memory."""
        kept = COLUMNS.name in self.table.column_names
        for piece in self.pieces(columns=[*SCHEMA.names, *([COLUMNS.name] if kept else [])]):
            four = [piece.column(name).to_pylist() for name in SCHEMA.names]
            others = piece.column(COLUMNS.name).to_pylist() if kept else [None] * len(piece)
            for identifier, text, label, source, more in zip(*four, others, strict=True):
                yield identifier, text, label, source, json.loads(more) if more else {}

    def values(self, name: str) -> Iterator[Any]:
        """Yield a column's values in constant memory."""
        for piece in self.pieces(columns=[name]):
            yield from piece.column(0).to_pylist()

    def pieces(
        self, rows: int = ROWS_PER_BATCH, columns: Sequence[str] = SCHEMA.names
    ) -> Iterator[pa.Table]:
        """Yield tables of up to `rows` examples in constant memory."""
        table = self.table.select(columns)
        for start in range(0, len(self), rows):
            yield self._piece(table, start, rows)
            for file in self.mapped:
                _release_pages(file)

    def _piece(self, table: pa.Table, start: int, rows: int) -> pa.Table:
        if self.order is None:
            return table.slice(start, rows)
        wanted = self.order[start : start + rows]
        # `take` copies its input; a slice is small where the rows are in order.
        lowest, highest = int(wanted.min()), int(wanted.max())
        return table.slice(lowest, highest - lowest + 1).take(wanted - lowest)

    def fingerprint(self) -> str:
        """Return a SHA-256 over ids, texts, labels and sources in order."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for batch in self.batches():
            for row in zip(
                batch["id"], batch["text"], batch["label"], batch["source"], strict=True
            ):
                for value in row:
                    encoded = b"\xff" if value is None else value.encode("utf-8", "surrogatepass")
                    digest.update(len(encoded).to_bytes(4, "little") + encoded)
        return digest.hexdigest()


class ExamplesBuilder:
    """Collects examples row by row in constant memory.

    Many rows go to a temporary file, already unlinked, which disappears with the examples.
    """

    def __init__(self, columns: bool = False) -> None:
        self._schema = SCHEMA.append(COLUMNS) if columns else SCHEMA
        self._rows: list[tuple[str | None, ...]] = []
        self._spool: pa.RecordBatchFileWriter | None = None
        self._file: Any = None
        self._made_ids, self._count = TextIds(), 0

    def add(
        self,
        text: str,
        label: str | None = None,
        source: str | None = None,
        id: str | None = None,  # noqa: A002 - the word users know
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one example; without `id`, one is made from its text."""
        made = id if id is not None else self._made_ids.make(self._count, text)
        more = (json.dumps(columns),) if len(self._schema) > len(SCHEMA) else ()
        self._rows.append((made, text, label, source, *more))
        self._count += 1
        if len(self._rows) >= ROWS_PER_BATCH:
            self._flush()

    def finish(self) -> Examples:
        """Return the examples, memory-mapped if there are many."""
        if self._spool is None:
            batch = _batch(self._rows, self._schema)
            return self._examples(pa.Table.from_batches([batch], self._schema))
        self._flush()
        self._spool.close()
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
        self._file.close()
        return self._examples(table, mapped)

    def _examples(self, table: pa.Table, *mapped: mmap.mmap) -> Examples:
        ids = self._made_ids.number_repeated(table.column("id"))
        return Examples(table.set_column(0, SCHEMA.field("id"), ids), mapped=mapped)

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._spool is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            # Closes the file if a loader fails before `finish`.
            weakref.finalize(self, self._file.close)
            self._spool = pa.ipc.new_file(self._file, self._schema)
        with disk_errors(f"{tempfile.gettempdir()} (TMPDIR)"):
            self._spool.write_batch(_batch(self._rows, self._schema))
        self._rows = []


def _release_pages(file: mmap.mmap) -> None:
    """Release the memory of a mapped file's pages; they are read again when needed."""
    if hasattr(mmap, "MADV_DONTNEED"):
        file.madvise(mmap.MADV_DONTNEED)


def _batch(rows: Iterable[tuple[str | None, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.record_batch(
        [strings(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def strings(values: Iterable[str | None], kind: pa.DataType = SCHEMA.types[0]) -> pa.Array:
    """Return an array of strings; `pyarrow.array` would import pandas, a quarter of a second."""
    encoded = [None if value is None else value.encode() for value in values]
    known = np.packbits(np.array([text is not None for text in encoded], bool), bitorder="little")
    ends = np.cumsum([0, *(len(text or b"") for text in encoded)], dtype=np.int64)
    content = b"".join(text or b"" for text in encoded)
    buffers = [pa.py_buffer(part) for part in (known, ends, content)]
    return pa.Array.from_buffers(COLUMNS.type, len(encoded), buffers).cast(kind)


def class_names(numbers: NDArray[np.int64], classes: Sequence[str]) -> pa.Array:
    """Return the name of each class number, null for negative ones."""
    found = np.where(numbers < 0, len(classes), numbers)
    places = pa.Array.from_buffers(pa.int64(), len(found), [None, pa.py_buffer(found)])
    return strings([*classes, None]).take(places)


def as_numpy(column: pa.Array | pa.ChunkedArray, missing: float = 0) -> NDArray[Any]:
    """Return numbers or truth values; pyarrow's `to_numpy` and `scalar` would import pandas."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_boolean(whole.type):
        return as_numpy(whole.cast(pa.uint8())).astype(np.bool_)
    kind = np.dtype(whole.type.to_pandas_dtype())
    if len(whole) and not whole.null_count:
        return np.frombuffer(whole.buffers()[1], kind, len(whole), whole.offset * kind.itemsize)
    found = np.full(len(whole), missing, kind)
    if whole.null_count < len(whole):
        found[as_numpy(whole.is_valid())] = as_numpy(whole.drop_null())
    return found


def canonical_text(text: str) -> str:
    """Return a text with its case, Unicode form and white space normalised."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def text_hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return an 8-byte hash of each text's canonical form.

    The probability of any collision among a million texts is 3 in 100 million.
    """
    digests = (
        hashlib.blake2b(canonical_text(text).encode("utf-8", "surrogatepass"), digest_size=8)
        for text in texts
    )
    return np.frombuffer(b"".join(digest.digest() for digest in digests), dtype=np.uint64)


class TextIds:
    """Makes ids from texts, ignoring case, Unicode form and white space.

    The id of a text's second occurrence ends in ``-2``. Repetitions are found at the end, which
    takes 16 bytes a row, a tenth of a table of all texts.
    """

    def __init__(self) -> None:
        self._rows, self._keys = array("q"), array("Q")

    def make(self, row: int, text: str) -> str:
        """Return the id of the text at `row`, without an occurrence number."""
        canonical = canonical_text(text).encode("utf-8", "surrogatepass")
        digest = hashlib.sha1(canonical, usedforsecurity=False).digest()[:8]
        self._rows.append(row)
        self._keys.append(int.from_bytes(digest, "big"))
        return digest.hex()

    def number_repeated(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the column of ids with repeated ones numbered."""
        rows, occurrences = self._repeated()
        chunks, start = [], 0
        for chunk in ids.chunks:
            first, end = np.searchsorted(rows, [start, start + len(chunk)])
            if first < end:
                values = chunk.to_pylist()
                for row, occurrence in zip(rows[first:end], occurrences[first:end], strict=True):
                    values[row - start] += f"-{occurrence}"
                chunk = strings(values, chunk.type)
            chunks.append(chunk)
            start += len(chunk)
        return pa.chunked_array(chunks, ids.type)

    def _repeated(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the repeated rows, in order, and the occurrence index of each."""
        keys = np.frombuffer(self._keys, np.uint64) if self._keys else np.empty(0, np.uint64)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        new = np.r_[True, ordered[1:] != ordered[:-1]][: len(keys)]
        firsts = np.flatnonzero(new)
        occurrences = np.arange(len(keys)) - np.repeat(firsts, np.diff([*firsts, len(keys)])) + 1
        again = np.flatnonzero(~new)
        rows = np.array(self._rows, np.int64)[order[again]]
        rising = np.argsort(rows)
        return rows[rising], occurrences[again][rising]
