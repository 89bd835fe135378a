"""What is expected of a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentikit.datasets.labels import SCHEMES
from sentikit.errors import SentikitError
from sentikit.metrics import Metric, NamedMetric
from sentikit.testing.parts import check_part, needs_settings, require


def check_metric(metric_class: type[Metric], settings: Mapping[str, Any]) -> None:
    """Score counts of every scheme that the metric suits.

    Raises:
        AssertionError: a score is no finite number, many scored together differ from each scored
            alone, or perfect predictions are not the best.
    """
    import numpy as np

    metric = check_part(metric_class, settings)
    name = metric_class.__name__
    require(not needs_settings(metric_class), f"{name}.Settings needs a default for each key.")
    suited = [scheme for scheme in SCHEMES.values() if metric.suits(scheme)]
    require(suited, f"{name}.suits() refuses every scheme: {', '.join(SCHEMES)}.")
    for scheme in suited:
        size = len(scheme.classes)
        drawn = np.random.default_rng(5).integers(0, 9, (2, 3, size, size + 1))
        drawn[0, 0] = 0
        drawn[1, 2] = 0
        drawn[1, 2, :, 0] = 4  # one class alone is answered
        together = _scores(name, metric, drawn, scheme.classes)
        alone = [[_scores(name, metric, one, scheme.classes) for one in row] for row in drawn]
        require(
            np.allclose(together, np.array(alone, np.float64)),
            f"{name}.score() gives other scores for many counts at a time than for each alone.",
        )
        perfect = np.zeros((size, size + 1), np.int64)
        np.fill_diagonal(perfect, 5)
        best = _scores(name, metric, perfect, scheme.classes)
        sign = 1 if metric.higher_is_better else -1
        require(
            bool((sign * together[1] <= sign * best + 1e-9).all()),
            f"{name}.score() is not best for perfect predictions, though higher_is_better is "
            f"{metric.higher_is_better}.",
        )


def _scores(name: str, metric: Metric, counts: Any, classes: tuple[str, ...]) -> Any:
    try:
        return NamedMetric(name, metric, f"{name}.score()").score(counts, classes)
    except SentikitError as error:
        raise AssertionError(error.message) from error
