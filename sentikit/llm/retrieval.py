"""The retrieval of labelled texts like another one: embeddings and exact cosine similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.batches import batches_by_length, tokenize
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.prediction import Prediction, predictions
from sentikit.datasets.examples import Examples, canonical_text
from sentikit.errors import InputError
from sentikit.llm.strategy import ExamplesNeeded, RetrievedExample

if TYPE_CHECKING:
    from sentikit.llm.recipe import StrategyParts

#: Texts tokenised and sorted by length together.
_WINDOW = 4096
#: Similarities held at a time, 4 bytes each.
_BLOCK = 4 * 2**20


@dataclass(frozen=True)
class Reading:
    """What an encoder made of some texts."""

    probabilities: NDArray[np.float64]
    embeddings: NDArray[np.float32]


def read_texts(classifier: EncoderClassifier, texts: list[str]) -> Reading:
    """Read some thousand texts; probabilities and embeddings share one forward pass.

    Embeddings are the mean over the tokens of the last hidden states, before the head, divided by
    their length (the study's retriever).

    Raises:
        InputError: the model gives logits alone.
    """
    import torch

    from sentikit.classifiers.encoder import pool
    from sentikit.classifiers.torch_model import SentimentModel, TorchPredictor

    predictor = classifier.predictor
    model = getattr(predictor, "model", None)
    if not isinstance(predictor, TorchPredictor) or not isinstance(model, SentimentModel):
        raise InputError(
            "The encoder gives probabilities but no embeddings, and examples are found by "
            "embeddings. Name the run or model folder it was exported from "
            "(strategy.examples.encoder)."
        )
    tokenized = tokenize([texts], classifier.word_pieces, classifier.max_length)
    device = torch.device(predictor.device)
    logits = np.empty((len(tokenized), len(classifier.labels)), np.float32)
    embeddings = np.empty((len(tokenized), int(model.encoder.config.hidden_size)), np.float32)
    with torch.inference_mode():
        for rows in batches_by_length(tokenized.lengths, *predictor.batch_limits):
            ids, mask = (tensor.to(device) for tensor in tokenized.batch(rows))
            states = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            logits[rows] = model.head(model.pooled(states, mask)).float().cpu().numpy()
            means = pool(states.float(), mask, "mean")
            embeddings[rows] = torch.nn.functional.normalize(means, dim=1).cpu().numpy()
    return Reading(classifier.probabilities(logits), embeddings)


def choose_examples(
    examples: Examples, evaluated: Examples, size: int | str, seed: int, where: str
) -> Examples:
    """Choose the examples that may be shown.

    No text of the evaluated split is among them, whatever its case, Unicode form and white space,
    and no text twice.

    Raises:
        InputError: fewer are left than wanted, or none.
    """
    seen = {canonical_text(text) for batch in evaluated.batches() for text in batch["text"]}
    rows = []
    for row, (text, label) in enumerate(zip(examples.texts, examples.labels, strict=True)):
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
        """
        groups = [np.arange(len(self.labels))]
        if needed.balanced:
            labels = np.array(self.labels, dtype=object)
            groups = [np.flatnonzero(labels == name) for name in classes]
        own_rows: dict[str, list[int]] = {}
        for row, text in enumerate(self.texts):
            own_rows.setdefault(canonical_text(text), []).append(row)
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


class Retriever:
    """Finds labelled texts that an encoder embeds near another one."""

    def __init__(
        self,
        encoder: EncoderClassifier,
        name: str,
        examples: Examples,
        needed: ExamplesNeeded,
        classes: tuple[str, ...],
    ) -> None:
        self.encoder, self.name, self._examples = encoder, name, examples
        self._needed, self._classes = needed, classes
        _pool_of(examples).check(needed, classes)

    @property
    def identity(self) -> list[Any]:
        """All that decides what is found, as JSON values."""
        return [self.name, self._examples.fingerprint(), repr(self._needed)]

    @cached_property
    def shown(self) -> tuple[RetrievedExample, ...]:
        """The examples there are to show."""
        rows = zip(self._examples.texts, self._examples.labels, strict=True)
        return tuple(RetrievedExample(text, str(label)) for text, label in rows)

    def find(self, texts: Sequence[str]) -> tuple[list[list[int]], list[Prediction]]:
        """Return the rows of `shown` for each text, and what the encoder predicts of it."""
        reading = read_texts(self.encoder, list(texts))
        nearest = self._pool.nearest(reading.embeddings, texts, self._needed, self._classes)
        return nearest.tolist(), list(predictions(reading.probabilities, self.encoder.scheme))

    @cached_property
    def _pool(self) -> Pool:
        texts, embeddings = iter(self._examples.texts), []
        while window := list(islice(texts, _WINDOW)):
            embeddings.append(read_texts(self.encoder, window).embeddings)
        return _pool_of(self._examples, np.concatenate(embeddings))


def _pool_of(examples: Examples, embeddings: NDArray[np.float32] | None = None) -> Pool:
    vectors = np.empty((0, 0), np.float32) if embeddings is None else embeddings
    return Pool(examples.texts, [str(label) for label in examples.labels], vectors)


def retriever(parts: StrategyParts, encoder: EncoderClassifier, name: str) -> Retriever:
    """Return what finds the examples that a recipe's strategy shows.

    Raises:
        InputError: the examples have other classes, or are too few.
    """
    needed, classes = parts.strategy.needs().examples, parts.dataset.scheme.classes
    assert needed is not None
    return Retriever(encoder, name, _chosen_examples(parts), needed, classes)


def drawn_examples(parts: StrategyParts) -> tuple[RetrievedExample, ...]:
    """Return examples drawn with the recipe's seed, the same for every prompt.

    Raises:
        InputError: the examples have other classes, or are too few.
    """
    needed, classes = parts.strategy.needs().examples, parts.dataset.scheme.classes
    assert needed is not None
    chosen = _pool_of(_chosen_examples(parts))
    chosen.check(needed, classes)
    labels = chosen.labels
    source = np.random.default_rng(parts.strategy_options.examples.seed)
    groups: list[str | None] = [*classes] if needed.balanced else [None]
    shown: list[int] = []
    for name in groups:
        rows = [row for row, label in enumerate(labels) if name in (None, label)]
        shown += source.choice(rows, needed.k, replace=False).tolist()
    # In an order that does not tell the label.
    source.shuffle(shown)
    return tuple(RetrievedExample(chosen.texts[row], labels[row]) for row in shown)


def _chosen_examples(parts: StrategyParts) -> Examples:
    options = parts.strategy_options.examples
    dataset, classes = parts.examples_dataset, parts.dataset.scheme.classes
    if dataset.scheme.classes != classes:
        raise InputError(
            f"strategy.examples.dataset has the classes {', '.join(dataset.scheme.classes)}; the "
            f"dataset to label has {', '.join(classes)}. Give both the same label scheme."
        )
    return choose_examples(
        dataset.split(options.split, labelled=False),
        parts.dataset.split(parts.split, labelled=False),
        options.pool,
        options.seed,
        f"{dataset.name}/{options.split}",
    )
