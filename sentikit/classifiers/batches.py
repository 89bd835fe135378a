"""Tokenised texts, and batches of texts of similar length for passes without gradients."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


#: What happens to a text with too many word pieces: its end is cut off; its first quarter and its
#: end are kept (Sun et al. 2019, https://arxiv.org/abs/1905.05583, section 5.3.1); or it becomes
#: several rows, whose logits are averaged by length.
LongTexts = Literal["cut", "head_tail", "chunks"]


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
        cut: texts of which word pieces were left out.
        owners: the text that each row is a chunk of, (rows,), or None where rows are texts.
    """

    pieces: NDArray[np.int32]
    starts: NDArray[np.int64]
    padding: int
    cut: int = 0
    owners: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Word pieces of each text, specials counted."""
        return np.diff(self.starts)

    def by_text(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one row a text: the mean over its chunks, (rows, …), weighted by their length."""
        return rows if self.owners is None else mean_of_chunks(rows, self.owners, self.lengths)

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


def mean_of_chunks(
    rows: NDArray[np.float32], owners: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Average rows, (chunks, …), that belong to one text, weighted by the chunks' lengths."""
    first = np.flatnonzero(np.diff(owners, prepend=-1))
    weights = np.maximum(lengths, 1).astype(np.float64)
    totals = np.add.reduceat(rows * weights[:, None], first)
    return (totals / np.add.reduceat(weights, first)[:, None]).astype(np.float32)


def tokenize(
    batches: Iterable[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    long_texts: LongTexts = "cut",
) -> TokenizedTexts:
    """Tokenise batches of texts; ids go to an unlinked temporary file, not to memory.

    Args:
        batches: texts in order, some thousands at a time.
        tokenizer: a fast tokenizer.
        max_length: most word pieces of a row, specials counted.
        long_texts: what happens to longer texts.
    """
    lengths: list[NDArray[np.int64]] = []
    owners: list[int] = []
    count = cut = 0
    fit = _Fit(tokenizer, max_length, long_texts)
    with tempfile.TemporaryFile(prefix="sentikit-") as spool:
        for texts in batches:
            ids = tokenizer(
                list(texts),
                truncation=False,
                verbose=False,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
            rows = [fit.rows(text) if len(text) > max_length else [text] for text in ids]
            if long_texts == "chunks":
                owners += [count + n for n, pieces in enumerate(rows) for _ in pieces]
            else:
                cut += sum(len(text) > max_length for text in ids)
            count += len(ids)
            ids = [row for pieces in rows for row in pieces]
            lengths.append(np.fromiter(map(len, ids), np.int64, len(ids)))
            spool.write(np.fromiter((i for text in ids for i in text), np.int32).tobytes())
        spool.flush()
        starts = np.concatenate([[0], np.cumsum(np.concatenate([[], *lengths]))]).astype(np.int64)
        empty = np.empty(0, np.int32)
        pieces = np.memmap(spool, np.int32, "r") if starts[-1] else empty
    padding = tokenizer.pad_token_id
    return TokenizedTexts(
        pieces,
        starts,
        int(padding) if padding is not None else 0,
        cut,
        np.array(owners, np.int64) if len(owners) > count else None,
    )


class _Fit:
    """Fits the word pieces of a long text into rows, each with the special ones around it."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int, long_texts: LongTexts
    ) -> None:
        special = tokenizer("a 1 .", return_special_tokens_mask=True)["special_tokens_mask"]
        inner = np.flatnonzero(np.asarray(special) == 0)
        self._before = int(inner[0]) if len(inner) else 0
        self._after = len(special) - 1 - int(inner[-1]) if len(inner) else 0
        self._room = max(1, max_length - self._before - self._after)
        self._long_texts = long_texts
        self._left = getattr(tokenizer, "truncation_side", "right") == "left"

    def rows(self, ids: list[int]) -> list[list[int]]:
        """Return one row, or the chunks."""
        end = len(ids) - self._after
        start, room = self._before, self._room
        if self._long_texts == "chunks":
            pieces = [ids[at : min(at + room, end)] for at in range(start, end, room)]
        elif self._long_texts == "head_tail":
            head = room // 4
            pieces = [ids[start : start + head] + ids[end - (room - head) : end]]
        else:
            pieces = [ids[end - room : end] if self._left else ids[start : start + room]]
        return [[*ids[:start], *piece, *ids[end:]] for piece in pieces]
