"""Tables on standard output, in wide and in narrow terminals."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import click
import pytest

from sentikit.terminal import print_sentence, print_table

COLUMNS = ["run", "macro-F1", "95% interval", "accuracy", "invalid", "why"]
NUMBERS = COLUMNS[1:5]
ROWS = [
    ["electra", "0.8000", "[0.7000, 0.9000]", "0.8100", "12", "it was measured"],
    ["[b]a run with a name$", "0.7000", "[0.6000, 0.8000]", "0.7100", "0", "unknown"],
]


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    def show(width: int, rows: list[list[str]] = ROWS) -> list[str]:
        terminal = Terminal()
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stdout", terminal)
        print_table("Runs", COLUMNS, rows, NUMBERS)
        return click.unstyle(terminal.getvalue()).splitlines()

    return show


def headings(lines: list[str]) -> list[list[str]]:
    """Return the headings of each table."""
    ruled = [number for number, line in enumerate(lines) if "──" in line]
    return [[word.strip() for word in lines[n - 1].split("  ") if word.strip()] for n in ruled]


def test_a_table_that_fits_is_not_split(printed: Callable[..., list[str]]) -> None:
    assert headings(printed(120)) == [COLUMNS]


def test_a_narrow_terminal_gets_several_tables_with_the_names_in_each(
    printed: Callable[..., list[str]],
) -> None:
    lines = printed(60)
    tables = headings(lines)
    assert len(tables) > 1
    assert [name for table in tables for name in table[1:]] == COLUMNS[1:]
    assert {table[0] for table in tables} == {"run"}
    assert max(map(len, lines)) <= 60
    for row in ROWS:
        assert sum(row[0] in line for line in lines) == len(tables)
        assert all(any(cell in line for line in lines) for cell in row)
    assert lines[0].strip() == "Runs"


def test_long_names_are_wrapped_and_numbers_stay_whole(
    printed: Callable[..., list[str]],
) -> None:
    lines = printed(50, [["x" * 80, *ROWS[0][1:]]])
    assert max(map(len, lines)) <= 50
    assert any("[0.7000, 0.9000]" in line for line in lines)
    assert "".join(lines).count("x") == 80 * len(headings(lines))


def test_output_to_a_pipe_is_one_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table("Runs", COLUMNS, ROWS, NUMBERS)
    assert headings(capsys.readouterr().out.splitlines()) == [COLUMNS]


def test_sentences_wrap_between_words_only_in_terminals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = "Use E11-G4OMFT-M: it is the cheapest of those that are as good as the best one."
    monkeypatch.setenv("COLUMNS", "40")
    print_sentence(sentence)
    assert capsys.readouterr().out == sentence + "\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_sentence(sentence)
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(lines) == sentence
