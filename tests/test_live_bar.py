"""Progress bars: live on a terminal, only messages elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys

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
