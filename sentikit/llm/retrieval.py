"""Finds the labelled texts most like another one: exact cosine similarity, in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentikit.datasets.examples import Examples, canonical_text
from sentikit.errors import InputError
from sentikit.llm.strategy import ExamplesNeeded

#: Similarities held at a time, 4 bytes each.
_BLOCK = 4 * 2**20


def choose_examples(
    examples: Examples, evaluated: Examples, size: int | str, seed: int, where: str
) -> Examples:
    """Choose the examples that may be shown.

    No text of the evaluated split is among them, whatever its case, Unicode form and white space,
    and no text twice.

    Args:
        examples: labelled ones, usually the validation split.
        evaluated: the split to label.
        size: how many to draw, or ``all``.
        seed: decides which.
        where: what `examples` are, for messages.

    Raises:
        InputError: fewer are left than wanted, or none.
    """
    seen = {canonical_text(text) for batch in evaluated.batches() for text in batch["text"]}
    rows = []
    for row, (text, label) in enumerate(_texts_and_labels(examples)):
        canonical = canonical_text(text)
        if label is not None and canonical not in seen:
            seen.add(canonical)
            rows.append(row)
    if not rows or (size != "all" and len(rows) < int(size)):
        raise InputError(
            f"strategy.examples.pool asks for {size}; {where} has {len(rows):,} labelled texts "
            "that are not in the split to label. Ask for fewer, or take another split or dataset."
        )
    if size == "all":
        return examples.select(rows)
    drawn = np.random.default_rng(seed).choice(len(rows), int(size), replace=False)
    return examples.select(np.asarray(rows)[np.sort(drawn)])


def _texts_and_labels(examples: Examples) -> list[tuple[str, str | None]]:
    return list(zip(examples.texts, examples.labels, strict=True))


@dataclass(frozen=True)
class Pool:
    """Labelled texts and where they lie.

    Attributes:
        texts: to be shown.
        labels: their gold labels.
        embeddings: (texts, hidden), each of length 1.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    embeddings: NDArray[np.float32]

    def check(self, needed: ExamplesNeeded, classes: Sequence[str]) -> None:
        """Refuse a pool that is too small for what is needed.

        Raises:
            InputError: there are fewer texts, of some class or in all, than k.
        """
        groups = {name: self.labels.count(name) for name in classes}
        kinds = groups if needed.balanced else {"": len(self.labels)}
        for name, count in kinds.items():
            # One may be the text that is asked about.
            if count <= needed.k:
                raise InputError(
                    f"The strategy shows {needed.k} examples{f' of {name}' if name else ''}, and "
                    f"there are {count} to choose from; one more is needed. Set strategy.k lower "
                    "or strategy.examples.pool higher."
                )

    def nearest(
        self,
        queries: NDArray[np.float32],
        texts: Sequence[str],
        needed: ExamplesNeeded,
        classes: Sequence[str],
    ) -> NDArray[np.int32]:
        """Return the rows of the most similar texts, (queries, shown), the most alike first.

        Balanced, they come class by class in the order of `classes`, k each. A text that differs
        from the query in nothing but case, Unicode form and white space is passed over.

        Args:
            queries: embeddings, (queries, hidden), each of length 1.
            texts: of the queries.
            needed: how many, and whether of each class.
            classes: in order.
        """
        groups = self._groups(needed, classes)
        own_rows = self._own_rows()
        step = max(1, _BLOCK // max(1, len(self.texts)))
        blocks = []
        for start in range(0, len(queries), step):
            similarities = queries[start : start + step] @ self.embeddings.T
            for number, text in enumerate(texts[start : start + step]):
                similarities[number, own_rows.get(canonical_text(text), [])] = -np.inf
            best = [group[_best(similarities[:, group], needed.k)] for group in groups]
            blocks.append(np.concatenate(best, axis=1))
        shown = needed.k * len(groups)
        return np.concatenate([np.empty((0, shown)), *blocks]).astype(np.int32)

    def _groups(self, needed: ExamplesNeeded, classes: Sequence[str]) -> list[NDArray[np.int64]]:
        if not needed.balanced:
            return [np.arange(len(self.labels))]
        labels = np.array(self.labels, dtype=object)
        return [np.flatnonzero(labels == name) for name in classes]

    def _own_rows(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, text in enumerate(self.texts):
            rows.setdefault(canonical_text(text), []).append(row)
        return rows


def _best(similarities: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the columns of the k highest values of each row, highest first, ties by column."""
    if k < similarities.shape[1]:
        columns = np.sort(np.argpartition(-similarities, k - 1, axis=1)[:, :k], axis=1)
        least = np.take_along_axis(similarities, columns, axis=1).min(axis=1, keepdims=True)
        # Of equal values for the last place, partitioning takes any.
        tied = np.flatnonzero((similarities >= least).sum(axis=1) > k)
        columns[tied] = np.argsort(-similarities[tied], axis=1, kind="stable")[:, :k]
        columns.sort(axis=1)
    else:
        columns = np.broadcast_to(np.arange(similarities.shape[1]), similarities.shape)
    values = np.take_along_axis(similarities, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)
