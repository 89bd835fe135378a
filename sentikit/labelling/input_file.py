"""The file or pipe that `predict` labels."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from sentikit.datasets.tables import Rows, read_rows
from sentikit.errors import InputError

#: Bytes at a file's beginning and end that tell it from another of its size.
_EDGE = 2**16


@dataclass(frozen=True)
class InputFile:
    """The rows to label; a file is read from the first row each time they are gone through.

    Attributes:
        file: the path, or ``-``: standard input, read once.
        kind: its format; None: by the file's ending.
        text_column: the column of the texts; None: one with a usual name.
    """

    file: str
    kind: str | None = None
    text_column: str | None = None

    @property
    def piped(self) -> bool:
        """Whether it is standard input."""
        return self.file == "-"

    def open(self) -> Rows:
        """Open the table.

        Raises:
            InputError: it cannot be read, or standard input is a terminal.
        """
        if not self.piped:
            return read_rows(self.file, self.kind)
        if sys.stdin.isatty():
            raise InputError(
                "There is nothing to label: name a file, or pipe texts in, one a line "
                "(echo 'I love it' | sentikit predict MODEL)."
            )
        return read_rows(sys.stdin.buffer, self.kind)

    def column(self, rows: Rows) -> str:
        """Return the column of the texts.

        Raises:
            InputError: there is no such column, or none that is likely.
        """
        return rows.find_column("text", self.text_column, "--text-column")

    def count(self) -> int:
        """Return how many rows there are, by reading them all.

        Raises:
            InputError: the file is malformed or has no rows.
        """
        with self.open() as rows:
            return sum(1 for _ in rows)

    def fingerprint(self) -> str:
        """Return what tells the file from another, or from itself changed at its size or ends."""
        path = Path(self.file)
        size = path.stat().st_size
        with path.open("rb") as stream:
            digest = hashlib.sha256(stream.read(_EDGE))
            stream.seek(max(0, size - _EDGE))
            digest.update(stream.read(_EDGE))
        return f"{size} {digest.hexdigest()}"
