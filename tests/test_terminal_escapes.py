"""Untrusted text is printed to a terminal without escape sequences."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from ensemble_runs import write_results
from llm_fixtures import serving
from terminals import on_a_terminal

from sentikit.cli import sentikit

ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b2J\u202e"
ODD = set("\x1b\x07\x9b\u202e")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(sentikit, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output


def write_run(name: str, **manifest: object) -> str:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    known = {"kind": "evaluate", "status": "finished", "classes": [f"good{ESCAPES}", "bad"]}
    (folder / "manifest.json").write_text(json.dumps(known | manifest))
    row = {"id": "1", "text": "fine", "gold": "bad", "label": "bad", "source": f"web{ESCAPES}"}
    rows = [row | {"probabilities": {f"good{ESCAPES}": 0.1, "bad": 0.9}}, row]
    rows[1] = rows[0] | {"id": "2", "text": "bad", "gold": f"good{ESCAPES}"}
    lines = (json.dumps(row) + "\n" for row in rows)
    (folder / "predictions.jsonl").write_text("".join(lines))
    return str(folder)


def test_names_and_manifests_of_runs_are_printed_without_escape_sequences() -> None:
    first = write_run(f"mine{ESCAPES}", command=f"x{ESCAPES}", dataset={"dataset": ESCAPES})
    second = write_run("other", status=f"half{ESCAPES}", started=f"now{ESCAPES}")
    third = write_run("third")
    for arguments in (
        ("runs", "list"),
        ("runs", "show", first),
        ("runs", "show", second),
        ("compare", first, third),
        ("vote", first, third, third),
    ):
        output = run(*arguments)
        assert output
        assert not ODD & set(output), arguments


def test_answers_and_errors_of_a_server_are_printed_without_escape_sequences() -> None:
    Path("reviews.csv").write_text("text\nI love it\nI hate it\n")
    for behaviour in ({"text": f"none {ESCAPES}", "enforces": ()}, {"model": f"x{ESCAPES}"}):
        with serving(**behaviour) as server:
            recipe = {
                "kind": "prompt",
                "dataset": {"name": "files", "test": "reviews.csv"},
                "llm": {"backend": "openai", "model": "any", "base_url": server.url},
            }
            Path("mine.yaml").write_text(json.dumps(recipe))
            output = run("prompt", "--recipe", "mine.yaml")
        assert output
        assert not ODD & set(output)


def test_texts_in_shown_prompts_are_printed_without_escape_sequences() -> None:
    Path("reviews.csv").write_text(f"text\nI love it{ESCAPES}\n")
    data = ("--set", "dataset={name: files, test: reviews.csv}")
    output = run("prompt", "--recipe", "b3-gpt-4o-mini-zero-shot", "--show", "1", *data)
    assert "I love it" in output
    assert not ODD & set(output)


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_predict_removes_escape_sequences_on_a_terminal_and_keeps_them_in_a_pipe(
    form: str,
) -> None:
    Path("reviews.csv").write_text(f"text,shop{ESCAPES}\nI love it{ESCAPES},Odense\n")
    text = f"I love it{ESCAPES}"
    answers = write_results(Path("answers.jsonl"), [(text, "positive", "positive")])
    command = [sys.executable, "-m", "sentikit", "predict", answers, "reviews.csv"]
    command += ["--format", form]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"I love it{ESCAPES}" in piped.stdout
    code, shown = on_a_terminal(command, "stdout", stderr=subprocess.DEVNULL)
    assert code == 0
    assert "I love it" in shown
    assert not ODD & set(shown)
