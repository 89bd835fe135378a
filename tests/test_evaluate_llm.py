"""``sentikit evaluate`` and ensembles with LLMs: ceilings, batches, resumed runs, failed rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ensemble_runs import LABELS, sure, write_results
from llm_fixtures import PRICES, RunningServer, serving
from prompt_commands import texts, write_recipe

import sentikit as toolkit
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.cli import sentikit

BATCHED = PRICES | {"tiers": {"batch": 1}}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(sentikit, arguments)


def evaluate(recipe: str, *arguments: str) -> Result:
    words = ["--dataset", "files", "--set", "test=test.csv", "--output", "run"]
    return run("evaluate", recipe, *words, *arguments)


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def rows(path: str = "run") -> list[dict[str, Any]]:
    lines = (Path(path) / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def asked(s: RunningServer) -> list[str]:
    """The reviews that the server was asked about, in order; what it can do is asked first."""
    prompts = [body["messages"][-1]["content"] for body in s.server.bodies]
    return [one.rpartition("Review: ")[2].partition("\n")[0] for one in prompts if "number" in one]


def heal(s: RunningServer) -> None:
    s.server.behaviour = type(s.server.behaviour)()


def test_an_evaluation_stopped_by_its_ceiling_is_failed_and_resumes_with_the_rest() -> None:
    with serving() as s:
        recipe = write_recipe(s.url, texts(40), prices=PRICES, max_tokens=20)
        stopped = evaluate(recipe, "--max-cost", "0.003")
        assert stopped.exit_code == 1
        assert "--max-cost $0.0030 leaves" in stopped.stderr
        assert sum(s.server.billed.values()) / 1e6 <= 0.003
        manifest = read("run/manifest.json")
        assert manifest["status"] == "failed"
        assert "--max-cost $0.0030 leaves" in manifest["failure"]
        assert manifest["recipe"]["model"] == recipe
        assert manifest["started"]
        assert not Path("run/metrics.json").exists()
        assert 0 < len(asked(s)) < 40
        again = evaluate(recipe, "--max-cost", "1")
        assert again.exit_code == 2
        assert "Resume it with --resume" in again.stderr
        done = evaluate(recipe, "--max-cost", "1", "--resume")
        assert done.exit_code == 0, done.output
        assert sorted(asked(s)) == sorted(texts(40))
    manifest = read("run/manifest.json")
    assert (manifest["status"], "failure" in manifest) == ("finished", False)
    assert read("run/metrics.json")["overall"]["macro_f1"] == 1.0
    assert manifest["cost_usd"]["llm"] == pytest.approx(sum(row["cost"] for row in rows()))


def test_batch_and_live_evaluation_write_the_same_predictions() -> None:
    with serving() as s:
        recipe = write_recipe(s.url, texts(12), prices=BATCHED)
        batch = evaluate(recipe, "--batch")
        assert batch.exit_code == 0, batch.output
        assert len(s.server.batches.bodies) == 12
        Path("answers.sqlite").unlink()
        Path("run").rename("batch")
        live = evaluate(recipe)
        assert live.exit_code == 0, live.output
    assert rows("batch") == rows("run")
    assert read("batch/metrics.json") == read("run/metrics.json")


def test_batch_and_resume_of_an_evaluation_need_an_output() -> None:
    recipe = write_recipe("http://127.0.0.1:9/v1", texts(1))
    for option in ("--batch", "--resume"):
        refused = run("evaluate", recipe, "--dataset", "files", "--set", "test=test.csv", option)
        assert refused.exit_code == 2
        assert "Add --output DIR" in refused.stderr


@pytest.mark.parametrize("command", ["prompt", "evaluate"])
def test_resuming_a_finished_evaluation_queries_only_failed_rows(command: str) -> None:
    faults = {"number 3": "400:No.", "number 7": "400:No."}
    with serving(fault_words=faults) as s:
        recipe = write_recipe(s.url, texts(12), prices=PRICES)

        def label(*more: str) -> Result:
            if command == "evaluate":
                return evaluate(recipe, *more)
            return run("prompt", "--recipe", recipe, "--output", "run", *more)

        assert label().exit_code == 0
        manifest = read("run/manifest.json")
        assert (manifest["status"], manifest["failed"]) == ("finished", 2)
        assert [n for n, row in enumerate(rows()) if row["label"] is None] == [3, 7]
        assert "No." in rows()[3]["error"]
        heal(s)
        before = len(asked(s))
        done = label("--resume")
        assert done.exit_code == 0, done.output
        assert asked(s)[before:] == ["I love number 3", "I hate number 7"]
        nothing = label("--resume")
    assert [row["label"] for row in rows()] == [row["gold"] for row in rows()]
    assert not any("error" in row for row in rows())
    manifest = read("run/manifest.json")
    assert (manifest["status"], manifest["failed"]) == ("finished", 0)
    assert read("run/metrics.json")["overall"]["macro_f1"] == 1.0
    assert nothing.exit_code == 2
    assert "is finished; there is nothing to resume" in nothing.stderr


def write_advised(url: str, **llm: Any) -> None:
    """Write an LLM, and one that is shown what the first predicts."""
    write_recipe(url, texts(9), prices=PRICES, **llm)
    advised = read("own.yaml") | {"strategy": {"name": "label", "adviser": "own.yaml"}}
    advised["llm"] |= {"model": "advised"}
    Path("advised.yaml").write_text(json.dumps(advised))


@pytest.mark.parametrize("command", ["prompt", "predict"])
def test_an_llm_may_advise_an_llm_and_both_costs_count(command: str) -> None:
    with serving() as s:
        write_advised(s.url)
        if command == "prompt":
            done = run("prompt", "--recipe", "advised.yaml", "--output", "run")
            assert done.exit_code == 0, done.output
            found = [(row["label"], row["cost"]) for row in rows()]
        else:
            done = run("predict", "advised.yaml", "test.csv", "--output", "out.csv")
            with Path("out.csv").open(newline="") as stream:
                read_rows = list(csv.DictReader(stream))
            found = [(row["predicted_label"], float(row["cost"])) for row in read_rows]
        assert done.exit_code == 0, done.output
        by_model = {
            model: [b for b in s.server.bodies if b["model"] == model and "number" in str(b)]
            for model in ("any", "advised")
        }
        assert [len(bodies) for bodies in by_model.values()] == [9, 9]
        billed = sum(s.server.billed.values()) / 1e6
    expected = [LABELS[{"love": 2, "hate": 0, "read": 1}[text.split()[1]]] for text in texts(9)]
    assert [label for label, _ in found] == expected
    for body in by_model["advised"]:
        content = body["messages"][-1]["content"]
        number = int(content.split("number ")[1].split()[0])
        assert f"Classifier Decision: {expected[number]}" in content
    # The rest was paid to find out what the server can do.
    assert 0.5 * billed < sum(cost for _, cost in found) < billed


def write_cascade(url: str) -> None:
    """Write a cascade of a recorded encoder, an LLM in the middle and another behind it."""
    write_recipe(url, texts(30), prices=BATCHED)
    last = read("own.yaml")
    last["llm"] |= {"model": "last"}
    Path("last.yaml").write_text(json.dumps(last))
    predicted = [LABELS[(n + 1) % 3] for n in range(30)]
    given = [sure(predicted[n], 0.5 if n < 10 else 0.9) for n in range(30)]
    answers = [(text, "neutral", label) for text, label in zip(texts(30), predicted, strict=True)]
    write_results(Path("encoder.jsonl"), answers, given)
    members = ["./encoder.jsonl", "./own.yaml", "./last.yaml"]
    recipe = {"kind": "cascade", "cascade": {"members": members, "thresholds": [0.7, 0.999]}}
    Path("cascade.yaml").write_text(json.dumps(recipe))


def test_batches_work_for_an_llm_in_the_middle_of_a_cascade() -> None:
    with serving() as s:
        write_cascade(s.url)
        words = ["predict", "cascade.yaml", "test.csv", "--output"]
        batch = run(*words, "batch.csv", "--batch")
        assert batch.exit_code == 0, batch.output
        models = [body["model"] for body in s.server.batches.bodies]
        assert models.count("any") == 10
        asked_last = models.count("last")
        Path("runs/answers.sqlite").unlink()
        live = run(*words, "live.csv")
        assert live.exit_code == 0, live.output
    assert Path("batch.csv").read_bytes() == Path("live.csv").read_bytes()
    with Path("live.csv").open(newline="") as stream:
        answered = [row["answered_by"] for row in csv.DictReader(stream)]
    assert answered.count("encoder") == 20
    assert answered.count("last") == asked_last
    assert answered.count("own") + asked_last == 10


def test_a_cascades_encoder_computes_each_text_once_including_the_estimate(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []
    original = EncoderClassifier.logits_of_texts

    def counted(own: EncoderClassifier, window: Sequence[str], *stopped: Any) -> Any:
        computed.extend(window)
        return original(own, window, *stopped)

    monkeypatch.setattr(EncoderClassifier, "logits_of_texts", counted)
    with serving() as s:
        write_recipe(s.url, texts(30), prices=PRICES)
        members = [str(trained_run), "./own.yaml"]
        recipe = {"kind": "cascade", "cascade": {"members": members, "thresholds": [1.0]}}
        Path("cascade.yaml").write_text(json.dumps(recipe))
        done = run("predict", "cascade.yaml", "test.csv", "--output", "out.csv")
        assert done.exit_code == 0, done.output
    assert "requests for about $" in done.stderr
    assert sorted(computed) == sorted(texts(30))
    with Path("out.csv").open(newline="") as stream:
        assert [row["text"] for row in csv.DictReader(stream)] == texts(30)


def test_prompting_from_python_equals_the_command() -> None:
    with serving() as s:
        recipe = write_recipe(s.url, texts(6))
        done = toolkit.prompt(recipe, output="own", limit=4, split="test")
        assert done.path == Path("own")
        assert (done.totals.rows, done.totals.failed) == (4, 0)
        assert done.scores is not None
        typed = run("prompt", "--recipe", recipe, "--limit", "4", "--output", "typed")
        assert typed.exit_code == 0, typed.output
        assert rows("own") == rows("typed")
        with pytest.raises(toolkit.InputError, match="already holds another run"):
            toolkit.prompt(recipe, output="own")
        with pytest.raises(toolkit.InputError, match="nothing to resume"):
            toolkit.prompt(recipe, output="own", limit=4, resume=True)
        calls = s.server.calls
        with pytest.raises(toolkit.InputError, match="Did you mean 'llm'"):
            toolkit.prompt(recipe, lm__model="other")
        with pytest.raises(toolkit.SentikitError, match="max-cost"):
            toolkit.prompt(recipe, output="dear", max_cost=1e-9, llm__prices=PRICES,
                           strategy={"name": "minimal"})  # fmt: skip
        assert s.server.calls - calls <= 2
