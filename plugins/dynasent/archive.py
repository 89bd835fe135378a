"""DynaSent's files, in a folder or inside its zip archive."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from sentikit import InputError
from sentikit.extension import disk_errors, read_rows

if TYPE_CHECKING:
    from sentikit.extension import Rows

_ARCHIVE = "dynasent-v1.1.zip"
# Errors of zipfile for damaged, unsupported and encrypted members.
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class DataFile:
    """A JSON Lines file on disk or a member of a zip archive.

    Attributes:
        path: the file, or the archive.
        member: the name inside the archive; never used as a path of the file system.
    """

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @contextlib.contextmanager
    def open(self) -> Iterator[Rows]:
        """Open the file as a table.

        Raises:
            InputError: the file cannot be read, or a line is not valid UTF-8 or JSON.
        """
        if self.member is None:
            with read_rows(self.path) as rows:
                yield rows
            return
        try:
            with (
                disk_errors(self.path),
                zipfile.ZipFile(self.path) as archive,
                archive.open(self.member) as stream,
            ):
                yield read_rows(cast(BinaryIO, stream), "jsonl", str(self))
        except _ARCHIVE_ERRORS as error:
            raise _unreadable(self.path, error) from error


def find_files(path: Path, names: list[str]) -> dict[str, DataFile]:
    """Return the files among `names` that are in `path`: a folder, or a zip archive.

    A folder is searched one level deep, then an archive in it for the missing files.

    Raises:
        InputError: `path` does not exist, or the archive cannot be read.
    """
    if path.is_file():
        return _find_in_archive(path, names)
    if not path.is_dir():
        raise InputError(f"{path} does not exist. Give DynaSent's folder, or {_ARCHIVE}.")
    with disk_errors(path):
        found = {name: file for name in names for file in _find_in_folder(path, name)}
        archives = [*path.glob(_ARCHIVE), *path.glob(f"*/{_ARCHIVE}")]
    missing = [name for name in names if name not in found]
    if missing and archives:
        found |= _find_in_archive(archives[0], missing)
    return found


def _find_in_folder(folder: Path, name: str) -> list[DataFile]:
    places = sorted([*folder.glob(name), *folder.glob(f"*/{name}")])
    return [DataFile(place) for place in places if place.is_file()][:1]


def _find_in_archive(path: Path, names: list[str]) -> dict[str, DataFile]:
    try:
        with disk_errors(path), zipfile.ZipFile(path) as archive:
            members = {PurePosixPath(member).name: member for member in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise _unreadable(path, error) from error
    return {name: DataFile(path, members[name]) for name in names if name in members}


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} cannot be read as a zip archive ({error}). Download it again, or give a folder."
    )
