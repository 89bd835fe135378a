"""``sentikit`` as a user types it, in this process, over a small prompt recipe."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def write_reviews(path: Path, texts: Sequence[str]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "source"])
        for number, text in enumerate(texts):
            label = "positive" if "love" in text else "negative" if "hate" in text else "neutral"
            writer.writerow([text, label, "ab"[number % 2]])


def write_recipe(url: str, texts: Sequence[str], **llm: Any) -> str:
    """Write data and a recipe into the current folder and return the recipe's name."""
    write_reviews(Path("test.csv"), texts)
    recipe = {
        "kind": "prompt",
        "dataset": {"name": "files", "test": "test.csv"},
        "llm": {"backend": "openai", "model": "any", "base_url": url, **llm},
    }
    Path("own.yaml").write_text(json.dumps(recipe))
    return "own.yaml"


def texts(number: int) -> list[str]:
    return [f"I {('love', 'hate', 'read')[n % 3]} number {n}" for n in range(number)]


@dataclass
class Done:
    """The exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


def sentikit(*arguments: str, **environment: str) -> Done:
    """Run a command in this process, as the console script does."""
    from sentikit.cli import main

    out, err = io.StringIO(), io.StringIO()
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(arguments))
    except SystemExit as left:
        return Done(int(left.code or 0), out.getvalue(), err.getvalue())
    finally:
        os.environ.clear()
        os.environ.update(before)
    raise AssertionError("a command always exits")


def all_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
