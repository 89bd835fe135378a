"""`sentikit.load`: every name and path that stands for a classifier."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from ensemble_recipes import ROWS, UNSURE, asked_about, text, write_ensembles, write_recipe
from ensemble_runs import LABELS
from llm_fixtures import serving

import sentikit
from sentikit import InputError
from sentikit.cli import sentikit as command


def gold() -> list[str]:
    return [LABELS[number % 3] for number in range(ROWS)]


def texts() -> list[str]:
    return [text(number) for number in range(ROWS)]


def test_a_cascade_is_loaded_from_its_recipe_and_from_its_run() -> None:
    with serving() as s:
        write_ensembles(s.url)
        members = ["./encoder.jsonl", "./asked.yaml"]
        write_recipe(
            "new", {"kind": "cascade", "cascade": {"members": members, "thresholds": [0.7]}}
        )
        assert sentikit.load("new.yaml").predict(texts()) == gold()
        assert asked_about(s) == list(range(UNSURE))
        done = CliRunner().invoke(command, ["cascade", "--recipe", "new.yaml", "--output", "run"])
        assert done.exit_code == 0, done.output
        found = list(sentikit.load("run").classify(texts()))
    assert [prediction.label for prediction in found] == gold()
    assert {prediction.answered_by for prediction in found} == {"encoder", "asked"}


def test_a_cascade_of_three_stages_labels_a_file(tmp_path: Path) -> None:
    with serving() as s:
        write_ensembles(s.url)
        members = ["./encoder.jsonl", "./encoder.jsonl", "./asked.yaml"]
        cascade = {"members": members, "thresholds": [0.7, 0.6]}
        write_recipe("three", {"kind": "cascade", "cascade": cascade})
        words = ["predict", "three.yaml", "test.csv", "--output", "labelled.jsonl"]
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 0, done.output
        assert asked_about(s) == list(range(UNSURE))
    rows = [json.loads(line) for line in Path("labelled.jsonl").read_text().splitlines()]
    assert [row["predicted_label"] for row in rows] == gold()
    answered = [row["answered_by"] for row in rows]
    assert answered == ["asked"] * UNSURE + ["encoder"] * (ROWS - UNSURE)


def test_a_vote_a_results_file_and_an_adviser_are_loaded() -> None:
    write_ensembles("http://127.0.0.1:9/v1")
    members = ["./encoder.jsonl", "./encoder.jsonl"]
    write_recipe("vote", {"kind": "vote", "vote": {"members": members}})
    wrong_where_unsure = [LABELS[(n + (n < UNSURE)) % 3] for n in range(ROWS)]
    for name in ("vote.yaml", "encoder.jsonl"):
        assert sentikit.load(name).predict(texts()) == wrong_where_unsure


def test_missing_inputs_of_load_are_named_in_one_sentence() -> None:
    write_ensembles("http://127.0.0.1:9/v1")
    members = ["./nowhere.jsonl", "./asked.yaml"]
    write_recipe("new", {"kind": "cascade", "cascade": {"members": members, "thresholds": [0.7]}})
    with pytest.raises(InputError, match=r"nowhere\.jsonl does not exist"):
        sentikit.load("new.yaml")
    with pytest.raises(InputError, match=r"minlm does not exist. Did you mean 'minilm'"):
        sentikit.load("minlm")
    with pytest.raises(InputError, match="sentikit train --recipe minilm --output runs/minilm"):
        sentikit.load("minilm")


def test_loading_an_untrained_recipe_with_its_classifiers_name_suggests_the_train_command() -> None:
    with pytest.raises(InputError, match="sentikit train --recipe tfidf --output runs/tfidf"):
        sentikit.load("tfidf")


@pytest.mark.parametrize(
    ("cascade", "message"),
    [
        ({"members": ["a.csv", "b.csv"], "thresholds": [0.5, 0.6]}, "2 members need 1 thresholds"),
        ({"members": ["a.csv", "b.csv"]}, "give either thresholds or tune"),
        (
            {"members": ["a.csv", "b.csv"], "llm": "x", "threshold": 0.5},
            "give only cascade.members",
        ),
        ({"llm": "a.csv", "threshold": 0.5}, "needs at least 2 values, but has 1"),
    ],
)
def test_an_inconsistent_cascade_section_is_refused(
    cascade: dict[str, object], message: str
) -> None:
    write_recipe("new", {"kind": "cascade", "cascade": cascade})
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(InputError, match=message))
        if "members" not in cascade:
            old = r"cascade\.\w+ is the old name of cascade\.\w+"
            stack.enter_context(pytest.warns(FutureWarning, match=old))
        sentikit.load("new.yaml")


def test_deprecated_recipe_keys_work_in_predict_and_python_with_a_warning() -> None:
    write_ensembles("http://127.0.0.1:9/v1")
    section = {"encoder": "./encoder.jsonl", "llm": "./encoder.jsonl", "threshold": 0.7}
    write_recipe("old", {"kind": "cascade", "cascade": section})
    with pytest.warns(FutureWarning, match=r"cascade\.\w+ is the old name of cascade"):
        expected = sentikit.load("old.yaml").predict(texts())
    Path("in.csv").write_text("\n".join(["text", *texts()]) + "\n")
    done = CliRunner().invoke(command, ["predict", "old.yaml", "in.csv"])
    assert done.exit_code == 0, done.output
    rows = csv.DictReader(io.StringIO(done.stdout))
    assert [row["predicted_label"] for row in rows] == expected
    for key in ("encoder", "llm", "threshold"):
        assert f"Warning: old.yaml, line 1: cascade.{key} is the old name of" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "runs/quickstrat", "in.csv"),
        ("evaluate", "runs/quickstrat"),
        ("compare", "runs/quickstrat"),
        ("vote", "runs/quickstrat", "runs/quickstrat"),
        ("runs", "show", "runs/quickstrat"),
        ("predict", "quickstrat", "in.csv"),
    ],
)
def test_a_mistyped_run_gets_a_suggestion(words: tuple[str, ...]) -> None:
    Path("runs/quickstart").mkdir(parents=True)
    Path("runs/quickstart/manifest.json").write_text('{"kind": "train", "status": "finished"}')
    Path("in.csv").write_text("text\nfine\n")
    refused = CliRunner().invoke(command, list(words))
    assert refused.exit_code == 2, refused.output
    assert "does not exist" in refused.stderr
    assert "runs/quickstart" in refused.stderr
