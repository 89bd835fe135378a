"""Examples: texts with ids and, where known, gold labels and sources, kept in Arrow."""

from __future__ import annotations

import hashlib
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Examples:
    """A split: rows of an Arrow table, optionally in another order.

    Attributes:
        table: columns ``id``, ``text``, ``label`` (gold label as the data spell it, or null) and
            ``source`` (or null).
        order: row numbers into `table`, or None for the table's own order. Choosing and shuffling
            change this alone, so that texts stay where they are, on disk if they came from there.
    """

    table: pa.Table
    order: NDArray[np.int64] | None = None

    @classmethod
    def from_columns(
        cls,
        texts: Sequence[str],
        labels: Sequence[str | None] | None = None,
        sources: Sequence[str | None] | str | None = None,
        ids: Sequence[str] | None = None,
    ) -> Examples:
        """Build examples from columns; ids are made from the texts where none are given."""
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
    def concatenate(cls, parts: Sequence[Examples]) -> Examples:
        """Put splits one after the other; nothing is copied."""
        table = pa.concat_tables([part.table for part in parts]) if parts else SCHEMA.empty_table()
        if all(part.order is None for part in parts):
            return cls(table)
        starts = np.cumsum([0] + [part.table.num_rows for part in parts])
        orders = [part.row_numbers() + start for part, start in zip(parts, starts, strict=False)]
        return cls(table, np.concatenate(orders))

    def __len__(self) -> int:
        return self.table.num_rows if self.order is None else len(self.order)

    def row_numbers(self) -> NDArray[np.int64]:
        """Return the rows of `table` in this split's order."""
        if self.order is None:
            return np.arange(self.table.num_rows, dtype=np.int64)
        return self.order

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Examples:
        """Return the examples at `rows`, in that order."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Examples(self.table, chosen if self.order is None else self.order[chosen])

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
        return Examples(self.table.set_column(position, SCHEMA.field(position), values), self.order)

    def in_order(self) -> Examples:
        """Return examples whose table is in this split's order; a copy, unless it is already."""
        return self if self.order is None else Examples(self.table.take(self.order))

    def identified_by_text(self) -> Examples:
        """Return examples in order, with the ids their texts would get without any of their own."""
        examples, identify = self.in_order(), Identifier()
        ids = (identify(text.as_py()) for text in examples.table.column("text"))
        return examples.replace_column("id", pa.array(ids, pa.string()))

    def batches(self, rows: int = ROWS_PER_BATCH) -> Iterator[dict[str, list[Any]]]:
        """Yield the columns of up to `rows` examples at a time."""
        for start in range(0, len(self), rows):
            if self.order is None:
                piece = self.table.slice(start, rows)
            else:
                piece = self.table.take(self.order[start : start + rows])
            yield piece.to_pydict()

    def fingerprint(self) -> str:
        """Return a SHA-256 over ids, texts, labels and sources in order: equal means same data."""
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
    """Collects examples row by row and puts them on disk, so that memory does not grow with rows.

    The file is temporary and already unlinked: it goes when the examples go.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str | None, str | None]] = []
        self._spool: pa.RecordBatchFileWriter | None = None
        self._file: Any = None
        self._identify = Identifier()

    def add(
        self,
        text: str,
        label: str | None = None,
        source: str | None = None,
        id: str | None = None,  # noqa: A002 - the word users know
    ) -> None:
        """Add one example; without an id, one is made from its text."""
        self._rows.append((id if id is not None else self._identify(text), text, label, source))
        if len(self._rows) >= ROWS_PER_BATCH:
            self._flush()

    def finish(self) -> Examples:
        """Return the examples, memory-mapped if there are many."""
        if self._spool is None:
            return Examples(pa.Table.from_batches([_batch(self._rows)], SCHEMA))
        self._flush()
        self._spool.close()
        self._file.flush()
        with pa.memory_map(self._file.name) as mapped:
            table = pa.ipc.open_file(mapped).read_all()
        self._file.close()
        return Examples(table)

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._spool is None:
            self._file = tempfile.NamedTemporaryFile(prefix="sentikit-", suffix=".arrow")  # noqa: SIM115
            self._spool = pa.ipc.new_file(self._file, SCHEMA)
        with disk_errors(f"{tempfile.gettempdir()} (TMPDIR)"):
            self._spool.write_batch(_batch(self._rows))
        self._rows = []


def canonical_text(text: str) -> str:
    """Return what two texts share that differ in nothing but case, Unicode form and white space."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


class Identifier:
    """Makes ids from texts: the same text gets the same id whatever file or hub it came from.

    Case, Unicode form and white space do not count; the second occurrence of a text ends in ``-2``.
    """

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}

    def __call__(self, text: str) -> str:
        """Return the id of the next occurrence of `text`."""
        canonical = canonical_text(text)
        digest = hashlib.sha1(canonical.encode("utf-8", "surrogatepass"), usedforsecurity=False)
        key = digest.digest()[:8]
        occurrence = self._seen.get(key, 0) + 1
        self._seen[key] = occurrence
        return key.hex() if occurrence == 1 else f"{key.hex()}-{occurrence}"


def _batch(rows: Iterable[tuple[str, str, str | None, str | None]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)],
        schema=SCHEMA,
    )
