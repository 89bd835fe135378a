"""The demo sentences in this folder."""

from __future__ import annotations

import csv
from importlib.resources import files

from sentikit import Examples
from sentikit.extension import DatasetLoader, ExamplesBuilder


class Demo(DatasetLoader):
    """Review sentences, each written by hand for this project; see README.md beside this file."""

    def splits(self) -> tuple[str, ...]:
        """Return train, validation and test."""
        return ("train", "validation", "test")

    def load(self, split: str) -> Examples:
        """Load a split."""
        builder = ExamplesBuilder()
        text = (files(__package__) / f"{split}.csv").read_text(encoding="utf-8")
        for row in csv.DictReader(text.splitlines()):
            builder.add(row["text"], label=row["label"], source=row["source"], id=row["id"])
        return builder.finish()
