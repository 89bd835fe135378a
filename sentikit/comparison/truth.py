"""Gold labels and sources, from whoever knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.datasets.examples import Examples
from sentikit.errors import InputError, quoted
from sentikit.runs.table import RunTable, class_numbers

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """Examples with gold labels from a dataset.

    Attributes:
        name: of the dataset and split, for messages.
        examples: with gold labels as class names.
        classes: of its label scheme.
    """

    name: str
    examples: Examples
    classes: tuple[str, ...]


def _taken(values: Rows, rows: Rows | None) -> Rows:
    return values if rows is None else values[rows]


def gold_labels(
    examples: Examples,
    classes: tuple[str, ...],
    truth: Truth | None,
    tables: Sequence[RunTable],
    chosen: Sequence[Rows | None],
) -> Rows:
    """Return gold labels from whoever has them, -1 where nobody has; all in the same classes.

    Raises:
        InputError: two of them differ; none has any.
    """
    owners: list[tuple[str, Rows]] = []
    if truth:
        owners.append((truth.name, class_numbers(_arrow(examples, "label"), classes)))
    for table, rows in zip(tables, chosen, strict=True):
        owners.append((table.name, _taken(table.gold, rows)))
    first_name, gold = owners[0]
    gold = gold.copy()
    for name, other in owners[1:]:
        _refuse_conflict(examples, classes, (first_name, gold), (name, other))
        if (gold < 0).all():
            first_name = name
        np.copyto(gold, other, where=gold < 0)
    if (gold < 0).all():
        raise InputError(
            "No run has gold labels, so none can be scored. Name the data they are of, as "
            "--dataset merged --split test, or add a column of gold labels to a file."
        )
    return gold


def _refuse_conflict(
    examples: Examples,
    classes: tuple[str, ...],
    first: tuple[str, Rows],
    other: tuple[str, Rows],
) -> None:
    odd = np.flatnonzero((first[1] >= 0) & (other[1] >= 0) & (first[1] != other[1]))
    if not len(odd):
        return
    row = int(odd[0])
    text = quoted(examples.select([row]).texts[0] or examples.select([row]).ids[0])
    raise InputError(
        f"{first[0]} and {other[0]} have different gold labels for {len(odd):,} of "
        f"{len(examples):,} texts. The first is row {row + 1}, {text}: "
        f"{classes[int(first[1][row])]} and {classes[int(other[1][row])]}."
    )


def _arrow(examples: Examples, column: str) -> Any:
    values = examples.table.column(column)
    return values if examples.order is None else values.take(examples.order)


def sources_of(
    examples: Examples, tables: Sequence[RunTable], chosen: Sequence[Rows | None]
) -> tuple[tuple[str, ...], Rows]:
    """Return the names of sources, and each row's, from whoever knows it first."""
    names: list[str] = []
    found = np.full(len(examples), -1, np.int64)
    for own in [
        examples,
        *(
            t.examples if r is None else t.examples.select(r)
            for t, r in zip(tables, chosen, strict=True)
        ),
    ]:
        if not (found < 0).any():
            break
        codes, known = _source_codes(own)
        for name in known:
            if name not in names:
                names.append(name)
        lookup = np.array([*(names.index(name) for name in known), -1], np.int64)
        np.copyto(found, lookup[codes], where=found < 0)
    ordered = sorted(names)
    lookup = np.array([*(ordered.index(name) for name in names), -1], np.int64)
    return tuple(ordered), lookup[found]


def _source_codes(examples: Examples) -> tuple[Rows, list[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _arrow(examples, "source")
    together = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = together.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return np.asarray(codes, np.int64), encoded.dictionary.to_pylist()
