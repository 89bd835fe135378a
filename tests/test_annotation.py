"""Checking texts by hand: answers survive kills, several people share a file, and agree or not."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from click.testing import CliRunner
from sentikit.plugins.checked_labels.agreement import (
    annotator_agreement,
    cohens_kappa,
    fleiss_kappa,
    self_agreement,
)
from sentikit.plugins.checked_labels.annotation import Annotation
from sentikit.plugins.checked_labels.checked import Check, read_checked, read_draw
from sentikit.plugins.checked_labels.checked_files import (
    append_answer,
    from_label_studio,
    label_studio,
)
from sentikit.plugins.checked_labels.draws import DrawOptions, Item, drawn_items
from several_processes import as_an_ordinary_user
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats import inter_rater

from sentikit.cli import sentikit
from sentikit.datasets.labels import SCHEMES, scheme_for_classes
from sentikit.datasets.tables import InputFile
from sentikit.errors import InputError

LABELS = ("negative", "neutral", "positive")


def items(count: int) -> list[Item]:
    return [Item(row, f"text {row}", inclusion=0.1) for row in range(count)]


def answer_all(annotation: Annotation, label: str = "positive") -> list[tuple[int, bool]]:
    """Answer every text and return the order in which they were shown."""
    shown = []
    while item := annotation.state()["item"]:
        shown.append((item["row"], item["repeat"]))
        annotation.answer(item["row"], item["repeat"], label, "checked", "", False)
    return shown


def write_pile(path: Path, rows: int = 200) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "shop"])
        writer.writerows([f"review {n}", "abc"[n % 3]] for n in range(rows))
    return path


class TestAnswers:
    def test_annotation_resumes_at_the_first_unanswered_text(self, tmp_path: Path) -> None:
        output = tmp_path / "c.csv"
        first = Annotation(items(10), output, LABELS, repeats=0)
        first.answer(0, False, "negative", "checked", "", False)
        first.answer(1, False, None, "not sure", "odd", False)
        second = Annotation(items(10), output, LABELS, repeats=0)
        state = second.state()
        assert (state["done"], state["item"]["row"], state["not_sure"]) == (2, 2, 1)

    @pytest.mark.posix
    def test_a_kill_loses_no_answer(self, tmp_path: Path) -> None:
        output = tmp_path / "c.csv"
        script = (
            "import sys; from pathlib import Path\n"
            "from sentikit.plugins.checked_labels.annotation import Annotation\n"
            "from sentikit.plugins.checked_labels.draws import Item\n"
            "a = Annotation([Item(n, f'text {n}') for n in range(10**6)], Path(sys.argv[1]),"
            " ['no', 'yes'], repeats=0)\n"
            "n = 0\n"
            "while True:\n"
            "    a.answer(n, False, 'yes', 'checked', '', False); n += 1; print(n, flush=True)\n"
        )
        # A long list makes each state slow; a short one is enough here.
        script = script.replace("10**6", "5000")
        worker = subprocess.Popen(
            [sys.executable, "-c", script, str(output)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        written = 0
        while written < 20:
            written = int(worker.stdout.readline())
        os.kill(worker.pid, signal.SIGKILL)
        written = max([written, *(int(line) for line in worker.stdout.read().split() if line)])
        worker.wait()
        worker.stdout.close()
        assert len(read_checked(output).answers) in (written, written + 1)

    def test_two_people_write_one_file_without_breaking_a_line(self, tmp_path: Path) -> None:
        output = tmp_path / "c.csv"
        script = (
            "import sys; from pathlib import Path\n"
            "from sentikit.plugins.checked_labels.checked import Check\n"
            "from sentikit.plugins.checked_labels.checked_files import append_answer\n"
            "for row in range(80):\n"
            "    text = f'text {row} ' * 50\n"
            "    append_answer(Path(sys.argv[1]), Check(text, 'positive', row=row,"
            " annotator=sys.argv[2]))\n"
        )
        people = [
            subprocess.Popen([sys.executable, "-c", script, str(output), name])
            for name in ("Ada", "Bob")
        ]
        assert [person.wait(60) for person in people] == [0, 0]
        found = read_checked(output)
        assert len(found.answers) == 160
        assert {c.annotator for c in found.answers} == {"Ada", "Bob"}

    def test_a_truncated_line_does_not_spoil_later_answers(self, tmp_path: Path) -> None:
        output = tmp_path / "c.csv"
        append_answer(output, Check("one", "positive", row=0))
        with output.open("a") as stream:
            stream.write('1,,"tw\no')  # as a full disk leaves it
        append_answer(output, Check("three", "negative", row=2))
        found = read_checked(output).checks()
        assert [(c.row, c.label) for c in found] == [(0, "positive"), (2, "negative")]

    def test_undo_reverts_answers_one_by_one(self, tmp_path: Path) -> None:
        output = tmp_path / "c.csv"
        annotation = Annotation(items(3), output, LABELS, repeats=0)
        annotation.answer(0, False, "negative", "checked", "", False)
        annotation.answer(1, False, "negative", "checked", "", False)
        assert annotation.undo()["item"]["row"] == 1
        state = annotation.undo()
        assert (state["item"]["row"], state["done"], state["can_undo"]) == (0, 0, False)
        annotation.answer(0, False, "positive", "checked", "", False)
        assert [c.label for c in read_checked(output).answers] == ["positive"]

    def test_the_models_prediction_is_hidden_until_asked_for(self, tmp_path: Path) -> None:
        known = [Item(0, "text", predicted="neutral", confidence=0.77)]
        annotation = Annotation(known, tmp_path / "c.csv", LABELS)
        shown = json.dumps(annotation.state()["item"])
        assert "neutral" not in shown
        assert "0.77" not in shown
        assert annotation.reveal(0) == {"predicted": "neutral", "confidence": 0.77}

    def test_one_text_in_twenty_is_shown_again_later(self, tmp_path: Path) -> None:
        output = tmp_path / "c.csv"
        shown = answer_all(Annotation(items(100), output, LABELS))
        again = [row for row, repeat in shown if repeat]
        assert len(again) == 5
        for row in again:
            assert shown.index((row, True)) - shown.index((row, False)) >= 15
        found = read_checked(output)
        assert len(found.checks()) == 100  # a repeat counts once
        assert self_agreement(found.repeats) == {"texts": 5, "same": 1.0}

    def test_cells_that_a_spreadsheet_or_csv_would_break_survive_a_round_trip(
        self, tmp_path: Path
    ) -> None:
        odd = 'a "quoted", text\nof two lines; ünïcode 🎉 \u2028 end'
        append_answer(tmp_path / "c.csv", Check(odd, "positive", row=0, note="=1+1, \n"))
        (found,) = read_checked(tmp_path / "c.csv").answers
        assert (found.text, found.label) == (odd, "positive")


def begin_drawn(source: InputFile, output: Path, options: DrawOptions) -> list[Item]:
    """Draw texts and begin to annotate them, so that their record is kept."""
    drawn = drawn_items(source, output, options)
    Annotation(drawn.items, output, LABELS, record=drawn.record).begin()
    return drawn.items


class TestDraws:
    def test_the_draw_is_stored_and_the_same_for_every_annotator(self, tmp_path: Path) -> None:
        source = InputFile(str(write_pile(tmp_path / "p.csv")))
        output = tmp_path / "c.csv"
        first = begin_drawn(source, output, DrawOptions(30, 1))
        second = drawn_items(source, output, DrawOptions(30, 99))
        assert [i.row for i in second.items] == [i.row for i in first]
        assert {i.inclusion for i in first} == {0.15}

    def test_a_different_size_or_a_changed_pile_is_refused(self, tmp_path: Path) -> None:
        path = write_pile(tmp_path / "p.csv")
        source, output = InputFile(str(path)), tmp_path / "c.csv"
        begin_drawn(source, output, DrawOptions(30))
        with pytest.raises(InputError, match="started with 30 drawn texts"):
            drawn_items(source, output, DrawOptions(40))
        write_pile(path, 201)
        with pytest.raises(InputError, match="has changed since"):
            drawn_items(source, output, DrawOptions(30))

    def test_each_group_gets_its_share_of_the_draw(self, tmp_path: Path) -> None:
        source = InputFile(str(write_pile(tmp_path / "p.csv")))
        found = drawn_items(source, tmp_path / "c.csv", DrawOptions(60, by="shop")).items
        assert [sum(i.group == g for i in found) for g in "abc"] == [20, 20, 20]
        with pytest.raises(InputError, match="Did you mean 'shop'"):
            drawn_items(source, tmp_path / "d.csv", DrawOptions(60, by="shpo"))

    def test_a_review_queue_is_shown_in_full_and_cannot_certify(self, tmp_path: Path) -> None:
        queue = tmp_path / "q.csv"
        queue.write_text("text,row,confidence,predicted_label\nb,7,0.4,positive\na,3,0.5,neutral\n")
        output = tmp_path / "c.csv"
        found = drawn_items(InputFile(str(queue)), output, DrawOptions(300))
        assert [(i.row, i.text) for i in found.items] == [(7, "b"), (3, "a")]
        answer_all(Annotation(found.items, output, LABELS, repeats=0, record=found.record))
        assert not read_checked(output).is_uniform

    def test_rows_that_were_not_drawn_cannot_be_added_to_a_drawn_file(self, tmp_path: Path) -> None:
        output, queue = tmp_path / "c.csv", tmp_path / "q.csv"
        drawn = begin_drawn(InputFile(str(write_pile(tmp_path / "p.csv"))), output, DrawOptions(30))
        answer_all(Annotation(drawn, output, LABELS, repeats=0))
        row = next(n for n in range(200) if n not in {item.row for item in drawn})
        queue.write_text(f"text,row,confidence\nreview {row},{row},0.4\n")
        with pytest.raises(InputError, match="were not drawn and would spoil it"):
            drawn_items(InputFile(str(queue)), output, DrawOptions(30))
        exported = tmp_path / "t.json"
        exported.write_text(json.dumps(label_studio([Check(f"review {row}", "neutral", row=row)])))
        arguments = ["annotate", "--output", str(output), "--import", str(exported)]
        result = CliRunner().invoke(sentikit, arguments)
        assert result.exit_code == 2
        assert "1 answers about rows that were not drawn" in result.stderr
        assert read_checked(output).is_uniform
        append_answer(output, Check(f"review {row}", "neutral", row=row))
        assert not read_checked(output).is_uniform

    def test_date_periods_get_their_share_of_the_draw(self, tmp_path: Path) -> None:
        path = tmp_path / "p.csv"
        days = [f"2026-{1 + n % 6:02d}-15" for n in range(120)]
        path.write_text("text,date\n" + "".join(f"t {n},{d}\n" for n, d in enumerate(days)))
        options = DrawOptions(20, by="date:quarter")
        found = begin_drawn(InputFile(str(path)), tmp_path / "c.csv", options)
        assert [sum(i.group == g for i in found) for g in ("2026-Q1", "2026-Q2")] == [10, 10]
        assert read_draw(tmp_path / "c.csv")["design"] == "by group"

    def test_suspects_are_shown_the_most_suspect_first_and_come_back_corrected(
        self, tmp_path: Path
    ) -> None:
        run, results = tmp_path / "run.jsonl", []
        for n in range(40):
            shares = (0.9, 0.05, 0.05) if n % 2 else (0.05, 0.05, 0.9)
            label = LABELS[int(np.argmax(shares))]
            gold = "positive" if n in (3, 7) else label
            named = dict(zip(LABELS, shares if n != 7 else (0.98, 0.01, 0.01), strict=True))
            results.append({"id": str(n), "text": f"text {n}", "gold": gold,
                            "prediction": label, "probabilities": named})  # fmt: skip
        run.write_text("".join(json.dumps(row) + "\n" for row in results))
        suspects, output = tmp_path / "suspects.csv", tmp_path / "corrected.csv"
        words = ["datasets", "suspects", str(run), "--output", str(suspects)]
        assert CliRunner().invoke(sentikit, words).exit_code == 0
        words = ["annotate", str(suspects), "--terminal", "--output", str(output)]
        shown = CliRunner().invoke(sentikit, words, input="m11")
        assert shown.exit_code == 0, shown.output
        assert shown.output.index("text 7") < shown.output.index("text 3")
        assert "The model says negative." in shown.output
        found = read_checked(output)
        assert {(c.id, c.text, c.label) for c in found.checks()} == {
            ("7", "text 7", "negative"),
            ("3", "text 3", "negative"),
        }
        assert not found.is_uniform


class TestSample:
    def test_a_sample_keeps_columns_and_order_and_is_the_same_for_a_seed(
        self, tmp_path: Path
    ) -> None:
        pile = write_pile(tmp_path / "p.csv")
        words = ["sample", str(pile), "--size", "20", "--output"]
        for name in ("a.csv", "b.csv", "c.jsonl"):
            result = CliRunner().invoke(sentikit, [*words, str(tmp_path / name)])
            assert result.exit_code == 0, result.output
        drawn = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
        numbers = [int(row["text"].split()[1]) for row in drawn]
        assert len(set(numbers)) == 20
        assert numbers == sorted(numbers)
        assert all(row["shop"] == "abc"[n % 3] for n, row in zip(numbers, drawn, strict=True))
        assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
        lines = (tmp_path / "c.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == drawn

    def test_least_sure_samples_the_rows_with_the_lowest_confidence(self, tmp_path: Path) -> None:
        labelled, output = tmp_path / "l.csv", tmp_path / "s.csv"
        rows = [f"text {n},{0.99 - 0.01 * (n % 50):.2f}" for n in range(100)]
        labelled.write_text("text,confidence\n" + "\n".join(rows) + "\n")
        words = ["sample", str(labelled), "--size", "4", "--least-sure", "--output", str(output)]
        assert CliRunner().invoke(sentikit, words).exit_code == 0
        chosen = [row["text"] for row in csv.DictReader(output.read_text().splitlines())]
        assert chosen == ["text 48", "text 49", "text 98", "text 99"]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--size", "500", "--output", "s.csv"], "500 texts cannot be drawn from 200 rows"),
            (["--size", "5", "--output", "s.xlsx"], "name it .csv or .jsonl"),
            (["--size", "5", "--output", "p.csv"], "p.csv is also read or written by this command"),
            (["--size", "5", "--output", "p.csv/s.csv"], "p.csv/s.csv cannot be written"),
            (["--size", "5", "--least-sure", "--output", "s.csv"], "no column 'confidence'"),
        ],
    )
    def test_impossible_samples_are_refused_with_a_reason(
        self, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_pile(Path("p.csv"))
        result = CliRunner().invoke(sentikit, ["sample", "p.csv", *words])
        assert result.exit_code == 2
        assert message in result.stderr

    @pytest.mark.parametrize("option", ["--output", "--review-queue"])
    def test_checks_by_people_are_not_replaced_by_another_table(
        self, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_pile(Path("p.csv"))
        words = ["annotate", "p.csv", "--size", "9", "--terminal", "--output", "c.csv"]
        assert CliRunner().invoke(sentikit, words, input="1q").exit_code == 0
        before = Path("c.csv").read_bytes()
        Path("run.csv").write_text("text,label\n")
        other = ["--output", "l.csv"] if option == "--review-queue" else []
        for words in (
            ["sample", "p.csv", "--size", "5", "--output", "c.csv"],
            ["label", "p.csv", "--with", "run.csv", *other, option, "c.csv"],
            ["predict", "run.csv", "p.csv", "--output", "c.csv"],
            ["runs", "table", "run.csv", "--output", "c.csv"],
            ["datasets", "suspects", "run.csv", "--output", "c.csv"],
            ["annotate", "--output", "other.csv", "--export", "c.csv"],
        ):
            refused = CliRunner().invoke(sentikit, words)
            assert refused.exit_code == 2
            assert "c.csv holds checks by people and would be replaced" in refused.stderr
        assert Path("c.csv").read_bytes() == before

    def test_checks_are_known_by_their_columns_and_not_by_the_file_beside_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_pile(Path("p.csv"))
        words = ["annotate", "p.csv", "--size", "9", "--terminal", "--output", "c.csv"]
        assert CliRunner().invoke(sentikit, words, input="1q").exit_code == 0
        Path("moved.csv").write_bytes(Path("c.csv").read_bytes())
        Path("saved.csv").write_text("\ufeff" + Path("c.csv").read_text().replace(",", ";"))
        sample = ["sample", "p.csv", "--size", "5", "--output"]
        for name in ("moved.csv", "saved.csv"):
            refused = CliRunner().invoke(sentikit, [*sample, name])
            assert f"{name} holds checks by people" in refused.stderr
        Path("s.csv").write_text("old")
        Path("s.csv.json").write_text('[{"of": "another program"}]')
        assert CliRunner().invoke(sentikit, [*sample, "s.csv"]).exit_code == 0

    @pytest.mark.parametrize(
        "command",
        [["sample"], ["label"], ["runs", "table"], ["predict"], ["datasets", "suspects"]],
    )
    def test_the_help_says_that_an_output_is_replaced(self, command: list[str]) -> None:
        shown = " ".join(CliRunner().invoke(sentikit, [*command, "--help"]).output.split())
        assert "Replaces an existing file" in shown


def test_label_annotate_and_sample_read_the_named_sheet_of_a_workbook_and_folders_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    book = openpyxl.Workbook()
    book.create_sheet("Notes").append(["nothing"])
    reviews = book.create_sheet("Reviews")
    for text in ("text", "film 1", "film 2"):
        reviews.append([text])
    book.save("p.xlsx")
    Path("texts").mkdir()
    for n in (1, 2):
        Path(f"texts/{n}.txt").write_text(f"film {n}")
    Path("run.csv").write_text(
        "text,gold,label\nfilm 1,neutral,positive\nfilm 2,neutral,negative\n"
    )
    commands = (
        (["sample", "--size", "2"], ""),
        (["label", "--with", "run.csv"], ""),
        (["annotate", "--size", "2", "--terminal"], "13"),
    )
    for pile in (["p.xlsx", "--sheet", "Reviews"], ["texts"], ["texts/*.txt"]):
        for number, (command, keys) in enumerate(commands):
            words = [*command, *pile, "--output", f"{len(pile)}{number}{pile[0][-3:]}.csv"]
            words[-1] = words[-1].replace("*", "")
            done = CliRunner().invoke(sentikit, words, input=keys)
            assert done.exit_code == 0, done.output
            with Path(words[-1]).open() as stream:
                assert {row["text"] for row in csv.DictReader(stream)} == {"film 1", "film 2"}
    several = CliRunner().invoke(sentikit, ["sample", "p.xlsx", "--size", "1", "--output", "s.csv"])
    assert several.exit_code == 2
    assert "'Notes', 'Reviews'. Name one with --sheet" in several.stderr


class TestAgreement:
    @pytest.fixture
    def checks(self) -> list[Check]:
        random = np.random.default_rng(0)
        gold = random.choice(LABELS, 120)
        return [
            Check(f"t{n}", str(g if random.random() < 0.8 else random.choice(LABELS)), row=n,
                  annotator=name)
            for name in ("Ada", "Bob", "Cleo")
            for n, g in enumerate(gold)
        ]  # fmt: skip

    def test_kappas_agree_with_scikit_learn_and_statsmodels(self, checks: list[Check]) -> None:
        table = [[c.label for c in checks if c.annotator == n] for n in ("Ada", "Bob", "Cleo")]
        pairs = list(zip(table[0], table[1], strict=True))
        assert cohens_kappa(pairs, LABELS) == pytest.approx(  # type: ignore[arg-type]
            cohen_kappa_score(table[0], table[1]), abs=1e-9
        )
        answers = [
            {c.annotator: str(c.label) for c in checks if c.row == row} for row in range(120)
        ]
        counts, _ = inter_rater.aggregate_raters(np.array(table).T)
        assert fleiss_kappa(answers, LABELS) == pytest.approx(
            inter_rater.fleiss_kappa(counts), abs=1e-9
        )

    def test_all_measures_are_reported_over_the_texts_that_several_labelled(
        self, checks: list[Check]
    ) -> None:
        pytest.importorskip("krippendorff")
        found = annotator_agreement([*checks, Check("alone", "neutral", row=999)], LABELS)
        assert found["texts"] == 120
        assert len(found["pairs"]) == 3
        assert 0.5 < found["krippendorffs_alpha"] < 0.9

    def test_conflicts_stay_open_until_decided(self, tmp_path: Path) -> None:
        output = tmp_path / "c.csv"
        for name, label in (("Ada", "positive"), ("Bob", "negative")):
            append_answer(output, Check("t", label, row=4, annotator=name))
        with pytest.raises(InputError, match=r"positive \(Ada\) and negative \(Bob\)"):
            read_checked(output).checks()
        result = CliRunner().invoke(
            sentikit, ["annotate", "--decide", "--terminal", "--output", str(output)], input="2"
        )
        assert result.exit_code == 0, result.output
        assert [c.label for c in read_checked(output).checks()] == ["neutral"]

    def test_an_import_without_row_numbers_can_be_decided_and_undone(self, tmp_path: Path) -> None:
        output, exported = tmp_path / "c.csv", tmp_path / "t.json"
        conflict = [
            Check("t", "positive", annotator="Ada"),
            Check("t", "negative", annotator="Bob"),
        ]
        append_answer(output, Check("another text", "neutral", row=0, annotator="Ada"))
        exported.write_text(json.dumps(label_studio(conflict)))
        words = ["annotate", "--output", str(output)]
        assert CliRunner().invoke(sentikit, [*words, "--import", str(exported)]).exit_code == 0
        words += ["--decide", "--terminal"]
        assert CliRunner().invoke(sentikit, words, input="2").exit_code == 0
        assert [c.label for c in read_checked(output).checks()] == ["neutral", "neutral"]
        deciding = Annotation([Item(-1, "t")], output, LABELS, deciding=True, repeats=0)
        deciding.answer(-1, False, "positive", "checked", "", False)
        assert [c.label for c in read_checked(output).checks()] == ["neutral", "positive"]
        deciding.undo()
        assert len(read_checked(output).conflicts()) == 1
        assert len(read_checked(output).answers) == 3

    def test_a_foreign_table_must_be_imported_before_conflicts_are_decided(
        self, tmp_path: Path
    ) -> None:
        table, output = tmp_path / "own.csv", tmp_path / "c.csv"
        table.write_text("text,label,annotator\nt,positive,Ada\nt,negative,Bob\n")
        before = table.read_bytes()
        decide = ["annotate", "--decide", "--terminal", "--output"]
        refused = CliRunner().invoke(sentikit, [*decide, str(table)], input="2")
        assert refused.exit_code == 2
        assert "was not written by sentikit annotate" in refused.stderr
        assert table.read_bytes() == before
        words = ["annotate", "--import", str(table), "--output", str(output)]
        assert CliRunner().invoke(sentikit, words).exit_code == 0
        assert CliRunner().invoke(sentikit, [*decide, str(output)], input="2").exit_code == 0
        assert [c.label for c in read_checked(output).checks()] == ["neutral"]


class TestExchange:
    def test_answers_survive_a_round_trip_through_label_studio(self, tmp_path: Path) -> None:
        given = [
            Check("a", "positive", row=1, annotator="Ada"),
            Check("a", "neutral", row=1, annotator="Bob"),
            Check("b", None, "skipped", 2, annotator="Ada"),
        ]
        tasks = json.loads(json.dumps(label_studio(given)))
        assert [len(task["annotations"]) for task in tasks] == [2, 1]
        back = from_label_studio(tasks, "x.json")
        assert [(c.row, c.label, c.annotator) for c in back] == [
            (c.row, c.label, c.annotator) for c in given
        ]

    def test_a_file_that_is_no_label_studio_export_is_refused(self) -> None:
        for wrong in ({"a": 1}, [{"text": "a"}], [1]):
            with pytest.raises(InputError, match="not a Label Studio export"):
                from_label_studio(wrong, "x.json")

    def test_annotate_exports_and_imports_answers(self, tmp_path: Path) -> None:
        output, exported = tmp_path / "c.csv", tmp_path / "t.json"
        append_answer(output, Check("a", "positive", row=1, annotator="Ada"))
        run = CliRunner().invoke
        arguments = ["annotate", "--output", str(output), "--export", str(exported)]
        assert run(sentikit, arguments).exit_code == 0
        arguments = ["annotate", "--output", str(output), "--export", f"{output}.json"]
        refused = run(sentikit, arguments)
        assert refused.exit_code == 2
        assert "is also read or written" in refused.stderr
        other = tmp_path / "d.csv"
        arguments = ["annotate", "--output", str(other), "--import", str(exported)]
        assert run(sentikit, arguments).exit_code == 0
        assert [c.label for c in read_checked(other).answers] == ["positive"]

    def test_labels_in_other_spellings_are_mapped_to_classes(self, tmp_path: Path) -> None:
        path = tmp_path / "c.csv"
        path.write_text("review,label\na,Positive\nb, NEGATIVE \n")
        found = read_checked(path, scheme_for_classes(LABELS))
        assert [c.label for c in found.answers] == ["positive", "negative"]


class TestTerminal:
    def test_keys_label_texts_in_the_terminal_and_control_characters_of_texts_are_not_printed(
        self, tmp_path: Path
    ) -> None:
        pile = tmp_path / "p.csv"
        pile.write_text("text\n" + "\n".join(f"evil \x1b[2J {n}" for n in range(3)) + "\n")
        output = tmp_path / "c.csv"
        arguments = ["annotate", str(pile), "--size", "3", "--terminal", "--output", str(output)]
        result = CliRunner().invoke(sentikit, arguments, input="31u2n")
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
        found = read_checked(output)
        assert sorted(str(c.label) for c in found.answers) == ["None", "neutral", "positive"]

    def test_control_characters_of_labels_and_predictions_are_not_printed(
        self, tmp_path: Path
    ) -> None:
        pile, output = tmp_path / "p.csv", tmp_path / "c.csv"
        pile.write_text("text,predicted_label\ngood,evil \x1b[2J\n")
        arguments = ["annotate", str(pile), "--size", "1", "--terminal", "--output", str(output)]
        arguments += ["--labels", "a\x1b[2J,b"]
        result = CliRunner().invoke(sentikit, arguments, input="m1")
        assert result.exit_code == 0, result.output
        assert "The model says evil" in result.output
        assert "\x1b" not in result.output

    def test_a_file_checked_with_other_labels_than_the_classifiers_is_refused(
        self, tmp_path: Path
    ) -> None:
        source, output = InputFile(str(write_pile(tmp_path / "p.csv"))), tmp_path / "c.csv"
        begin_drawn(source, output, DrawOptions(10))
        answer_all(Annotation(items(10), output, LABELS, repeats=0))
        assert len(read_checked(output, SCHEMES["neg_neu_pos"]).answers) == 10
        with pytest.raises(InputError) as refused:
            read_checked(output, SCHEMES["five"])
        assert "was checked with the labels negative, neutral, positive" in str(refused.value)
        assert "annotate --labels 'very negative,negative,neutral,positive,very positive'" in str(
            refused.value
        )
        with pytest.raises(InputError, match="was checked with the labels"):
            read_checked(output).in_classes(SCHEMES["five"])

    @pytest.mark.parametrize("column", ["text", "remark"])
    def test_annotators_choose_from_the_labels_of_the_labelled_table(
        self, tmp_path: Path, column: str
    ) -> None:
        pile = write_pile(tmp_path / "p.csv")
        pile.write_text(pile.read_text().replace("text", column, 1))
        with pile.open() as stream:
            rows = [row | {"predicted_label": "joy"} for row in csv.DictReader(stream)]
        shares = {"probability_anger": 0.2, "probability_joy": 0.7, "probability_fear": 0.1}
        with (tmp_path / "l.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [*rows[0], *shares, "confidence"])
            writer.writeheader()
            writer.writerows(row | shares | {"confidence": 0.7} for row in rows)
        words = ["annotate", str(pile), "--terminal", "--output", str(tmp_path / "c.csv")]
        words += ["--text-column", column]
        asked = CliRunner().invoke(sentikit, [*words, "--for", str(tmp_path / "l.csv")], input="q")
        assert "[1] anger [2] joy [3] fear" in asked.output

    def test_annotating_in_a_terminal_without_one_names_the_page(self, tmp_path: Path) -> None:
        words = ["annotate", str(write_pile(tmp_path / "p.csv")), "--terminal"]
        refused = subprocess.run(
            [sys.executable, "-m", "sentikit", *words, "--output", str(tmp_path / "c.csv")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            check=False,
        )
        assert refused.returncode == 2
        assert (
            "needs a terminal to read keys from. Leave it out to check texts on a page."
            in refused.stderr
        )
        assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.slow
def test_annotate_serves_the_page_until_ctrl_c(tmp_path: Path) -> None:
    pile = write_pile(tmp_path / "p.csv")
    worker = subprocess.Popen(
        [sys.executable, "-m", "sentikit", "annotate", str(pile), "--output", "c.csv"],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert worker.stderr is not None
    line = worker.stderr.readline()
    assert line.startswith("Open: http://127.0.0.1:")
    time.sleep(0.3)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(20) == 0
    shown = worker.stderr.read()
    assert shown.startswith("210 questions: 200 texts, 10 of them twice")
    assert shown.endswith(
        "0 of 210 questions are answered. The same command continues with the others.\n"
    )
    worker.stderr.close()


@pytest.mark.posix
def test_an_unwritable_checked_file_is_refused_before_the_page_opens(
    tmp_path: Path,
) -> None:
    pile, output = write_pile(tmp_path / "p.csv"), tmp_path / "c.csv"
    output.touch(mode=0o444)
    words = [sys.executable, "-m", "sentikit", "annotate", str(pile), "--output", str(output)]
    result = subprocess.run(
        [*as_an_ordinary_user(), *words], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"Error: {output} may not be read or written")
