"""Batches of texts of like length, for passes without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class BatchLimits(NamedTuple):
    """The size of one forward pass.

    Attributes:
        tokens: most word pieces, padding included.
        texts: most texts.
        padding: the most, as a share of the longest text, that a text may be filled up.
    """

    tokens: int
    texts: int
    padding: float = 1.0


#: By device. A CPU pays for every word piece of padding and little for one more pass.
BATCH_LIMITS = {
    "cpu": BatchLimits(2048, 64, 0.1),
    "cuda": BatchLimits(32768, 1024),
    "mps": BatchLimits(8192, 256),
}


def batches_by_length(
    lengths: NDArray[np.int64], most_tokens: int, most_rows: int, most_padding: float = 1.0
) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers of batches of like length, longest first; see `BatchLimits`.

    Longest first, so that memory is at its highest in the first batch and not in the last.
    """
    order = np.argsort(-lengths, kind="stable")
    falling = -lengths[order]
    start = 0
    while start < len(order):
        longest = max(1, -int(falling[start]))
        rows = min(most_rows, max(1, most_tokens // longest))
        alike = int(np.searchsorted(falling, -longest * (1 - most_padding), side="right")) - start
        yield order[start : start + max(1, min(rows, alike))]
        start += max(1, min(rows, alike))
