"""The study's merged dataset, from its sources, from the published files or from the hub.

jbeno/sentiment_merged (Beno 2025): DynaSent round 1, round 2 and SST-3, concatenated, then each
split shuffled like pandas' ``sample(frac=1, random_state=42)``.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from sentikit import Examples, InputError
from sentikit.extension import ComponentSettings, DatasetLoader

from .origins import HubRows, Origin, Parts, PublishedFiles

SHUFFLE_SEED = 42


class Merged(DatasetLoader):
    """Three-label sentences of three sources: dynasent_r1, dynasent_r2 and sst_local."""

    class Settings(ComponentSettings):
        """Source of the rows, and balancing."""

        path: Path | None = Field(
            None,
            description="folder with the published train.csv, validation.csv and test.csv, or "
            "with both the treebank's and DynaSent's files",
        )
        sst: Path | None = Field(None, description="folder of the treebank; needs dynasent")
        dynasent: Path | None = Field(None, description="DynaSent's folder or zip; needs sst")
        balance: Literal["natural", "source"] = Field(
            "natural",
            description="source: repeat the smaller sources in train up to the size of the largest",
        )

        @model_validator(mode="after")
        def _one_origin(self) -> Merged.Settings:
            if (self.sst is None) != (self.dynasent is None):
                raise ValueError("sst and dynasent need each other: give both, or path")
            if self.path is not None and self.sst is not None:
                raise ValueError("give path, or sst and dynasent, not all three")
            return self

    settings: Settings

    def splits(self) -> tuple[str, ...]:
        """Return the splits for which all files exist."""
        return self._origin.splits()

    def load(self, split: str) -> Examples:
        """Load a split in the published order; ids are made from the texts."""
        examples = self._origin.load(split)
        balanced = split == "train" and self.settings.balance == "source"
        return _balance_sources(examples) if balanced else examples

    def locate(self, split: str, row: int) -> str:
        """Name the file and the line of a row."""
        return self._origin.place(split, row)

    @cached_property
    def _origin(self) -> Origin:
        settings = self.settings
        if settings.sst is not None and settings.dynasent is not None:
            return Parts(settings.sst, settings.dynasent, SHUFFLE_SEED)
        if settings.path is None:
            return HubRows()
        path = settings.path.expanduser()
        if not path.is_dir():
            raise InputError(
                f"{path} is not a folder. Give one with train.csv, validation.csv and test.csv, "
                "or with the treebank's and DynaSent's files."
            )
        published = PublishedFiles.below(path)
        return published if published.splits() else Parts(path, path, SHUFFLE_SEED)


def _balance_sources(examples: Examples) -> Examples:
    """Repeat each source ceil(largest / its size) times and shuffle, without copying rows."""
    sources = examples.table.column("source").fill_null("").combine_chunks().dictionary_encode()
    numbers = sources.indices.to_numpy()
    rows_of = [np.flatnonzero(numbers == number) for number in range(len(sources.dictionary))]
    largest = max(len(rows) for rows in rows_of)
    repeated = np.concatenate([np.tile(rows, -(-largest // len(rows))) for rows in rows_of])
    return examples.select(np.random.RandomState(SHUFFLE_SEED).permutation(repeated))
