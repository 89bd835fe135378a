"""Ids for examples that came without: the same text has the same one wherever it came from."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def canonical_text(text: str) -> str:
    """Return what two texts share that differ in nothing but case, Unicode form and white space."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def text_hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return 8 bytes for each text; equal where their canonical texts are.

    Two different texts among a million share a hash with a probability of 3 in 100 million.
    """
    digests = (
        hashlib.blake2b(canonical_text(text).encode("utf-8", "surrogatepass"), digest_size=8)
        for text in texts
    )
    return np.frombuffer(b"".join(digest.digest() for digest in digests), dtype=np.uint64)


class MadeIds:
    """Makes ids from texts; case, Unicode form and white space do not count.

    The second occurrence of a text ends in ``-2``. Which ones are repeated is found out at the end:
    16 bytes are kept for a row, where a table of all texts seen would take ten times as much.
    """

    def __init__(self) -> None:
        self._rows, self._keys = array("q"), array("Q")

    def make(self, row: int, text: str) -> str:
        """Return the id of the text at `row`, as if it were the only one of its kind."""
        canonical = canonical_text(text).encode("utf-8", "surrogatepass")
        digest = hashlib.sha1(canonical, usedforsecurity=False).digest()[:8]
        self._rows.append(row)
        self._keys.append(int.from_bytes(digest, "big"))
        return digest.hex()

    def told_apart(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the column of ids with the repeated ones numbered; other chunks stay as they are.

        Args:
            ids: of all rows, as `make` and the data gave them.
        """
        rows, occurrences = self._repeated()
        chunks, start = [], 0
        for chunk in ids.chunks:
            first, end = np.searchsorted(rows, [start, start + len(chunk)])
            if first < end:
                values = chunk.to_pylist()
                for row, occurrence in zip(rows[first:end], occurrences[first:end], strict=True):
                    values[row - start] += f"-{occurrence}"
                chunk = pa.array(values, chunk.type)
            chunks.append(chunk)
            start += len(chunk)
        return pa.chunked_array(chunks, ids.type)

    def _repeated(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows whose text was there before, rising, and the how-manieth each is."""
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
