"""Metrics of plugins: their interface, and the check of their results.

`sentikit.scoring` adds the metrics that suit a scheme to ``metrics.json``; ``compare`` adds them to
its tables, intervals and tests; ``training.early_stopping.metric`` can name one.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sentikit.components import Component
from sentikit.errors import SentikitError
from sentikit.registry import Registry, default_registry
from sentikit.terminal import print_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sentikit.datasets.labels import LabelScheme

HOOK = "register_metrics"


class Metric(Component, ABC):
    """A score of predicted labels against gold labels, computed from their confusion counts.

    Its intervals and tests come from resampled counts, as for macro-F1. Its registered name is its
    key in ``metrics.json``. Its settings need defaults.

    Attributes:
        title: the header of its column in tables; the registered name if it is "".
        higher_is_better: False if lower values are better, as for an error.
    """

    title: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True

    def suits(self, scheme: LabelScheme) -> bool:
        """Return whether the metric is meaningful for a scheme's classes."""
        return True

    @abstractmethod
    def score(self, counts: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float64]:
        """Score many confusion matrices at once.

        Args:
            counts: (…, classes, classes + 1): gold class by predicted class; the last column
                counts invalid answers. A resample without rows is all 0.
            classes: names, in the order of the rows.

        Returns:
            One finite number for each leading index, (…).
        """


@dataclass(frozen=True)
class NamedMetric:
    """A metric with its registered name; `score` checks the plugin's results."""

    name: str
    metric: Metric
    owner: str

    @property
    def title(self) -> str:
        """The header of its column."""
        return self.metric.title or self.name

    @property
    def higher_is_better(self) -> bool:
        """Whether higher values are better."""
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
    """Return every installed metric that suits a scheme, by name; leave out broken ones."""
    found = []
    for name in registry.names(HOOK):
        owner = registry.title(HOOK, name)
        try:
            metric_class: type[Metric] = registry.load(HOOK, name)
            named = NamedMetric(name, metric_class(metric_class.Settings()), owner)
            if named.metric.suits(scheme):
                named.score(_trial(len(scheme.classes)), scheme.classes)
                found.append(named)
        # A metric that failed only after hours of training would cost the run.
        except SentikitError as error:
            _warn_of(error.message)
        except Exception as error:
            _warn_of(f"{owner} failed: {type(error).__name__}: {error}.")
    return tuple(found)


def _trial(classes: int) -> NDArray[np.int64]:
    """Return counts of no rows, of one gold or predicted class, and of right and any answers."""
    import numpy as np

    counts = np.zeros((5, classes, classes + 1), np.int64)
    counts[1, 0], counts[2, :, 0] = 3, 3
    counts[3, range(classes), range(classes)] = 3
    counts[4] = 1
    return counts


@functools.cache
def _warn_of(problem: str) -> None:
    print_text(f"Warning: {problem} It is left out.", err=True)


@functools.lru_cache(maxsize=16)
def installed_metrics(classes: tuple[str, ...]) -> tuple[NamedMetric, ...]:
    """Return every installed metric that suits classes in the order of a known scheme."""
    from sentikit.datasets.labels import scheme_for_classes

    return metrics_for(scheme_for_classes(classes), default_registry())
