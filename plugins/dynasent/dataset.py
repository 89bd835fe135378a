"""DynaSent (Potts et al. 2021), from its files or from the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from sentikit import (
    DatasetLoader,
    Examples,
    ExamplesBuilder,
    InputError,
    PartSettings,
    did_you_mean,
    load_from_hub,
)

from .archive import find_files

REPOSITORY = "dynabench/dynasent"
_SPLITS = {"train": "train", "validation": "dev", "test": "test"}
_STEMS = {1: "dynasent-v1.1-round01-yelp", 2: "dynasent-v1.1-round02-dynabench"}
_COLUMNS = frozenset(("text_id", "sentence", "gold_label"))


class _Row(NamedTuple):
    place: str
    id: str
    text: str
    label: str
    source: str


class DynaSent(DatasetLoader):
    """Sentences labelled negative, neutral or positive by the majority of five people."""

    class Settings(PartSettings):
        """Where DynaSent comes from and which of it is taken."""

        path: Path | None = Field(
            None, description="dynasent-v1.1.zip, or the folder with its JSON Lines files"
        )
        rounds: tuple[Literal[1, 2], ...] = Field(
            (1, 2), min_length=1, description="1: sentences found in reviews; 2: written to deceive"
        )
        ternary: bool = Field(
            True, description="leave out sentences most people called mixed; false keeps them"
        )

    settings: Settings

    def splits(self) -> tuple[str, ...]:
        """Return the splits whose files, of all rounds asked for, are there."""
        if self.settings.path is None:
            return tuple(_SPLITS)
        names = [_file_name(number, split) for number in _STEMS for split in _SPLITS]
        found = find_files(self.settings.path.expanduser(), names)
        if not found:
            raise InputError(
                f"{self.settings.path} holds none of DynaSent's files ({names[0]}, ...). "
                "Give their folder, or dynasent-v1.1.zip."
            )
        return tuple(split for split in _SPLITS if all(n in found for n in self._names(split)))

    def load(self, split: str) -> Examples:
        """Load a split, the rounds one after the other; ids are the data's own ``text_id``."""
        builder = ExamplesBuilder()
        for row in self._rows(split):
            builder.add(row.text, label=row.label, source=row.source, id=row.id)
        return builder.finish()

    def locate(self, split: str, row: int) -> str:
        """Name the file and the line of a row."""
        return next(islice(self._rows(split), row, None)).place

    def _names(self, split: str) -> list[str]:
        return [_file_name(number, split) for number in self.settings.rounds]

    def _rows(self, split: str) -> Iterator[_Row]:
        for number in self.settings.rounds:
            for place, row in self._records(number, split):
                label = row["gold_label"]
                if label is None or (self.settings.ternary and label == "mixed"):
                    continue
                yield _Row(place, str(row["text_id"]), row["sentence"], label, _source(number))

    def _records(self, number: int, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if self.settings.path is None:
            return _hub_records(number, split)
        return _file_records(self.settings.path.expanduser(), _file_name(number, split))


def _source(number: int) -> str:
    return f"dynasent_r{number}"


def _file_name(number: int, split: str) -> str:
    return f"{_STEMS[number]}-{_SPLITS[split]}.jsonl"


def _file_records(path: Path, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    found = find_files(path, [name])
    if name not in found:
        raise InputError(f"{path} does not hold {name}. Give the folder or archive that does.")
    file = str(found[name])
    for line, row in found[name].rows():
        place = f"{file}, line {line}"
        _check(row, place)
        yield place, row


def _check(row: Mapping[str, Any], place: str) -> None:
    if not row.keys() >= _COLUMNS:
        missing = sorted(_COLUMNS - row.keys())
        raise InputError(f"{place}: there is no {missing[0]!r}. {did_you_mean(missing[0], row)}")
    if not isinstance(row["sentence"], str) or not isinstance(row["gold_label"], str | None):
        raise InputError(f"{place}: 'sentence' must be text, 'gold_label' text or null.")


def _hub_records(number: int, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    dataset = load_from_hub(
        REPOSITORY,
        split,
        config=f"dynabench.dynasent.r{number}.all",
        revision="refs/convert/parquet",
        columns=sorted(_COLUMNS),
    )
    for line, row in enumerate(dataset, start=1):
        record = {**row, "sentence": row["sentence"] or "", "gold_label": row["gold_label"] or None}
        yield f"row {line} of {REPOSITORY} ({split})", record
