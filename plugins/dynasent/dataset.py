"""DynaSent (Potts et al. 2021), from its files or from the hub."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from sentikit import Examples, InputError, open_dataset
from sentikit.extension import ComponentSettings, DatasetLoader, ExamplesBuilder

from .archive import DataFile, find_files

REPOSITORY = "dynabench/dynasent"
_SPLITS = {"train": "train", "validation": "dev", "test": "test"}
_STEMS = {1: "dynasent-v1.1-round01-yelp", 2: "dynasent-v1.1-round02-dynabench"}
_COLUMNS = ("text_id", "sentence", "gold_label")


def _each_once(rounds: tuple[Literal[1, 2], ...]) -> tuple[Literal[1, 2], ...]:
    return tuple(dict.fromkeys(rounds))


class _Record(NamedTuple):
    """The fields of a row, and its position."""

    where: int
    id: str | None
    text: str | None
    label: str | None


class DynaSent(DatasetLoader):
    """Sentences labelled negative, neutral or positive by the majority of five people."""

    class Settings(ComponentSettings):
        """Source and selection of DynaSent."""

        path: Path | None = Field(
            None, description="dynasent-v1.1.zip, or the folder with its JSON Lines files"
        )
        rounds: Annotated[tuple[Literal[1, 2], ...], AfterValidator(_each_once)] = Field(
            (1, 2),
            min_length=1,
            description="1: sentences from reviews; 2: written to mislead a model",
        )
        ternary: bool = Field(True, description="drop sentences that most annotators called mixed")

    settings: Settings

    def splits(self) -> tuple[str, ...]:
        """Return the splits with files for all requested rounds."""
        if self.settings.path is None:
            return tuple(_SPLITS)
        names = [_file_name(number, split) for number in _STEMS for split in _SPLITS]
        found = find_files(self.settings.path.expanduser(), names)
        if not found:
            raise InputError(
                f"{self.settings.path} has none of DynaSent's files ({names[0]}, ...). "
                "Give their folder, or dynasent-v1.1.zip."
            )
        return tuple(split for split in _SPLITS if all(n in found for n in self._names(split)))

    def load(self, split: str) -> Examples:
        """Load a split, round by round; the ids are the data's ``text_id``."""
        builder = ExamplesBuilder()
        for number, record in self._records(split):
            source = f"dynasent_r{number}"
            builder.add(record.text or "", label=record.label, source=source, id=record.id)
        return builder.finish()

    def locate(self, split: str, row: int) -> str:
        """Name the file and the line of a row."""
        number, record = next(islice(self._records(split), row, None))
        if self.settings.path is None:
            return f"row {record.where} of {_config(number)} ({split})"
        name = _file_name(number, split)
        return f"{_found(self.settings.path, name)}, line {record.where}"

    def _names(self, split: str) -> list[str]:
        return [_file_name(number, split) for number in self.settings.rounds]

    def _records(self, split: str) -> Iterator[tuple[int, _Record]]:
        """Yield the selected records, each with the number of its round."""
        path = self.settings.path
        refused = ("", "mixed") if self.settings.ternary else ("",)
        for number in self.settings.rounds:
            name = _file_name(number, split)
            records = _hub_records(number, split) if path is None else _file_records(path, name)
            for record in records:
                if (record.label or "") not in refused:
                    yield number, record


def _config(number: int) -> str:
    return f"dynabench.dynasent.r{number}.all"


def _file_name(number: int, split: str) -> str:
    return f"{_STEMS[number]}-{_SPLITS[split]}.jsonl"


def _found(path: Path, name: str) -> DataFile:
    found = find_files(path.expanduser(), [name])
    if name not in found:
        raise InputError(f"{path} does not contain {name}. Give the folder or archive that does.")
    return found[name]


def _file_records(path: Path, name: str) -> Iterator[_Record]:
    with _found(path, name).open() as rows:
        for line, cells in rows.cells(*_COLUMNS):
            yield _Record(line, *cells)


def _hub_records(number: int, split: str) -> Iterator[_Record]:
    section = {"path": REPOSITORY, "config": _config(number), "revision": "refs/convert/parquet"}
    with open_dataset({"name": "hub", **section}).loader.rows(split) as rows:
        for where, cells in rows.cells(*_COLUMNS):
            yield _Record(where, *cells)
