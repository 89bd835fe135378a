"""``sentikit predict`` with classifiers that ask an LLM: money, failures, kills, batches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from llm_fixtures import PRICES, serving
from predict_commands import labelled, predict, recipe_for, write_file
from prompt_commands import texts

from sentikit.labelling.loading import load

LABELS = {"love": "positive", "hate": "negative", "read": "neutral"}


def expected(text: str) -> str:
    return next((label for word, label in LABELS.items() if word in text), "")


def test_a_prompt_recipe_labels_a_file_and_says_what_it_cost() -> None:
    rows = [*texts(9), *texts(3)]
    write_file("in.csv", rows)
    with serving() as s:
        done = predict(recipe_for(s.url), "in.csv", "--output", "out.csv")
        calls = s.server.calls
        billed = sum(s.server.billed.values()) / 1e6
    assert done.exit_code == 0, done.output
    found = labelled("out.csv")
    assert [row["number"] for row in found] == [str(number) for number in range(12)]
    assert [row["predicted_label"] for row in found] == [expected(row) for row in rows]
    assert all(float(row["probability_positive"]) <= 1 for row in found)
    assert {row["error"] for row in found} == {""}
    # Two calls find out what the server can do; the three texts that come twice are asked once.
    assert calls == 2 + 9
    asked_once = sum(float(row["cost"]) for row in found[:9])
    assert 0 < asked_once < billed
    assert found[9]["cost"] == found[0]["cost"]
    assert "about 9 requests for about $" in done.stderr
    assert f"12 of 12 rows answered by an LLM, ${asked_once:.4f} paid." in done.stderr


def test_failed_rows_keep_their_place_and_resume_queries_only_them() -> None:
    rows = texts(12)
    write_file("in.csv", rows)
    with serving(fault_words={"number 3": "400:No.", "number 7": "400:No."}) as s:
        run = [recipe_for(s.url), "in.csv", "--output", "out.csv"]
        failed = predict(*run)
        assert failed.exit_code == 1
        last = failed.stderr.strip().splitlines()[-1]
        assert last.startswith("2 rows have failed and no label (see error).")
        assert last.endswith(
            "Retry them: sentikit predict --output out.csv --resume -- own.yaml in.csv"
        )
        found = labelled("out.csv")
        assert [n for n, row in enumerate(found) if not row["predicted_label"]] == [3, 7]
        assert "No." in found[3]["error"]
        assert [row["number"] for row in found] == [str(number) for number in range(12)]
        s.server.behaviour = type(s.server.behaviour)()
        before = s.server.calls
        done = predict(*run, "--resume")
        assert done.exit_code == 0, done.output
        assert s.server.calls - before == 2
        whole = Path("out.csv").read_bytes()
        assert predict(*run[:-1], "other.csv").exit_code == 0
        assert Path("other.csv").read_bytes() == whole
        finished = predict(*run, "--resume")
    assert finished.exit_code == 2
    assert "There is nothing to resume: out.csv is finished" in finished.stderr


@pytest.mark.parametrize("name", ["out.doc", "out", "out.parquet.gz", "out.json"])
def test_an_output_with_an_ending_that_no_table_has_is_refused(name: str) -> None:
    Path("in.csv").write_text("text\nfine\n")
    done = predict("nowhere", "in.csv", "--output", name)
    assert done.exit_code == 2
    assert f"{name}: " in done.stderr
    named = name.partition(".")[2]
    what = f".{named} files" if named else "a file without an ending"
    assert f"{name}: {what} cannot be written. Use .csv, .tsv or .jsonl" in done.stderr


def test_the_command_that_corrects_shares_says_how_to_read_the_output() -> None:
    Path("answers.csv").write_text("text,gold,label\nfine,positive,positive\n")
    Path("in.csv").write_text("a comment,n\nfine,1\n")
    columns = ["--text-column", "a comment"]
    done = predict("answers.csv", "in.csv", *columns, "--output", "out.doc", "--format", "csv")
    assert done.exit_code == 0, done.output
    assert (
        "sentikit estimate out.doc --input-format csv --text-column 'a comment' --checked "
        "CHECKED.csv" in done.stderr
    )


def test_the_summary_shows_uncorrected_shares_and_how_to_correct_them() -> None:
    write_file("in.csv", [*texts(4), " ", "?!"])
    with serving() as s:
        recipe = recipe_for(s.url)
        done = predict(recipe, "in.csv", "--output", "my labels.csv")
        piped = predict(recipe, "in.csv")
        write_file("empty.csv", [" "])
        nothing = predict(recipe, "empty.csv")
    assert done.exit_code == piped.exit_code == 0, done.output
    message = (
        "5 of 6 rows labelled, 1 of them without words: 20.0% negative, 40.0% neutral, 40.0% "
        "positive (uncorrected).\n"
        "To correct the shares with checked texts: sentikit estimate {} --checked CHECKED.csv\n"
        "1 row has no text and got no label.\n"
    )
    assert message.format("'my labels.csv'") in done.stderr
    assert message.format("LABELLED") in piped.stderr
    assert len(piped.stdout.splitlines()) == 7
    assert nothing.stderr == "0 of 1 rows labelled.\n1 row has no text and got no label.\n"


def test_an_estimate_sends_and_writes_nothing() -> None:
    write_file("in.csv", texts(6))
    recipe = recipe_for("http://127.0.0.1:9/v1")
    done = predict(recipe, "in.csv", "--estimate")
    assert done.exit_code == 0, done.output
    assert "Requests           6 (0 more in the cache)" in done.stdout
    assert not Path("runs").exists()


def test_predict_stopped_by_its_ceiling_resumes_with_a_higher_one() -> None:
    rows = texts(40)
    write_file("in.csv", rows)
    with serving() as s:
        run = [recipe_for(s.url, max_tokens=20), "in.csv", "--output", "out.csv"]
        stopped = predict(*run, "--max-cost", "0.003")
        assert stopped.exit_code == 1
        assert "--max-cost $0.0030 leaves" in stopped.stderr
        assert not Path("out.csv").exists()
        assert sum(s.server.billed.values()) / 1e6 <= 0.003
        calls = s.server.calls
        write_file("in.csv", [*rows, "one more"])
        changed = predict(*run, "--resume")
        assert changed.exit_code == 2
        assert "was started with other settings: input" in changed.stderr
        write_file("in.csv", rows)
        done = predict(*run, "--max-cost", "1", "--resume")
        assert done.exit_code == 0, done.output
        assert calls < s.server.calls == 2 + 40
    assert [row["predicted_label"] for row in labelled("out.csv")] == [expected(r) for r in rows]


def test_batch_and_live_prediction_write_the_same_file() -> None:
    write_file("in.csv", texts(12))
    prices = PRICES | {"tiers": {"batch": 1}}
    with serving() as s:
        recipe = recipe_for(s.url, prices=prices)
        done = predict(recipe, "in.csv", "--output", "batch.csv", "--batch")
        assert done.exit_code == 0, done.output
        assert len(s.server.batches.bodies) == 12
        Path("runs/answers.sqlite").unlink()
        live = predict(recipe, "in.csv", "--output", "live.csv")
        assert live.exit_code == 0, live.output
    assert Path("batch.csv").read_bytes() == Path("live.csv").read_bytes()


def test_parquet_input_gives_parquet_output_and_rows_without_text_are_not_sent() -> None:
    import pyarrow as pa

    rows = [*texts(3), "", None]
    pq.write_table(pa.table({"text": rows, "stars": [1, 2, 3, 4, 5]}), "in.parquet")
    with serving() as s:
        done = predict(recipe_for(s.url), "in.parquet", "--output", "out.parquet")
        assert s.server.calls == 2 + 3
    assert done.exit_code == 0, done.output
    assert "2 rows have no text and got no label." in done.stderr
    found = pq.read_table("out.parquet").to_pylist()
    assert [row["stars"] for row in found] == [1, 2, 3, 4, 5]
    assert [row["predicted_label"] for row in found] == [
        "positive",
        "negative",
        "neutral",
        None,
        None,
    ]


def test_a_pipe_is_answered_while_it_is_still_open() -> None:
    with serving() as s:
        recipe = recipe_for(s.url)
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "sentikit", "predict", recipe],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert process.stdin is not None
        process.stdin.write("I love this one\n")
        process.stdin.flush()
        while s.server.calls < 3 and process.poll() is None:
            time.sleep(0.01)
        written, _ = process.communicate("I hate that one\n")
        rows = [json.loads(line) for line in written.splitlines()]
        assert process.returncode == 0
    assert [row["predicted_label"] for row in rows] == ["positive", "negative"]


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="needs /dev/fd")
def test_a_table_can_be_written_to_a_process_substitution() -> None:
    write_file("in.csv", ["fine"])
    Path("answers.csv").write_text("text,label\nfine,positive\nbad,negative\n")
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream:
        done = predict("answers.csv", "in.csv", "--format", "csv", "--output", f"/dev/fd/{writer}")
        os.close(writer)
        assert done.exit_code == 0, done.output
        assert stream.read().splitlines()[1].startswith("0,fine,positive")


def test_options_that_cannot_apply_are_refused() -> None:
    write_file("in.csv", texts(1))
    recipe = recipe_for("http://127.0.0.1:9/v1")
    for arguments, message in (
        (["in.csv", "--resume"], "--resume needs --output"),
        (["in.csv", "--output", "out.csv", "--resume"], "There is nothing to resume"),
        (["in.csv", "--output", "in.csv"], "in.csv is also read or written by this command"),
    ):
        refused = predict(recipe, *arguments)
        assert refused.exit_code == 2, refused.output
        assert message in refused.stderr
    piped = predict(recipe, "--batch", typed="I love it\n")
    assert "--batch reads the texts several times" in piped.stderr


def test_an_llm_is_a_classifier_in_python_too() -> None:
    with serving() as s:
        classifier = load(recipe_for(s.url))
        predictions = list(classifier.classify(["I love it", " ", "I hate it", "I love it"]))
        assert classifier.predict(["I hate it"]) == ["negative"]
        assert classifier.predict_proba(["I love it"]).argmax() == 2
        # What the server can do and what it answered is kept in runs/answers.sqlite.
        assert s.server.calls == 2 + 2
    assert [one.label for one in predictions] == ["positive", None, "negative", "positive"]
    assert json.loads(str(predictions[0].answer)) == {"label": "positive"}
    assert predictions[0].finish_reason == "stop"
    assert predictions[0].paid == predictions[0].cost == predictions[3].cost
    assert predictions[3].paid == 0


@pytest.mark.slow
def test_predict_killed_at_random_moments_resumes_to_the_same_bytes_without_paying_twice() -> None:
    rows = texts(200)
    write_file("in.csv", rows)
    with serving(seconds=0.05) as s:
        recipe = recipe_for(s.url, in_flight=4)
        run = [recipe, "in.csv", "--output", "out.csv"]
        command = [sys.executable, "-m", "sentikit", "predict", *run]
        kills = 0
        for number in range(3):
            before = s.server.calls
            process = subprocess.Popen(command + (["--resume"] if number else []))
            while s.server.calls < before + 30 and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        assert kills == 3
        while s.server.in_flight:
            time.sleep(0.01)
        done = predict(*run, "--resume")
        assert done.exit_code == 0, done.output
        asked = [body["messages"][-1]["content"] for body in s.server.bodies]
        about = [one for one in asked if "number" in one]
        assert len(about) - len(set(about)) <= 4 * kills
        assert predict(recipe, "in.csv", "--output", "whole.csv").exit_code == 0
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
