"""The runner of docs/tutorial.md and other pages: it runs their commands and fills in the outputs.

Each block marked `sh` is run in one shell, from top to bottom, and the block marked `text` behind
it is replaced by the output. Each command of a block titled "mistakes" must fail. The command of a
block titled "by hand" is `sentikit annotate`, whose page is answered as in `gold.csv`. Blocks of
other languages are written to the file in their title. The page's folder `data` is given as an
argument::

    python docs/run_tutorial.py FOLDER_WITH_THE_DATA [FOLDER_TO_WORK_IN [PAGE]]
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.request import HTTPCookieProcessor, Request, build_opener

PAGE = Path(__file__).parent / "tutorial.md"
#: A fence with its language, title and body, and the output block after it where there is one.
FENCE = re.compile(
    r'^```(?P<info>(?P<language>\w+)(?: title="(?P<title>[^"\n]*)")?)\n(?P<body>.*?)^```\n'
    r"(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_END = "--- end of block"


class Shell:
    """One shell that keeps its folder, variables and background jobs from block to block."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [shutil.which("bash") or "/bin/bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment(),
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


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}


def follow(text: str, folder: Path, shell: Shell, report: Callable[[str], None]) -> str:
    """Return the page with the outputs that its commands have now."""

    def replaced(match: re.Match[str]) -> str:
        if match["language"] == "sh":
            report(match["body"])
            return _with_output(match, folder, shell)
        if match["title"]:
            target = folder / match["title"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(match["body"], encoding="utf-8")
        return match[0]

    return FENCE.sub(replaced, text)


def _with_output(match: re.Match[str], folder: Path, shell: Shell) -> str:
    if match["title"] == "mistakes":
        commands = re.findall(r"(?:.*\\\n)*.*\n", match["body"])
        output = "\n".join(_checked(shell, command, must_fail=True) for command in commands)
    elif match["title"] == "by hand":
        output = _annotated(match["body"], folder)
    else:
        output = _checked(shell, match["body"])
    block = f"```{match['info']}\n{match['body']}```\n"
    if match["output"] is None:
        return block
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    return f"{block}\n```text\n" + "\n".join(lines) + "\n```\n"


def _checked(shell: Shell, commands: str, must_fail: bool = False) -> str:
    output, code = shell.run(commands)
    if (code != 0) != must_fail:
        raise SystemExit(f"exit code {code}:\n{commands}\n{output}")
    return output


def _annotated(command: str, folder: Path) -> str:
    """Run `sentikit annotate`, label every text of its page, and end it with Ctrl-C."""
    process = subprocess.Popen(
        [shutil.which("bash") or "/bin/bash", "-c", f"exec {command}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=_environment(),
        text=True,
    )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(re.sub("token=.*", "token=…", line))
        if line.startswith("Open: "):
            _label_page(line.split()[1], folder / "gold.csv")
            process.send_signal(signal.SIGINT)
    process.wait()
    return "".join(lines)


def _label_page(address: str, gold: Path) -> None:
    with gold.open(encoding="utf-8", newline="") as stream:
        labels = {row["sentence"]: row["label"] for row in csv.DictReader(stream)}
    origin = address.partition("/?")[0]
    opener = build_opener(HTTPCookieProcessor())
    opener.open(address).close()  # exchanges the token for a cookie
    state = json.load(opener.open(f"{origin}/api/state"))
    while item := state["item"]:
        answer = {"row": item["row"], "repeat": item["repeat"], "status": "checked"}
        body = json.dumps(answer | {"label": labels[item["text"]]}).encode()
        request = Request(f"{origin}/api/answer", body, {"Origin": origin})  # noqa: S310 - loopback
        state = json.load(opener.open(request))


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
