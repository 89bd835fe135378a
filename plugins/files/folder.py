"""Folders as tables: the ``.txt`` files of a folder or a pattern, or a folder's Parquet files."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from sentikit import InputError
from sentikit.extension import RecordRows, Rows, TableFormat, decoded_lines, open_binary, read_rows


class Folder(TableFormat):
    """A row per text file, with the columns ``file`` and ``text``; else the Parquet files."""

    def open(self, path: Path, sheet: str | None = None) -> Rows:
        """Open a folder, or a pattern such as ``texts/*.txt``."""
        if not path.is_dir():
            return FolderRows(str(path), _matching(path))
        found = sorted(file for file in path.iterdir() if file.suffix.lower() == ".txt")
        if found:
            return FolderRows(str(path), found)
        if any(path.glob("*.parquet")):
            return read_rows(path, "parquet")
        if (path / "manifest.json").is_file():
            raise InputError(f"{path} is a run. Give a file.")
        raise InputError(f"{path} is a folder without .txt or .parquet files. Give a file.")


def _matching(path: Path) -> list[Path]:
    """Return the text files that match a pattern."""
    found = sorted(Path(file) for file in glob.glob(str(path), recursive=True))
    texts = [file for file in found if file.is_file()]
    if not texts:
        raise InputError(f"No file matches {path}. Check the pattern.")
    if odd := [file for file in texts if file.suffix.lower() != ".txt"]:
        raise InputError(f"{path} matches {odd[0]}; a pattern is for .txt files. Give one file.")
    return texts


class FolderRows(RecordRows):
    """The name and the text of each file."""

    unit = "file"

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self._files = files
        super().__init__(name, ("file", "text"), map(_name_and_text, files))

    def at(self, where: int) -> str:
        """Return the path of a row's file."""
        return str(self._files[where - 1])


def _name_and_text(path: Path) -> tuple[str, str]:
    with open_binary(path) as stream:
        return path.name, "".join(decoded_lines(stream, str(path))).rstrip("\r\n")
