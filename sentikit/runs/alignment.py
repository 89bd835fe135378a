"""Alignment of recorded rows with examples: by text and occurrence, and by id if texts repeat."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sentikit.datasets.examples import Examples, canonical_text
from sentikit.errors import InputError, quoted

Rows = NDArray[np.int64]
#: The values that two rows must share.
Key = Literal["id", "text", "id and text", "canonical text"]


def align(wanted: Examples, recorded: Examples, by_id_alone: bool = False) -> Rows:
    """Return the recorded row of each wanted example, -1 if there is none.

    Rows match if their texts are equal; among equal texts, those with equal ids match first, then
    the others in order. The remaining rows match if their texts differ only in case, white space
    and Unicode form. No recorded row is used twice. With `by_id_alone`, `recorded` has no texts.
    """
    if by_id_alone:
        return _match_in_turn(wanted, recorded, ["id"])
    if len(wanted) == len(recorded) and _same_texts(wanted, recorded):
        return np.arange(len(wanted), dtype=np.int64)
    return _match_in_turn(wanted, recorded, ["id and text", "text", "canonical text"])


def align_all(
    wanted: Examples, recorded: Examples, names: tuple[str, str], by_id_alone: bool = False
) -> Rows:
    """Return the recorded row of each wanted example, or refuse a gap; `names` are for messages."""
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
    """Return how many earlier examples have the same text as each one."""
    return _occurrences(_hashes(examples, "text"))


def _match_in_turn(wanted: Examples, recorded: Examples, keys: Sequence[Key]) -> Rows:
    """Match by each key the rows that earlier keys did not match."""
    rows = np.full(len(wanted), -1, np.int64)
    free = np.arange(len(recorded), dtype=np.int64)
    for key in keys:
        open_rows = np.flatnonzero(rows < 0)
        if not len(open_rows) or not len(free):
            break
        found = _match(_hashes(_some(wanted, open_rows), key), _hashes(_some(recorded, free), key))
        rows[open_rows] = np.where(found >= 0, free[found], -1)
        free = np.delete(free, found[found >= 0])
    return rows


def _some(examples: Examples, rows: Rows) -> Examples:
    # A whole split is read in pieces, without a copy.
    return examples if len(rows) == len(examples) else examples.select(rows)


def _match(wanted: Rows, recorded: Rows) -> Rows:
    """Match equal keys, the n-th occurrence with the n-th."""
    together = np.concatenate([wanted, recorded])
    codes = np.unique(together, return_inverse=True)[1].ravel()
    numbered = codes * (len(codes) + 1)
    here = numbered[: len(wanted)] + _occurrences(codes[: len(wanted)])
    there = numbered[len(wanted) :] + _occurrences(codes[len(wanted) :])
    order = np.argsort(there)
    places = np.minimum(np.searchsorted(there[order], here), len(there) - 1)
    candidates = order[places]
    return np.where(there[candidates] == here, candidates, -1)


def _occurrences(codes: Rows) -> Rows:
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranks = np.arange(len(codes)) - np.repeat(begins, np.diff(np.r_[begins, len(codes)]))
    occurrences = np.empty(len(codes), np.int64)
    occurrences[order] = ranks
    return occurrences


def _same_texts(wanted: Examples, recorded: Examples) -> bool:
    pairs = zip(wanted.pieces(), recorded.pieces(), strict=True)
    return all(one.column("text").equals(other.column("text")) for one, other in pairs)


def _hashes(examples: Examples, key: Key) -> Rows:
    """Return a 64-bit hash of each row, which takes less memory than the texts."""
    hashes, done = np.empty(len(examples), np.int64), 0
    for batch in examples.batches():
        values: Iterable[Hashable]
        if key == "id and text":
            values = zip(batch["id"], batch["text"], strict=True)
        else:
            values = map(canonical_text, batch["text"]) if key == "canonical text" else batch[key]
        found = list(map(hash, values))
        hashes[done : done + len(found)] = found
        done += len(found)
    return hashes


def _shown(examples: Examples, row: int, column: str) -> str:
    return quoted(str(examples.select([row]).column(column)[0]))


def _instead(recorded: Examples, row: int, column: str) -> str:
    """Quote the recorded value in the same row, to reveal a shift or a wrong file."""
    if row >= len(recorded):
        return f"; it has {len(recorded):,} rows"
    return f", where it has {_shown(recorded, row, column)}"
