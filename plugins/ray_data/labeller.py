"""The stateful class for Ray Data's `map_batches`: one classifier per actor.

>>> import ray, sentikit.ray  # doctest: +SKIP
>>> reviews = ray.data.read_parquet("reviews/")  # doctest: +SKIP
>>> labelled = reviews.map_batches(  # doctest: +SKIP
...     sentikit.ray.Labeller,
...     fn_constructor_args=["runs/mine"],
...     batch_format="pyarrow",
...     batch_size=4096,
...     concurrency=2,
... )

See https://docs.ray.io/en/latest/data/transforming-data.html#stateful-transforms. Ray itself is not
imported here: the class works on any Arrow table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sentikit import Example, Prediction, load
from sentikit.extension import (
    AddedColumns,
    Rows,
    Session,
    TableSummary,
    TableWriter,
    encoders,
    refuse_taken,
    set_threads,
)

if TYPE_CHECKING:
    import pyarrow as pa


class TableRows(Rows):
    """The rows of an Arrow table."""

    def __init__(self, table: pa.Table, name: str = "the table") -> None:
        super().__init__(name, table.column_names)
        self._table = table

    def fields(self, column: str) -> tuple[str, ...] | None:
        """Return the fields of a struct."""
        import pyarrow as pa

        kind = self._table.schema.field(column).type
        return tuple(field.name for field in kind) if pa.types.is_struct(kind) else None

    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the number of each row and its values."""
        known = {name: self._table.column(name).to_pylist() for name in columns}
        yield from enumerate(zip(*(known[name] for name in columns), strict=True), 1)


def chosen(text_column: str | Sequence[str] | None) -> Sequence[str]:
    """Return the chosen columns, none if they are to be found by their names."""
    return [text_column] if isinstance(text_column, str) else text_column or ()


class Labeller:
    """A callable that adds a classifier's labels to Arrow tables, in the columns of `predict`.

    Args:
        classifier: anything that `sentikit.load` takes.
        text_column: the column of the texts, or a path such as ``review.text``; several are
            joined; None: one with a common name.
        device: auto, cpu, cuda, …
        threads: CPU threads of torch; one, since every core has its own actor.

    """

    def __init__(
        self,
        classifier: str,
        text_column: str | Sequence[str] | None = None,
        device: str = "auto",
        threads: int | None = 1,
    ) -> None:
        set_threads(threads)
        self._classifier = load(classifier, device=device)
        self._added = AddedColumns.of(self._classifier)
        self._text_column = text_column
        self.count_anew()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return a table with the labels after its columns."""
        return self.label(table)

    def label(self, table: pa.Table, session: Session | None = None) -> pa.Table:
        """Return a table with the labels after its columns.

        Args:
            table: with a column of texts; a row without text gets no label.
            session: journal and budget for LLMs.

        Raises:
            InputError: there is no column of texts, one holds other values, or one of the added
                columns exists.
        """
        import pyarrow as pa

        given = TableRows(table)
        columns = given.find_text_columns(chosen(self._text_column), "text_column")
        names = self._added.names(nested=False)
        refuse_taken(table.column_names, names)
        texts = [text for _, text, _ in given.texts(columns)] if table.num_rows else []
        self._rows.clear()
        for text, prediction in zip(texts, self._predictions(texts, session), strict=True):
            self._counted.add(Example(text), None, prediction)
        rows = self._rows
        for name in names:
            numeric = name.startswith("probability_") or name == "cost"
            kind = pa.float64() if numeric else pa.string()
            table = table.append_column(name, pa.array([row[name] for row in rows], kind))
        return table

    @property
    def summary(self) -> TableSummary:
        """The counts of the rows since the last `count_anew`."""
        return TableSummary.of(self._counted, self._classifier)

    def count_anew(self) -> None:
        """Begin to count rows from 0."""
        self._rows: list[Mapping[str, Any]] = []
        self._counted = TableWriter(
            lambda _, added: self._rows.append(added), self._added, nested=False
        )
        for encoder in encoders(self._classifier):
            encoder.cut = encoder.unknown = 0

    def _predictions(self, texts: list[str], session: Session | None) -> Iterator[Prediction]:
        """Yield a prediction per text, an empty one if blank; equal texts are classified once."""
        distinct = {text: None for text in texts if text.strip()}
        predictions = self._classifier.classify(map(Example, distinct), session)
        known = dict(zip(distinct, predictions, strict=True))
        return (known.get(text) or Prediction(None) for text in texts)
