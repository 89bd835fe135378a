"""Runs the commands of docs/tutorial.md, or of another page, and writes what they print into it.

Each block marked `sh` is run in one shell, from top to bottom, and the block marked `text` behind
it is replaced by the output. `sh fails` is a block whose last command must fail; a fence such as
`python plugin.py` writes that file. The page's folder `data` is given as an argument::

    python docs/run_tutorial.py FOLDER_WITH_THE_DATA [FOLDER_TO_WORK_IN [PAGE]]
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).parent / "tutorial.md"
#: A fence with its info string and body, and the output block behind it where there is one.
FENCE = re.compile(
    r"^```(?P<info>[^\n]+)\n(?P<body>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_END = "--- end of block"


class Shell:
    """One shell that keeps its folder, variables and background jobs from block to block."""

    def __init__(self, folder: Path) -> None:
        program = str(Path(sys.executable).parent)
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([program, os.environ["PATH"]]),
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }
        self._process = subprocess.Popen(
            [shutil.which("bash") or "/bin/bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            text=True,
        )

    def run(self, commands: str) -> tuple[str, int]:
        """Run a block; return what it printed and its exit code."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(
            f"{{\n{commands}}} < /dev/null\ncode=$?\necho\necho '{_END}' $code\n"
        )
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(_END):
                return "".join(lines).removesuffix("\n"), int(line.split()[-1])
            lines.append(line)
        raise SystemExit("the shell has ended")

    def close(self) -> None:
        """End the shell and what it has started."""
        self._process.communicate("kill $(jobs -p) 2>/dev/null\nexit 0\n")


def follow(text: str, folder: Path, shell: Shell, report: Callable[[str], None]) -> str:
    """Return the page with the outputs that its commands have now."""

    def replaced(match: re.Match[str]) -> str:
        kind, _, rest = match["info"].partition(" ")
        if kind == "sh":
            report(match["body"])
            return _run(match, shell, rest == "fails")
        if rest:
            target = folder / rest
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(match["body"], encoding="utf-8")
        return match[0]

    return FENCE.sub(replaced, text)


def _run(match: re.Match[str], shell: Shell, must_fail: bool) -> str:
    output, code = shell.run(match["body"])
    if (code != 0) != must_fail:
        raise SystemExit(f"exit code {code}:\n{match['body']}\n{output}")
    block = f"```{match['info']}\n{match['body']}```\n"
    if match["output"] is None:
        return block
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    return f"{block}\n```text\n" + "\n".join(lines) + "\n```\n"


def _report(commands: str) -> None:
    sys.stdout.write(commands)
    sys.stdout.flush()


def main(data: Path, folder: Path, page: Path) -> None:
    """Rewrite the page."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "data"
    if not link.exists():
        link.symlink_to(data.resolve(), target_is_directory=True)
    shell = Shell(folder)
    try:
        text = page.read_text(encoding="utf-8")
        page.write_text(follow(text, folder, shell, _report), encoding="utf-8")
    finally:
        shell.close()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    place = sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="sentikit-tutorial-")
    main(Path(sys.argv[1]), Path(place), Path(sys.argv[3]) if len(sys.argv) > 3 else PAGE)
