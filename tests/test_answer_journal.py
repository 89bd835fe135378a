"""The answer journal: one file with every answer."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sentikit import InputError
from sentikit.extension import Answer, Usage
from sentikit.llm.requests.journal import AnswerJournal, BatchPart, Record, request_key

ANSWER = Answer(
    text="positive",
    usage=Usage(10, 4, 2, 1),
    log_probabilities={"positive": -0.1, "negative": -math.inf},
    finish_reason="stop",
    model="m-2026",
    service_tier="flex",
    raw='{"label": "positive \ud800 很好"}',
)


def key(text: str) -> bytes:
    return request_key({"body": text})


def test_the_journal_returns_a_stored_answer(tmp_path: Path) -> None:
    with AnswerJournal(tmp_path / "deep" / "answers.sqlite") as journal:
        journal.keep(key("a"), Record("run", 3, 17, ANSWER))
        assert journal.find(key("a")) == Record("run", 3, 17, ANSWER)
        assert journal.find(key("b")) is None


def test_the_first_stored_answer_is_kept(tmp_path: Path) -> None:
    with AnswerJournal(tmp_path / "a") as one, AnswerJournal(tmp_path / "a") as two:
        one.keep(key("a"), Record("one", 0, 5, ANSWER))
        two.keep(key("a"), Record("two", 0, 7, ANSWER))
        found = two.find(key("a"))
    assert found is not None
    assert (found.run, found.cost) == ("one", 5)


def test_the_journal_sums_what_a_run_has_spent(tmp_path: Path) -> None:
    with AnswerJournal(tmp_path / "a") as journal:
        journal.keep(key("a"), Record("one", 0, 5, ANSWER))
        journal.keep(key("b"), Record("one", 1, None, ANSWER))
        journal.keep(key("c"), Record("two", 0, 50, ANSWER))
        journal.add_opening("one", 3)
        journal.add_opening("one", 4)
        assert journal.opening_cost("one") == 7
        journal.reserve(key("d"), "one", 100)
        journal.reserve(key("d"), "one", 100)
        assert journal.spent("one") == 212
        journal.release(key("d"), "one", 100)
        part = BatchPart(0, "one-0", None, "prepared", 9, 1000)
        journal.keep_batches("one", [part])
        assert journal.spent("one") == 1112
        assert journal.batches("one") == [part]
        assert journal.spent("three") == 0


def test_an_answers_cost_replaces_its_reservation(tmp_path: Path) -> None:
    with AnswerJournal(tmp_path / "a") as journal:
        for _ in range(2):
            journal.reserve(key("a"), "one", 100)
        journal.keep(key("a"), Record("one", 0, 5, ANSWER), reserved=100)
        # The other try was lost, and may have been billed.
        assert journal.spent("one") == 105


def test_runs_that_share_a_journal_are_charged_separately(tmp_path: Path) -> None:
    with AnswerJournal(tmp_path / "a") as one, AnswerJournal(tmp_path / "a") as two:
        one.reserve(key("a"), "one", 100)
        two.reserve(key("a"), "two", 200)
        assert (one.spent("one"), two.spent("two")) == (100, 200)
        one.release(key("a"), "one", 100)
        assert (one.spent("one"), two.spent("two")) == (0, 200)
        one.reserve(key("a"), "one", 100)
        one.keep(key("a"), Record("one", 0, 5, ANSWER), reserved=100)
        assert (one.spent("one"), two.spent("two")) == (5, 200)
        two.keep(key("a"), Record("two", 0, 7, ANSWER), reserved=200)
        assert (one.spent("one"), two.spent("two")) == (5, 7)


def test_a_journal_of_version_1_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with AnswerJournal(path) as journal:
        journal.keep(key("a"), Record("one", 0, 5, ANSWER))
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "DROP TABLE reservations; CREATE TABLE reservations (key BLOB PRIMARY KEY, "
            "run TEXT NOT NULL, cost INTEGER NOT NULL) WITHOUT ROWID; PRAGMA user_version = 1"
        )
        connection.execute("INSERT INTO reservations VALUES (?, 'one', 100)", (key("b"),))
    connection.close()
    for _ in range(2):
        with AnswerJournal(path) as journal:
            assert journal.find(key("a")) == Record("one", 0, 5, ANSWER)
            assert journal.spent("one") == 105
    with AnswerJournal(path) as journal:
        journal.reserve(key("b"), "two", 30)
        assert (journal.spent("one"), journal.spent("two")) == (105, 30)


def test_a_journal_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with AnswerJournal(tmp_path / "a"):
        pass
    with sqlite3.connect(tmp_path / "a") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InputError, match="not a file of answers that this version"):
        AnswerJournal(tmp_path / "a").__enter__()


def test_runs_that_start_together_share_a_new_journal(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from sentikit.llm.requests.journal import AnswerJournal\n"
        "print('ready', flush=True)\n"
        "began = float(sys.stdin.readline())\n"
        "for number in range(20):\n"
        "    time.sleep(max(0, began + 0.02 * number - time.time()))\n"
        "    with AnswerJournal(Path(sys.argv[1]) / str(number)) as journal:\n"
        "        journal.remember(sys.argv[2], 1)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipe = subprocess.PIPE
    runs = [
        subprocess.Popen([*command, str(n)], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for n in range(4)
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    began = time.time() + 0.1
    for run in runs:
        assert run.stdin is not None
        run.stdin.write(f"{began}\n")
        run.stdin.flush()
    assert [run.communicate()[1] for run in runs] == [""] * 4
    for number in range(20):
        with AnswerJournal(tmp_path / str(number)) as journal:
            assert [journal.recall(str(n)) for n in range(4)] == [1] * 4


def test_a_cache_key_depends_on_everything_that_is_sent() -> None:
    assert request_key({"a": 1, "b": [2]}) == request_key({"b": [2], "a": 1})
    assert request_key({"a": 1, "b": [2]}) != request_key({"a": 1, "b": [3]})


def test_a_file_that_is_no_journal_is_refused_unchanged(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("some notes " * 500)
    with pytest.raises(InputError, match="not a file of answers"):
        AnswerJournal(text).__enter__()
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    with pytest.raises(InputError, match="not a file of answers that this version"):
        AnswerJournal(other).__enter__()
    with pytest.raises(InputError, match="folder"):
        AnswerJournal(tmp_path).__enter__()
