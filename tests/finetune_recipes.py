"""Recipes and data for tests of fine-tuning."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LABELS = ("negative", "neutral", "positive")


def write_split(name: str, rows: Sequence[tuple[str, str]]) -> str:
    """Write texts and labels as CSV into the current folder."""
    path = Path(f"{name}.csv")
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
    return str(path)


def rows(number: int, word: str = "review") -> list[tuple[str, str]]:
    """Return `number` different labelled texts."""
    words = {"negative": "hate", "neutral": "read", "positive": "love"}
    return [(f"I {words[LABELS[n % 3]]} {word} number {n}", LABELS[n % 3]) for n in range(number)]


def write_recipe(url: str, **sections: Any) -> str:
    """Write a recipe of kind finetune and its data into the current folder; return its name."""
    splits = sections.pop("splits", {"train": rows(12), "validation": rows(6, "other")})
    files = {name: write_split(name, split) for name, split in splits.items()}
    finetune = {"provider": "openai", "model": "gpt-4o-mini", "poll_seconds": 0.01}
    recipe: dict[str, Any] = {
        "kind": "finetune",
        "dataset": {"name": "files", **files},
        "strategy": {"name": "minimal"},
    }
    recipe["finetune"] = finetune | {"base_url": url} | sections.pop("finetune", {})
    Path("finetune.yaml").write_text(json.dumps(recipe | sections), encoding="utf-8")
    return "finetune.yaml"
