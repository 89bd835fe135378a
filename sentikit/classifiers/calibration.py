"""Temperature scaling: one number by which logits are divided so that confidence means accuracy.

Guo et al. 2017, On Calibration of Modern Neural Networks (https://arxiv.org/abs/1706.04599),
section 4.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.prediction import softmax

#: Temperatures sought; a validation split without a single mistake would ask for 0.
LOWEST, HIGHEST = 0.05, 20.0
_HALVINGS = 60


def fit_temperature(logits: NDArray[np.float32], gold: NDArray[np.int64]) -> float:
    """Return the temperature that minimises the negative log-likelihood.

    The likelihood is concave in 1 / temperature, so the one place where its slope changes sign is
    found by halving. The loss at the result is never above the loss at 1.

    Args:
        logits: (examples, classes), of texts that the model was not trained on.
        gold: class numbers; examples with -1 (no gold label) do not count.
    """
    labelled = gold >= 0
    logits, gold = logits[labelled], gold[labelled]
    if not len(gold):
        return 1.0
    low, high = np.log(LOWEST), np.log(HIGHEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _too_confident(logits, gold, float(np.exp(middle))):
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def _too_confident(
    logits: NDArray[np.float32], gold: NDArray[np.int64], temperature: float
) -> bool:
    """Say whether the loss falls as the temperature rises.

    The loss's slope in 1 / temperature is the mean of the expected logit less the gold one's.
    """
    expected = (softmax(logits, temperature) * logits).sum(axis=1)
    picked = logits[np.arange(len(gold)), gold]
    return bool((expected - picked).mean() > 0)
