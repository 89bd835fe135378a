"""Classifiers and metrics that plugins bring: trained, loaded, and checked as they answer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

import sentikit
from sentikit.classifiers.classifier import Classifier, Example, Session
from sentikit.classifiers.plugin_classifier import (
    CLASSIFIER_FORMAT,
    CheckedClassifier,
    fit_classifier,
    load_trained,
    saved_format,
    untrained_classifier,
)
from sentikit.classifiers.prediction import Prediction
from sentikit.components import ComponentSettings
from sentikit.datasets.examples import Examples
from sentikit.datasets.labels import SCHEMES, LabelScheme, scheme_for_classes
from sentikit.errors import InputError, SentikitError
from sentikit.metrics import Metric, NamedMetric, metrics_for
from sentikit.registry import Registry, default_registry
from sentikit.scoring import confusion_counts

SCHEME = SCHEMES["neg_neu_pos"]
GOOD = Prediction("positive", {"negative": 0.1, "neutral": 0.2, "positive": 0.7})


class Scripted(Classifier):
    """Gives the predictions it was made with, whatever it is asked."""

    def __init__(self, answers: Iterable[Any], reads: bool = True) -> None:
        self._answers, self._reads = answers, reads

    @property
    def scheme(self) -> LabelScheme:
        return SCHEME

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Any]:
        if self._reads:
            list(examples)
            yield from self._answers
        else:
            for answer, _ in zip(self._answers, examples, strict=False):
                yield answer


def answers(given: Iterable[Any], texts: int = 3, reads: bool = True) -> list[Prediction]:
    title = "The classifier 'x' of plugin 'p'"
    checked = CheckedClassifier(Scripted(given, reads), title)
    return list(checked.classify(f"text {number}" for number in range(texts)))


def test_sound_predictions_pass_unchanged_and_in_order() -> None:
    given = [GOOD, Prediction(None, error="try again"), Prediction("neutral", confidence=1.0)]
    assert answers(given) == given
    assert answers([], texts=0) == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (None, "it gave None; it must give a sentikit.Prediction."),
        ("positive", "it gave 'positive'; it must give a sentikit.Prediction."),
        (Prediction("happy"), "it gave the label 'happy'; it must be one of negative, neutral,"),
        (replace(GOOD, probabilities={"positive": 1.0}), "they must have one for each of"),
        (replace(GOOD, probabilities=[0.1, 0.2, 0.7]), "they must have one for each of"),
        (
            replace(GOOD, probabilities={"negative": math.nan, "neutral": 0.5, "positive": 0.5}),
            "each must be a float from 0 to 1",
        ),
        (
            replace(GOOD, probabilities={"negative": -0.5, "neutral": 0.5, "positive": 1.0}),
            "each must be a float from 0 to 1",
        ),
        (
            replace(GOOD, probabilities={"negative": 0.2, "neutral": 0.2, "positive": 0.7}),
            "its probabilities sum to 1.1; they must sum to 1.",
        ),
        (replace(GOOD, confidence=1.5), "its confidence is 1.5; it must be from 0 to 1."),
        (replace(GOOD, cost=math.nan), "its cost is nan; it must be USD of at least 0, or None."),
        (replace(GOOD, paid=-1.0), "its paid is -1.0; it must be USD of at least 0, or None."),
        (replace(GOOD, cost=False), "its cost is False; it must be USD of at least 0, or None."),
    ],
)
def test_a_malformed_prediction_names_classifier_text_and_the_expected_form(
    wrong: Any, sentence: str
) -> None:
    with pytest.raises(SentikitError) as raised:
        answers([GOOD, wrong, GOOD])
    message = raised.value.message
    assert message.startswith("The classifier 'x' of plugin 'p', text 1 (from 0): ")
    assert sentence in message


def test_a_classifier_that_returns_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Scripted([], False)
    monkeypatch.setattr(classifier, "classify", lambda examples, session: None)
    checked = CheckedClassifier(classifier, "The classifier 'x' of plugin 'p'")
    with pytest.raises(SentikitError, match="plugin 'p' returned None; classify must yield"):
        checked.predict(["a"])


@pytest.mark.parametrize("reads", [True, False])
def test_too_few_predictions_are_refused_whether_or_not_all_texts_were_read(reads: bool) -> None:
    with pytest.raises(SentikitError, match="gave 2 predictions, but was given more texts"):
        answers([GOOD, GOOD], reads=reads)


def test_too_many_predictions_are_refused() -> None:
    with pytest.raises(SentikitError, match="more predictions than it was given texts"):
        answers([GOOD] * 4)


def demo(split: str) -> Examples:
    return sentikit.open_dataset("demo").split(split)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfidf") / "model"
    section = {"name": "tfidf", "min_texts": 1}
    fit_classifier(default_registry(), section, SCHEME, demo("train"), None, folder)
    return folder


def test_tfidf_beats_chance_and_answers_the_same_when_loaded_again(trained: Path) -> None:
    assert saved_format(trained) == CLASSIFIER_FORMAT
    test = demo("test")
    loaded = load_trained(trained, default_registry())
    labels = loaded.predict(test.texts)
    right = sum(a == b for a, b in zip(labels, test.labels, strict=True)) / len(labels)
    assert right > 0.45
    again = load_trained(trained, default_registry())
    assert np.array_equal(loaded.predict_proba(test.texts), again.predict_proba(test.texts))


def test_a_trained_classifier_is_saved_without_pickle(trained: Path) -> None:
    kinds = {path.suffix for path in trained.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors"}


def test_a_class_that_training_lacks_is_never_predicted(tmp_path: Path) -> None:
    examples = Examples.from_columns(
        ["good film", "bad film", "good food", "bad food"], ["positive", "negative"] * 2
    )
    section = {"name": "tfidf", "min_texts": 1}
    classifier = fit_classifier(
        default_registry(), section, SCHEME, examples, None, tmp_path / "model"
    )
    assert classifier.predict(["good", "bad"]) == ["positive", "negative"]
    assert classifier.predict_proba(["unknown words"])[0, 1] == 0


@pytest.mark.parametrize(
    ("texts", "labels", "settings", "sentence"),
    [
        (["a b", "c d"], ["positive"] * 2, {}, "has one class"),
        (["a", "b"], ["positive", "negative"], {"min_texts": 5}, "No n-gram occurs in 5"),
        (["a", "b"], ["positive", "negative"], {"longest": 0}, "classifier.longest"),
        (["a", "b"], ["positive", "negative"], {"longst": 1}, "Did you mean 'longest'"),
    ],
)
def test_unfittable_data_are_refused_without_leaving_a_folder(
    texts: list[str], labels: list[str], settings: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    examples = Examples.from_columns(texts, labels)
    section = {"name": "tfidf"} | settings
    with pytest.raises(InputError, match=sentence):
        fit_classifier(default_registry(), section, SCHEME, examples, None, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_plugin_is_missing_names_the_distribution_to_install(
    trained: Path, tmp_path: Path
) -> None:
    config = json.loads((trained / "config.json").read_text())
    config["classifier"]["name"] = "lexicon"
    config["components"][0] |= {"distribution": "film-club", "version": "1.2", "plugin": "film"}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"pip install 'film-club==1\.2'"):
        load_trained(folder, default_registry())


def test_the_component_in_the_config_names_distribution_and_version(trained: Path) -> None:
    (component,) = json.loads((trained / "config.json").read_text())["components"]
    assert component == {
        "kind": "classifier",
        "name": "tfidf",
        "plugin": "tfidf",
        "distribution": "sentikit",
        "version": sentikit.__version__,
    }


@pytest.mark.parametrize("change", ["weights", "vocabulary"])
def test_a_damaged_model_folder_is_named(change: str, trained: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    files = folder / "classifier"
    if change == "weights":
        path = files / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-8])
    else:
        path = files / "vocabulary.json"
        path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    with pytest.raises(InputError, match="damaged"):
        load_trained(folder, default_registry())


def test_an_untrained_classifier_with_fit_is_refused() -> None:
    with pytest.raises(InputError, match="'tfidf' must be trained first"):
        untrained_classifier(default_registry(), "tfidf")


class TestMetrics:
    def kappa(self) -> NamedMetric:
        (found,) = metrics_for(SCHEME, default_registry())
        return found

    def test_quadratic_weighted_kappa_equals_scikit_learns(self) -> None:
        random = np.random.default_rng(1)
        for classes in (3, 5):
            gold, answered = random.integers(0, classes, (2, 300))
            expected = cohen_kappa_score(gold, answered, weights="quadratic")
            counts = confusion_counts(gold, answered, classes)
            names = tuple(map(str, range(classes)))
            assert float(self.kappa().score(counts, names)) == pytest.approx(expected)

    def test_an_invalid_answer_counts_as_the_farthest_class(self) -> None:
        gold = np.array([0, 1, 2, 0])
        invalid = confusion_counts(gold, np.array([0, 1, 2, -1]), 3)
        farthest = confusion_counts(gold, np.array([0, 1, 2, 2]), 3)
        score = self.kappa().score
        assert float(score(invalid, SCHEME.classes)) == float(score(farthest, SCHEME.classes))

    def test_quadratic_weighted_kappa_is_offered_only_for_ordered_classes(self) -> None:
        registry = default_registry()
        assert [m.name for m in metrics_for(SCHEMES["five"], registry)] == [
            "quadratic_weighted_kappa"
        ]
        assert metrics_for(SCHEMES["bin_pos"], registry) == ()
        assert metrics_for(scheme_for_classes(["anger", "joy", "fear"]), registry) == ()

    def test_a_metric_of_the_wrong_shape_or_nan_is_named(self) -> None:
        class Wrong(Metric):
            def score(self, counts: Any, classes: tuple[str, ...]) -> Any:
                return counts[..., 0, 0:2] if len(classes) > 3 else counts[..., 0, 0] * math.nan

        metric = NamedMetric("x", Wrong(ComponentSettings()), "The metric 'x' of plugin 'p'")
        with pytest.raises(SentikitError, match=r"The metric 'x' of plugin 'p' returned NaN"):
            metric.score(np.ones((3, 4), int), ("a", "b", "c"))
        with pytest.raises(SentikitError, match=r"returned scores of shape \(2,\)"):
            metric.score(np.ones((4, 5), int), ("a", "b", "c", "d"))

    def test_without_plugins_there_are_no_metrics(self) -> None:
        assert metrics_for(SCHEME, Registry([])) == ()
