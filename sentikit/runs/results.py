"""What a classifier's probabilities on a split are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.classifier.prediction import choose_classes
from sentikit.data.examples import Examples
from sentikit.data.labels import LabelScheme
from sentikit.scoring import Scores, score, score_by_source


@dataclass(frozen=True)
class Results:
    """Probabilities of a split and their scores.

    Attributes:
        examples: the split, with gold labels.
        probabilities: (examples, classes).
        scheme: the classes.
        overall: scores of all examples.
        by_source: scores of each source.
    """

    examples: Examples
    probabilities: NDArray[np.float64]
    scheme: LabelScheme
    overall: Scores
    by_source: dict[str, Scores]

    def metrics(self, split: str) -> dict[str, Any]:
        """Return what ``metrics.json`` holds."""
        return {
            "split": split,
            "overall": self.overall.to_json(),
            "by_source": {name: scores.to_json() for name, scores in self.by_source.items()},
        }


def judge(examples: Examples, probabilities: NDArray[np.float64], scheme: LabelScheme) -> Results:
    """Score a classifier's probabilities, (examples, classes), against the gold labels."""
    gold = scheme.numbers(examples.labels)
    chosen = choose_classes(probabilities, scheme.threshold)
    return Results(
        examples,
        probabilities,
        scheme,
        score(gold, chosen, scheme.classes, probabilities),
        score_by_source(gold, chosen, examples.sources, scheme.classes, probabilities),
    )
