"""Text files, plain or compressed, and their UTF-8 lines."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from sentikit.errors import InputError
from sentikit.files import disk_errors

#: Longest line in bytes; a longer one would only fill the memory.
LONGEST_LINE = 64 * 2**20

_LOOKALIKES = {
    b"PK\x03\x04": "an Excel workbook, whose name must end in .xlsx, or a zip archive: unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save it as .xlsx, or as CSV UTF-8",
    b"\x1f\x8b": "gzip-compressed: let its name end in .gz",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"BZh": "bzip2-compressed: let its name end in .bz2",
    b"\xfd7zXZ": "xz-compressed: let its name end in .xz",
    b"\x28\xb5\x2f\xfd": "zstd-compressed: let its name end in .zst",
    b"PAR1": "a Parquet file: let its name end in .parquet",
    b"ARROW1": "an Arrow file: let its name end in .arrow",
    b"%PDF": "a PDF: export its text",
}


def open_binary(path: Path) -> BinaryIO:
    """Open `path` for reading, decompressing it if its suffix is one of `COMPRESSED`.

    Raises:
        InputError: the file is missing, a folder or not readable.
    """
    ending = path.suffix.lower()
    with disk_errors(path):
        if ending not in _UNPACKERS:
            return path.open("rb")
        packed = _UNPACKERS[ending](path)
        # A buffer makes these readers' readline several times faster.
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, packed)))


def _zstandard(path: Path) -> Any:
    import pyarrow as pa

    with path.open("rb"):  # fails with the same error as for other files
        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")


_UNPACKERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstandard,
}
#: Suffixes of the supported compressions.
COMPRESSED = tuple(_UNPACKERS)


def decoded_lines(stream: BinaryIO, name: str) -> Iterator[str]:
    r"""Yield the lines of `stream`, each with its ``\n``; only ``\n`` ends a line.

    A stream is read no further than the requested line, so that a pipe can be followed as it
    grows. A byte order mark at the start is removed.
    """
    with reading_errors(name):
        lines = iter(functools.partial(stream.readline, LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                odd = f"the byte 0x{line[error.start]:02X} is not UTF-8. Save the file as UTF-8 "
                odd += "(it may be in Windows-1252 or Latin-1)."
                raise _odd_byte(name, number, line, error.start, odd) from error
            if "\0" in text:
                odd = "a NUL byte is not text. Remove it, or save the file as UTF-8 if it is in "
                odd += "UTF-16."
                raise _odd_byte(name, number, line, line.index(0), odd)
            if len(line) >= LONGEST_LINE and not line.endswith(b"\n"):
                raise InputError(
                    f"{name}, line {number}: the line is longer than 64 MiB. "
                    "Give a text file with one row per line."
                )
            yield text if number > 1 else text.removeprefix("\ufeff")


@contextlib.contextmanager
def reading_errors(name: str) -> Iterator[None]:
    """Turn errors of the disk, the compression and the encoding into ones that name the file."""
    with disk_errors(name):
        try:
            yield
        except UnicodeDecodeError as error:
            odd = f"{name}: the byte 0x{error.object[error.start]:02X} is not UTF-8."
            raise _mistaken_file(name, error.object) or InputError(odd) from error
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if getattr(error, "errno", None):
                raise
            known = {".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
            packed = known.get(Path(name).suffix.lower(), "gzip")
            raise InputError(
                f"{name} is not a complete {packed} file ({error}). Compress or download it again."
            ) from error


def _odd_byte(name: str, number: int, line: bytes, position: int, odd: str) -> InputError:
    other = _mistaken_file(name, line) if number == 1 else None
    return other or InputError(f"{name}, line {number}, byte {position + 1} of the line: {odd}")


def _mistaken_file(name: str, begin: bytes) -> InputError | None:
    """Return the error for a file whose first bytes are those of another known type, or None."""
    for start, advice in _LOOKALIKES.items():
        if begin.startswith(start):
            return InputError(f"{name} is not UTF-8 text; it looks like {advice}.")
    return None
