"""Input of the commands that label or check texts: a file, a pipe or what a query returns."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentikit.datasets.tables import Rows, read_rows
from sentikit.errors import InputError

#: Bytes at a file's beginning and end that tell it from another of its size.
_EDGE = 2**16
_OPTION = "--text-column"


@dataclass(frozen=True)
class InputFile:
    """A table of texts; all but a pipe are read from the first row each time.

    Attributes:
        file: the path of a table, a folder or a pattern of texts, or ``-``: standard input.
        kind: its format; None: by the file's ending.
        text_columns: the columns that are joined to a text; without any, one with a usual name.
        sheet: of a workbook.
        strip_markup: whether to take HTML off the texts.
        query: one SELECT whose rows are read in the place of a file, through the dataset ``sql``.
        database: what `query` is put to; None: files that it names.
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

    def open(self) -> Rows:
        """Open the table.

        Raises:
            InputError: it cannot be read, or standard input is a terminal.
        """
        if self.query is not None:
            return self._answered(self.query)
        if self.database is not None:
            raise InputError("--database is for --sql. Leave it out, or give a query.")
        if not self.piped:
            return read_rows(self.file, self.kind, sheet=self.sheet)
        if sys.stdin.isatty():
            raise InputError(
                "There is nothing to label: name a file, or pipe texts in, one a line "
                "(echo 'I love it' | sentikit predict MODEL)."
            )
        return read_rows(sys.stdin.buffer, self.kind, sheet=self.sheet)

    def _answered(self, query: str) -> Rows:
        from sentikit.components import check_part, refuse
        from sentikit.datasets.opening import DatasetLoader
        from sentikit.registry import default_registry

        if self.file != "-":
            raise InputError("--sql takes the place of a file: give one of them.")
        section = {"name": "sql", "test": query, "database": self.database}
        loader, problems = check_part(default_registry(), "register_datasets", section)
        refuse(problems, lambda problem: f"--sql: {problem.message}")
        assert isinstance(loader, DatasetLoader)
        return loader.rows("test")

    def columns(self, rows: Rows) -> tuple[str, ...]:
        """Return the columns of the texts.

        Raises:
            InputError: there is no such column, or none that is likely.
        """
        return rows.find_text_columns(self.text_columns, _OPTION)

    def reader(self, rows: Rows) -> Callable[[int, Mapping[str, Any]], str]:
        """Return what gives the text of a row, "" where it has none.

        Raises:
            InputError: as for `columns`; later, a value that is no text.
        """
        return rows.text_reader(self.text_columns, _OPTION, self.strip_markup)

    def count(self) -> int:
        """Return how many rows there are, by reading them all.

        Raises:
            InputError: the file is malformed or has no rows.
        """
        with self.open() as rows:
            return sum(1 for _ in rows)

    def describe(self) -> dict[str, Any]:
        """Return what tells this input from another, as JSON can hold it."""
        return {
            "input": "standard input" if self.piped else self._fingerprint(),
            "text_columns": list(self.text_columns),
            "sheet": self.sheet,
            "strip_markup": self.strip_markup,
        }

    def _fingerprint(self) -> str:
        """Return what tells the data from others, or from themselves changed at size or ends."""
        if self.query is not None:
            asked = f"{self.query}\0{self.database}".encode()
            return f"query {hashlib.sha256(asked).hexdigest()}"
        path = Path(self.file).expanduser()
        if not path.is_file():
            with self.open() as rows:
                names = "\0".join(rows.at(where) for where, _ in rows)
            return f"files {hashlib.sha256(names.encode()).hexdigest()}"
        size = path.stat().st_size
        with path.open("rb") as stream:
            digest = hashlib.sha256(stream.read(_EDGE))
            stream.seek(max(0, size - _EDGE))
            digest.update(stream.read(_EDGE))
        return f"{size} {digest.hexdigest()}"
