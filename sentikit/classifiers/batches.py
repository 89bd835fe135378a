"""Tokenizers, tokenized texts, and batches of texts of similar length."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentikit.errors import InputError
from sentikit.files import read_json
from sentikit.weights import refuse_foreign_code

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


#: The treatment of a text with too many word pieces: its end is cut off; its first quarter and its
#: end are kept (Sun et al. 2019, https://arxiv.org/abs/1905.05583, section 5.3.1); or it is split
#: into several rows, whose logits are averaged, weighted by length.
LongTexts = Literal["cut", "head_tail", "chunks"]


class BatchLimits(NamedTuple):
    """The size of one forward pass.

    Attributes:
        tokens: maximum word pieces, padding included.
        texts: maximum texts.
        padding: maximum padding of a text, as a share of the longest one.
        spare: word pieces of padding that cost less than another pass.
    """

    tokens: int
    texts: int
    padding: float = 1.0
    spare: int = 0


#: Limits by device. On a CPU, padding is expensive and another pass is cheap.
BATCH_LIMITS = {
    "cpu": BatchLimits(2048, 64, 0.1),
    "cuda": BatchLimits(32768, 1024),
    "mps": BatchLimits(8192, 256),
}


class FastTokenizer:
    """The tokenizer in a folder's ``tokenizer.json``, read without transformers.

    Attributes:
        longest: maximum word pieces of a text, with special tokens, if the folder sets it.
        padding: the id of padding.
        unknown: the id of the unknown token, or None.
        cuts_left: whether a long text loses its beginning instead of its end.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        if not (folder / "tokenizer.json").is_file():
            # transformers would silently make one without words from config.json alone.
            raise InputError(f"{folder} has no tokenizer: tokenizer.json is missing.")
        refuse_foreign_code(folder)
        try:
            self._backend: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # The library raises Exception itself.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{folder} has no usable tokenizer: {reason[:300]}") from error
        self._folder = folder
        path = folder / "tokenizer_config.json"
        found = read_json(path) if path.is_file() else {}
        settings: dict[str, Any] = found if isinstance(found, dict) else {}
        longest, pad = settings.get("model_max_length"), settings.get("pad_token")
        self.longest = int(longest) if isinstance(longest, int | float) else sys.maxsize
        self.cuts_left = settings.get("truncation_side") == "left"
        name = pad.get("content") if isinstance(pad, dict) else pad
        known = self._backend.padding or {}
        self.padding = int(self._backend.token_to_id(str(name)) or known.get("pad_id") or 0)
        unknown = settings.get("unk_token")
        name = unknown.get("content") if isinstance(unknown, dict) else unknown
        self.unknown: int | None = self._backend.token_to_id(name) if name else None
        self._backend.no_truncation()
        self._backend.no_padding()

    @cached_property
    def pretrained(self) -> PreTrainedTokenizerBase:
        """The same tokenizer from transformers."""
        from transformers import AutoTokenizer

        try:
            found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self._folder} has no usable tokenizer: {reason[:300]}") from error
        return found

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the word pieces of each text, with special tokens and without truncation."""
        return [found.ids for found in self._backend.encode_batch_fast(list(texts))]

    def special_mask(self, text: str) -> list[int]:
        """Return 1 for each special token of a text, 0 for the others."""
        return list(self._backend.encode(text).special_tokens_mask)


class PretrainedTokenizer:
    """A tokenizer of transformers with the interface of `FastTokenizer`."""

    def __init__(self, pretrained: PreTrainedTokenizerBase) -> None:
        self.pretrained = pretrained
        self.longest = int(pretrained.model_max_length)
        padding = pretrained.pad_token_id
        self.padding = int(padding) if padding is not None else 0
        self.unknown: int | None = pretrained.unk_token_id
        self.cuts_left = getattr(pretrained, "truncation_side", "right") == "left"

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self.pretrained(
            list(texts),
            truncation=False,
            verbose=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        return found

    def special_mask(self, text: str) -> list[int]:
        return list(self.pretrained(text, return_special_tokens_mask=True)["special_tokens_mask"])


Tokenizer = FastTokenizer | PretrainedTokenizer


def as_tokenizer(tokenizer: Tokenizer | PreTrainedTokenizerBase) -> Tokenizer:
    known = isinstance(tokenizer, FastTokenizer | PretrainedTokenizer)
    return tokenizer if known else PretrainedTokenizer(tokenizer)  # type: ignore[return-value, arg-type]


def batches_by_length(
    lengths: NDArray[np.int64],
    most_tokens: int,
    most_rows: int,
    most_padding: float = 1.0,
    spare: int = 0,
) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each batch, longest first, so that the first batch needs most memory."""
    order = np.argsort(-lengths, kind="stable")
    falling = -lengths[order]
    start = 0
    while start < len(order):
        longest = max(1, -int(falling[start]))
        rows = falling[start : start + min(most_rows, max(1, most_tokens // longest))]
        alike = int(np.searchsorted(rows, -longest * (1 - most_padding), side="right"))
        filled = int(np.searchsorted(np.cumsum(longest + rows), spare, side="right"))
        size = max(1, alike, filled)
        yield order[start : start + size]
        start += size


@dataclass(frozen=True)
class TokenizedTexts:
    """The concatenated word pieces of many texts, on disk.

    Attributes:
        starts: start of each text in `pieces`, and the end of the last.
        cut: number of truncated texts.
        unknown: number of texts with mostly unknown tokens.
        owners: the text that each row is a chunk of, (rows,), or None if rows are texts.
    """

    pieces: NDArray[np.int32]
    starts: NDArray[np.int64]
    padding: int
    cut: int = 0
    owners: NDArray[np.int64] | None = None
    unknown: int = 0

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    def by_text(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one row per text: the mean over its chunks, (rows, …), weighted by length."""
        if self.owners is None:
            return rows
        first = np.flatnonzero(np.diff(self.owners, prepend=-1))
        weights = np.maximum(self.lengths, 1).astype(np.float64)
        totals = np.add.reduceat(rows * weights[:, None], first)
        return (totals / np.add.reduceat(weights, first)[:, None]).astype(np.float32)

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        import torch

        ids, mask = self.arrays(rows)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def arrays(
        self, rows: Sequence[int] | NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids and mask, both (rows, longest row), padded on the right."""
        texts = [self.pieces[self.starts[row] : self.starts[row + 1]] for row in rows]
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        width = int(lengths.max(initial=1))
        ids = np.full((len(texts), width), self.padding, np.int64)
        mask = np.arange(width) < lengths[:, None]
        ids[mask] = np.concatenate(texts)
        return ids, mask.astype(np.int64)


#: Characters per word piece to tokenize of a text that is cut; far more than one has.
_CHARACTERS = 32
_MARGIN = 16
_SPACE = re.compile(r"[ \n]")


def tokenize(
    batches: Iterable[Sequence[str]],
    tokenizer: Tokenizer | PreTrainedTokenizerBase,
    max_length: int,
    long_texts: LongTexts = "cut",
) -> TokenizedTexts:
    """Tokenize batches of texts; the ids go to an unlinked temporary file."""
    lengths: list[NDArray[np.int64]] = []
    owners: list[int] = []
    count = cut = unknown = 0
    own = as_tokenizer(tokenizer)
    fit = _Fit(own, max_length, long_texts)
    with tempfile.TemporaryFile(prefix="sentikit-") as spool:
        for texts in batches:
            ids = fit.ids(texts)
            rows = [fit.rows(text) if len(text) > max_length else [text] for text in ids]
            if long_texts == "chunks":
                owners += [count + n for n, pieces in enumerate(rows) for _ in pieces]
            else:
                cut += sum(len(text) > max_length for text in ids)
            count += len(ids)
            if own.unknown is not None:
                of_text = (len(text) - fit.specials for text in ids)
                known = zip(ids, of_text, strict=True)
                unknown += sum(2 * text.count(own.unknown) > pieces for text, pieces in known)
            ids = [row for pieces in rows for row in pieces]
            lengths.append(np.fromiter(map(len, ids), np.int64, len(ids)))
            spool.write(np.fromiter((i for text in ids for i in text), np.int32).tobytes())
        spool.flush()
        starts = np.concatenate([[0], np.cumsum(np.concatenate([[], *lengths]))]).astype(np.int64)
        empty = np.empty(0, np.int32)
        pieces = np.memmap(spool, np.int32, "r") if starts[-1] else empty
    return TokenizedTexts(
        pieces,
        starts,
        own.padding,
        cut,
        np.array(owners, np.int64) if len(owners) > count else None,
        unknown,
    )


class _Fit:
    def __init__(self, tokenizer: Tokenizer, max_length: int, long_texts: LongTexts) -> None:
        special = tokenizer.special_mask("a 1 .")
        inner = np.flatnonzero(np.asarray(special) == 0)
        self._before = int(inner[0]) if len(inner) else 0
        self._after = len(special) - 1 - int(inner[-1]) if len(inner) else 0
        self.specials = self._before + self._after
        self._room = max(1, max_length - self.specials)
        self._long_texts = long_texts
        self._left = tokenizer.cuts_left
        self._tokenizer, self._max_length = tokenizer, max_length

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts; of a much too long one, only the part that is kept."""
        if self._long_texts != "cut":
            return self._tokenizer.ids(texts)
        shown = [self._excerpt(text) for text in texts]
        ids = self._tokenizer.ids(shown)
        for number, (text, excerpt) in enumerate(zip(texts, shown, strict=True)):
            # Word pieces next to a cut may differ from those of the whole text.
            if excerpt is not text and len(ids[number]) <= self._max_length + _MARGIN:
                (ids[number],) = self._tokenizer.ids([text])
        return ids

    def _excerpt(self, text: str) -> str:
        """Return the beginning or end of a very long text, cut between words if possible."""
        most = _CHARACTERS * self._max_length
        if len(text) <= most:
            return text
        if self._left:
            space = _SPACE.search(text, len(text) - most)
            return text[space.start() :] if space else text
        at = max(text.rfind(" ", 0, most), text.rfind("\n", 0, most))
        return text[:at] if at > 0 else text

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
