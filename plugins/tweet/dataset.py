"""Tweet Sentiment Extraction (Kaggle 2020), as mteb/tweet_sentiment_extraction on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from sentikit import Examples, open_dataset
from sentikit.extension import ComponentSettings, DatasetLoader, ExamplesBuilder

REPOSITORY = "mteb/tweet_sentiment_extraction"
SOURCE = "tweet"


class _Row(NamedTuple):
    number: int
    text: str
    label: str | None


class TweetSentiment(DatasetLoader):
    """Tweets labelled negative, neutral or positive; train and test only."""

    class Settings(ComponentSettings):
        """Source of the tweets."""

        path: Path | None = Field(
            None, description="folder with the hub's files (train.jsonl, test.jsonl)"
        )

    settings: Settings

    def splits(self) -> tuple[str, ...]:
        """Return train and test; for validation use validation_holdout."""
        return ("train", "test")

    def load(self, split: str) -> Examples:
        """Load a split; ids are made from the texts."""
        builder = ExamplesBuilder()
        for row in self._rows(split):
            builder.add(row.text, label=row.label, source=SOURCE)
        return builder.finish()

    def locate(self, split: str, row: int) -> str:
        """Describe a row by its number in the split."""
        number = next(islice(self._rows(split), row, None)).number
        return f"row {number} of {self._repository} ({split})"

    @property
    def _repository(self) -> str:
        path = self.settings.path
        return REPOSITORY if path is None else str(path.expanduser())

    def _rows(self, split: str) -> Iterator[_Row]:
        loader = open_dataset({"name": "hub", "path": self._repository}).loader
        with loader.rows(split) as rows:
            for number, (text, label) in rows.cells("text", "label_text"):
                # One training row of the original competition has no text.
                if text and text.strip():
                    yield _Row(number, text, label)
