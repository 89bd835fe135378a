"""Text files: plain or compressed bytes, UTF-8 lines, and the JSON objects in them."""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydantic_core import from_json

from sentikit.errors import InputError
from sentikit.files import disk_errors

#: A line beyond this many bytes is no row of a table: reading on would only fill the memory.
LONGEST_LINE = 64 * 2**20

_LOOKALIKES = {
    b"PK\x03\x04": "an Excel workbook or a zip archive: export the sheet as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: export the sheet as CSV (UTF-8)",
    b"\x1f\x8b": "gzip-compressed: let its name end in .gz",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"PAR1": "a Parquet file: let its name end in .parquet",
    b"%PDF": "a PDF: export its text",
}


def open_binary(path: Path) -> BinaryIO:
    """Open `path` for reading; what a name ending in ``.gz`` holds is unpacked on the way.

    Raises:
        InputError: the file is missing, is a folder or may not be read.
    """
    with disk_errors(path):
        if path.suffix.lower() == ".gz":
            # GzipFile's own readline is several times slower than that of a buffer around it.
            return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, gzip.open(path, "rb"))))
        return path.open("rb")


def decoded_lines(stream: BinaryIO, name: str) -> Iterator[str]:
    r"""Yield the lines of `stream`, each with its ``\n``; only ``\n`` ends a line.

    A stream is read no further than the line asked for, so that a pipe can be followed as it
    grows. A byte order mark at the start is dropped.

    Args:
        stream: bytes in UTF-8.
        name: the file's name, for messages.

    Raises:
        InputError: a byte that is not UTF-8, a NUL, a line over 64 MiB, a damaged gzip file.
        SentikitError: the disk failed.
    """
    with _reading_errors(name):
        lines = iter(functools.partial(stream.readline, LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(name, number, line, error.start) from error
            if "\0" in text:
                raise _holds_nul(name, number, line)
            if len(line) >= LONGEST_LINE and not line.endswith(b"\n"):
                raise InputError(
                    f"{name}, line {number}: the line is longer than 64 MiB. "
                    "Give a text file with one row a line."
                )
            yield text if number > 1 else text.removeprefix("\ufeff")


@contextlib.contextmanager
def _reading_errors(name: str) -> Iterator[None]:
    with disk_errors(name):
        try:
            yield
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                f"{name} is not a whole gzip file ({error}). Compress or download it again."
            ) from error


def _not_utf8(name: str, number: int, line: bytes, position: int) -> InputError:
    return _mistaken(name, number, line) or InputError(
        f"{name}, line {number}, byte {position + 1} of the line: the byte 0x{line[position]:02X} "
        "is not UTF-8. Save the file as UTF-8 (it may be in Windows-1252 or Latin-1)."
    )


def _holds_nul(name: str, number: int, line: bytes) -> InputError:
    return _mistaken(name, number, line) or InputError(
        f"{name}, line {number}, byte {line.index(0) + 1} of the line: a NUL byte, which no text "
        "holds. Remove it, or save the file as UTF-8 if it is in UTF-16."
    )


def _mistaken(name: str, number: int, line: bytes) -> InputError | None:
    """Recognize what else a file that is not text may be, by its first bytes."""
    for start, advice in _LOOKALIKES.items():
        if number == 1 and line.startswith(start):
            return InputError(f"{name} is not UTF-8 text; it looks like {advice}.")
    return None


def json_records(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line; blank lines are skipped.

    ``NaN``, which Python and others write for a missing number though JSON has no such thing, is
    read as null.

    Raises:
        InputError: a line is not JSON, or is no object; says which and what is wrong with it.
    """
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            continue
        try:
            record = _decode(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}, line {number}: {_explain(error, line)}") from error
        if not isinstance(record, dict):
            raise InputError(f"{name}, line {number}: {_explain_kind(record)}")
        yield number, record


def _decode(line: str) -> Any:
    try:
        # Three times as fast as the standard decoder, and stricter.
        return from_json(line, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        # The standard one takes NaN and deep nesting, and says better what is wrong.
        record = json.JSONDecoder(parse_constant=_constant).decode(line.rstrip())
    if "\\u" in line:
        _refuse_half_characters(record)
    return record


def _constant(spelling: str) -> None:
    if spelling != "NaN":
        raise ValueError(f"{spelling} is not a JSON number")


def _refuse_half_characters(record: Any) -> None:
    r"""Refuse half of a surrogate pair (``\ud83d`` alone): no file could hold such a text."""
    try:
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"\\u{ord(half):04x} is half of a character") from error


def _explain(error: Exception, line: str) -> str:
    if isinstance(error, json.JSONDecodeError):
        if line.lstrip()[:1] == "[":
            return _NEEDED + "; a list over several lines is not JSON Lines."
        near = error.doc[max(0, error.pos - 10) : error.pos + 10]
        return f"not valid JSON: {error.msg} at character {error.pos + 1}, near {near!r}."
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply."
    return f"not valid JSON: {error}."


_NEEDED = 'a JSON object is needed on each line, as {"text": "I love it"}'
_KINDS = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def _explain_kind(value: Any) -> str:
    return f"{_NEEDED}; this is {_KINDS.get(type(value), 'a number')}."
