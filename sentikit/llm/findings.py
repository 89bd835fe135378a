"""What models find out about a split: their opinion of each text, and the examples like it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sentikit.datasets.examples import Examples
from sentikit.files import atomic_writer, disk_errors
from sentikit.llm.encoding import read_texts, windows
from sentikit.llm.opinions import in_classes, load_encoder
from sentikit.llm.retrieval import Pool
from sentikit.llm.split import Split
from sentikit.llm.strategy import ExamplesNeeded
from sentikit.registry import Registry
from sentikit.runs.table import Labelling

if TYPE_CHECKING:
    from sentikit.classifiers.encoder_classifier import EncoderClassifier

Advance = Callable[[int], object]


@dataclass(frozen=True)
class Search:
    """Where and how examples are looked for.

    Attributes:
        encoder: the model that embeds the texts.
        examples: to choose from.
        needed: how many.
    """

    encoder: str
    examples: Examples
    needed: ExamplesNeeded


@dataclass(frozen=True)
class Findings:
    """What models say of every example of a split.

    Attributes:
        opinion: labels and probabilities, or None where no model was asked.
        shown: rows of the searched examples, (examples, shown), or None.
    """

    opinion: Labelling | None = None
    shown: NDArray[np.int32] | None = None


def find_out(
    split: Split, asked: str | None, search: Search | None, registry: Registry, advance: Advance
) -> Findings:
    """Read a split with the models needed, once with each.

    Args:
        split: the examples to label.
        asked: the model whose opinion is wanted, if any.
        search: where to look for examples, if anywhere.
        registry: where to look for parts.
        advance: told how many texts were read since the last call.

    Raises:
        InputError: no such model, other classes, no embeddings, or too few examples.
    """
    findings = Findings()
    searcher = search.encoder if search else None
    for name in dict.fromkeys(name for name in (asked, searcher) if name is not None):
        classifier = load_encoder(name, registry)
        own = _Gathering(classifier, split, search if name == searcher else None, advance)
        found = own.read(name, name == asked)
        findings = Findings(
            findings.opinion or found.opinion,
            found.shown if findings.shown is None else findings.shown,
        )
    return findings


class _Gathering:
    """One model's pass over a split."""

    def __init__(
        self, classifier: EncoderClassifier, split: Split, search: Search | None, advance: Advance
    ) -> None:
        self._classifier, self._split, self._search = classifier, split, search
        self._advance = advance

    def read(self, name: str, keep_opinion: bool) -> Findings:
        pool = self._pool() if self._search else None
        labels, probabilities, shown = [], [], []
        for texts in windows(self._split.examples):
            reading = read_texts(self._classifier, texts, embed=pool is not None)
            labels.append(reading.labels)
            probabilities.append(reading.probabilities)
            if pool is not None and self._search is not None:
                needed, classes = self._search.needed, self._split.classes
                shown.append(pool.nearest(reading.embeddings, texts, needed, classes))
            self._advance(len(texts))
        opinion = Labelling(np.concatenate(labels), np.concatenate(probabilities))
        own = self._classifier.labels
        return Findings(
            in_classes(opinion, own, self._split.classes, name) if keep_opinion else None,
            np.concatenate(shown) if shown else None,
        )

    def _pool(self) -> Pool:
        assert self._search is not None
        examples = self._search.examples
        embeddings = []
        for texts in windows(examples):
            embeddings.append(read_texts(self._classifier, texts, embed=True).embeddings)
            self._advance(len(texts))
        labels = [str(label) for label in examples.labels]
        pool = Pool(examples.texts, labels, np.concatenate(embeddings))
        pool.check(self._search.needed, self._split.classes)
        return pool


def identity(split: Split, asked: str | None, search: Search | None) -> str:
    """Hash all that decides the findings; a model's path stands for the model."""
    said: list[Any] = [split.examples.fingerprint(), split.classes, asked]
    if search is not None:
        said += [search.encoder, search.examples.fingerprint(), repr(search.needed)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def save_findings(path: Path, key: str, findings: Findings) -> None:
    """Write findings, so that a resumed run asks the very same questions."""
    arrays: dict[str, Any] = {"identity": np.array(key)}
    if findings.opinion is not None and findings.opinion.probabilities is not None:
        arrays["labels"] = findings.opinion.labels
        arrays["probabilities"] = findings.opinion.probabilities
    if findings.shown is not None:
        arrays["shown"] = findings.shown
    with atomic_writer(path, "wb") as stream:
        np.savez(stream, **arrays)


def load_findings(path: Path, key: str) -> Findings | None:
    """Read findings, or None where there are none, or others."""
    if not path.is_file():
        return None
    try:
        with disk_errors(path), path.open("rb") as stream:
            arrays = dict(np.load(stream, allow_pickle=False))
        if str(arrays["identity"]) != key:
            return None
        opinion = None
        if "labels" in arrays:
            opinion = Labelling(arrays["labels"], arrays["probabilities"])
        return Findings(opinion, arrays.get("shown"))
    except (BadZipFile, EOFError, ValueError, KeyError):
        return None
