"""The retrieval of labelled texts like another one: embeddings and exact cosine similarity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.batches import batches_by_length, tokenize
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.prediction import Prediction, predictions
from sentikit.datasets.examples import Examples, canonical_text
from sentikit.errors import InputError
from sentikit.llm.strategy import ExamplesNeeded, RetrievedExample

if TYPE_CHECKING:
    from sentikit.llm.recipe import StrategyComponents

#: Texts tokenised and sorted by length together.
_WINDOW = 4096
#: Similarities held at a time, 4 bytes each.
_BLOCK = 4 * 2**20


class Reading(NamedTuple):
    probabilities: NDArray[np.float64]
    embeddings: NDArray[np.float32]


def read_texts(classifier: EncoderClassifier, texts: list[str]) -> Reading:
    """Read some thousand texts; probabilities and embeddings share one forward pass.

    Embeddings are the mean over the tokens of the last hidden states, before the head, divided by
    their length (the study's retriever).
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


class Pool:
    """Labelled texts to be shown, as many of each as a strategy needs."""

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        needed: ExamplesNeeded,
        classes: tuple[str, ...],
    ) -> None:
        self.texts, self.labels, self.needed = texts, labels, needed
        self.groups = [np.arange(len(labels))]
        if needed.balanced:
            own = np.array(labels, dtype=object)
            self.groups = [np.flatnonzero(own == name) for name in classes]
        for name, group in zip(classes if needed.balanced else ("",), self.groups, strict=True):
            # One may be the text that is asked about.
            if len(group) <= needed.k:
                raise InputError(
                    f"The strategy shows {needed.k} examples{f' of {name}' if name else ''}, and "
                    f"there are {len(group)} to choose from; one more is needed. Set strategy.k "
                    "lower or strategy.examples.pool higher."
                )

    def nearest(
        self,
        embeddings: NDArray[np.float32],
        queries: NDArray[np.float32],
        texts: Sequence[str],
    ) -> NDArray[np.int32]:
        """Return the rows of the most similar texts, (queries, shown), the most alike first.

        Balanced, they come class by class in the order of the classes, k each. A text that differs
        from the query in nothing but case, Unicode form and white space is passed over.
        """
        own_rows: dict[str, list[int]] = {}
        for row, text in enumerate(self.texts):
            own_rows.setdefault(canonical_text(text), []).append(row)
        step = max(1, _BLOCK // max(1, len(self.texts)))
        blocks = [np.empty((0, self.needed.k * len(self.groups)))]
        for start in range(0, len(queries), step):
            similarities = queries[start : start + step] @ embeddings.T
            for number, text in enumerate(texts[start : start + step]):
                similarities[number, own_rows.get(canonical_text(text), [])] = -np.inf
            best = [group[_best(similarities[:, group], self.needed.k)] for group in self.groups]
            blocks.append(np.concatenate(best, axis=1))
        return np.concatenate(blocks).astype(np.int32)

    def drawn(self, seed: int) -> tuple[RetrievedExample, ...]:
        source = np.random.default_rng(seed)
        draws = [source.choice(group, self.needed.k, replace=False) for group in self.groups]
        rows = np.concatenate(draws).tolist()
        # In an order that does not tell the label.
        source.shuffle(rows)
        return self.shown(rows)

    def shown(self, rows: Iterable[int]) -> tuple[RetrievedExample, ...]:
        return tuple(RetrievedExample(self.texts[row], self.labels[row]) for row in rows)


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
        self, encoder: EncoderClassifier, name: str, components: StrategyComponents
    ) -> None:
        self.encoder = encoder
        examples = _chosen_examples(components)
        self.pool = _pool_of(examples, components)
        #: All that decides what is found, as JSON values.
        self.identity = [name, examples.fingerprint(), repr(self.pool.needed)]

    def find(self, texts: Sequence[str]) -> tuple[list[list[int]], list[Prediction]]:
        """Return the rows of the pool for each text, and what the encoder predicts of it."""
        reading = read_texts(self.encoder, list(texts))
        nearest = self.pool.nearest(self._embeddings, reading.embeddings, texts)
        return nearest.tolist(), list(predictions(reading.probabilities, self.encoder.scheme))

    @cached_property
    def _embeddings(self) -> NDArray[np.float32]:
        texts, embeddings = iter(self.pool.texts), []
        while window := list(islice(texts, _WINDOW)):
            embeddings.append(read_texts(self.encoder, window).embeddings)
        return np.concatenate(embeddings)


def drawn_examples(components: StrategyComponents) -> tuple[RetrievedExample, ...]:
    """Return examples drawn with the recipe's seed, the same for every prompt."""
    pool = _pool_of(_chosen_examples(components), components)
    return pool.drawn(components.strategy_options.examples.seed)


def _pool_of(examples: Examples, components: StrategyComponents) -> Pool:
    needed = components.strategy.needs().examples
    assert needed is not None
    labels = [str(label) for label in examples.labels]
    return Pool(examples.texts, labels, needed, components.dataset.scheme.classes)


def _chosen_examples(components: StrategyComponents) -> Examples:
    options = components.strategy_options.examples
    dataset, classes = components.examples_dataset, components.dataset.scheme.classes
    if dataset.scheme.classes != classes:
        raise InputError(
            f"strategy.examples.dataset has the classes {', '.join(dataset.scheme.classes)}; the "
            f"dataset to label has {', '.join(classes)}. Give both the same label scheme."
        )
    return choose_examples(
        dataset.split(options.split, labelled=False),
        components.dataset.split(components.split, labelled=False, empty_texts=True),
        options.pool,
        options.seed,
        f"{dataset.name}/{options.split}",
    )
