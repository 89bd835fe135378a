"""Conformance checks of classifiers and metrics."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sentikit import Classifier, Examples, Prediction, SentikitError, compare
from sentikit.extension import (
    SCHEMES,
    CheckedClassifier,
    ExamplesBuilder,
    HubClassifier,
    Metric,
    NamedMetric,
    PluginClassifier,
    ReportFormat,
)

from .components import check_component, needs_settings, require

_SENTENCES = {
    "negative": ("The soup was cold and the waiter rude.", "I hate this broken phone."),
    "neutral": ("The shop opens at nine.", "It comes in a blue box."),
    "positive": ("I love this warm and clever film.", "Kind staff and a lovely garden."),
}
_TEXTS = [text for texts in _SENTENCES.values() for text in texts]
#: Most texts that a classifier may read ahead of its answers.
_MOST_AHEAD = 20_000
_PICKLES = (".pkl", ".pickle", ".joblib", ".bin", ".pt", ".pth")


def check_classifier(classifier_class: type[PluginClassifier], settings: Mapping[str, Any]) -> None:
    """Train a classifier on a few sentences if it can be trained, load it, and label texts.

    Raises:
        AssertionError: its predictions or its files break a rule.
        sentikit.SentikitError: what the classifier itself raises.
    """
    made = check_component(classifier_class, settings)
    name = classifier_class.__name__
    if isinstance(made, HubClassifier):  # the model itself may be large
        model = getattr(classifier_class, "model", None)
        named = isinstance(model, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", model)
        require(named, f"{name}.model must name a model on the hub, as 'owner/name'.")
        return
    if not classifier_class.learns():
        _check_labelling(name, made)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made.scheme = SCHEMES["neg_neu_pos"]
        made.fit(_examples(), _examples(), folder)
        require(any(folder.iterdir()), f"{name}.fit() must write what load() needs into `folder`.")
        pickled = [file.name for file in folder.rglob("*") if file.suffix in _PICKLES]
        require(not pickled, f"{name}.fit() wrote {', '.join(pickled)}; pickle is refused.")
        loaded = _loaded(classifier_class, made, folder)
        again = _loaded(classifier_class, made, folder)
        _check_labelling(name, loaded)
        require(
            _answers(name, loaded, _TEXTS) == _answers(name, again, _TEXTS),
            f"{name}: two classifiers loaded from one folder answer differently.",
        )


def _loaded(
    classifier_class: type[PluginClassifier], made: PluginClassifier, folder: Path
) -> PluginClassifier:
    loaded = classifier_class(made.settings)
    loaded.scheme = made.scheme
    loaded.load(folder)
    return loaded


def _examples() -> Examples:
    builder = ExamplesBuilder()
    for label, texts in _SENTENCES.items():
        for number in range(8):
            builder.add(f"{texts[number % len(texts)]} ({number})", label=label)
    return builder.finish()


def _check_labelling(name: str, classifier: Classifier) -> None:
    labels = classifier.labels
    require(
        isinstance(labels, tuple) and len(set(labels)) == len(labels) >= 2,
        f"{name}.scheme must have two classes or more, each of its own name, not {labels!r}.",
    )
    require(_answers(name, classifier, []) == [], f"{name} must give no predictions for no texts.")
    together = _answers(name, classifier, _TEXTS)
    require(
        [_answers(name, classifier, [text])[0].label for text in _TEXTS]
        == [answer.label for answer in together],
        f"{name}: a text's label must not depend on the other texts.",
    )
    _answers(name, classifier, ["", "   ", "\u00fc\U0001f600 " * 2000])
    read = _CountedTexts()
    first = next(iter(CheckedClassifier(classifier, name).classify(read)), None)
    require(first is not None, f"{name}.classify() must give a prediction for each text.")
    require(
        read.count <= _MOST_AHEAD,
        f"{name}.classify() read {read.count:,} texts before its first answer. Answer as texts "
        "come, so that any number fits in memory.",
    )


def _answers(name: str, classifier: Classifier, texts: list[str]) -> list[Prediction]:
    try:
        return list(CheckedClassifier(classifier, f"{name}.classify()").classify(texts))
    except SentikitError as error:
        raise AssertionError(error.message) from error


class _CountedTexts:
    """An iterable of more texts than a classifier may read ahead."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for number in range(2 * _MOST_AHEAD):
            self.count += 1
            yield _TEXTS[number % len(_TEXTS)]


def check_metric(metric_class: type[Metric], settings: Mapping[str, Any]) -> None:
    """Score counts of every scheme that the metric suits.

    Raises:
        AssertionError: a score is not finite, scores differ between one and many counts at a time,
            or perfect predictions are not the best.
    """
    import numpy as np

    metric = check_component(metric_class, settings)
    name = metric_class.__name__
    require(not needs_settings(metric_class), f"{name}.Settings needs a default for each key.")
    suited = [scheme for scheme in SCHEMES.values() if metric.suits(scheme)]
    require(suited, f"{name}.suits() refuses every scheme: {', '.join(SCHEMES)}.")
    for scheme in suited:
        size = len(scheme.classes)
        drawn = np.random.default_rng(5).integers(0, 9, (2, 3, size, size + 1))
        drawn[0, 0] = 0
        drawn[1, 2] = 0
        drawn[1, 2, :, 0] = 4  # only one class is predicted
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


def check_report_format(format_class: type[ReportFormat], settings: Mapping[str, Any]) -> None:
    """Check a report of a small comparison whose texts and names contain markup.

    Raises:
        AssertionError: the report is not a text, or leaves out a run.
    """
    component = check_component(format_class, settings)
    require(not needs_settings(format_class), f"{format_class.__name__}.Settings needs defaults.")
    labels = ("negative", "neutral", "positive")
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for shift in range(2):
            rows = [f"<b>text {n}</b>,{labels[n % 3]},{labels[(n + shift) % 3]}" for n in range(12)]
            files.append(Path(folder) / f"run{shift}.csv")
            files[-1].write_text("\n".join(["text,gold,label", *rows, ""]), encoding="utf-8")
        comparison = compare([str(file) for file in files], resamples=20)
    page = component.comparison_page(comparison, None)
    name = f"{format_class.__name__}.comparison_page()"
    require(isinstance(page, str), f"{name} must return a text, not {type(page).__name__}.")
    missing = [run.name for run in comparison.runs if run.name not in page]
    require(not missing, f"{name} leaves out the runs {', '.join(missing)}.")


def _scores(name: str, metric: Metric, counts: Any, classes: tuple[str, ...]) -> Any:
    try:
        return NamedMetric(name, metric, f"{name}.score()").score(counts, classes)
    except SentikitError as error:
        raise AssertionError(error.message) from error
