"""The generator of docs/terminal.svg, the README's picture: real commands and their output.

Trains the quickstart and the TF-IDF baseline on the embedded demo in a temporary folder; about a
minute on two cores. The numbers in the picture are those of this machine's run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

TARGET = Path(__file__).parent / "terminal.svg"
_BEFORE = (
    "sentikit train --recipe quickstart --output runs/minilm",
    "sentikit train --recipe tfidf --set 'dataset={name: demo}' --output runs/tfidf",
)
_SHOWN = (
    "echo 'Not worth a single cent.' | sentikit predict runs/minilm --format csv 2> /dev/null",
    "sentikit compare runs/minilm runs/tfidf | head -6 | cut -c 1-70",
    "sentikit compare runs/minilm runs/tfidf | tail -1 | fold -s -w 100",
)
_WIDTH = 104
_THEME = TerminalTheme((251, 251, 249), (28, 33, 39), [(28, 33, 39)] * 8, [(91, 101, 112)] * 8)


def draw() -> str:
    """Run the commands and return the picture."""
    console = Console(record=True, width=_WIDTH, file=StringIO(), highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        for command in _BEFORE:
            _run(command, folder)
        for command in _SHOWN:
            shown = command.replace(" 2> /dev/null", "").replace(" | fold -s -w 100", "")
            console.print(Text(f"$ {shown}", style="bold"))
            console.print(Text(_run(command, folder).strip("\n")), soft_wrap=False)
            console.print()
    svg = console.export_svg(title="sentikit", theme=_THEME, unique_id="sentikit")
    # The reader's own fonts do; nothing is fetched.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "ui-monospace")


def _run(command: str, folder: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "COLUMNS": str(_WIDTH), "NO_COLOR": "1"}
    done = subprocess.run(  # noqa: S602 - the commands of this file
        command,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
