"""In-memory classifiers that read and answer as real ones do, for tests of ensembles."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from sentikit.classifiers.classifier import Classifier, Example, Session, text_of
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.labels import LabelScheme, label_scheme

Rule = Callable[[str], Prediction]


class RuleClassifier(Classifier):
    """Predicts by a rule, one text after the other; counts the texts it was asked about."""

    def __init__(self, rule: Rule, scheme: str = "neg_neu_pos") -> None:
        self.rule, self._scheme = rule, label_scheme(scheme)
        self.asked = 0

    @property
    def scheme(self) -> LabelScheme:
        return self._scheme

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        for example in examples:
            self.asked += 1
            yield self.rule(text_of(example))


class WindowedClassifier(RuleClassifier):
    """Reads windows of 100 texts, as encoders do."""

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        iterator = iter(examples)
        while window := list(islice(iterator, 100)):
            self.asked += len(window)
            yield from [self.rule(text_of(example)) for example in window]


class ThreadedClassifier(RuleClassifier):
    """Reads examples in another thread, up to eight ahead, as request loops do."""

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        answered: queue.Queue[Prediction | None] = queue.Queue(8)

        def work() -> None:
            for example in examples:
                self.asked += 1
                answered.put(self.rule(text_of(example)))
            answered.put(None)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while (prediction := answered.get()) is not None:
            yield prediction
        thread.join()


def always(label: str | None, confidence: float | None = None, cost: float = 0.0) -> Rule:
    return lambda text: Prediction(label, confidence=confidence, cost=cost, paid=cost)
