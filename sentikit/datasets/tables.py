"""Tables in any format, opened from a path, a pipe or a query."""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sentikit.components import open_component
from sentikit.datasets.json_lines import OBJECTS_LOOKED_AT, json_lines
from sentikit.datasets.rows import Rows, TableFormat
from sentikit.datasets.text_files import COMPRESSED, decoded_lines, open_binary
from sentikit.errors import InputError, SentikitError, did_you_mean
from sentikit.files import missing_file
from sentikit.registry import default_registry
from sentikit.terminal import LiveBar

#: Suffixes of the formats that are read without a plugin.
SUFFIXES: dict[str, str] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text"}
#: Formats of `read_rows`; plugins add more.
FORMATS = ("jsonl", "text")
STANDARD_INPUT = "standard input"
_HOOK = "register_table_formats"
_OTHER_SPREADSHEETS = (".xls", ".ods")
#: Rows between two updates of the progress bar.
_SHOWN_EVERY = 10_000
#: Bytes at a file's beginning and end that enter its fingerprint.
_EDGE = 2**16
_OPTION = "--text-column"


def read_rows(
    source: Path | str | BinaryIO,
    format: str | None = None,  # noqa: A002 - the word users know
    name: str = STANDARD_INPUT,
    sheet: str | None = None,
) -> Rows:
    """Open a table, whose rows are read on demand.

    Formats: ``jsonl`` (one object per line), ``text`` (one text per line, in a column ``text``),
    and those of plugins: ``csv`` and ``tsv`` (the first row names the columns; quoted as in RFC
    4180; CSV may also use semicolons or bars, if its header has no comma), ``tsv-unquoted``
    (quotes have no meaning), ``parquet``, ``arrow``, ``json`` (an array of objects, or an object
    with one such list) and ``xlsx``. Texts are UTF-8. Blank lines are skipped.

    A folder, or a pattern such as ``texts/*.txt``, is a table of its ``.txt`` files with the
    columns ``file`` and ``text``; a folder of ``.parquet`` files is one table of their rows.

    Args:
        source: a path, or a stream of bytes, which is read no further than needed.
        format: one of these; by default, the path's suffix decides (`SUFFIXES`; text formats also
            with .gz, .bz2, .xz or .zst after it), and a stream is text.
        name: a stream's name in messages.
        sheet: the table in a workbook or another file with several tables.

    Raises:
        InputError: the file or format is unknown, or the file is empty or malformed.
        SentikitError: the disk failed.
    """
    if format is not None:
        known_table_format(format)
    if not isinstance(source, Path | str):
        return _streamed(source, format or "text", name)
    path = Path(source).expanduser()
    pattern = any(character in str(path) for character in "*?[") and not path.exists()
    if format in (None, "text") and (pattern or path.is_dir()):
        return _from_plugin("folder").open(path)
    kind = format or format_of(path)
    reader = None if kind in FORMATS else _from_plugin(kind)
    if sheet is not None and not (reader and reader.has_sheets):
        raise InputError(f"{path} is no Excel workbook and has no sheets. Leave out the sheet.")
    if reader is not None:
        return reader.open(path, sheet)
    stream = open_binary(path)
    try:
        return _rows_of(stream, kind, str(path), OBJECTS_LOOKED_AT, stream.close)
    except SentikitError:
        stream.close()
        raise


def _streamed(stream: BinaryIO, kind: str, name: str) -> Rows:
    if kind not in FORMATS:
        return _from_plugin(kind).open_stream(stream, name)
    return _rows_of(stream, kind, name, 1, lambda: None)


def _rows_of(
    stream: BinaryIO, kind: str, name: str, looked_at: int, close: Callable[[], None]
) -> Rows:
    if kind == "jsonl":
        return json_lines(stream, name, looked_at, close)
    return _TextRows(decoded_lines(stream, name), name, close)


def _from_plugin(kind: str) -> TableFormat:
    found = default_registry().load(_HOOK, kind)
    made: TableFormat = found(found.Settings())
    return made


def format_of(path: Path) -> str:
    suffix = path.suffix.lower()
    packed = suffix in COMPRESSED
    if packed:
        suffix = Path(path.stem).suffix.lower()
    found = SUFFIXES.get(suffix)
    if found is None and suffix[1:] in default_registry().names(_HOOK):
        found = suffix[1:]
    if found and (not packed or found in FORMATS or _from_plugin(found).compressed):
        return found
    if not path.exists():
        raise missing_file(path)
    if found:
        raise InputError(f"{path}: compressed {found} files are not supported. Unpack it first.")
    if suffix in _OTHER_SPREADSHEETS:
        raise InputError(
            f"{path} is a spreadsheet in an unsupported format. Save it as .xlsx or CSV UTF-8."
        )
    raise InputError(
        f"{path}: the format of this suffix is unknown. Rename the file to end in "
        f"{', '.join([*SUFFIXES, *(f'.{name}' for name in default_registry().names(_HOOK))])}, "
        f"or name the format: {', '.join(_formats())}."
    )


def known_table_format(name: str) -> str:
    """Return the name of a format that `read_rows` takes.

    Raises:
        InputError: there is no such format.
    """
    if name not in FORMATS and name not in _formats():
        raise InputError(f"There is no format {name!r}. {did_you_mean(name, _formats())}")
    return name


def _formats() -> list[str]:
    return [*FORMATS, *default_registry().names(_HOOK)]


class _TextRows(Rows):
    unit = "line"

    def __init__(self, lines: Iterator[str], name: str, close: Callable[[], None]) -> None:
        self._lines = lines
        super().__init__(name, ("text",), close)

    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        for number, line in enumerate(self._lines, start=1):
            text = line.rstrip("\r\n")
            if text.strip():
                yield number, (text,) * len(columns)


@dataclass(frozen=True)
class InputFile:
    """A table of texts; anything but a pipe can be read several times.

    Attributes:
        file: the path of a table, a folder of Parquet files, a folder or pattern of text files,
            or ``-`` for standard input.
        kind: its format; None: by the file's suffix.
        text_columns: the columns that are joined to the text; by default one with a usual name.
        sheet: the sheet of a workbook.
        strip_markup: whether to remove HTML from the texts.
        query: a SELECT whose rows are read instead of a file, through the dataset ``sql``.
        database: the database of `query`; None: the files that it names.
    """

    file: str
    kind: str | None = None
    text_columns: tuple[str, ...] = ()
    sheet: str | None = None
    strip_markup: bool = False
    query: str | None = None
    database: str | None = None

    @property
    def piped(self) -> bool:
        """Whether it is standard input."""
        return self.file == "-" and self.query is None

    @property
    def typed(self) -> str:
        """The file or query as a command line names it."""
        if self.query is None:
            return self.file + (f" --sheet {shlex.quote(self.sheet)}" if self.sheet else "")
        database = f" --database {shlex.quote(self.database)}" if self.database else ""
        return f"--sql {shlex.quote(self.query)}{database}"

    @property
    def paths(self) -> list[str]:
        """The files that it may read; for a query, the database and all quoted texts."""
        named = [self.file, self.database, *(self.query or "").split("'")[1::2]]
        return [path for path in named if path is not None]

    def refuse_pipe(self) -> None:
        """Refuse standard input, for a command that reads a table several times."""
        if self.piped:
            raise InputError(
                "Name the file with the texts, or give --sql. A pipe can be read only once."
            )

    def open(self) -> Rows:
        """Open the table; refuse a terminal as standard input."""
        if self.query is not None:
            return self._answered(self.query)
        if self.database is not None:
            raise InputError("--database needs --sql. Leave it out, or give a query.")
        if not self.piped:
            return read_rows(self.file, self.kind, sheet=self.sheet)
        if sys.stdin.isatty():
            raise InputError(
                "There is nothing to label. Name a file, or pipe in texts, one per line "
                "(echo 'I love it' | sentikit predict MODEL)."
            )
        return read_rows(sys.stdin.buffer, self.kind, sheet=self.sheet)

    def _answered(self, query: str) -> Rows:
        if self.file != "-":
            raise InputError("--sql and a file are mutually exclusive. Give one of them.")
        section = {"name": "sql", "test": query, "database": self.database}
        rows: Rows = open_component("register_datasets", section).rows("test")
        return rows

    def columns(self, rows: Rows) -> tuple[str, ...]:
        """Return the text columns, chosen by `Rows.find_text_columns`."""
        return rows.find_text_columns(self.text_columns, _OPTION)

    def reader(self, rows: Rows) -> Callable[[int, Mapping[str, Any]], str]:
        """Return the function that extracts a row's text, from `Rows.text_reader`."""
        return rows.text_reader(self.text_columns, _OPTION, self.strip_markup)

    def count(self) -> int | None:
        """Return the number of rows, by reading them all once; None of a pipe.

        Raises:
            InputError: a row is malformed, or its text column holds no text.
        """
        return None if self.piped else self._count

    @functools.cached_property
    def _count(self) -> int:
        count = 0
        with self.open() as rows, LiveBar("rows", shown=os.environ.get("RANK", "0") == "0") as bar:
            for count, _ in enumerate(rows.cells(*self.columns(rows)), 1):
                if count % _SHOWN_EVERY == 0:
                    bar.update(count, line="Reading")
        return count

    def describe(self) -> dict[str, Any]:
        """Return what identifies this input, as JSON values."""
        return {
            "input": "standard input" if self.piped else self._fingerprint(),
            "text_columns": list(self.text_columns),
            "sheet": self.sheet,
            "strip_markup": self.strip_markup,
        }

    def _fingerprint(self) -> str:
        """Return what identifies the data: of a file, its size and both ends."""
        if self.query is not None:
            asked = f"{self.query}\0{self.database}".encode()
            return f"query {hashlib.sha256(asked).hexdigest()}"
        path = Path(self.file).expanduser()
        if not path.is_file():
            digest = hashlib.sha256()
            with self.open() as rows:
                for where, row in rows:
                    digest.update(repr((rows.at(where), row)).encode())
            return f"files {digest.hexdigest()}"
        size = path.stat().st_size
        with path.open("rb") as stream:
            digest = hashlib.sha256(stream.read(_EDGE))
            stream.seek(max(0, size - _EDGE))
            digest.update(stream.read(_EDGE))
        return f"{size} {digest.hexdigest()}"
