"""``sentikit predict`` over a small prompt recipe, in this process."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from llm_fixtures import PRICES
from prompt_commands import write_recipe

from sentikit.cli import sentikit


def write_file(path: str, rows: list[str]) -> None:
    with Path(path).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows(
            [["number", "text"], *([number, text] for number, text in enumerate(rows))]
        )


def predict(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(sentikit, ["predict", *arguments], input=typed)


def labelled(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


def recipe_for(url: str, **llm: Any) -> str:
    """Write a prompt recipe whose own split is not what is labelled."""
    return write_recipe(url, ["I love it"], **{"prices": PRICES, **llm})
