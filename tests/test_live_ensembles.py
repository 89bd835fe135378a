"""Live cascades and votes with a real server: only needed requests, once, within a budget."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ensemble_recipes import ROWS, UNSURE, asked_about, text, write_ensembles, write_recipe
from ensemble_runs import LABELS, write_results
from llm_fixtures import serving

from sentikit import read_run
from sentikit.cli import sentikit


def command(*arguments: str) -> Result:
    return CliRunner().invoke(sentikit, arguments)


def manifest(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path, "manifest.json").read_text())
    return found


def predictions(run: str) -> list[dict[str, Any]]:
    lines = Path(run, "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def table(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


class TestCascade:
    def test_a_live_cascade_sends_only_unsure_texts_and_counts_their_cost(self) -> None:
        with serving() as s:
            write_ensembles(s.url)
            done = command("cascade", "--recipe", "cascade.yaml", "--output", "run", "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert asked_about(s) == list(range(UNSURE))
        assert (found["calls"], found["overall"]["macro_f1"]) == (UNSURE, 1.0)
        table = read_run("run")
        assert len(table) == ROWS
        assert (table.answers.labels == table.gold).all()
        billed = sum(s.server.billed.values()) / 1e6
        recorded = manifest("run")
        costs = recorded["cost_usd"]
        assert sum(costs.values()) == pytest.approx(billed)
        assert 0 < costs["llm"] < billed
        # What was paid, the probing of the server included.
        assert recorded["paid_usd"] + costs.get("probing", 0.0) == pytest.approx(billed)
        assert recorded["usage"]["prompt"] > 0

    def test_rows_without_text_are_no_calls_of_a_live_cascade(self) -> None:
        with serving() as s:
            write_ensembles(s.url)
            rows = Path("encoder.jsonl").read_text().splitlines()
            empty = json.loads(rows[0]) | {"text": "", "label": None, "probabilities": None}
            Path("encoder.jsonl").write_text("\n".join([json.dumps(empty), *rows]) + "\n")
            header, *texts = Path("test.csv").read_text().splitlines()
            Path("test.csv").write_text("\n".join([header, ",negative", *texts]) + "\n")
            done = command("cascade", "--recipe", "cascade.yaml", "--output", "run", "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert (found["rows"], found["calls"]) == (ROWS + 1, len(asked_about(s)))

    def test_a_failed_row_of_a_live_cascade_keeps_its_place(self) -> None:
        faults = {"number 7 ": "400:No.", "number 8 ": "say:Hm.", "exactly one word": "say:Hm."}
        with serving(fault_words=faults) as s:
            write_ensembles(s.url)
            done = command("cascade", "--recipe", "cascade.yaml", "--output", "run")
        assert done.exit_code == 0, done.output
        rows = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
        assert [n for n, row in enumerate(rows) if row["label"] is None] == [7, 8]

    def test_resuming_a_live_cascade_queries_only_the_failed_first_member(self) -> None:
        run = ["predict", "cascade.yaml", "test.csv", "--output", "out.csv"]
        with serving(fault_words={"number 7 ": "400:No."}) as failing, serving() as s:
            write_ensembles(s.url)
            last = json.loads(Path("asked.yaml").read_text())
            llm = last["llm"] | {"base_url": failing.url, "model": "first", "temperature": 1}
            write_recipe("first", last | {"llm": llm | {"samples": 2}})
            members = {"members": ["./first.yaml", "./asked.yaml"], "thresholds": [0.9]}
            write_recipe("cascade", {"kind": "cascade", "cascade": members})
            first = command(*run)
            assert first.exit_code == 1
            row = table("out.csv")[7]
            assert (row["predicted_label"], row["answered_by"]) == (LABELS[7 % 3], "asked")
            assert row["error"].startswith("first: ")
            assert asked_about(s) == [7]
            others = asked_about(failing)
            failing.server.behaviour.fault_words.clear()
            done = command(*run, "--resume")
            assert done.exit_code == 0, done.output
            assert asked_about(s) == [7]
            assert asked_about(failing) == sorted([*others, 7, 7])
        row = table("out.csv")[7]
        assert (row["predicted_label"], row["error"]) == (LABELS[7 % 3], "")
        assert row["answered_by"] == "first"

    def test_a_live_cascade_stopped_by_its_ceiling_resumes_with_a_higher_one(self) -> None:
        with serving() as s:
            write_ensembles(s.url)
            run = ["cascade", "--recipe", "cascade.yaml", "--output", "run"]
            stopped = command(*run, "--max-cost", "0.0015")
            assert stopped.exit_code == 1
            assert "--max-cost" in stopped.stderr
            assert sum(s.server.billed.values()) / 1e6 <= 0.0015
            assert 0 < len(asked_about(s)) < UNSURE
            done = command(*run, "--max-cost", "1", "--resume")
        assert done.exit_code == 0, done.output
        assert asked_about(s) == list(range(UNSURE))

    def test_a_live_cascade_reports_an_unreachable_server_and_runs_once_it_is_up(self) -> None:
        write_ensembles("http://127.0.0.1:9/v1")
        done = command("cascade", "--recipe", "cascade.yaml", "--output", "run")
        assert done.exit_code == 1
        assert "cannot be reached" in done.stderr
        with serving() as s:
            write_ensembles(s.url)
            again = command("cascade", "--recipe", "cascade.yaml", "--output", "other")
        assert again.exit_code == 0, again.output

    @pytest.mark.slow
    def test_a_killed_live_cascade_resumes_without_paying_twice(self) -> None:
        arguments = ["cascade", "--recipe", "cascade.yaml", "--output", "run"]
        with serving(seconds=0.2) as s:
            write_ensembles(s.url)
            process = subprocess.Popen(
                [sys.executable, "-m", "sentikit", *arguments],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            while sum(s.server.answered.values()) < 8 and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            while s.server.in_flight:
                time.sleep(0.01)
            before = len(asked_about(s))
            assert 0 < before < UNSURE
            done = command(*arguments, "--resume")
            assert done.exit_code == 0, done.output
            asked = asked_about(s)
            billed = sum(s.server.billed.values()) / 1e6
            # A call in flight at the kill counts at its worst case, as it may have been answered.
            spent = manifest("run")["spent_usd"]
            assert billed - 1e-12 <= spent <= billed + 4 * 0.0032
            assert command(*arguments[:-1], "whole").exit_code == 0
            shown = command("runs", "show", "run").stdout
        assert f"spent usd      {spent:.9f}".rstrip("0") in shown
        assert sorted(set(asked)) == list(range(UNSURE))
        # In flight at the kill were four calls at most.
        assert len(asked) - UNSURE <= 4
        for name in ("predictions.jsonl", "metrics.json"):
            assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()


class TestVote:
    def write(self, url: str) -> None:
        write_ensembles(url)
        answers = [(text(n), LABELS[n % 3], "neutral") for n in range(ROWS)]
        write_results(Path("neutral.jsonl"), answers)
        Path("asked.yaml").rename("own.yaml")
        members = ["./encoder.jsonl", "own.yaml", "./neutral.jsonl"]
        write_recipe("vote", {"kind": "vote", "vote": {"members": members}})

    def test_a_live_vote_queries_a_member_without_a_run_once(self) -> None:
        with serving() as s:
            self.write(s.url)
            run = ["vote", "--recipe", "vote.yaml", "--json", "--output"]
            first = command(*run, "one")
            calls = s.server.calls
            second = command(*run, "two")
        assert first.exit_code == 0, first.output
        assert asked_about(s) == list(range(ROWS))
        assert s.server.calls == calls
        assert json.loads(second.stdout)["overall"] == json.loads(first.stdout)["overall"]
        # What the answers cost is the same; the second vote paid for none.
        assert manifest("one")["cost_usd"]["llm"] == manifest("two")["cost_usd"]["llm"]
        assert manifest("two")["paid_usd"] == 0
        assert 1e6 * sum(manifest("one")["cost_usd"].values()) == pytest.approx(
            sum(s.server.billed.values())
        )
        assert [manifest(name)["status"] for name in ("one", "two")] == ["finished"] * 2

    def test_a_live_vote_stopped_by_its_ceiling_resumes_with_a_higher_one(self) -> None:
        with serving() as s:
            self.write(s.url)
            run = ["vote", "--recipe", "vote.yaml", "--output", "one"]
            assert command(*run, "--max-cost", "0.002").exit_code == 1
            unfinished = command(*run)
            assert unfinished.exit_code == 2
            assert "--resume" in unfinished.stderr
            assert manifest("one")["status"] == "failed"
            assert not Path("one/vote.json").exists()
            done = command(*run, "--max-cost", "1", "--resume")
        assert done.exit_code == 0, done.output
        assert asked_about(s) == list(range(ROWS))

    def test_resuming_a_finished_live_vote_queries_only_failed_rows(self) -> None:
        run = ["vote", "--recipe", "vote.yaml", "--output", "one"]
        with serving(fault_words={"number 7 ": "400:No."}) as s:
            self.write(s.url)
            own = json.loads(Path("own.yaml").read_text())
            write_recipe("other", own | {"strategy": {"name": "minimal"}})
            members = ["own.yaml", "./other.yaml"]
            write_recipe("vote", {"kind": "vote", "vote": {"members": members}})
            assert command(*run).exit_code == 0
            before = asked_about(s)
            assert (manifest("one")["status"], manifest("one")["failed"]) == ("finished", 1)
            s.server.behaviour.fault_words.clear()
            done = command(*run, "--resume")
            assert done.exit_code == 0, done.output
            assert asked_about(s) == sorted([*before, 7, 7])
        assert manifest("one")["failed"] == 0
        refused = command(*run, "--resume")
        assert refused.exit_code == 2
        assert "nothing to resume" in refused.stderr

    def test_resuming_a_live_vote_queries_only_the_failed_member_and_pays_nothing_twice(
        self,
    ) -> None:
        run = ["vote", "--recipe", "vote.yaml", "--output", "one"]
        with serving(fault_words={"number 7 ": "400:No."}) as failing, serving() as s:
            self.write(s.url)
            own = json.loads(Path("own.yaml").read_text())
            llm = own["llm"] | {"base_url": failing.url, "model": "other"}
            write_recipe("other", own | {"llm": llm})
            members = ["own.yaml", "./other.yaml", "./encoder.jsonl"]
            write_recipe("vote", {"kind": "vote", "vote": {"members": members}})
            first = command(*run)
            assert first.exit_code == 0, first.output
            row = predictions("one")[7]
            # The others' label stands, and what they cost is counted.
            assert row["label"] is not None
            assert row["votes"][1] is None
            assert row["error"].startswith("other: ")
            assert row["cost"] > 0
            before = manifest("one")
            assert (before["status"], before["failed"], before["invalid"]) == ("finished", 1, 0)
            calls, others = s.server.calls, asked_about(failing)
            billed = sum(s.server.billed.values())
            failing.server.behaviour.fault_words.clear()
            done = command(*run, "--resume")
            assert done.exit_code == 0, done.output
            assert (s.server.calls, sum(s.server.billed.values())) == (calls, billed)
            assert asked_about(failing) == sorted([*others, 7])
        row = predictions("one")[7]
        assert "error" not in row
        assert None not in row["votes"]
        assert manifest("one")["failed"] == 0

    def test_predict_with_a_vote_keeps_the_other_members_label_and_resumes_the_failed_one(
        self,
    ) -> None:
        run = ["predict", "vote.yaml", "test.csv", "--output", "out.csv"]
        with serving(fault_words={"number 7 ": "400:No."}) as failing, serving() as s:
            self.write(s.url)
            own = json.loads(Path("own.yaml").read_text())
            llm = own["llm"] | {"base_url": failing.url, "model": "other"}
            write_recipe("other", own | {"llm": llm})
            write_recipe("vote", {"kind": "vote", "vote": {"members": ["own.yaml", "other.yaml"]}})
            first = command(*run)
            assert first.exit_code == 1
            assert "1 row has failed, 0 without a label (see error)." in first.stderr
            row = table("out.csv")[7]
            assert row["predicted_label"]
            assert row["error"].startswith("other: ")
            calls, others = s.server.calls, asked_about(failing)
            failing.server.behaviour.fault_words.clear()
            done = command(*run, "--resume")
            assert done.exit_code == 0, done.output
            assert s.server.calls == calls
            assert asked_about(failing) == sorted([*others, 7])
        assert not any(row["error"] for row in table("out.csv"))

    def test_an_existing_output_is_reported_before_any_query(self) -> None:
        Path("taken").mkdir()
        Path("taken/notes.txt").write_text("mine")
        with serving() as s:
            self.write(s.url)
            refused = command("vote", "--recipe", "vote.yaml", "--output", "taken")
        assert refused.exit_code == 2
        assert "already holds other files" in refused.stderr
        assert not s.server.calls

    def test_an_unusable_member_is_reported_before_any_query(self) -> None:
        with serving() as s:
            self.write(s.url)
            members = ["own.yaml", "electra-large", "./neutral.jsonl"]
            write_recipe("vote", {"kind": "vote", "vote": {"members": members}})
            refused = command("vote", "--recipe", "vote.yaml")
        assert refused.exit_code == 2
        assert "sentikit train --recipe electra-large" in refused.stderr
        assert s.server.calls == 0


def test_votes_and_cascades_report_when_a_recorded_members_model_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("models.yaml").write_text(
        "as_of: 2026-11-01\nmodels:\n  old-one: {prompt: 1, completion: 1, ends: 2020-01-01}\n"
    )
    monkeypatch.setenv("SENTIKIT_MODELS", "models.yaml")
    with serving() as s:
        write_ensembles(s.url)
        recipe = json.loads(Path("asked.yaml").read_text())
        recipe["llm"] |= {"model": "old-one"}
        write_recipe("old", recipe)
        asked = command("prompt", "--recipe", "old.yaml", "--output", "runs/old")
        assert asked.exit_code == 0, asked.output
        write_results(
            Path("neutral.jsonl"), [(text(n), LABELS[n % 3], "neutral") for n in range(ROWS)]
        )
        Path("asked.yaml").rename("own.yaml")
        members = ["runs/old", "./encoder.jsonl", "own.yaml"]
        write_recipe("vote", {"kind": "vote", "vote": {"members": members}})
        for words in (
            ["vote", "--recipe", "vote.yaml", "--output", "runs/vote"],
            ["vote", "runs/old", "encoder.jsonl", "neutral.jsonl"],
            ["cascade", "encoder.jsonl", "runs/old", "--threshold", "0.7"],
        ):
            result = command(*words)
            assert result.exit_code == 0, result.output
            assert "old-one was switched off on 2020-01-01." in result.stderr
