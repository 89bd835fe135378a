"""Descriptions of datasets: contents and problems."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit import Examples
from sentikit.extension import text_hashes

CountTokens = Callable[[list[str]], list[int]]
Hashes = NDArray[np.uint64]

#: Uncased WordPiece keeps most words of up to eight letters whole and splits the rest of longer
#: ones into short pieces; punctuation marks are separate.
_PIECE = re.compile(r"(?<![^\W_])[^\W_]{1,8}|[^\W_]{1,2}|[^\w\s]|_")
_SPECIAL_TOKENS = 2


@dataclass(frozen=True)
class TokenLengths:
    """Quantiles of the texts' lengths in tokens, special tokens included."""

    p50: int
    p95: int
    p99: int
    max: int


@dataclass(frozen=True)
class SourceDescription:
    """Examples of a split from one source: all, by class, and without a gold label."""

    examples: int
    labels: Mapping[str, int]
    unlabelled: int


@dataclass(frozen=True)
class SplitDescription:
    """Contents of a split.

    Texts that differ only in case, white space and Unicode form count as equal.

    Attributes:
        labels: examples by class: all classes of the scheme, then labels outside it.
        sources: by name, the largest first.
        duplicates: examples that repeat an earlier text.
        conflicts: texts that occur with more than one label.
        problems: what to check before using the split, one sentence each.
    """

    name: str
    examples: int
    fingerprint: str
    labels: Mapping[str, int]
    unlabelled: int
    sources: Mapping[str, SourceDescription]
    without_source: int
    empty_texts: int
    duplicates: int
    conflicts: int
    tokens: TokenLengths | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Leak:
    """Texts that two splits share.

    Attributes:
        texts: number of different texts in both.
        examples: number of examples of `second` with such a text.
        example: the first such text of `second`.
    """

    first: str
    second: str
    texts: int
    examples: int
    example: str


@dataclass(frozen=True)
class DatasetDescription:
    """Contents of a dataset by split, and texts that splits share."""

    name: str
    classes: tuple[str, ...]
    splits: tuple[SplitDescription, ...]
    leaks: tuple[Leak, ...]
    tokens_are_estimated: bool

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return dataclasses.asdict(self)


def describe_dataset(
    name: str,
    classes: Sequence[str],
    splits: Iterable[tuple[str, Examples]],
    count_tokens: CountTokens | None = None,
    advance: Callable[[int], object] = lambda rows: None,
) -> DatasetDescription:
    """Describe `splits`, with labels mapped to `classes`.

    Args:
        name: the dataset.
        classes: the classes of its label scheme.
        splits: names and examples; each split is read batch by batch, and its texts are not kept.
        count_tokens: gives the number of tokens of each text; without it they are estimated by
            `estimate_tokens`.
        advance: called with the number of examples read since the last call.
    """
    counter = count_tokens or estimate_tokens
    descriptions: list[SplitDescription] = []
    leaks: list[Leak] = []
    seen: dict[str, Hashes] = {}
    for split, examples in splits:
        description, hashes = _describe_split(split, examples, classes, counter, advance)
        descriptions.append(description)
        found = (_leak(other, seen[other], split, examples, hashes) for other in seen)
        leaks += [leak for leak in found if leak is not None]
        seen[split] = np.unique(hashes)
    return DatasetDescription(
        name, tuple(classes), tuple(descriptions), tuple(leaks), count_tokens is None
    )


def estimate_tokens(texts: list[str]) -> list[int]:
    """Estimate the tokens of each text, ``[CLS]`` and ``[SEP]`` included, as WordPiece counts them.

    Measured against the vocabulary of BERT and ELECTRA (uncased) on 11,951 English review
    sentences: 0.06 tokens too many on average (1.2 off either way), and the 50th, 95th and 99th
    percentiles at most one token off. Languages that write without spaces need a real tokenizer.
    """
    return [len(_PIECE.findall(text)) + _SPECIAL_TOKENS for text in texts]


def _describe_split(
    name: str,
    examples: Examples,
    classes: Sequence[str],
    count_tokens: CountTokens,
    advance: Callable[[int], object],
) -> tuple[SplitDescription, Hashes]:
    """Describe a split in one pass; also return a hash of 8 bytes per text."""
    by_source: dict[str | None, Counter[str | None]] = {}
    codes: dict[str | None, int] = {}
    pieces, label_codes, lengths = [np.empty(0, np.uint64)], [], []
    empty = 0
    for batch in examples.batches():
        for source, label in zip(batch["source"], batch["label"], strict=True):
            by_source.setdefault(source, Counter())[label] += 1
        pieces.append(text_hashes(batch["text"]))
        numbers = [codes.setdefault(label, len(codes)) for label in batch["label"]]
        label_codes.append(np.asarray(numbers, np.int32))
        lengths.append(np.asarray(count_tokens(batch["text"]), np.int32))
        empty += sum(not text.strip() for text in batch["text"])
        advance(len(batch["text"]))
    hashes = np.concatenate(pieces)
    labels = sum(by_source.values(), Counter[str | None]())
    by_size = sorted(by_source.items(), key=lambda item: (-item[1].total(), item[0] or ""))
    description = SplitDescription(
        name=name,
        examples=len(examples),
        fingerprint=examples.fingerprint(),
        labels=_by_class(labels, classes),
        unlabelled=labels[None],
        sources={
            source: SourceDescription(counts.total(), _by_class(counts, classes), counts[None])
            for source, counts in by_size
            if source is not None
        },
        without_source=by_source.get(None, Counter()).total(),
        empty_texts=empty,
        duplicates=len(hashes) - len(np.unique(hashes)),
        conflicts=_conflicts(hashes, np.concatenate(label_codes)) if label_codes else 0,
        tokens=_quantiles(np.concatenate(lengths)) if lengths else None,
        problems=(),
    )
    problems = tuple(_problems(description, classes))
    return dataclasses.replace(description, problems=problems), hashes


def _by_class(counts: Mapping[str | None, int], classes: Sequence[str]) -> dict[str, int]:
    others = sorted(label for label in counts if label is not None and label not in classes)
    return {label: counts.get(label, 0) for label in [*classes, *others]}


def _conflicts(hashes: Hashes, label_codes: NDArray[np.int32]) -> int:
    """Count the texts with more than one label, where a missing label counts as one."""
    order = np.lexsort((label_codes, hashes))
    ordered, labels = hashes[order], label_codes[order]
    differs = (ordered[1:] == ordered[:-1]) & (labels[1:] != labels[:-1])
    return len(np.unique(ordered[1:][differs]))


def _quantiles(lengths: NDArray[np.int32]) -> TokenLengths:
    shares = np.quantile(lengths, [0.5, 0.95, 0.99, 1.0], method="inverted_cdf")
    return TokenLengths(*(int(length) for length in shares))


def _problems(split: SplitDescription, classes: Sequence[str]) -> Iterator[str]:
    if not split.examples:
        yield "It has no examples."
        return
    present = [label for label, count in split.labels.items() if count]
    missing = [label for label in classes if label not in present]
    if len(present) == 1:
        yield f"All labels are {present[0]!r}: a model can learn nothing from it."
    elif present and missing:
        yield f"No example is labelled {' or '.join(map(repr, missing))}."
    if split.unlabelled:
        yield f"{split.unlabelled:,} of {split.examples:,} examples have no label."
    if split.empty_texts:
        yield f"{split.empty_texts:,} of {split.examples:,} texts are empty."
    if split.conflicts:
        yield f"{split.conflicts:,} texts occur with more than one label."


def _leak(
    other: str, other_hashes: Hashes, split: str, examples: Examples, hashes: Hashes
) -> Leak | None:
    rows = np.flatnonzero(np.isin(hashes, other_hashes))
    if not len(rows):
        return None
    example = examples.select(rows[:1]).texts[0]
    return Leak(other, split, len(np.unique(hashes[rows])), len(rows), example)
