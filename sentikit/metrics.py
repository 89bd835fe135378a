"""Metrics that plugins bring: their interface, and the check of what they return.

`sentikit.scoring` adds the metrics that suit a scheme to ``metrics.json``; ``compare`` adds them
to its tables, its intervals and its tests; ``training.early_stopping.metric`` may name one.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sentikit.components import Component
from sentikit.errors import SentikitError
from sentikit.registry import Registry, default_registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sentikit.datasets.labels import LabelScheme

HOOK = "register_metrics"


class Metric(Component, ABC):
    """A score of predicted against gold labels, which depends on their counts alone.

    Since it is a function of counts, intervals and tests come from resampled counts as for
    macro-F1. Its registered name is its key in ``metrics.json``. Its settings need defaults.

    Attributes:
        title: the head of its column in tables; the registered name where it is "".
        higher_is_better: False where the best is the lowest, as of an error.
    """

    title: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True

    def suits(self, scheme: LabelScheme) -> bool:
        """Return whether the metric means something for a scheme's classes."""
        return True

    @abstractmethod
    def score(self, counts: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float64]:
        """Score confusion counts, many at a time.

        Args:
            counts: (…, classes, classes + 1): gold class by predicted class; the last column
                counts examples without a valid answer. All are 0 where a resample has no row.
            classes: names, in the order of the rows.

        Returns:
            One finite number for each leading index, (…).
        """


@dataclass(frozen=True)
class NamedMetric:
    """A metric and the name it is registered under; `score` checks what the plugin returns."""

    name: str
    metric: Metric
    owner: str

    @property
    def title(self) -> str:
        """The head of its column."""
        return self.metric.title or self.name

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better."""
        return self.metric.higher_is_better

    def score(self, counts: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float64]:
        """Score confusion counts, (…, classes, classes + 1).

        Raises:
            SentikitError: the plugin returns another shape, or a number that is not finite.
        """
        import numpy as np

        scores = np.asarray(self.metric.score(counts, classes), np.float64)
        if scores.shape != counts.shape[:-2]:
            raise SentikitError(
                f"{self.owner} returned scores of shape {scores.shape} for counts of shape "
                f"{counts.shape}; it must return {counts.shape[:-2]}."
            )
        if not np.isfinite(scores).all():
            raise SentikitError(f"{self.owner} returned NaN or infinity; it must return a number.")
        return scores


def metrics_for(scheme: LabelScheme, registry: Registry) -> tuple[NamedMetric, ...]:
    """Return every installed metric that suits a scheme, by name."""
    found = []
    for name in registry.names(HOOK):
        metric_class: type[Metric] = registry.load(HOOK, name)
        metric = metric_class(metric_class.Settings())
        if metric.suits(scheme):
            found.append(NamedMetric(name, metric, registry.title(HOOK, name)))
    return tuple(found)


@functools.lru_cache(maxsize=16)
def installed_metrics(classes: tuple[str, ...]) -> tuple[NamedMetric, ...]:
    """Return every installed metric that suits classes, which have the order of a known scheme."""
    from sentikit.datasets.labels import scheme_for_classes

    return metrics_for(scheme_for_classes(classes), default_registry())
