"""`label` with LLMs: one budget, what it cost, and a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from llm_fixtures import PRICES, RunningServer, serving
from prompt_commands import texts, write_recipe
from sentikit.plugins.checked_labels.checked import Check, write_draw
from sentikit.plugins.checked_labels.checked_files import append_answer

from sentikit.cli import sentikit

ROWS = 60
IN_FLIGHT = 4


def command(*arguments: object) -> Result:
    return CliRunner().invoke(sentikit, [str(a) for a in arguments])


def write_member(url: str, name: str, model: str) -> str:
    """Write a prompt recipe; those of different models share no answers."""
    path = write_recipe(url, ["I love it"], prices=PRICES, in_flight=IN_FLIGHT, model=model)
    return str(Path(path).rename(name))


def write_pile(checks: int = 30) -> list[str]:
    """Write a pile with checked texts, and return how it is labelled with them."""
    pile = texts(ROWS)
    Path("pile.csv").write_text("text\n" + "\n".join(pile) + "\n")
    labels = {"love": "positive", "hate": "negative", "read": "neutral"}
    for row, text in enumerate(pile[:checks]):
        label = next(label for word, label in labels.items() if word in text)
        append_answer(Path("checked.csv"), Check(text, label, row=row, inclusion=checks / ROWS))
    write_draw(Path("checked.csv"), {"design": "uniform"})
    return ["label", "pile.csv", "--checked", "checked.csv", "--accuracy", "0.8"]


def billed(s: RunningServer) -> float:
    return sum(s.server.billed.values()) / 1e6


def about(s: RunningServer) -> list[str]:
    """Return the questions about rows of the pile, in the order of their arrival."""
    asked = [json.dumps([body["model"], body["messages"]]) for body in s.server.bodies]
    return [one for one in asked if "number" in one]


def test_the_certificate_and_the_report_say_what_all_members_cost() -> None:
    run = write_pile()
    with serving() as s:
        write_member(s.url, "a.yaml", "one")
        write_member(s.url, "b.yaml", "two")
        done = command(*run, "--with", "a.yaml", "--with", "b.yaml", "--output", "out.csv")
        assert done.exit_code == 0, done.output
        cost = billed(s)
    # The checked texts are labelled first, and are not asked about again.
    assert len(about(s)) == len(set(about(s))) == 2 * ROWS
    record = json.loads(Path("out.certificate.json").read_text())
    assert record["paid_usd"] == pytest.approx(cost)
    by_member = record["paid_usd_by_classifier"]
    assert set(by_member) == {"a.yaml", "b.yaml"}
    assert 0 < sum(by_member.values()) <= record["paid_usd"]
    assert f"Labelled: out.csv (paid ${cost:.4f})" in done.stderr
    report = command("estimate", "out.csv", "--checked", "checked.csv", "--report", "page.html")
    assert report.exit_code == 0, report.output
    assert f"It cost ${cost:.4f}." in Path("page.html").read_text()


def test_one_budget_holds_for_all_members_and_a_higher_one_resumes() -> None:
    run = write_pile()
    with serving() as s:
        write_member(s.url, "a.yaml", "one")
        write_member(s.url, "b.yaml", "two")
        run += ["--with", "a.yaml", "--with", "b.yaml", "--output", "out.csv"]
        assert command(*run[:-1], "whole.csv").exit_code == 0
        whole = billed(s)
        s.server.billed.update(prompt=0, completion=0)
        s.server.bodies.clear()
        Path("runs/answers.sqlite").unlink()
        # Enough for either member alone, and not for both.
        stopped = command(*run, "--max-cost", f"{0.75 * whole:.6f}")
        assert stopped.exit_code == 1
        assert "--max-cost" in stopped.stderr
        assert not Path("out.csv").exists()
        assert 0.5 * whole < billed(s) <= 0.75 * whole
        done = command(*run, "--max-cost", "1", "--resume")
        assert done.exit_code == 0, done.output
        assert len(about(s)) == len(set(about(s))) == 2 * ROWS
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


@pytest.mark.slow
def test_label_killed_while_an_llm_answers_resumes_to_the_same_bytes_without_paying_twice() -> None:
    run = write_pile()
    with serving(seconds=0.1) as s:
        write_member(s.url, "a.yaml", "one")
        run += ["--with", "a.yaml", "--output", "out.csv"]
        kills = 0
        for wanted in (12, 42):  # among the checked texts, and among the rest
            more = ["--resume"] if kills else []
            process = subprocess.Popen([sys.executable, "-m", "sentikit", *run, *more])
            while len(about(s)) < wanted and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            assert not Path("out.csv").exists()
        assert kills == 2
        while s.server.in_flight:
            time.sleep(0.01)
        done = command(*run, "--resume")
        assert done.exit_code == 0, done.output
        asked = about(s)
        assert command(*run[:-1], "whole.csv").exit_code == 0
        assert about(s) == asked
    assert len(set(asked)) == ROWS
    assert len(asked) - ROWS <= IN_FLIGHT * kills
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    first, again = (
        json.loads(Path(f"{name}.certificate.json").read_text()) for name in ("out", "whole")
    )
    assert {**first, "output": "", "date": ""} == {**again, "output": "", "date": ""}
