"""Finds the recorded row of every example: by text and occurrence, and by id where texts repeat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sentikit.data.examples import Examples, canonical_text
from sentikit.errors import InputError

Rows = NDArray[np.int64]
#: What two rows must share, for whole columns at once.
Key = Callable[[Examples], pa.Array]


def align(wanted: Examples, recorded: Examples, by_id_alone: bool = False) -> Rows:
    """Return the recorded row of each wanted example, -1 where there is none.

    Rows belong together when their texts are equal; among equal texts, first those with equal ids,
    then in their order. Texts that differ in nothing but case, white space and Unicode form are
    matched where nothing better is found. No recorded row is given twice.

    Args:
        wanted: the examples to find.
        recorded: where to find them.
        by_id_alone: `recorded` has no texts.
    """
    if by_id_alone:
        return _match_in_turn(wanted, recorded, [_ids])
    if len(wanted) == len(recorded) and _texts(wanted).equals(_texts(recorded)):
        return np.arange(len(wanted), dtype=np.int64)
    return _match_in_turn(wanted, recorded, [_ids_and_texts, _texts, _canonical_texts])


def align_all(
    wanted: Examples, recorded: Examples, names: tuple[str, str], by_id_alone: bool = False
) -> Rows:
    """Return the recorded row of each wanted example.

    Args:
        wanted: the examples to find.
        recorded: where to find them.
        names: what the two are called, for the message.
        by_id_alone: `recorded` has no texts.

    Raises:
        InputError: some are not recorded; says how many, and shows the first.
    """
    rows = align(wanted, recorded, by_id_alone)
    missing = np.flatnonzero(rows < 0)
    if not len(missing):
        return rows
    first = int(missing[0])
    sought, there = names
    column = "id" if by_id_alone else "text"
    raise InputError(
        f"{there} does not belong to {sought}: {len(missing):,} of {len(wanted):,} examples are "
        f"not in it. The first is row {first + 1}, {_shown(wanted, first, column)}"
        f"{_instead(recorded, first, column)}."
    )


def text_occurrences(examples: Examples) -> Rows:
    """Return how often each example's text occurred before it."""
    return _occurrences(_codes(_chunks(_texts(examples))))


def _match_in_turn(wanted: Examples, recorded: Examples, keys: list[Key]) -> Rows:
    """Match by each key what the keys before it left over."""
    rows = np.full(len(wanted), -1, np.int64)
    free = np.arange(len(recorded), dtype=np.int64)
    for key in keys:
        open_rows = np.flatnonzero(rows < 0)
        if not len(open_rows) or not len(free):
            break
        found = _match(key(wanted.select(open_rows)), key(recorded.select(free)))
        rows[open_rows] = np.where(found >= 0, free[found], -1)
        free = np.delete(free, found[found >= 0])
    return rows


def _match(wanted: pa.Array, recorded: pa.Array) -> Rows:
    """Pair equal keys, the n-th occurrence with the n-th."""
    codes = _codes([*_chunks(wanted), *_chunks(recorded)])
    numbered = codes * (len(codes) + 1)
    here = numbered[: len(wanted)] + _occurrences(codes[: len(wanted)])
    there = numbered[len(wanted) :] + _occurrences(codes[len(wanted) :])
    order = np.argsort(there)
    places = np.minimum(np.searchsorted(there[order], here), len(there) - 1)
    candidates = order[places]
    return np.where(there[candidates] == here, candidates, -1)


def _codes(chunks: list[pa.Array]) -> Rows:
    """Number equal texts alike."""
    together = pa.chunked_array(chunks, pa.large_string()).combine_chunks()
    return np.asarray(together.dictionary_encode().indices.to_numpy(), np.int64)


def _occurrences(codes: Rows) -> Rows:
    """Return how often each code occurred before."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranks = np.arange(len(codes)) - np.repeat(begins, np.diff(np.r_[begins, len(codes)]))
    occurrences = np.empty(len(codes), np.int64)
    occurrences[order] = ranks
    return occurrences


def _chunks(column: pa.Array) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def _column(examples: Examples, name: str) -> pa.Array:
    column = examples.table.column(name)
    taken = column if examples.order is None else column.take(pa.array(examples.order))
    return taken.cast(pa.large_string())


def _ids(examples: Examples) -> pa.Array:
    return _column(examples, "id")


def _texts(examples: Examples) -> pa.Array:
    return _column(examples, "text")


def _ids_and_texts(examples: Examples) -> pa.Array:
    separator = pa.scalar("\x1f", pa.large_string())
    return pc.binary_join_element_wise(_ids(examples), _texts(examples), separator)


def _canonical_texts(examples: Examples) -> pa.Array:
    return pa.array([canonical_text(text) for text in examples.texts], pa.large_string())


def _shown(examples: Examples, row: int, column: str) -> str:
    value = str(examples.select([row]).column(column)[0])
    return repr(value if len(value) <= 60 else value[:57] + "…")


def _instead(recorded: Examples, row: int, column: str) -> str:
    """Quote what stands in the same row, to show a shift by a row or another file altogether."""
    if row >= len(recorded):
        return f"; it has {len(recorded):,} rows"
    return f", where it has {_shown(recorded, row, column)}"
