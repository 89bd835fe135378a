"""Progress bars: live on a terminal, only messages elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from ensemble_runs import sure, write_results
from terminals import on_a_terminal

PROGRAM = """
from sentikit.terminal import LiveBar

bar = LiveBar("steps")
bar.start(10, line="loss 0.5")
bar.update(3)
bar.say("a message [with brackets]")
bar.advance(1)
bar.stop()
bar.say("the end")
"""


def shown_on_a_terminal(program: str) -> str:
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    code, shown = on_a_terminal([sys.executable, "-c", program], "stderr", env=environment)
    assert code == 0
    return shown


def test_a_progress_bar_on_a_terminal_prints_messages_above_itself() -> None:
    shown = shown_on_a_terminal(PROGRAM)
    assert "4/10" in shown
    assert "loss 0.5" in shown
    assert "\na message [with brackets]\r\n" in shown.replace("\x1b[2K", "\n")
    assert "the end\r\n" in shown


def test_a_progress_bar_of_a_pipe_shows_no_total_until_it_is_known() -> None:
    bar = "from sentikit.terminal import LiveBar\nbar = LiveBar()\nbar.start()\nbar.update(5000)"
    shown = shown_on_a_terminal(f"{bar}\nbar.stop()")
    assert "5,000" in shown
    assert "5,000/" not in shown
    assert "5,000/6,000" in shown_on_a_terminal(f"{bar}\nbar.update(total=6000)\nbar.stop()")


def test_a_progress_bar_outside_a_terminal_prints_only_messages() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True)
    assert done.stderr == b"a message [with brackets]\nthe end\n"
    assert done.stdout == b""


def test_a_bar_shows_the_rate_and_the_time_left_and_no_count_before_the_first() -> None:
    program = """
import time
from sentikit.terminal import LiveBar

with LiveBar("rows") as bar:
    bar.update(line="Loading the classifier")
    time.sleep(0.3)
    for done in range(0, 3000, 1000):
        bar.update(done, 100_000, "")
        time.sleep(0.5)
"""
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown_on_a_terminal(program))
    assert re.search(r"━  +Loading the classifier", shown)
    assert re.search(r"2,000/100,000 rows  [\d,]{3,5}/s +0:0[01]:\d\d", shown)


def test_work_that_cannot_be_counted_is_named_on_a_terminal_until_it_is_done() -> None:
    program = """
from sentikit.terminal import working_on

with working_on("Exporting"):
    print("meanwhile")
"""
    assert "Exporting …\r" in (shown := shown_on_a_terminal(program))
    assert shown.endswith("\x1b[K")
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stderr == b""


def test_training_on_a_terminal_shows_how_far_its_data_are_prepared(tiny_recipe: Path) -> None:
    train = [sys.executable, "-m", "sentikit", "train", "--recipe", str(tiny_recipe)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    code, shown = on_a_terminal([*train, "--output", "run"], "stderr", env=environment)
    assert code == 0, shown
    steps = ("Reading the data", "Loading the encoder", "Tokenising ")
    places = [shown.index(step) for step in steps]
    assert places == sorted(places)
    assert re.search(r"\d+/\d+ texts.* Tokenising ", shown)


def test_label_on_a_terminal_shows_what_it_reads_loads_and_writes(tmp_path: Path) -> None:
    rows = [(f"text {number}", "positive", "positive") for number in range(300)]
    recorded = write_results(tmp_path / "answers.jsonl", rows, [sure("positive", 0.8)] * 300)
    Path("rows.csv").write_text("text\n" + "".join(f"{row[0]}\n" for row in rows))
    words = ["label", "rows.csv", "--with", str(recorded), "--output", "out.csv"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "sentikit", *words]
    code, shown = on_a_terminal(command, "stderr", env=environment)
    assert code == 0, shown
    places = [shown.index(step) for step in ("Reading", "Loading the classifiers", "Writing")]
    assert places == sorted(places)
