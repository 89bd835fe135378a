"""Reads texts with an encoder: what it says of them, and where they lie in its space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.batches import TokenizedTexts, batches_by_length, tokenize
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.prediction import choose_classes
from sentikit.datasets.examples import Examples
from sentikit.errors import InputError

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
    tokenized = tokenize([texts], classifier.tokenizer, classifier.max_length)
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

    from sentikit.classifiers.head import pool
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


def windows(examples: Examples) -> Iterator[list[str]]:
    """Yield the texts, some thousands at a time."""
    for batch in examples.batches(_WINDOW):
        yield batch["text"]
