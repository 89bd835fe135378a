"""Retrieval of labelled examples for prompts, by exact cosine similarity of embeddings."""

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

#: Texts tokenized and sorted by length together.
_WINDOW = 4096
#: Similarities held at a time, 4 bytes each.
_BLOCK = 4 * 2**20


class _ForwardPass(NamedTuple):
    probabilities: NDArray[np.float64]
    embeddings: NDArray[np.float32]


def embed(classifier: EncoderClassifier, texts: list[str]) -> _ForwardPass:
    """Return the embeddings and probabilities of some thousand texts, in one forward pass.

    An embedding is the normalised mean of the last hidden states over the tokens, before the head
    (the study's retriever).
    """
    import torch

    from sentikit.classifiers.encoder import pool
    from sentikit.classifiers.torch_model import SentimentModel, TorchPredictor

    predictor = classifier.predictor
    model = getattr(predictor, "model", None)
    if not isinstance(predictor, TorchPredictor) or not isinstance(model, SentimentModel):
        raise InputError(
            "This encoder gives no embeddings, which finding similar examples needs. Name the run "
            "or model folder it was exported from (strategy.examples.encoder)."
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
    return _ForwardPass(classifier.probabilities(logits), embeddings)


def choose_examples(
    examples: Examples, evaluated: Examples, size: int | str, seed: int, where: str
) -> Examples:
    """Choose the examples that prompts may show.

    Each text occurs once, and no text of the evaluated split occurs, ignoring case, Unicode form
    and white space.
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
            f"strategy.examples.pool is {size}, but {where} has {len(rows):,} labelled texts "
            "that are not in the split to label. Lower it, or name another split or dataset."
        )
    if size == "all":
        return examples.select(rows)
    drawn = np.random.default_rng(seed).choice(len(rows), int(size), replace=False)
    return examples.select(np.asarray(rows)[np.sort(drawn)])


class Pool:
    """The labelled texts that prompts may show."""

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
            # One of them may be the text to label.
            if len(group) <= needed.k:
                raise InputError(
                    f"The strategy shows {needed.k} examples{f' of {name}' if name else ''}, so it "
                    f"needs {needed.k + 1} to choose from; there are {len(group)}. Set strategy.k "
                    "lower or strategy.examples.pool higher."
                )

    def nearest(
        self, embeddings: NDArray[np.float32], queries: NDArray[np.float32], texts: Sequence[str]
    ) -> NDArray[np.int32]:
        """Return the rows of the most similar texts, (queries, shown), the most similar first.

        If balanced, there are k of each class, in the order of the classes. The query itself is
        skipped, ignoring case, Unicode form and white space.
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
        # The order must not reveal the label.
        source.shuffle(rows)
        return self.shown(rows)

    def shown(self, rows: Iterable[int]) -> tuple[RetrievedExample, ...]:
        return tuple(RetrievedExample(self.texts[row], self.labels[row]) for row in rows)


def _best(similarities: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the columns of the k highest values of each row, highest first, ties by column."""
    if k < similarities.shape[1]:
        columns = np.sort(np.argpartition(-similarities, k - 1, axis=1)[:, :k], axis=1)
        least = np.take_along_axis(similarities, columns, axis=1).min(axis=1, keepdims=True)
        # Among equal values for the last place, partitioning chooses arbitrarily.
        tied = np.flatnonzero((similarities >= least).sum(axis=1) > k)
        columns[tied] = np.argsort(-similarities[tied], axis=1, kind="stable")[:, :k]
        columns.sort(axis=1)
    else:
        columns = np.broadcast_to(np.arange(similarities.shape[1]), similarities.shape)
    values = np.take_along_axis(similarities, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


class Retriever:
    """Finds the labelled texts whose embeddings are nearest to a text's."""

    def __init__(
        self, encoder: EncoderClassifier, name: str, components: StrategyComponents
    ) -> None:
        self.encoder = encoder
        examples = _chosen_examples(components)
        self.pool = _pool_of(examples, components)
        #: Everything that determines the results, as JSON values.
        self.identity = [name, examples.fingerprint(), repr(self.pool.needed)]

    def find(self, texts: Sequence[str]) -> tuple[list[list[int]], list[Prediction]]:
        """Return the rows of the pool, and the encoder's prediction, for each text."""
        found = embed(self.encoder, list(texts))
        nearest = self.pool.nearest(self._embeddings, found.embeddings, texts)
        return nearest.tolist(), list(predictions(found.probabilities, self.encoder.scheme))

    @cached_property
    def _embeddings(self) -> NDArray[np.float32]:
        texts, embeddings = iter(self.pool.texts), []
        while window := list(islice(texts, _WINDOW)):
            embeddings.append(embed(self.encoder, window).embeddings)
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
            f"strategy.examples.dataset has the classes {', '.join(dataset.scheme.classes)}, but "
            f"the dataset to label has {', '.join(classes)}. Give both the same label scheme."
        )
    return choose_examples(
        dataset.split(options.split, labelled=False),
        components.dataset.split(components.split, labelled=False, empty_texts=True),
        options.pool,
        options.seed,
        f"{dataset.name}/{options.split}",
    )
