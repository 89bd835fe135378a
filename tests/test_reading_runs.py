"""A run's folder reads back as columns; a damaged or unfinished one says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentikit import InputError, read_run

CLASSES = ["negative", "neutral", "positive"]
ROW: dict[str, Any] = {
    "id": "a1",
    "text": "Très 好",
    "gold": "positive",
    "label": "neutral",
    "probabilities": {"positive": 0.3, "negative": 0.1, "neutral": 0.6},
    "source": "shop",
}
LLM_ROW = ROW | {
    "id": "a2",
    "label": None,
    "probabilities": None,
    "answer": "mixed",
    "usage": {"prompt": 120, "cached": 20, "completion": 3, "cache_writes": 0},
    "cost": 0.00002,
    "encoder": {
        "label": "positive",
        "probabilities": {"negative": 0.0, "neutral": 0.2, "positive": 0.8},
    },
    "first_answer": "hm",
}


def make_run(*rows: object, classes: list[str] | None = None) -> Path:
    run = Path("run")
    run.mkdir(exist_ok=True)
    manifest = {"status": "finished", "kind": "prompt", "classes": classes or CLASSES}
    (run / "manifest.json").write_text(json.dumps(manifest))
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (run / "predictions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return run


def test_an_encoders_run_is_read() -> None:
    table = read_run(make_run(ROW))
    assert len(table) == 1
    assert table.name == "run"
    assert table.manifest["kind"] == "prompt"
    assert table.examples.texts == ["Très 好"]
    assert table.gold.tolist() == [2]
    assert table.answers.labels.tolist() == [1]
    np.testing.assert_array_equal(table.answers.probabilities, [[0.1, 0.6, 0.3]])
    assert (table.adviser, table.raw, table.cost, table.tokens) == (None, None, None, None)


def test_an_llms_run_is_read_with_costs_and_the_encoders_prediction() -> None:
    table = read_run(make_run(ROW, LLM_ROW))
    assert table.invalid == 1
    assert table.answers.labels.tolist() == [1, -1]
    assert table.answers.probabilities is not None
    assert np.isnan(table.answers.probabilities[1]).all()
    assert table.raw is not None
    assert table.raw.to_pylist() == [None, "mixed"]
    assert table.cost is not None
    assert np.isnan(table.cost[0])
    assert table.cost[1] == 0.00002
    assert table.tokens is not None
    assert table.tokens.tolist() == [[0, 0, 0], [120, 20, 3]]
    encoder = read_run("run#encoder")
    assert encoder.answers.labels.tolist() == [-1, 2]
    assert encoder.cost is None


def test_a_runs_predictions_file_names_the_run() -> None:
    make_run(ROW, LLM_ROW)
    assert read_run("run/predictions.jsonl#encoder").answers.labels.tolist() == [-1, 2]


def test_rows_of_a_run_may_be_in_another_order() -> None:
    table = read_run(make_run(ROW, LLM_ROW, ROW | {"id": "a3"}))
    chosen = table.select(np.array([1, 2]))
    assert chosen.examples.ids == ["a2", "a3"]
    assert chosen.answers.labels.tolist() == [-1, 1]
    assert chosen.raw is not None
    assert chosen.raw.to_pylist() == ["mixed", None]
    assert chosen.adviser is not None
    assert chosen.adviser.labels.tolist() == [2, -1]


def test_a_run_with_custom_classes_is_read() -> None:
    row = ROW | {"gold": "spam", "label": "ham", "probabilities": {"ham": 0.9, "spam": 0.1}}
    table = read_run(make_run(row, classes=["spam", "ham"]))
    assert table.answers.labels.tolist() == [1]
    np.testing.assert_array_equal(table.answers.probabilities, [[0.1, 0.9]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((ROW, '{"id": "a2", "te'), r"predictions\.jsonl, line 2: not valid JSON"),
        ((ROW, ROW | {"label": "mixed"}), "row 2: the label 'mixed' is not one of the run's"),
        ((ROW, {"gold": "positive"}), "a row has no id"),
        ((ROW, ROW | {"cost": "cheap"}), "it has rows that sentikit does not write"),
        (
            (ROW, ROW | {"probabilities": {"positive": 7.5, "negative": -3, "neutral": 0.6}}),
            r"row 2: \[-3.0, 0.6, 7.5\] are not probabilities",
        ),
        (("",), "is empty; the run has no predictions"),
    ],
)
def test_damage_in_a_run_is_reported_with_its_place(rows: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_run(make_run(*rows))


def test_unfinished_runs_and_other_folders_are_refused() -> None:
    run = make_run(ROW)
    (run / "predictions.jsonl").unlink()
    (run / "manifest.json").write_text('{"status": "interrupted"}')
    with pytest.raises(InputError, match=r"its status is interrupted.*--resume"):
        read_run(run)
    (run / "manifest.json").write_text('{"status": "finished"}')
    with pytest.raises(InputError, match=r"predictions\.jsonl is missing.*make the run again"):
        read_run(run)
    (run / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"run is not a run: it has no manifest\.json"):
        read_run(run)
