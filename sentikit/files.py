"""Atomic file writing: after a kill, a file or folder has its old or its new content."""

from __future__ import annotations

import codecs
import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sentikit.errors import InputError, SentikitError, nearest

#: Errors about files, even if a library raises them without a file name.
_REFUSALS = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    FileExistsError,
)
#: Errors of the disk, which have no file name while an open file is written.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)
#: Most files of a folder that are compared with a misspelled name.
_MOST_COMPARED = 2_000
#: Folders whose files are devices and open files of processes.
_SYSTEM = (("/", "dev"), ("/", "proc"))
#: Columns by which a file of checks by people is recognised.
_CHECKED = frozenset(("annotator", "inclusion", "revealed", "seconds"))


@contextlib.contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Turn the operating system's errors about `path` into clear messages.

    An error that names another file is reported for that file. Errors without a file that do not
    come from a disk, such as network errors, are raised unchanged.

    Raises:
        InputError: the file is missing, is a folder or may not be read or written.
        SentikitError: the disk is full or fails.
    """
    try:
        yield
    except OSError as error:
        by_type = isinstance(error, _REFUSALS)
        if error.filename is None and not by_type and error.errno not in _OF_DISKS:
            raise
        raise _explain(error, _refused(error, Path(path))) from error


def _refused(error: OSError, path: Path) -> Path:
    """Return the file of an error: `path` if it is at, in or above it, else the named file."""
    if not isinstance(error.filename, str):
        return path
    named = Path(error.filename)
    own = named in (path, *path.parents) or path in named.parents
    return path if own or named.name.startswith(f".{path.name}.") else named


def missing_file(path: Path) -> InputError:
    """Return the error for a file that does not exist, with files of similar names beside it."""
    # Unlike iterdir, glob finds nothing in a folder that cannot be listed.
    beside = path.parent.glob("*")
    files = {file.stem: str(file) for file in islice(beside, _MOST_COMPARED) if file.is_file()}
    meant = " or ".join(files[stem] for stem in nearest(path.stem, files))
    advice = f"Did you mean {meant}?" if meant else "Check the path."
    return InputError(f"{path} does not exist. {advice}")


def _explain(error: OSError, path: Path) -> SentikitError:
    if isinstance(error, FileNotFoundError):
        return missing_file(path)
    if isinstance(error, IsADirectoryError):
        return InputError(f"{path} is a folder, a file is needed.")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return InputError(f"{path} cannot be a folder, because a file has that name.")
    if error.errno == errno.ELOOP:
        return InputError(f"{path} is a link to itself. Fix or remove it.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(
            f"{path} may not be read or written ({error.strerror}). "
            "Choose another path or change its permissions."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SentikitError(
            f"The disk is full: {path} could not be written. Earlier files are intact. Free some "
            "space and try again."
        )
    return SentikitError(f"{path}: {error.strerror or error}.")


@contextlib.contextmanager
def atomic_writer(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success sync it and rename it into place.

    The target of a link is replaced, and the link kept. Devices and pipes are written directly.
    """
    with disk_errors(path):
        if is_stream(path):
            with path.open(mode, encoding=None if "b" in mode else "utf-8") as stream:
                yield stream
            return
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            encoding = None if "b" in mode else "utf-8"
            with os.fdopen(
                descriptor, mode, encoding=encoding, newline=None if encoding is None else "\n"
            ) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp makes files private; a result is as readable as the umask allows.
            os.chmod(temporary, 0o666 & ~umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    sync(path.parent)


def refuse_unwritable(path: Path) -> None:
    """Refuse, before any work, a file or a folder that cannot be written.

    Raises:
        InputError: it cannot be written; the message names the folder.
    """
    if is_stream(path):
        return
    real = Path(os.path.realpath(path))
    folder = real if real.is_dir() else next(one for one in real.parents if one.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"{path} cannot be written, because {folder} is not writable ({error.strerror}). "
            "Choose another place."
        ) from error


def refuse_overlap(
    written: Iterable[tuple[str, Path | None]],
    read: Iterable[Path | str | None],
    appended: Path | None = None,
) -> None:
    """Refuse to write a file that is read, written twice, checked by people or not writable.

    Args:
        written: each option with its file, or None.
        read: the files that are read; None is ignored.
        appended: the file of `written` that is kept and appended to.

    Raises:
        InputError: one of these; the message names the option.
    """
    taken = {os.path.realpath(path) for path in read if path is not None}
    for option, path in written:
        if path is None or is_stream(path):
            continue
        if (place := os.path.realpath(path)) in taken:
            raise InputError(
                f"{option} {path} is also read or written by this command. Choose another name."
            )
        refuse_unwritable(path)
        # A spreadsheet may have saved the file with other delimiters, and further columns.
        if path != appended and _CHECKED.issubset(re.findall(r"\w+", first_line(path))):
            raise InputError(
                f"{option} {path} holds checks by people and would be replaced. Choose another "
                "name."
            )
        taken.add(place)


def first_line(path: Path) -> str:
    """Return the first line of a text file, "" if there is no regular file."""
    if not path.is_file():
        return ""
    with disk_errors(path), path.open("rb") as stream:
        line = stream.readline(10_000)
    return line.removeprefix(codecs.BOM_UTF8).decode(errors="replace")


def is_stream(path: Path) -> bool:
    """Return whether a path exists and a rename could not replace it."""
    if path.is_dir():
        return False
    return path.exists() and (not path.is_file() or path.parts[:2] in _SYSTEM)


def write_text(path: Path, text: str) -> None:
    with atomic_writer(path) as stream:
        stream.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON from `path`.

    Raises:
        InputError: the file is missing or not JSON; the message gives the line.
    """
    with disk_errors(path):
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from error
    except RecursionError as error:
        raise InputError(f"{path} looks damaged: its JSON is nested too deeply.") from error
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{path} looks damaged: a number has too many digits.") from error


@contextlib.contextmanager
def folder_writer(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, and replace `folder` with it on success.

    A kill leaves the old folder or the new one. Between two renames the old one is named
    ``.NAME.old``; the next call restores it. Files become as readable as the umask allows, because
    temporary folders and safetensors are private.
    """
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if _old(folder).exists() and not folder.exists():
            os.rename(_old(folder), folder)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            yield temporary
            _replace_folder(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove leftovers of killed writes of `folder`, and restore it if one moved it away.

    No process may be writing the folder now.
    """
    if _old(folder).exists() and not folder.exists():
        os.rename(_old(folder), folder)
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        shutil.rmtree(left, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _replace_folder(new: Path, folder: Path) -> None:
    for path in [*new.rglob("*"), new]:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask())
        sync(path)
    old = _old(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file's content, or a rename in a folder, survive a power cut, if possible."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def umask() -> int:
    """Return this process's umask."""
    current = os.umask(0o022)
    os.umask(current)
    return current


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in `folder`, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_checksum(path) for path in files}


def folder_checksum(folder: Path) -> str:
    """Return one checksum of all files in `folder`.

    If ``config.json`` has checksums, which are verified when the model is loaded, it uses those.
    """
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    if not isinstance(config, dict) or not config.get("sha256"):
        config = checksums(folder)
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def file_checksum(path: Path) -> str:
    with disk_errors(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
