"""The bar of long work: on a terminal it moves, elsewhere only messages are seen."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

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


def on_a_terminal(program: str) -> bytes:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", program], check=True, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    # Linux ends the reading of a closed terminal with an error.
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:
        pass
    os.close(ours)
    return shown


def test_a_progress_bar_on_a_terminal_prints_messages_above_itself() -> None:
    shown = on_a_terminal(PROGRAM)
    assert b"4/10" in shown
    assert b"loss 0.5" in shown
    assert b"\na message [with brackets]\r\n" in shown.replace(b"\x1b[2K", b"\n")
    assert b"the end\r\n" in shown


def test_a_progress_bar_of_a_pipe_shows_no_total_until_it_is_known() -> None:
    bar = "from sentikit.terminal import LiveBar\nbar = LiveBar()\nbar.start()\nbar.update(5000)"
    shown = on_a_terminal(f"{bar}\nbar.stop()")
    assert b"5,000" in shown
    assert b"5,000/" not in shown
    assert b"5,000/6,000" in on_a_terminal(f"{bar}\nbar.update(total=6000)\nbar.stop()")


def test_a_progress_bar_outside_a_terminal_prints_only_messages() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True)
    assert done.stderr == b"a message [with brackets]\nthe end\n"
    assert done.stdout == b""
