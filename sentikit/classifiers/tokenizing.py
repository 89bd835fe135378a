"""Tokenised texts in one flat array, and padded batches cut from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


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
