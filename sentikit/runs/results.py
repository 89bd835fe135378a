"""What a classifier's probabilities on a split are worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.prediction import choose_classes, softmax
from sentikit.datasets.examples import Examples
from sentikit.datasets.labels import LabelScheme
from sentikit.metrics import metrics_for
from sentikit.registry import default_registry
from sentikit.scoring import Calibration, Scores, calibration, score, score_by_source


@dataclass(frozen=True)
class Calibrated:
    """Calibration once logits are divided by a temperature.

    Attributes:
        temperature: what they are divided by.
        fitted_on: the split it was fitted on.
        calibration: of the probabilities that result.
    """

    temperature: float
    fitted_on: str
    calibration: Calibration

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``metrics.json``."""
        fitted = {"temperature": self.temperature, "fitted_on": self.fitted_on}
        return fitted | asdict(self.calibration)


@dataclass(frozen=True)
class Results:
    """Probabilities of a split and their scores.

    Attributes:
        examples: the split, with gold labels.
        probabilities: (examples, classes).
        scheme: the classes.
        overall: scores of all examples.
        by_source: scores of each source.
        calibrated: how calibrated probabilities would do, where a temperature was fitted.
    """

    examples: Examples
    probabilities: NDArray[np.float64]
    scheme: LabelScheme
    overall: Scores
    by_source: dict[str, Scores]
    calibrated: Calibrated | None = None

    def metrics(self, split: str) -> dict[str, Any]:
        """Return what ``metrics.json`` holds."""
        found = {
            "split": split,
            "overall": self.overall.to_json(),
            "by_source": {name: scores.to_json() for name, scores in self.by_source.items()},
        }
        return found | ({"calibrated": self.calibrated.to_json()} if self.calibrated else {})

    def with_temperature(
        self, logits: NDArray[np.float32], temperature: float, fitted_on: str
    ) -> Results:
        """Return these results, and how calibrated the same logits, (examples, classes), can be."""
        gold = self.scheme.numbers(self.examples.labels)
        measured = calibration(gold, softmax(logits, temperature))
        return replace(self, calibrated=Calibrated(temperature, fitted_on, measured))


def judge(examples: Examples, probabilities: NDArray[np.float64], scheme: LabelScheme) -> Results:
    """Score a classifier's probabilities, (examples, classes), against the gold labels."""
    gold = scheme.numbers(examples.labels)
    chosen = choose_classes(probabilities, scheme.threshold)
    metrics = metrics_for(scheme, default_registry())
    return Results(
        examples,
        probabilities,
        scheme,
        score(gold, chosen, scheme.classes, probabilities, metrics),
        score_by_source(gold, chosen, examples.sources, scheme.classes, probabilities, metrics),
    )
