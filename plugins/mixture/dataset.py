"""The dataset ``mixture``, made of several others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator

from sentikit import Examples, InputError, open_dataset
from sentikit.extension import ComponentSettings, DatasetLoader, OpenedDataset

SPLITS = ("train", "validation", "test")


class Mixture(DatasetLoader):
    """Several datasets, concatenated, with labels mapped by each one's own scheme.

    A part is a dataset section, as in a recipe, with an optional ``weight`` for its training
    examples: 2 takes each twice, 0.5 a random half (drawn with the part's ``seed``). Validation and
    test take every example once.
    """

    class Settings(ComponentSettings):
        """The parts."""

        parts: tuple[dict[str, Any], ...] = Field(
            min_length=1, description="dataset sections, each with an optional weight (1)"
        )

        @field_validator("parts")
        @classmethod
        def _usable(cls, parts: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
            problems = [
                f"part {number} ({part.get('name', 'without a name')}): {problem}"
                for number, part in enumerate(parts, start=1)
                for problem in _problems(part)
            ]
            if problems:
                raise ValueError("; ".join(problems))
            return parts

    settings: Settings

    def splits(self) -> tuple[str, ...]:
        """Return the splits that at least one part has."""
        return tuple(split for split in SPLITS if self._parts_with(split))

    def load(self, split: str) -> Examples:
        """Load a split: the parts' examples in the order of the parts."""
        pieces = [self._piece(number, split) for number in self._parts_with(split)]
        return _with_distinct_ids(Examples.concatenate(pieces))

    def locate(self, split: str, row: int) -> str:
        """Describe a row by its part and its row there."""
        for number in self._parts_with(split):
            size = len(self._piece(number, split))
            if row < size:
                return f"part {number + 1} ({self._parts[number].name}), row {row + 1} of {split!r}"
            row -= size
        return super().locate(split, row)

    @cached_property
    def _parts(self) -> tuple[OpenedDataset, ...]:
        return tuple(open_dataset(_section(part)) for part in self.settings.parts)

    def _parts_with(self, split: str) -> list[int]:
        return [number for number, part in enumerate(self._parts) if split in part.splits]

    def _piece(self, number: int, split: str) -> Examples:
        dataset = self._parts[number]
        examples = dataset.split(split, labelled=False)
        weight = float(self.settings.parts[number].get("weight", 1))
        if split != "train" or weight == 1:
            return examples
        return examples.select(_weighted_rows(len(examples), weight, dataset.options.seed))


def _section(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "weight"}


def _problems(part: Mapping[str, Any]) -> list[str]:
    problems = []
    weight = part.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1000:
        problems.append(f"weight must be a number above 0 and below 1000, not {weight!r}")
    try:
        open_dataset(_section(part))
    except InputError as error:
        problems.append(error.message.rstrip("."))
    return problems


def _weighted_rows(size: int, weight: float, seed: int) -> NDArray[np.int64]:
    """Return each row int(`weight`) times, and a random share of rows for the fraction."""
    whole, share = divmod(weight, 1)
    drawn = np.random.default_rng(seed).permutation(size)[: round(share * size)]
    return np.concatenate([np.tile(np.arange(size), int(whole)), np.sort(drawn)])


def _with_distinct_ids(examples: Examples) -> Examples:
    """Number ids that several parts share: the second gets ``-2``, and so on.

    Repetitions of an example keep its id.
    """
    rows = np.unique(examples.row_numbers())
    ids = examples.table.column("id")
    used = ids if len(rows) == len(ids) else ids.take(rows)
    if pc.count_distinct(used).as_py() == len(rows):
        return examples
    renamed = ids.to_pylist()
    taken: set[str] = set()
    for row in rows:
        plain, occurrence = renamed[row], 1
        while renamed[row] in taken:
            occurrence += 1
            renamed[row] = f"{plain}-{occurrence}"
        taken.add(renamed[row])
    return examples.replace_column("id", pa.array(renamed, pa.string()))
