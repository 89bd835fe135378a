"""`predict` and `evaluate` in several processes: each labels its share, one writes, in order."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from several_processes import complaints, end, run, run_ranks, start

from sentikit.classifiers.encoder_classifier import EncoderClassifier, SharedClassifier
from sentikit.classifiers.loading import LoadingOptions, load_model
from sentikit.cli import sentikit
from sentikit.processes.group import ProcessGroup

#: More than the first windows of two processes, and no multiple of anything.
LINES = 1801


@pytest.fixture
def table(tmp_path: Path, reviews: Path) -> Path:
    rows = (reviews / "test.csv").read_text().splitlines()[1:]
    numbered = [f"{number},{rows[number % len(rows)]}" for number in range(LINES)]
    path = tmp_path / "many.csv"
    path.write_text("number,text,label,source\n" + "\n".join(numbered) + "\n")
    return path


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_labels(first: Path, second: Path) -> None:
    for row, other in zip(records(first), records(second), strict=True):
        probabilities, others = row.pop("probabilities"), other.pop("probabilities")
        assert row == other
        assert others == pytest.approx(probabilities, abs=2e-6)


@pytest.mark.slow
def test_torchrun_processes_label_a_file_in_order(trained_run: Path, table: Path) -> None:
    words = ["predict", str(trained_run), str(table), "--precision", "fp32", "--format", "jsonl"]
    assert run(*words, "--output", "alone.jsonl").code == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    outcome = end(start([*launcher, "-m", "sentikit", *words, "--output", "shared.jsonl"]))
    assert outcome.code == 0, outcome.error
    assert [row["number"] for row in records(Path("shared.jsonl"))] == list(map(str, range(LINES)))
    assert_same_labels(Path("alone.jsonl"), Path("shared.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 513])
def test_processes_label_a_last_window_that_has_fewer_texts_than_processes(
    trained_run: Path, table: Path, rows: int
) -> None:
    few = Path("few.csv")
    few.write_text("".join(table.read_text().splitlines(keepends=True)[: rows + 1]))
    words = ["predict", str(trained_run), str(few), "--precision", "fp32", "--format", "jsonl"]
    outcome = run(*words, "--nproc", "2", "--output", "shared.jsonl")
    assert outcome.code == 0, outcome.error
    assert run(*words, "--output", "alone.jsonl").code == 0
    assert len(records(Path("shared.jsonl"))) == rows
    assert_same_labels(Path("alone.jsonl"), Path("shared.jsonl"))


def test_texts_truncated_by_any_process_are_counted(trained_run: Path) -> None:
    class Two(ProcessGroup):
        processes = 2

        def gather(self, array: Any) -> list[Any]:
            return [array, array]

        def sum(self, values: Any) -> list[float]:
            return [2 * float(value) for value in values]

    own = load_model(trained_run, LoadingOptions("cpu"))
    assert isinstance(own, EncoderClassifier)
    shared = SharedClassifier(own, Two())
    list(shared.logits(["good " * 999, "bad " * 999, "good", "zzz qqq xxx", "bad", "ok"]))
    assert (shared.cut, own.cut) == (2, 1)
    assert shared.unknown == 2 * own.unknown


@pytest.mark.slow
@pytest.mark.parametrize("command", ["nproc", "torchrun"])
def test_several_processes_count_cut_and_unknown_texts_as_one_does(
    trained_run: Path, command: str
) -> None:
    odd = ["the film was great " * 200, "the room was bad " * 300, "電影很好看", "🎉🎉🎉🎉", "fine"]
    rows = [{"text": f"{text} {number % 7}"} for number in range(LINES) for text in odd[:5]][:LINES]
    Path("odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["predict", str(trained_run), "odd.jsonl", "--precision", "fp32", "--output"]
    alone = run(*words, "alone.jsonl")
    if command == "nproc":
        shared = run(*words, "shared.jsonl", "--nproc", "2")
    else:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command_line = [*launcher, "--nproc-per-node=2", "-m", "sentikit", *words, "shared.jsonl"]
        shared = end(start(command_line))
    assert (alone.code, shared.code) == (0, 0), shared.error

    def counted(output: str) -> list[str]:
        kinds = ("more than", "mostly characters", "rows labelled")
        return [line for line in output.splitlines() if any(kind in line for kind in kinds)]

    assert len(counted(alone.error)) == 3
    assert counted(shared.error) == counted(alone.error)


def test_an_empty_input_gives_no_logits(trained_run: Path) -> None:
    classifier = load_model(trained_run, LoadingOptions("cpu"))
    assert classifier.logits_of_texts([]).shape == (0, 3)


@pytest.mark.slow
def test_processes_of_nproc_score_each_text_once(trained_run: Path) -> None:
    words = ["evaluate", str(trained_run), "--split", "validation", "--precision", "fp32", "--json"]
    alone, shared = run(*words), run(*words, "--nproc", "2", "--output", "scored")
    assert (alone.code, shared.code) == (0, 0), shared.error
    first, second = json.loads(alone.output)["overall"], json.loads(shared.output)["overall"]
    assert first["confusion"] == second["confusion"]
    assert second["macro_f1"] == pytest.approx(first["macro_f1"])
    assert json.loads(Path("scored/manifest.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_another_file_of_the_same_name_on_the_second_machine_is_refused(
    trained_run: Path, table: Path, tmp_path: Path
) -> None:
    places = [tmp_path / "first", tmp_path / "second"]
    for place, rows in zip(places, (LINES, LINES - 300), strict=True):
        place.mkdir()
        kept = table.read_text().splitlines()[: rows + 1]
        (place / "many.csv").write_text("\n".join(kept) + "\n")
    words = ["predict", str(trained_run), "many.csv", "--output", "labelled.csv"]
    outcomes = run_ranks(words, folders=places)
    assert [outcome.code for outcome in outcomes] == [2, 2]
    (message,) = [line for outcome in outcomes for line in complaints(outcome.error)]
    assert "reads other texts" in message
    assert not (places[0] / "labelled.csv").exists()


def test_a_pipe_is_refused_with_several_processes(trained_run: Path) -> None:
    result = CliRunner().invoke(sentikit, ["predict", str(trained_run), "--nproc", "2"], input="a")
    assert result.exit_code == 2
    assert "cannot share standard input" in result.output
