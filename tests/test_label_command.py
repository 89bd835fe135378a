"""`label`, `estimate` and `monitor`, from a pile and a checked file to exit codes."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as csv_tables
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from ensemble_runs import sure, write_results
from sentikit.plugins.checked_labels.annotation import Annotation
from sentikit.plugins.checked_labels.certification import describe_need, describe_task
from sentikit.plugins.checked_labels.checked import Check, read_checked, write_draw
from sentikit.plugins.checked_labels.checked_files import append_answer
from sentikit.plugins.checked_labels.draws import DrawOptions, drawn_items
from sentikit.plugins.checked_labels.pile_job import PileJob
from several_processes import as_an_ordinary_user

from sentikit import InputError, read_run
from sentikit.cli import sentikit
from sentikit.datasets.tables import InputFile
from sentikit.runs.recorded import RecordedClassifier

LABELS = ("negative", "neutral", "positive")
ROWS = 1200


class Pile:
    """A made-up pile with gold labels, an encoder's and an LLM's recorded answers."""

    def __init__(self, folder: Path) -> None:
        random = np.random.default_rng(0)
        self.folder, self.path = folder, folder / "pile.csv"
        self.texts = [f'review {n}, "quoted"' for n in range(ROWS)]
        self.gold = random.choice(LABELS, ROWS, p=[0.5, 0.2, 0.3]).tolist()
        certainty = 0.4 + 0.6 * random.random(ROWS)
        wrong = random.random(ROWS) < 1.3 * (1 - certainty) ** 2
        predicted = [_other(g) if w else g for g, w in zip(self.gold, wrong, strict=True)]
        self.predicted = predicted
        rows = list(zip(self.texts, self.gold, predicted, strict=True))
        shares = [sure(label, float(c)) for label, c in zip(predicted, certainty, strict=True)]
        self.encoder = write_results(folder / "encoder.jsonl", rows, shares)
        off = random.random(ROWS) < 0.15
        llm = [_other(g) if w else g for g, w in zip(self.gold, off, strict=True)]
        self.llm = write_results(
            folder / "llm.jsonl", list(zip(self.texts, self.gold, llm, strict=True)), None
        )
        with self.path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["id", "review", "month"])
            for n, text in enumerate(self.texts):
                writer.writerow([n, text, f"2026-{1 + n % 3:02d}"])

    def check(self, name: str = "checked.csv", size: int = 300, seed: int = 0, **draw: Any) -> Path:
        """Draw texts and give each its gold label."""
        output = self.folder / name
        source = InputFile(str(draw.pop("file", self.path)))
        drawn = drawn_items(source, output, DrawOptions(size, seed, **draw))
        annotation = Annotation(drawn.items, output, LABELS, "Ada", repeats=0, record=drawn.record)
        for item in drawn.items:
            annotation.answer(item.row, False, self.gold[item.row], "checked", "", False)
        return output


@pytest.fixture
def pile(tmp_path: Path) -> Pile:
    return Pile(tmp_path)


@pytest.fixture
def run() -> Callable[..., Result]:
    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(sentikit, [str(a) for a in arguments], catch_exceptions=True)

    return invoke


def _other(label: str) -> str:
    return LABELS[(LABELS.index(label) + 1) % 3]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def failure(result: Result) -> str:
    assert result.exit_code == 2, result.output
    return result.stderr.removeprefix("Error: ").strip()


class TestLabel:
    def test_certified_rows_meet_the_target_and_all_files_agree(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        output, queue = tmp_path / "labelled.csv", tmp_path / "queue.csv"
        result = run(
            "label", pile.path, "--with", pile.encoder, "--checked", pile.check(),
            "--accuracy", 0.9, "--output", output, "--review-queue", queue,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        record = json.loads(output.with_suffix(".certificate.json").read_text())
        rows = rows_of(output)
        accepted = [n for n, row in enumerate(rows) if row["status"] == "certified"]
        wrong = sum(rows[n]["predicted_label"] != pile.gold[n] for n in accepted)
        assert [row["review"] for row in rows] == pile.texts
        assert len(accepted) == record["accepted"] == round(record["share"] * ROWS) > 0.4 * ROWS
        assert wrong <= 0.1 * len(accepted)
        assert min(float(rows[n]["confidence"]) for n in accepted) >= record["threshold"] - 1e-6
        waiting = rows_of(queue)
        assert len(waiting) == ROWS - len(accepted)
        confidences = [float(row["confidence"]) for row in waiting]
        assert confidences == sorted(confidences)
        assert record["sentence"] in result.output
        errs = record["share_if_the_checker_errs"]
        assert record["share"] >= errs["0.01"] >= errs["0.03"] >= errs["0.05"]
        assert record["pile"]["rows"] == ROWS
        assert record["assumes"]

    def test_without_checks_every_row_is_queued_and_the_next_command_named(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        output = tmp_path / "labelled.jsonl"
        result = run("label", pile.path, "--with", pile.encoder, "--output", output)
        assert result.exit_code == 0, result.output
        assert "Nothing is certified" in result.output
        assert f"sentikit annotate {pile.path} --size 300" in result.output
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert {row["status"] for row in rows} == {"review"}
        assert not output.with_suffix(".certificate.json").exists()

    @pytest.mark.parametrize("command", ["label", "predict"])
    def test_rewriting_a_table_removes_its_old_certificate(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path, command: str
    ) -> None:
        output, certificate = tmp_path / "labelled.csv", tmp_path / "labelled.certificate.json"
        words = ["label", pile.path, "--with", pile.encoder, "--output", output]
        assert run(*words, "--checked", pile.check()).exit_code == 0
        assert certificate.exists()
        again = ["predict", pile.encoder, pile.path, "--output", output]
        assert run(*(words if command == "label" else again)).exit_code == 0
        assert not certificate.exists()

    def test_members_combine_and_certify_more(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        shares = []
        for number, members in enumerate(([pile.encoder], [pile.encoder, pile.llm])):
            output = tmp_path / f"labelled{number}.csv"
            named = [part for member in members for part in ("--with", member)]
            checked = pile.check(f"checked{number}.csv")
            result = run("label", pile.path, *named, "--checked", checked, "--output", output)
            assert result.exit_code == 0, result.output
            shares.append(json.loads(output.with_suffix(".certificate.json").read_text()))
        assert shares[1]["share"] > shares[0]["share"]
        assert shares[1]["combination"].startswith("product of probabilities")
        assert len(shares[1]["classifiers"]) == 2

    def test_a_combination_fitted_on_other_labels_is_named_and_none_of_them_certifies(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        checked, output = pile.check(), tmp_path / "labelled.csv"
        certifying = {c.text for c in read_checked(checked).answers}
        others = [n for n, text in enumerate(pile.texts) if text not in certifying][:400]
        fit = tmp_path / "other.csv"
        with fit.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text", "label"])
            writer.writerows([pile.texts[n], pile.gold[n].title()] for n in others)
        words = ["label", pile.path, "--with", pile.encoder, "--with", pile.llm, "--looks", 2]
        words += ["--checked", checked, "--output", output, "--json"]
        fitted = json.loads(run(*words, "--fit", fit).stdout)
        product = json.loads(run(*words).stdout)
        assert "fitted on the 400 labels of" in fitted["combination"]
        assert str(fit) in fitted["combination"]
        assert fitted["classifier"] != product["classifier"]  # another combination, another look
        assert fitted["share"] > 0.5
        rows = rows_of(output)
        accepted = [n for n, row in enumerate(rows) if row["status"] == "certified"]
        wrong = sum(rows[n]["predicted_label"] != pile.gold[n] for n in accepted)
        assert wrong <= 0.1 * len(accepted)

    def test_checks_that_certify_cannot_also_fit_the_combination(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        checked, output = pile.check(), tmp_path / "labelled.csv"
        words = ["label", pile.path, "--with", pile.encoder, "--checked", checked]
        words += ["--output", output, "--fit", checked]
        assert "give --with at least twice" in failure(run(*words))
        message = failure(run(*words, "--with", pile.llm))
        assert f"300 texts of --fit {checked} are in {checked} too" in message
        assert not output.exists()

    def test_the_plan_forecasts_the_share_that_checks_then_certify(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        right = np.mean([r == g for r, g in zip(pile.predicted, pile.gold, strict=True)])
        words = ["label", pile.path, "--with", pile.encoder]
        planned = run(*words, "--plan", "--guessed-accuracy", f"{right:.3f}", "--json")
        (forecast,) = (r for r in json.loads(planned.stdout)["plan"] if r["checks"] == 300)
        reached = []
        for seed in range(4):
            checked = pile.check(f"c{seed}.csv", 300, seed)
            done = run(*words, "--checked", checked, "--output", tmp_path / "o.csv", "--json")
            reached.append(json.loads(done.stdout)["share"])
        assert forecast["0.9"] == pytest.approx(np.mean(reached), abs=0.12)

    def test_label_forecasts_the_needed_checks_before_it_labels_the_pile(
        self,
        pile: Pile,
        run: Callable[..., Result],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked: list[int] = []
        ask = PileJob.ask

        def counted(job: PileJob, name: str, only: Any = None) -> Any:
            asked.append(ROWS if only is None else len(only))
            return ask(job, name, only)

        def stop(*_: object) -> str:
            raise KeyboardInterrupt

        words = ["label", pile.path, "--with", pile.encoder, "--accuracy", 0.95]
        words += ["--checked", pile.check(), "--output", tmp_path / "o.csv"]
        with monkeypatch.context() as patched:
            patched.setattr(PileJob, "ask", counted)
            patched.setattr("sentikit.plugins.checked_labels.certification.plan", stop)
            assert run(*words).exit_code == 130
        assert asked == [300]
        (line,) = (one for one in run(*words).stderr.splitlines() if "Forecast" in one)
        shares = [int(share) for share in re.findall(r"checks (\d+)%", line)]
        assert re.findall(r"([\d,]+) checks", line) == ["300", "500", "1,000"]
        assert shares == sorted(shares)
        assert shares[0] < shares[2]

    def test_more_checks_are_forecast_only_if_they_are_clearly_more(self) -> None:
        confidence, right = np.linspace(0.4, 1, 299), np.arange(299) % 4 > 0
        forecast = describe_need(confidence, right, 2000, 0.7, 0.9)
        assert re.findall(r"([\d,]+) checks", forecast) == ["299", "500", "1,000"]

    def test_a_certificate_of_nothing_says_what_to_do(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        words = ["label", pile.path, "--with", pile.encoder, "--checked", pile.check()]
        goal = ("--accuracy", 0.999, "--level", 0.999)
        result = run(*words, *goal, "--output", tmp_path / "o.csv")
        assert "is certified at accuracy 0.999 and level 99.9% with" in result.stdout
        assert "Use a better classifier, add one with --with, check more" in result.stdout

    def test_a_plan_needs_no_checks_and_grows_with_them(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        result = run("label", pile.path, "--with", pile.encoder, "--plan", "--json")
        planned = json.loads(result.stdout)["plan"]
        assert [row["checks"] for row in planned] == [50, 100, 200, 300, 500, 1000]
        shares = [row["0.9"] for row in planned]
        assert shares[0] < shares[3] <= shares[-1]

    def test_agreement_queries_the_llm_only_about_the_sample_and_uncertified_rows(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        output = tmp_path / "agreed.csv"
        result = run(
            "label", pile.path, "--with", pile.encoder, "--agree-with", pile.llm,
            "--agreement", 0.85, "--output", output, "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        record = json.loads(result.stdout)
        rows = rows_of(output)
        kept = sum(row["status"] == "kept" for row in rows)
        assert kept == record["savings"]["rows_kept"] == round(record["share"] * ROWS) > 0
        assert record["savings"]["rows_asked"] == ROWS - kept
        alone = RecordedClassifier(read_run(pile.llm)).predict(pile.texts)
        same = [row["predicted_label"] == label for row, label in zip(rows, alone, strict=True)]
        assert np.mean(same) >= 0.85
        assert all(s for s, row in zip(same, rows, strict=True) if row["status"] == "asked")


class TestLooks:
    def look(self, pile: Pile, run: Callable[..., Result], checked: Path, *more: object) -> Result:
        output = pile.folder / "out.csv"
        return run(
            "label", pile.path, "--with", pile.encoder, "--checked", checked, "--output", output,
            *more,
        )  # fmt: skip

    def test_a_second_look_with_another_target_is_refused(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        checked = pile.check()
        assert self.look(pile, run, checked).exit_code == 0
        message = failure(self.look(pile, run, checked, "--accuracy", 0.85))
        assert "has had its 1 declared look" in message
        assert "--looks K" in message

    def test_only_one_of_two_concurrent_runs_with_different_targets_gets_a_look(
        self, pile: Pile
    ) -> None:
        checked = pile.check()
        one, other = read_checked(checked), read_checked(checked)
        one.record_look({"target": 0.9}, 1)
        with pytest.raises(InputError, match="has had its 1 declared look"):
            other.record_look({"target": 0.85}, 1)
        assert [look["target"] for look in read_checked(one.path).looks] == [0.9]

    def test_repeating_a_look_is_not_a_new_look(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        checked = pile.check()
        first, second = (self.look(pile, run, checked, "--json") for _ in range(2))
        assert json.loads(first.stdout)["share"] == json.loads(second.stdout)["share"]
        assert len(read_checked(checked).looks) == 1

    def test_declared_looks_are_recorded_and_share_the_risk(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        checked = pile.check()
        shares = []
        for target in (0.9, 0.85, 0.8):
            result = self.look(pile, run, checked, "--looks", 3, "--accuracy", target, "--json")
            assert result.exit_code == 0, result.output
            shares.append(json.loads(result.stdout))
        assert [record["looks"] for record in shares] == [3, 3, 3]
        failure(self.look(pile, run, checked, "--looks", 3, "--accuracy", 0.7))
        assert [look["target"] for look in read_checked(checked).looks] == [0.9, 0.85, 0.8]

    def test_labels_that_are_exactly_as_accurate_as_the_target_need_no_row_left_out(self) -> None:
        truth = np.array([0, 0, 0, 0, 1])
        line = describe_task(np.zeros(5, np.int16), truth, 0.8)
        assert line.endswith("(20.0%). That meets accuracy 0.8 without leaving out any row.")

    def test_a_look_interrupted_after_output_counts(
        self, pile: Pile, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: object) -> str:
            raise KeyboardInterrupt

        checked = pile.check()
        with monkeypatch.context() as patched:
            patched.setattr("sentikit.plugins.checked_labels.certification.describe_task", stop)
            assert self.look(pile, run, checked).exit_code == 130
        message = failure(self.look(pile, run, checked, "--accuracy", 0.85))
        assert "has had its 1 declared look" in message
        assert self.look(pile, run, checked).exit_code == 0
        assert len(read_checked(checked).looks) == 1

    def test_a_plan_does_not_count_as_a_look(self, pile: Pile, run: Callable[..., Result]) -> None:
        checked = pile.check()
        message = failure(self.look(pile, run, checked, "--plan"))
        assert message == "--plan does not read checks. Leave --checked out."
        assert not read_checked(checked).looks

    def test_looks_cannot_be_declared_afterwards(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        checked = pile.check()
        assert self.look(pile, run, checked).exit_code == 0
        message = failure(self.look(pile, run, checked, "--looks", 2, "--accuracy", 0.85))
        assert "cannot change afterwards" in message


class TestBadInput:
    def label(self, pile: Pile, run: Callable[..., Result], checked: Path) -> str:
        output = pile.folder / "out.csv"
        result = run(
            "label", pile.path, "--with", pile.encoder, "--checked", checked, "--output", output
        )
        message = failure(result)
        assert not output.exists()
        assert "\n" not in message
        return message

    def test_checked_texts_of_another_pile_are_refused(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        checked = pile.folder / "c.csv"
        lines = [f"elsewhere {n},positive" for n in range(40)]
        checked.write_text("text,label\n" + "\n".join(lines))
        assert "40 of 40 checked texts are not in" in self.label(pile, run, checked)

    def test_a_text_checked_twice_with_different_labels_is_refused(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        checked = pile.folder / "c.csv"
        checked.write_text("text,label\nsame,positive\nsame,negative\n")
        assert "is labelled positive and negative" in self.label(pile, run, checked)

    def test_disagreeing_annotators_are_refused_until_decided(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        checked = pile.check()
        other = next(c for c in read_checked(checked).answers)
        append_answer(checked, Check(other.text, _other(str(other.label)), row=other.row,
                                     annotator="Bob", inclusion=other.inclusion))  # fmt: skip
        message = self.label(pile, run, checked)
        assert "1 such conflict is open" in message
        assert "--decide" in message

    def test_too_few_checks_are_reported(self, pile: Pile, run: Callable[..., Result]) -> None:
        message = self.label(pile, run, pile.check(size=29))
        assert "holds 29 checks; a certificate needs at least 30" in message

    def test_a_non_uniform_draw_cannot_certify(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        labelled = tmp_path / "labelled.csv"
        run("label", pile.path, "--with", pile.encoder, "--output", labelled)
        checked = pile.check(labelled=labelled)
        assert "was not drawn uniformly (stratified)" in self.label(pile, run, checked)
        result = run("estimate", labelled, "--checked", checked, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)["accuracy"]
        truth = np.mean(
            [
                row["predicted_label"] == g
                for row, g in zip(rows_of(labelled), pile.gold, strict=True)
            ]
        )
        assert found["low"] <= truth <= found["high"]

    def test_answers_about_rows_that_were_not_drawn_are_refused(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        checked = pile.check()
        drawn = {c.row for c in read_checked(checked).answers}
        row = next(n for n in range(ROWS) if n not in drawn)
        append_answer(checked, Check(pile.texts[row], pile.gold[row], row=row))
        message = self.label(pile, run, checked)
        assert f"1 answers about rows that were not drawn, such as row {row} (" in message

    def test_a_pile_that_changed_after_the_draw_is_refused(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        checked = pile.check()
        with pile.path.open("a", encoding="utf-8") as stream:
            stream.write("new,a new review,2026-04\n")
        assert "has changed since" in self.label(pile, run, checked)

    @pytest.mark.posix
    def test_a_checked_file_whose_looks_cannot_be_recorded_is_refused_before_labelling(
        self, pile: Pile
    ) -> None:
        checked = pile.check()
        words = ["label", pile.path, "--with", pile.encoder, "--checked", checked]
        words += ["--output", pile.folder / "out" / "o.csv"]
        (pile.folder / "out").mkdir()
        pile.folder.chmod(0o555)
        try:
            result = subprocess.run(
                [*as_an_ordinary_user(), sys.executable, "-m", "sentikit", *map(str, words)],
                capture_output=True,
                text=True,
            )
        finally:
            pile.folder.chmod(0o755)
        assert result.returncode == 2
        assert f"--checked {checked} records each look beside it. " in result.stderr
        assert f"{pile.folder} is not writable (Permission denied)" in result.stderr
        assert "On 300 checked texts" not in result.stderr

    def test_a_checked_label_outside_the_classes_is_refused(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        checked = pile.folder / "c.csv"
        quoted = [t.replace('"', '""') for t in pile.texts[:40]]
        lines = [f'{n},"{t}",positve' for n, t in enumerate(quoted)]
        checked.write_text("id,text,label\n" + "\n".join(lines))
        assert "Did you mean 'positive'?" in self.label(pile, run, checked)

    def test_all_right_checks_certify_and_all_wrong_checks_certify_nothing(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        for right, share in ((True, 1.0), (False, 0.0)):
            checked = pile.folder / f"c{right}.csv"
            classifier = RecordedClassifier(read_run(pile.encoder))
            answers = classifier.predict(pile.texts[:100])
            for n, label in enumerate(answers):
                given = label if right else _other(str(label))
                append_answer(checked, Check(pile.texts[n], given, row=n, inclusion=100 / ROWS))
            write_draw(checked, {"design": "uniform"})
            output = pile.folder / f"o{right}.csv"
            result = run(
                "label", pile.path, "--with", pile.encoder, "--checked", checked,
                "--output", output, "--json",
            )  # fmt: skip
            assert result.exit_code == 0, result.output
            assert json.loads(result.stdout)["share"] == share

    def test_a_text_missing_from_a_recorded_member_is_named(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        with pile.path.open("a", encoding="utf-8") as stream:
            stream.write("x,a new review,2026-04\n")
        output = tmp_path / "o.csv"
        message = failure(run("label", pile.path, "--with", pile.encoder, "--output", output))
        assert "has no row for the text 'a new review'" in message
        assert "for new ones, give the model or the recipe" in message
        assert not output.exists()

    def test_inputs_of_label_are_never_overwritten(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        checked, output = pile.check(), tmp_path / "o.csv"
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        words = ["label", pile.path, "--with", pile.encoder, "--checked", checked]
        for more in (
            ["--output", checked],
            ["--output", pile.encoder],
            ["--output", output, "--review-queue", pile.path],
            ["--output", output, "--review-queue", tmp_path / "x/../o.csv"],
            ["--output", output, "--certificate", checked],
            ["--output", output, "--certificate", f"{checked}.json"],
        ):
            message = failure(run(*words, *more))
            assert message.endswith("is also read or written by this command. Choose another name.")
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_the_table_of_label_and_estimate_may_be_a_query_and_is_named_by_it(
        self, pile: Pile, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(pile.folder)
        shown = "'pile.csv'"
        query = f"select id, '<p>' || review || '</p>' as review from {shown} order by id::int"
        words = ["--sql", query, "--strip-markup"]
        annotate = ["annotate", *words, "--output", "c.csv", "--size", "40", "--terminal"]
        done = CliRunner().invoke(sentikit, annotate, input="1q")
        assert done.exit_code == 0, done.output
        assert rows_of(Path("c.csv"))[0]["text"] in pile.texts
        checked = pile.check()
        done = run(
            "label", *words, "--with", pile.encoder, "--checked", checked, "--output", "l.csv"
        )
        assert done.exit_code == 0, done.output
        labelled = rows_of(Path("l.csv"))
        assert [row["review"] for row in labelled] == [f"<p>{text}</p>" for text in pile.texts]
        assert "rows of --sql 'select id" in done.stdout
        from_file = run("estimate", "l.csv", "--strip-markup", "--checked", checked, "--json")
        query = "select * from 'l.csv' order by id"
        from_query = run(
            "estimate", "--sql", query, "--strip-markup", "--checked", checked, "--json"
        )
        assert from_query.exit_code == 0, from_query.output
        assert json.loads(from_query.stdout) == json.loads(from_file.stdout)
        twice = "select * from 'l.csv' union all (select * from 'l.csv' limit 1) order by all"
        more = run("estimate", "--sql", twice, "--strip-markup", "--checked", checked)
        assert "was drawn from 1,200 rows, but --sql 'select * from" in more.stderr
        drawn = run("sample", "--sql", query, "--size", 7, "--output", "s.csv")
        assert drawn.exit_code == 0, drawn.output
        assert len(rows_of(Path("s.csv"))) == 7

    @pytest.mark.parametrize("command", ["label", "annotate"])
    def test_a_query_that_gives_another_order_each_time_is_refused(
        self,
        pile: Pile,
        run: Callable[..., Result],
        monkeypatch: pytest.MonkeyPatch,
        command: str,
    ) -> None:
        monkeypatch.chdir(pile.folder)
        words = ["--sql", "select * from 'pile.csv' order by random()", "--output", "o.csv"]
        words += ["--with", str(pile.encoder)] if command == "label" else ["--terminal"]
        message = failure(run(command, *words))
        assert "had other rows, or another order, when it was read again" in message
        assert message.endswith("unique column, or save its rows in a file.")
        assert not Path("o.csv").exists()

    def test_a_pile_that_is_written_to_while_it_is_labelled_is_refused(
        self, pile: Pile, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ask = PileJob.ask

        def append(*given: Any) -> Any:
            answers = ask(*given)
            with pile.path.open("a") as stream:
                stream.write("1200,review 0,2026-01\n")
            return answers

        monkeypatch.setattr(PileJob, "ask", append)
        output = pile.folder / "o.csv"
        message = failure(run("label", pile.path, "--with", pile.encoder, "--output", output))
        assert message.endswith("when it was read again. Start again when nothing writes to it.")
        assert not output.exists()

    @pytest.mark.parametrize("command", ["label --with x", "annotate", "estimate --checked c.csv"])
    def test_commands_that_read_a_table_twice_need_a_file_or_a_query(
        self, run: Callable[..., Result], command: str
    ) -> None:
        output = [] if command.startswith("estimate") else ["--output", "o.csv"]
        message = failure(run(*command.split(), *output))
        assert message == (
            "Name the file with the texts, or give --sql. A pipe can be read only once."
        )

    @pytest.mark.parametrize("column", ["status", "confidence", "predicted_label", "row"])
    def test_an_unwritable_output_of_label_is_reported_first(
        self, pile: Pile, run: Callable[..., Result], column: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sentikit.plugins.checked_labels.pile_job.PileJob.ask", None)
        rows = rows_of(pile.path)
        with pile.path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*rows[0], column])
            writer.writeheader()
            writer.writerows(rows)
        words = ["label", pile.path, "--with", pile.encoder, "--output", pile.folder / "o.csv"]
        message = failure(run(*words, "--review-queue", pile.folder / "q.csv"))
        assert f"already has a column {column!r}" in message
        message = failure(run(*words, "--review-queue", pile.folder / "q.xlsx"))
        assert f"{pile.folder / 'q.xlsx'}: .xlsx files cannot be written" in message
        assert "--output" not in message

    def test_repeated_texts_in_the_pile_are_reported(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        with pile.path.open("a", encoding="utf-8") as stream:
            stream.write('x,"review 0, ""quoted""",2026-04\n')
        result = run("label", pile.path, "--with", pile.encoder, "--output", tmp_path / "o.csv")
        assert "1 of 1,201 rows repeat an earlier text." in result.output


class TestEstimateAndMonitor:
    @pytest.fixture
    def labelled(self, pile: Pile, run: Callable[..., Result]) -> Path:
        output = pile.folder / "labelled.csv"
        result = run(
            "label", pile.path, "--with", pile.encoder, "--checked", pile.check(),
            "--output", output,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        return output

    def test_shares_by_month_cover_the_truth_beside_uncorrected_shares(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        found = run(
            "estimate", labelled, "--checked", pile.folder / "checked.csv", "--by", "month",
            "--json",
        )  # fmt: skip
        record = json.loads(found.stdout)
        held = []
        for one in record["by"]["month"]:
            own = [g for n, g in enumerate(pile.gold) if f"2026-{1 + n % 3:02d}" == one["group"]]
            held.append(one["low"] <= own.count(one["name"]) / len(own) <= one["high"])
        assert len(held) == 9
        assert sum(held) >= 8
        assert all(one["raw"] is not None for one in record["shares"])
        assert len(record["differences"]) == 9
        assert all(d["p_holm"] >= d["p"] for d in record["differences"])

    def test_estimating_a_table_from_which_the_checks_were_not_drawn_prints_a_note(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        checked = pile.folder / "checked.csv"
        assert "was drawn from" not in run("estimate", labelled, "--checked", checked).stderr
        more = pile.folder / "more.csv"
        last = labelled.read_text(encoding="utf-8").splitlines()[-1]
        more.write_text(f"{labelled.read_text(encoding='utf-8')}{last}\n", encoding="utf-8")
        result = run("estimate", more, "--checked", checked)
        assert result.exit_code == 0, result.output
        assert f"{checked} was drawn from 1,200 rows, but {more} has 1,201" in result.stderr

    def test_the_working_folder_with_parquet_files_is_estimated_as_one_table(
        self,
        pile: Pile,
        run: Callable[..., Result],
        labelled: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        parts = pile.folder / "parts"
        parts.mkdir()
        pq.write_table(csv_tables.read_csv(labelled), parts / "part-0.parquet")
        checked = pile.folder / "checked.csv"
        from_file = run("estimate", labelled, "--checked", checked, "--json")
        monkeypatch.chdir(parts)
        found = run("estimate", ".", "--checked", checked, "--json")
        assert found.exit_code == 0, found.output
        words = ["annotate", ".", "--output", "../c.csv", "--terminal"]
        assert CliRunner().invoke(sentikit, words, input="q").exit_code == 0
        assert json.loads(found.stdout) == json.loads(from_file.stdout)

    def test_a_checked_file_in_place_of_the_labelled_table_is_recognised(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        checked = pile.folder / "checked.csv"
        message = failure(run("estimate", checked, "--checked", labelled))
        assert message.startswith(f"{checked} holds checks by people. Give it with --checked")

    @pytest.mark.parametrize(
        ("period", "groups"),
        [
            ("month", ["2025-12", "2026-01", "2026-02"]),
            ("quarter", ["2025-Q4", "2026-Q1"]),
            ("week", ["2025-W52", "2026-W04", "2026-W08"]),
            ("year", ["2025", "2026"]),
        ],
    )
    def test_dates_are_grouped_by_period_and_charted_in_order(
        self, pile: Pile, run: Callable[..., Result], period: str, groups: list[str],
        tmp_path: Path,
    ) -> None:  # fmt: skip
        dates = ["2026-02-17T23:30:00+01:00", "2026/01/19", "2025-12-28"]
        labelled, chart = self.with_column(pile, run, "date", dates), tmp_path / "months.csv"
        words = ["estimate", labelled, "--checked", pile.folder / "checked.csv"]
        words += ["--by", f"date:{period}", "--json", "--chart", chart, "--chart"]
        result = run(*words, tmp_path / "months.svg")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)["by"][f"date:{period}"]
        assert sorted({one["group"] for one in found}) == groups
        assert {row[f"date:{period}"] for row in rows_of(chart)} == set(groups)
        drawn = (tmp_path / "months.svg").read_text()
        assert [drawn.index(group) for group in groups] == sorted(map(drawn.index, groups))

    def test_an_invalid_date_is_refused_with_its_line(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        labelled = self.with_column(pile, run, "date", ["2026-01-19", "03/04/2026"])
        words = ["estimate", labelled, "--checked", pile.folder / "checked.csv", "--by"]
        message = failure(run(*words, "date:month"))
        assert "line 3 has '03/04/2026', which is not a date such as 2026-03-14" in message
        assert "Did you mean 'month'?" in failure(run(*words, "date:mnoth"))
        assert "Did you mean 'date'?" in failure(run(*words, "dat:month"))
        assert run(*words, "date").exit_code == 0

    def test_no_group_in_the_table_of_shares_is_a_formula_in_a_spreadsheet(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        labelled = self.with_column(pile, run, "shop", ["=HYPERLINK(1)", "@small"])
        checked, table = pile.folder / "checked.csv", pile.folder / "shares.csv"
        result = run("estimate", labelled, "--checked", checked, "--by", "shop", "--chart", table)
        assert result.exit_code == 0, result.output
        assert {row["shop"] for row in rows_of(table)} == {"'=HYPERLINK(1)", "'@small"}

    def test_control_characters_in_group_names_are_not_executed(
        self, pile: Pile, run: Callable[..., Result]
    ) -> None:
        labelled = self.with_column(pile, run, "shop", ["\x1b[2Jbig", "small\x9b2J"])
        checked = pile.folder / "checked.csv"
        result = run("estimate", labelled, "--checked", checked, "--by", "shop")
        assert result.exit_code == 0, result.output
        assert "[2Jbig: " in result.output
        assert not {"\x1b", "\x9b"} & set(result.output)

    def with_column(
        self, pile: Pile, run: Callable[..., Result], name: str, values: list[str]
    ) -> Path:
        """Label the pile with one more column, whose values go round."""
        rows = rows_of(pile.path)
        with pile.path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*rows[0], name])
            writer.writeheader()
            for n, row in enumerate(rows):
                writer.writerow(row | {name: values[n % len(values)]})
        output = pile.folder / "dated.csv"
        result = run("label", pile.path, "--with", pile.encoder, "--output", output)
        assert result.exit_code == 0, result.output
        pile.check()
        return output

    def test_a_class_without_checks_gets_an_exact_interval_from_zero(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        checked = pile.folder / "two.csv"
        with checked.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text", "label"])
            for n in range(0, ROWS, 8):
                label = "positive" if pile.gold[n] == "neutral" else pile.gold[n]
                writer.writerow([pile.texts[n], label])
        found = json.loads(run("estimate", labelled, "--checked", checked, "--json").stdout)
        (neutral,) = (one for one in found["shares"] if one["name"] == "neutral")
        assert neutral["low"] == 0
        assert 0 < neutral["high"] < 0.04

    def test_small_groups_are_pooled_and_reported(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        rows = rows_of(labelled)
        with labelled.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*rows[0], "shop"])
            writer.writeheader()
            for n, row in enumerate(rows):
                writer.writerow(row | {"shop": "big" if n % 20 else f"tiny {n % 3}"})
        found = run(
            "estimate", labelled, "--checked", pile.folder / "checked.csv", "--by", "shop",
            "--json",
        )  # fmt: skip
        record = json.loads(found.stdout)
        assert {one["group"] for one in record["by"]["shop"]} == {"big", "(other groups)"}
        assert "too few checks each" in record["warnings"][0]

    def test_the_report_and_charts_show_the_corrected_shares_without_markup_of_texts(
        self, pile: Pile, run: Callable[..., Result], labelled: Path, tmp_path: Path
    ) -> None:
        page, chart, table = tmp_path / "r.html", tmp_path / "c.svg", tmp_path / "c.csv"
        result = run(
            "estimate", labelled, "--checked", pile.folder / "checked.csv", "--by", "month",
            "--report", page, "--chart", chart, "--chart", table,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        shown = page.read_text()
        assert "guaranteed at 90%" in shown
        assert "What it assumes" in shown
        assert "review 1" in shown or "review" in shown
        assert "<script" not in shown
        assert len(rows_of(table)) == 9
        assert chart.read_text().count("<rect") >= 9

    @pytest.mark.posix
    def test_open_shows_the_report_of_the_shares_in_the_browser(
        self, pile: Pile, run: Callable[..., Result], labelled: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        seen, browser = tmp_path / "seen", tmp_path / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
        browser.chmod(0o755)
        monkeypatch.setenv("BROWSER", f"{browser} %s")
        monkeypatch.setattr(webbrowser, "_tryorder", None)
        command = ["estimate", labelled, "--checked", pile.folder / "checked.csv", "--open"]
        result = run(*command, "--report", tmp_path / "r.html")
        assert result.exit_code == 0, result.output
        assert seen.read_text().strip() == (tmp_path / "r.html").as_uri()
        refused = run(*command)
        assert refused.exit_code == 2
        assert "--open needs a report. Add --report FILE.html." in refused.output

    def test_the_report_of_an_agreement_says_agreement(
        self, pile: Pile, run: Callable[..., Result], tmp_path: Path
    ) -> None:
        output, page = tmp_path / "agreed.csv", tmp_path / "r.html"
        result = run(
            "label", pile.path, "--with", pile.encoder, "--agree-with", pile.llm,
            "--agreement", 0.85, "--output", output,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        words = ["estimate", output, "--checked", pile.check(), "--report", page]
        assert run(*words).exit_code == 0
        assert "Promised agreement with the LLM" in page.read_text()
        assert "Promised accuracy" not in page.read_text()
        typo = tmp_path / "typo.json"
        assert f"{typo} does not exist" in failure(run(*words, "--certificate", typo))

    def test_a_chart_or_report_never_overwrites_an_input(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        checked = pile.folder / "checked.csv"
        for name in (labelled, checked):
            before = name.read_bytes()
            message = failure(run("estimate", labelled, "--checked", checked, "--chart", name))
            assert "is also read or written" in message
            assert name.read_bytes() == before

    def test_a_broken_certificate_alarms_with_exit_code_3_and_evidence_is_kept(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        certificate = labelled.with_suffix(".certificate.json")
        pile.gold = [_other(g) for g in pile.gold]  # the world has changed
        new = pile.check("new.csv", 60, 7, file=labelled)
        result = run("monitor", certificate, "--checked", new, "--json")
        assert result.exit_code == 3
        first = json.loads(result.stdout)
        assert first["alarm"]
        assert first["new"] == first["checked"] > 0
        again = json.loads(run("monitor", certificate, "--checked", new, "--json").stdout)
        assert (again["new"], again["checked"]) == (0, first["checked"])

    def test_a_valid_certificate_raises_no_alarm(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        new = pile.check("new.csv", 200, 7, file=labelled)
        certificate = labelled.with_suffix(".certificate.json")
        result = run("monitor", certificate, "--checked", new, "--pile", labelled)
        assert result.exit_code == 0, result.output
        assert "confidence" in result.output

    def test_drift_is_reported_by_effect_sizes_without_checks(
        self, pile: Pile, run: Callable[..., Result], labelled: Path, tmp_path: Path
    ) -> None:
        rows = rows_of(labelled)
        drifted = tmp_path / "drifted.csv"
        with drifted.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            for row in rows:
                if row["predicted_label"] == "negative" or float(row["confidence"]) < 0.6:
                    writer.writerow(row)
        certificate = labelled.with_suffix(".certificate.json")
        same, other = (
            {d["of"]: d for d in json.loads(run(
                "monitor", certificate, "--pile", table, "--json").stdout)["drift"]}
            for table in (labelled, drifted)
        )  # fmt: skip
        assert same["class shares"]["effect"] == 0
        assert other["class shares"]["effect"] > 0.3
        assert other["confidence"]["effect"] > same["confidence"]["effect"] + 0.1

    def test_checks_that_certified_cannot_monitor_their_certificate(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        certificate = labelled.with_suffix(".certificate.json")
        result = run("monitor", certificate, "--checked", pile.folder / "checked.csv")
        assert "it cannot test it" in failure(result)

    def test_a_labelled_table_in_place_of_its_certificate_gets_a_suggestion(
        self, run: Callable[..., Result], labelled: Path
    ) -> None:
        certificate = labelled.with_suffix(".certificate.json")
        message = failure(run("monitor", labelled, "--pile", labelled))
        assert message == f"{labelled} is not a certificate. Did you mean {certificate}?"

    def test_a_non_uniform_draw_cannot_monitor_a_certificate(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        certificate = labelled.with_suffix(".certificate.json")
        new = pile.check("new.csv", 40, 7, file=labelled, labelled=labelled)
        result = run("monitor", certificate, "--checked", new)
        assert "was not drawn uniformly" in failure(result)

    def test_a_certificate_of_another_classifier_is_refused(
        self, pile: Pile, run: Callable[..., Result], labelled: Path
    ) -> None:
        certificate = labelled.with_suffix(".certificate.json")
        new = pile.check("new.csv", 40, 7, file=labelled)
        beside = new.with_name("new.csv.json")
        kept = json.loads(beside.read_text())
        kept["draw"]["classifier"] = "another"
        beside.write_text(json.dumps(kept))
        assert "another classifier" in failure(run("monitor", certificate, "--checked", new))
