"""Temperature scaling: never worse on what it is fitted on, and no label changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sentikit as toolkit
from sentikit.classifiers.prediction import HIGHEST, LOWEST, fit_temperature, softmax
from sentikit.cli import sentikit
from sentikit.scoring import calibration


def loss(logits: NDArray[np.float32], gold: NDArray[np.int64], temperature: float) -> float:
    """Return the mean negative log-likelihood, computed the plain way."""
    scaled = logits.astype(np.float64) / temperature
    logarithms = scaled - np.log(np.exp(scaled - scaled.max(1, keepdims=True)).sum(1))[:, None]
    return float(-(logarithms - scaled.max(1, keepdims=True))[np.arange(len(gold)), gold].mean())


def sample(
    seed: int, examples: int, classes: int, sharpness: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return logits that are `sharpness` times as extreme as the truth, and gold labels."""
    random = np.random.default_rng(seed)
    honest = random.normal(0, 2, (examples, classes))
    gold = [random.choice(classes, p=row) for row in softmax(honest.astype(np.float32))]
    return (honest * sharpness).astype(np.float32), np.array(gold, np.int64)


cases = st.builds(
    sample,
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.integers(2, 5),
    st.floats(0.05, 50),
)


@given(cases)
@settings(max_examples=60, deadline=None)
def test_the_fitted_temperature_minimises_the_loss(
    case: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    logits, gold = case
    temperature = fit_temperature(logits, gold)
    assert LOWEST <= temperature <= HIGHEST
    fitted = loss(logits, gold, temperature)
    for other in [1.0, *np.geomspace(LOWEST, HIGHEST, 40)]:
        assert fitted <= loss(logits, gold, float(other)) + 1e-6


@given(cases)
@settings(max_examples=30, deadline=None)
def test_calibration_changes_no_label(case: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    logits, gold = case
    calibrated = softmax(logits, fit_temperature(logits, gold))
    assert (calibrated.argmax(1) == logits.argmax(1)).all()


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 3.0])
def test_the_true_temperature_is_recovered(sharpness: float) -> None:
    logits, gold = sample(7, 20_000, 3, sharpness)
    temperature = fit_temperature(logits, gold)
    assert temperature == pytest.approx(sharpness, rel=0.05)
    assert calibration(gold, softmax(logits, temperature)).ece < 0.02


def test_without_mistakes_or_examples_the_temperature_stays_in_bounds() -> None:
    faultless = np.eye(3, dtype=np.float32)
    assert fit_temperature(faultless, np.arange(3)) == pytest.approx(LOWEST)
    assert fit_temperature(faultless, (np.arange(3) + 1) % 3) == pytest.approx(HIGHEST)
    assert fit_temperature(np.empty((0, 3), np.float32), np.empty(0, np.int64)) == 1.0


def test_examples_without_a_gold_label_do_not_count() -> None:
    logits, gold = sample(1, 200, 3, 2.0)
    unlabelled = np.full(50, -1)
    noise = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    mixed = fit_temperature(np.vstack([logits, noise]), np.concatenate([gold, unlabelled]))
    assert mixed == fit_temperature(logits, gold)


def test_a_run_stores_the_temperature_and_the_calibration_before_and_after(
    trained_run: Path,
) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())
    calibrated = metrics["calibrated"]
    stored = json.loads((trained_run / "model" / "config.json").read_text())["temperature"]
    assert calibrated["temperature"] == stored
    assert calibrated["fitted_on"] == "validation"
    lines = (trained_run / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    classifier = toolkit.load(trained_run, device="cpu", calibrated=True)
    gold = classifier.scheme.numbers(row["gold"] for row in rows)
    found = calibration(gold, classifier.predict_proba([row["text"] for row in rows]))
    assert calibrated["ece"] == pytest.approx(found.ece, abs=1e-5)
    assert calibrated["negative_log_likelihood"] == pytest.approx(
        found.negative_log_likelihood, abs=1e-5
    )
    plain = toolkit.load(trained_run, device="cpu").predict_proba([row["text"] for row in rows])
    before = calibration(gold, plain)
    assert metrics["overall"]["calibration"]["ece"] == pytest.approx(before.ece, abs=1e-5)
    assert before.ece != pytest.approx(found.ece, abs=1e-3)


def test_evaluate_and_predict_apply_the_temperature_on_request(trained_run: Path) -> None:
    def scores(*options: str) -> dict[str, object]:
        words = ["evaluate", str(trained_run), "--split", "validation", "--json", *options]
        result = CliRunner().invoke(sentikit, words)
        assert result.exit_code == 0, result.output
        overall: dict[str, object] = json.loads(result.stdout)["overall"]
        return overall

    plain, calibrated = scores(), scores("--calibrated")
    assert plain["macro_f1"] == calibrated["macro_f1"]
    # Validation is what it was fitted on, so there the loss can only fall.
    assert likelihood(calibrated) < likelihood(plain)
    answers = [
        CliRunner().invoke(sentikit, ["predict", str(trained_run), *options], input="so-so\n")
        for options in ((), ("--calibrated",))
    ]
    lines = [json.loads(answer.stdout) for answer in answers]
    assert lines[0]["predicted_label"] == lines[1]["predicted_label"]
    assert lines[0] != lines[1]


def likelihood(scores: dict[str, object]) -> float:
    found = scores["calibration"]
    assert isinstance(found, dict)
    return float(found["negative_log_likelihood"])


def test_calibrated_output_of_a_model_without_temperature_is_refused(tmp_path: Path) -> None:
    from tiny_classifiers import make_classifier

    folder = make_classifier(tmp_path / "native")
    with pytest.raises(toolkit.InputError, match="has no temperature"):
        toolkit.load(folder, calibrated=True)
