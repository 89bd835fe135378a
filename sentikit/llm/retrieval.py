"""The retrieval of labelled texts like another one: embeddings and exact cosine similarity."""

from __future__ import annotations

from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from sentikit.classifiers.prediction import Prediction, predictions
from sentikit.llm.strategy import RetrievedExample

if TYPE_CHECKING:
    from sentikit.llm.recipe import StrategyParts

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.batches import TokenizedTexts, batches_by_length, tokenize
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.prediction import choose_classes
from sentikit.datasets.examples import Examples, canonical_text
from sentikit.errors import InputError
from sentikit.llm.strategy import ExamplesNeeded

#: Texts tokenised and sorted by length together.
_WINDOW = 4096


@dataclass(frozen=True)
class Reading:
    """What an encoder made of some texts.

    Attributes:
        labels: class numbers, (texts,).
        probabilities: (texts, classes).
        embeddings: (texts, hidden), each of length 1; empty where they were not asked for.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    embeddings: NDArray[np.float32]


def read_texts(classifier: EncoderClassifier, texts: list[str], embed: bool) -> Reading:
    """Read some thousand texts; opinion and embedding share one forward pass.

    Embeddings are the mean over the tokens of the last hidden states, before the head, divided by
    their length (the study's retriever).

    Raises:
        InputError: embeddings of a model that gives logits alone.
    """
    tokenized = tokenize([texts], classifier.word_pieces, classifier.max_length)
    if embed:
        logits, embeddings = _logits_and_embeddings(classifier, tokenized)
    else:
        logits, embeddings = classifier.logits_of(tokenized), np.empty((0, 0), np.float32)
    probabilities = classifier.probabilities(logits)
    labels = choose_classes(probabilities, classifier.scheme.threshold)
    return Reading(labels, probabilities, embeddings)


def _logits_and_embeddings(
    classifier: EncoderClassifier, tokenized: TokenizedTexts
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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
    return logits, embeddings


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


class Retriever:
    """Finds labelled texts that an encoder embeds near another one.

    Args:
        encoder: embeds the texts.
        name: of the encoder.
        examples: to choose from.
        needed: how many.
        classes: the labels, in order.
    """

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
        labels = [str(label) for label in examples.labels]
        Pool(examples.texts, labels, np.empty((0, 0), np.float32)).check(needed, classes)

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
        reading = read_texts(self.encoder, list(texts), embed=True)
        nearest = self._pool.nearest(reading.embeddings, texts, self._needed, self._classes)
        found = predictions(reading.probabilities, self.encoder.scheme)
        return nearest.tolist(), list(found)

    @cached_property
    def _pool(self) -> Pool:
        texts, embeddings = iter(self._examples.texts), []
        while window := list(islice(texts, _WINDOW)):
            embeddings.append(read_texts(self.encoder, window, embed=True).embeddings)
        labels = [str(label) for label in self._examples.labels]
        return Pool(self._examples.texts, labels, np.concatenate(embeddings))


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
    chosen = _chosen_examples(parts)
    labels = [str(label) for label in chosen.labels]
    Pool(chosen.texts, labels, np.empty((0, 0), np.float32)).check(needed, classes)
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
