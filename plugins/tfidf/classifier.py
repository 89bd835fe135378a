"""Logistic regression on TF-IDF weighted n-grams, with scikit-learn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sentikit import Example, InputError, Prediction
from sentikit.extension import (
    ComponentSettings,
    PluginClassifier,
    disk_errors,
    predictions,
    read_json,
    write_json,
)

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from sentikit import Examples
    from sentikit.extension import Session

VOCABULARY, WEIGHTS = "vocabulary.json", "weights.safetensors"
#: Words of any length, and punctuation that carries sentiment.
_TOKENS = r"(?u)\b\w+\b|[!?]"
_WINDOW = 4096


class TfidfClassifier(PluginClassifier):
    """The classifier ``tfidf``."""

    class Settings(ComponentSettings):
        """Keys of a recipe's classifier section."""

        unit: Literal["word", "char_wb"] = Field(
            "word", description="n-grams of words, or of characters within words (char_wb)"
        )
        longest: int = Field(2, ge=1, le=8, description="length of the longest n-gram")
        min_texts: int = Field(
            2, ge=1, description="least number of training texts that contain an n-gram"
        )
        features: int | None = Field(
            None, ge=1, description="keep only this many of the most frequent n-grams"
        )
        c: float = Field(4.0, gt=0, description="inverse strength of the L2 regularisation")
        class_weights: Literal["none", "balanced"] = Field(
            "none", description="balanced weighs each class by the inverse of its frequency"
        )
        steps: int = Field(1000, ge=1, description="most iterations of fitting")

    settings: Settings

    def fit(self, examples: Examples, validation: Examples | None, folder: Path) -> None:
        """Fit on the training split; validation is not used."""
        from sklearn.linear_model import LogisticRegression

        gold = self.scheme.numbers(examples.labels)
        if len(np.unique(gold)) < 2:
            raise InputError("The training split has one class; a classifier needs two.")
        vectorizer = self._vectorizer()
        try:
            features = vectorizer.fit_transform(examples.texts)
        except ValueError as error:  # no n-gram is left
            raise InputError(
                f"No n-gram occurs in {self.settings.min_texts} training texts. Lower "
                "classifier.min_texts or give more texts."
            ) from error
        weights = None if self.settings.class_weights == "none" else "balanced"
        model = LogisticRegression(
            C=self.settings.c, class_weight=weights, max_iter=self.settings.steps
        )
        model.fit(features, gold)
        terms = vectorizer.get_feature_names_out().tolist()
        write_json(folder / VOCABULARY, terms)
        _write_weights(folder / WEIGHTS, vectorizer.idf_, *self._all_classes(model))

    def load(self, folder: Path) -> None:
        """Read the vocabulary and the weights."""
        terms = read_json(folder / VOCABULARY)
        stored = _read_weights(folder / WEIGHTS)
        if not _fits(terms, stored, len(self.labels)):
            raise InputError(f"{folder} is damaged: its vocabulary and weights do not fit.")
        self._ready = self._vectorizer(vocabulary={term: n for n, term in enumerate(terms)})
        self._ready.idf_ = stored["idf"]
        self._coefficients, self._intercepts = stored["coefficients"], stored["intercepts"]

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        """Yield one prediction per example, computed in batches of some thousands."""
        iterator = iter(examples)
        while window := list(islice(iterator, _WINDOW)):
            texts = [item.text if isinstance(item, Example) else item for item in window]
            logits = self._ready.transform(texts) @ self._coefficients + self._intercepts
            exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
            yield from predictions(exponents / exponents.sum(axis=1, keepdims=True), self.scheme)

    def _vectorizer(self, **options: Any) -> TfidfVectorizer:
        from sklearn.feature_extraction.text import TfidfVectorizer

        chosen = self.settings
        return TfidfVectorizer(
            analyzer=chosen.unit,
            ngram_range=(1, chosen.longest),
            min_df=chosen.min_texts,
            max_features=chosen.features,
            sublinear_tf=True,
            strip_accents=None,
            token_pattern=_TOKENS,
            **options,
        )

    def _all_classes(self, model: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return coefficients, (features, classes), and intercepts; absent classes never win."""
        coefficients, intercepts = model.coef_.T, model.intercept_
        if len(model.classes_) == 2:  # one column, for the second class against the first
            zeros = np.zeros_like(coefficients)
            coefficients = np.hstack([zeros, coefficients])
            intercepts = np.array([0.0, intercepts[0]])
        every = np.zeros((coefficients.shape[0], len(self.labels)))
        every[:, model.classes_] = coefficients
        offsets = np.full(len(self.labels), -1e4)
        offsets[model.classes_] = intercepts
        return every, offsets


def _write_weights(path: Path, idf: Any, coefficients: Any, intercepts: Any) -> None:
    from safetensors.numpy import save_file

    tensors = {"idf": idf, "coefficients": coefficients, "intercepts": intercepts}
    with disk_errors(path):
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)


def _read_weights(path: Path) -> dict[str, NDArray[np.float64]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    with disk_errors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is damaged or truncated ({error}). Copy it again.") from error


def _fits(terms: object, stored: dict[str, NDArray[np.float64]], classes: int) -> bool:
    if not isinstance(terms, list) or not all(isinstance(term, str) for term in terms):
        return False
    shapes = {name: value.shape for name, value in stored.items()}
    count = len(set(terms))
    wanted = {"idf": (count,), "coefficients": (count, classes), "intercepts": (classes,)}
    finite = all(np.isfinite(value).all() for value in stored.values())
    return count == len(terms) and shapes == wanted and finite
