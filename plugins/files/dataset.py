"""The dataset ``files``: splits in the user's files, in any format."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from sentikit import Examples
from sentikit.extension import (
    ComponentSettings,
    DatasetLoader,
    ExamplesBuilder,
    Rows,
    disk_errors,
    known_table_format,
    read_rows,
)

SPLITS = ("train", "validation", "test")


class Files(DatasetLoader):
    """Splits in files: one file per split, with columns named by the settings or found by name.

    Labels keep their spelling, numbers are shortened (``1``, not ``1.0``); an empty label, source
    or id counts as missing.
    """

    class Settings(ComponentSettings):
        """The files and their columns."""

        train: Path | None = Field(None, description="file with the training examples")
        validation: Path | None = Field(None, description="file with the validation examples")
        test: Path | None = Field(None, description="file with the test examples")
        text: str | tuple[str, ...] | None = Field(
            None,
            description="column of the texts, a path such as review.text, or a list of these to "
            "join; default: found by name",
        )
        markup: Literal["keep", "strip"] = Field(
            "keep", description="strip: remove HTML from the texts"
        )
        label: str | None = Field(None, description="column of the labels; default: found by name")
        source: str | None = Field(
            None, description="column of the sources; default: found by name"
        )
        id: str | None = Field(None, description="column of the ids; default: found by name")
        format: str | None = Field(
            None,
            description="csv, tsv, tsv-unquoted, jsonl, json, parquet, arrow, xlsx or text, if "
            "the file suffix does not tell",
        )
        columns: list[str] = Field(
            default_factory=list, description="further columns, for prompts that show {row.COLUMN}"
        )
        sheet: str | None = Field(None, description="sheet of an Excel workbook with several")

        @model_validator(mode="after")
        def _names_a_file(self) -> Files.Settings:
            if not any(getattr(self, split) for split in SPLITS):
                raise ValueError(
                    "name at least one file: --set dataset.train=FILE (or validation, test)"
                )
            return self

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.format is not None:
            known_table_format(settings.format)
        self._places: dict[str, tuple[str, array[int]]] = {}
        self._begun: set[str] = set()

    def splits(self) -> tuple[str, ...]:
        """Return the splits that have a file.

        Raises:
            InputError: a file may not be read, has not the columns, or no text in its first row.
        """
        named = tuple(split for split in SPLITS if getattr(self.settings, split))
        for split in named:
            _check(self._path(split))
            # A pipe can be read once.
            if split not in self._begun and self._path(split).is_file():
                with self.rows(split) as rows:
                    next(self._fields(rows, *self._columns(rows)), None)
                self._begun.add(split)
        return named

    def load(self, split: str) -> Examples:
        """Read a split's file.

        Raises:
            InputError: the file is malformed, or a column is not found.
        """
        kept = self.settings.columns
        builder = ExamplesBuilder(columns=bool(kept))
        starts = array("q")
        with self.rows(split) as rows:
            texts, others = self._columns(rows)
            self._places[split] = (f"{rows.name}, {rows.unit}", starts)
            for where, text, (label, source, id_, *more) in self._fields(rows, texts, others):
                starts.append(where)
                columns = dict(zip(kept, more, strict=True)) if kept else None
                builder.add(text, label=label, source=source, id=id_, columns=columns)
        return builder.finish()

    def rows(self, split: str) -> Rows:
        """Open the table of a split."""
        return read_rows(self._path(split), self.settings.format, sheet=self.settings.sheet)

    def locate(self, split: str, row: int) -> str:
        """Describe an example by file and line: ``reviews.csv, line 17``."""
        if split not in self._places:
            return super().locate(split, row)
        place, starts = self._places[split]
        return f"{place} {starts[row]}"

    def _path(self, split: str) -> Path:
        path: Path = getattr(self.settings, split)
        return path.expanduser()

    def _columns(self, rows: Rows) -> tuple[tuple[str, ...], dict[str, str | None]]:
        """Return the columns of the texts, and those of label, source and id."""
        wanted = self.settings.text
        named = (wanted,) if isinstance(wanted, str) else wanted or ()
        texts = rows.find_text_columns(named, "dataset.text=COLUMN")
        found = {
            what: rows.find_optional_column(what, getattr(self.settings, what))
            for what in ("label", "source", "id")
        }
        kept = self.settings.columns
        return texts, found | {
            f"columns.{name}": rows.find_column("columns", name) for name in kept
        }

    def _fields(
        self, rows: Rows, texts: Sequence[str], others: dict[str, str | None]
    ) -> Iterator[tuple[int, str, list[str | None]]]:
        """Yield each row's place, text and other values; blank ones are None."""
        present = [column for column in others.values() if column is not None]
        positions = [len(present) if c is None else present.index(c) for c in others.values()]
        strip = self.settings.markup == "strip"
        for where, text, cells in rows.texts(texts, present, strip):
            padded = (*cells, None)
            yield where, text, [_none_if_blank(padded[position]) for position in positions]


def _check(path: Path) -> None:
    """Refuse an unreadable path without opening it, since it may be a pipe."""
    if path.is_dir() or any(character in str(path) for character in "*?["):
        return  # A folder of texts, or a pattern, is checked when it is read.
    with disk_errors(path):
        path.stat()
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _none_if_blank(cell: str | None) -> str | None:
    return None if cell is None or not cell or cell.isspace() else cell
