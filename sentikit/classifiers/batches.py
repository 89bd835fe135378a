"""Tokenised texts, and batches of texts of similar length for passes without gradients."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


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


@dataclass(frozen=True)
class TokenizedTexts:
    """Word pieces of many texts.

    Attributes:
        pieces: all ids one after the other, int32; on disk when there are many.
        starts: where each text begins in `pieces`, one more than there are texts.
        padding: the id that fills up a batch.
    """

    pieces: NDArray[np.int32]
    starts: NDArray[np.int64]
    padding: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Word pieces of each text, specials counted."""
        return np.diff(self.starts)

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return ids and mask, both (rows, longest of them), padded on the right."""
        import torch

        texts = [self.pieces[self.starts[row] : self.starts[row + 1]] for row in rows]
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        width = int(lengths.max(initial=1))
        ids = np.full((len(texts), width), self.padding, np.int64)
        mask = np.arange(width) < lengths[:, None]
        ids[mask] = np.concatenate(texts)
        return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def tokenize(
    batches: Iterable[Sequence[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenizedTexts:
    """Tokenise batches of texts; ids go to an unlinked temporary file, not to memory.

    Args:
        batches: texts in order, some thousands at a time.
        tokenizer: a fast tokenizer.
        max_length: word pieces after which a text is cut.
    """
    lengths: list[NDArray[np.int64]] = []
    with tempfile.TemporaryFile(prefix="sentikit-") as spool:
        for texts in batches:
            ids = tokenizer(
                list(texts),
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
            lengths.append(np.fromiter(map(len, ids), np.int64, len(ids)))
            spool.write(np.fromiter((i for text in ids for i in text), np.int32).tobytes())
        spool.flush()
        starts = np.concatenate([[0], np.cumsum(np.concatenate([[], *lengths]))]).astype(np.int64)
        empty = np.empty(0, np.int32)
        pieces = np.memmap(spool, np.int32, "r") if starts[-1] else empty
    padding = tokenizer.pad_token_id
    return TokenizedTexts(pieces, starts, int(padding) if padding is not None else 0)
