"""Recorded answers, replayed through the whole pipeline, give the recorded scores again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prompt_runs import make_components, run_prompts

from sentikit import InputError, read_run

RECORDED = (
    "B1-EB",
    "B2-EL",
    "B3-G4OM",
    "B4-G4O",
    "E1-EBFT",
    "E2-ELFT",
    "E3-G4OM-EBFT",
    "E4-G4OMFT",
    "E7-G4O-ELFT",
    "E11-G4OMFT-M",
    "E12-G4OFT-M",
    "E13-G4OM-ELFT",
    "E17-G4OM-ELFT-PR2",
)
COLUMNS = {
    "merged": "overall",
    "dyn1": "dynasent_r1",
    "dyn2": "dynasent_r2",
    "sst": "sst_local",
}


def dataset(path: Path) -> dict[str, Any]:
    return {"name": "files", "test": str(path)}


def write(path: str, text: str) -> Path:
    file = Path(path)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_replaying_recorded_answers_gives_the_published_scores(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    with (shared_data / "recorded" / "published-round1.csv").open(encoding="utf-8") as stream:
        published = next(row for row in csv.DictReader(stream) if row["legacy_id"] == name)
    components = make_components(
        dataset={"name": "merged", "path": str(shared_data / "merged")},
        llm={"backend": "replay", "run": str(shared_data / "recorded" / f"{name}.csv")},
    )
    run_prompts(components, tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    scores = {"overall": metrics["overall"], **metrics["by_source"]}
    for column, key in COLUMNS.items():
        assert round(100 * scores[key]["macro_f1"], 2) == float(published[f"{column}_f1"])
    assert round(100 * metrics["overall"]["accuracy"], 2) == float(published["merged_accuracy"])


def test_a_replayed_run_reads_back(tmp_path: Path) -> None:
    texts = write(
        "reviews.csv", "text,label,source\nGood,positive,a\nBad,negative,b\nSo,neutral,b\n"
    )
    answers = write(
        "answers.csv",
        "text,prediction,probabilities\n"
        'So,mixed,\nBad,negative,"[0.7, 0.2, 0.1]"\nGood,neutral,"[0.1, 0.6, 0.3]"\n',
    )
    components = make_components(
        dataset=dataset(texts),
        llm={"backend": "replay", "run": str(answers)},
    )
    finished = run_prompts(components, tmp_path / "run")
    assert finished.totals.invalid == 1
    assert finished.scores is not None
    assert finished.scores.accuracy == pytest.approx(1 / 3)
    assert finished.scores.calibration is not None
    table = read_run(tmp_path / "run")
    assert table.examples.texts == ["Good", "Bad", "So"]
    assert table.answers.labels.tolist() == [1, 0, -1]
    assert table.answers.probabilities is not None
    np.testing.assert_allclose(table.answers.probabilities[0], [0.1, 0.6, 0.3], atol=1e-6)
    assert np.isnan(table.answers.probabilities[2]).all()
    assert table.adviser is None
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["answers"] == {
        "rows": 3,
        "without_text": 0,
        "invalid": 1,
        "invalid_rate": pytest.approx(1 / 3),
        "failed": 0,
        "repaired": 0,
    }
    assert metrics["overall"]["confusion"]["neutral"]["invalid"] == 1
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["kind"] == "prompt"
    assert manifest["status"] == "finished"
    assert manifest["cost_usd"] == {"llm": 0.0}
    assert manifest["dataset"]["examples"] == 3


def test_a_run_replays_itself(tmp_path: Path) -> None:
    texts = write("reviews.csv", "text,label\nGood,positive\nGood,positive\nBad,negative\n")
    answers = write("answers.csv", "text,prediction\nGood,positive\nGood,neutral\nBad,negative\n")
    first = make_components(dataset=dataset(texts), llm={"backend": "replay", "run": str(answers)})
    run_prompts(first, tmp_path / "first")
    again = make_components(
        dataset=dataset(texts), llm={"backend": "replay", "run": str(tmp_path / "first")}
    )
    run_prompts(again, tmp_path / "second")
    before, after = read_run(tmp_path / "first"), read_run(tmp_path / "second")
    assert before.answers.labels.tolist() == [2, 1, 0]
    assert after.answers.labels.tolist() == [2, 1, 0]


def test_only_rows_without_recorded_answers_fail(tmp_path: Path) -> None:
    texts = write("reviews.csv", "text,label\nGood,positive\nNew,negative\n")
    answers = write("answers.csv", "text,prediction\nGood,positive\n")
    components = make_components(
        dataset=dataset(texts), llm={"backend": "replay", "run": str(answers)}
    )
    finished = run_prompts(components, tmp_path / "run")
    assert finished.totals.failed == 1
    lines = (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["label"] for row in rows] == ["positive", None]
    assert "holds no answer to 'New'" in rows[1]["error"]


def test_the_advisers_prediction_is_part_of_a_replayed_run(tmp_path: Path) -> None:
    texts = write("reviews.csv", "text,label\nGood,positive\nBad,negative\n")
    answers = write("answers.csv", "text,prediction\nGood,positive\nBad,neutral\n")
    predicted = write(
        "encoder.csv",
        'text,prediction,probabilities\nBad,neutral,"[0.3, 0.6, 0.1]"\n'
        'Good,positive,"[0.1, 0.1, 0.8]"\n',
    )
    components = make_components(
        dataset=dataset(texts),
        llm={"backend": "replay", "run": str(answers)},
        strategy={"name": "label-probabilities", "encoder": str(predicted)},
    )
    run_prompts(components, tmp_path / "run")
    encoder = read_run(f"{tmp_path / 'run'}#encoder")
    assert encoder.answers.labels.tolist() == [2, 1]
    np.testing.assert_allclose(encoder.answers.probabilities, [[0.1, 0.1, 0.8], [0.3, 0.6, 0.1]])
    assert encoder.examples.labels == ["positive", "negative"]


def test_texts_without_gold_labels_are_labelled_and_not_scored(tmp_path: Path) -> None:
    texts = write("reviews.csv", "text\nGood\nBad\n")
    answers = write("answers.csv", "text,prediction\nGood,positive\nBad,neutral\n")
    components = make_components(
        dataset=dataset(texts), llm={"backend": "replay", "run": str(answers)}
    )
    finished = run_prompts(components, tmp_path / "run")
    assert finished.scores is None
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert read_run(tmp_path / "run").answers.labels.tolist() == [2, 1]


def test_a_replay_without_recorded_answers_is_refused() -> None:
    components = make_components(
        dataset={"name": "demo"}, llm={"backend": "replay", "run": "runs/none"}
    )
    with pytest.raises(InputError, match="runs/none does not exist"):
        run_prompts(components, Path("run"))
    with pytest.raises(InputError, match=r"llm\.run: a value is missing"):
        make_components(dataset={"name": "demo"}, llm={"backend": "replay"})
