"""Training from Python: `sentikit.train` and the scikit-learn estimator."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import sentikit as toolkit
from sentikit.cli import sentikit
from sentikit.training import reporting

TFIDF: dict[str, Any] = {"kind": "train", "classifier": {"name": "tfidf", "min_texts": 1}}
GOOD = ["great film", "good food", "very good room", "i love it", "great service"]
BAD = ["awful film", "bad food", "very bad room", "i hate it", "awful service"]
TEXTS, LABELS = (GOOD + BAD) * 4, (["good"] * 5 + ["bad"] * 5) * 4


def encoder_recipe(encoder: Path) -> dict[str, Any]:
    return {
        "encoder": {"name": "transformers", "model": str(encoder), "max_length": 32},
        "head": {"name": "linear", "pooling": "mean"},
        "training": {"epochs": 4, "batch_size": 8, "lr": 3e-3},
    }


def test_train_writes_a_run_with_the_given_settings_that_loads(tiny_recipe: Path) -> None:
    run = toolkit.train(tiny_recipe, output="run", epochs=1, training__batch_size=32)
    assert run.path == Path("run")
    assert run.best_epoch == 1
    assert json.loads(json.dumps(run.metrics)) == json.loads(Path("run/metrics.json").read_text())
    recipe = json.loads(Path("run/manifest.json").read_text())["recipe"]
    assert recipe["training"]["epochs"] == 1
    assert recipe["training"]["batch_size"] == 32
    assert toolkit.load(run.path).predict(["great"])[0] in toolkit.load(run.path).labels


def test_an_unknown_setting_is_refused_with_the_nearest_name(tiny_recipe: Path) -> None:
    with pytest.raises(toolkit.InputError, match="Did you mean 'epochs'"):
        toolkit.train(tiny_recipe, epoch=3)
    assert not Path("runs").exists()


def test_a_plugins_classifier_is_trained_by_the_train_command(reviews: Path) -> None:
    recipe = Path("own.yaml")
    splits = {split: f"{reviews}/{split}.csv" for split in ("train", "validation", "test")}
    recipe.write_text(json.dumps({**TFIDF, "dataset": {"name": "files", **splits}}))
    words = ["train", "--recipe", str(recipe), "--output", "run"]
    planned = CliRunner().invoke(sentikit, [*words, "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert "negative 32" in planned.stdout
    assert not Path("run").exists()
    result = CliRunner().invoke(sentikit, [*words, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["overall"]["macro_f1"] > 0.9
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["recipe"]["classifier"]["name"] == "tfidf"
    rows = Path("run/predictions.jsonl").read_text().splitlines()
    assert len(rows) == 48
    assert toolkit.load("run").predict(["the film was great", "awful"]) == ["positive", "negative"]
    again = CliRunner().invoke(sentikit, ["train", "--recipe", "run/recipe.yaml", "--output", "b"])
    assert again.exit_code == 0, again.output
    assert Path("b/predictions.jsonl").read_text().splitlines() == rows


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"classifier": {"name": "tfidf"}, "head": {"name": "linear"}},
            "not used by a classifier",
        ),
        ({"classifier": {"name": "tfidff"}}, "Did you mean 'tfidf'"),
        ({"classifier": {"name": "tfidf", "longst": 1}}, "Did you mean 'longest'"),
        ({"head": {"name": "linear"}}, "or a classifier section instead"),
    ],
)
def test_a_recipe_needs_exactly_one_of_encoder_and_classifier(
    recipe: dict[str, Any], message: str
) -> None:
    with pytest.raises(toolkit.InputError, match=message):
        toolkit.train({"dataset": {"name": "demo"}, **recipe}, output="run")
    assert not Path("run").exists()


@pytest.mark.parametrize("labels", [LABELS, [1 if name == "good" else 0 for name in LABELS]])
def test_the_estimator_predicts_the_labels_it_was_fitted_with(labels: list[Any]) -> None:
    fitted = toolkit.SentimentClassifier(TFIDF).fit(TEXTS, labels)
    assert fitted.classes_.tolist() == sorted(set(labels))
    assert fitted.predict(["great", "awful"]).tolist() == [labels[0], labels[5]]
    probabilities = fitted.predict_proba(["great", "awful"])
    assert probabilities.shape == (2, 2)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert probabilities[0].argmax() == fitted.classes_.tolist().index(labels[0])
    assert fitted.score(TEXTS, labels) == 1


def test_an_encoder_estimator_keeps_its_run_in_a_given_folder(tiny_encoder: Path) -> None:
    estimator = toolkit.SentimentClassifier(
        encoder_recipe(tiny_encoder),
        output="run",
        device="cpu",
        epochs=12,
        dataset__validation_holdout=0.2,
    )
    estimator.fit(TEXTS, LABELS)
    assert estimator.predict(TEXTS).tolist() == toolkit.load("run").predict(TEXTS)
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["recipe"]["dataset"]["validation_holdout"] == 0.2
    assert manifest["epochs"] == 12


def test_clone_and_get_params_keep_every_setting() -> None:
    estimator = toolkit.SentimentClassifier("minilm", epochs=2, training__warmup=0.2)
    copy = clone(estimator)
    assert copy is not estimator
    assert copy.get_params() == estimator.get_params()
    assert copy.get_params()["training__warmup"] == 0.2
    assert copy.set_params(epochs=5, device="cpu").get_params()["epochs"] == 5
    assert estimator.get_params()["epochs"] == 2
    with pytest.raises(toolkit.InputError, match="Did you mean 'epochs'"):
        copy.set_params(epoch=5)


@pytest.mark.parametrize(
    "settings",
    [
        {"head__layers": 2, "head__name": "mlp", "schedule__eta_min": 1e-7, "schedule": "cosine"},
        {"head": "mlp", "head__layers": 2, "schedule": {"eta_min": 1e-7, "name": "cosine"}},
        {"schedule__name": "cosine", "head__name": "mlp", "schedule__eta_min": 1e-7}
        | {"head": {"layers": 2}},
    ],
)
def test_a_components_name_and_its_settings_are_given_in_any_order(
    settings: dict[str, Any], tiny_recipe: Path
) -> None:
    given = copy.deepcopy(settings)
    run = toolkit.train(tiny_recipe, output="run", epochs=1, **settings)
    assert settings == given
    recipe = json.loads((run.path / "manifest.json").read_text())["recipe"]
    assert recipe["head"] == {"name": "mlp", "layers": 2}
    assert recipe["training"]["schedule"] == {"name": "cosine", "eta_min": 1e-7}


def test_cross_validation_grid_search_and_a_pipeline_work() -> None:
    estimator = toolkit.SentimentClassifier(TFIDF)
    assert cross_val_score(estimator, TEXTS, LABELS, cv=2).mean() > 0.9
    search = GridSearchCV(estimator, {"classifier__c": [0.1, 4.0]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_params_["classifier__c"] in (0.1, 4.0)
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("lower", lower), ("model", estimator)])
    pipeline.set_params(model__classifier__c=2.0).fit([text.upper() for text in TEXTS], LABELS)
    assert pipeline.predict(["GREAT"]).tolist() == ["good"]


def test_cross_validation_shows_each_note_once(
    capsys: pytest.CaptureFixture[str], tiny_encoder: Path
) -> None:
    recipe = {**encoder_recipe(tiny_encoder), "training": {"epochs": 1, "batch_size": 8}}
    estimator = toolkit.SentimentClassifier(recipe, device="cpu", dataset__validation_holdout=6)
    reporting._SHOWN.clear()
    cross_val_score(estimator, TEXTS, LABELS, cv=3)
    assert capsys.readouterr().err.count("validation texts choose the best epoch") == 1
    cross_val_score(toolkit.SentimentClassifier(TFIDF), TEXTS, LABELS, cv=3)
    assert "training texts are scored" not in capsys.readouterr().err


class Table:
    """What of a DataFrame matters here."""

    columns = ("text", "label")

    def __iter__(self) -> Any:
        return iter(self.columns)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (Table(), ["a", "b"], "table\\['text'\\]"),
        ("great", ["a"], "texts must be a list of strings"),
        (["a", 3.5], ["a", "b"], "Item 1"),
        (["a", "b"], ["a"], "2 texts need as many labels"),
        (["a", "b"], ["a", "a"], "two classes"),
        (np.array([["a"], ["b"]]), ["a", "b"], "shape"),
    ],
)
def test_malformed_training_data_of_the_estimator_are_refused(
    texts: Any, labels: Any, message: str
) -> None:
    with pytest.raises(toolkit.InputError, match=message):
        toolkit.SentimentClassifier(TFIDF).fit(texts, labels)


def test_an_estimator_that_is_not_fitted_says_so() -> None:
    with pytest.raises(NotFittedError, match="Call fit first"):
        toolkit.SentimentClassifier(TFIDF).predict(["great"])
