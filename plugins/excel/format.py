"""Excel workbooks: one sheet of an ``.xlsx`` file, read row by row."""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from sentikit import InputError
from sentikit.extension import Rows, TableFormat, did_you_mean, disk_errors

#: The most rows of a sheet in Excel.
MOST_ROWS = 1_048_576
# Shared strings are held in memory, sheets are not.
_MOST_BYTES, _MOST_SHEET_BYTES = 2**30, 2**33
_OLE = b"\xd0\xcf\x11\xe0"
# A longer row or shared string would take many times its size in memory.
_MOST_ITEM_BYTES = 2**25
_CHUNK = 2**20
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell [^>]*ref="([A-Z]+[0-9]+:[A-Z]+[0-9]+)"')
_FORMULA = re.compile(rb"<(?:\w+:)?f[ >/]")
_ITEM = re.compile(rb"</(?:\w+:)?(?:row|si)\s*>|<(?:\w+:)?row [^<>]*/>")
_ROW = b"<row "
_DIMENSION = re.compile(rb"<(?:\w+:)?dimension ")
_DOCTYPE = re.compile(rb"<!(?:DOCTYPE|ENTITY)")


class Workbook(TableFormat):
    """The format of Excel workbooks: a sheet is a table."""

    has_sheets = True

    def open(self, path: Path, sheet: str | None = None) -> Rows:
        """Open the sheet of that name, or the only one."""
        return SheetRows(path, sheet)


class SheetRows(Rows):
    """Rows of a sheet whose first row with a value names the columns.

    A cell's value is the one that Excel computed last. Ambiguous content is refused: merged cells,
    formulas that were never computed, columns without a name.

    Raises:
        InputError: the workbook cannot be read, or has no such sheet.
    """

    def __init__(self, path: Path, sheet: str | None = None) -> None:
        self.name = str(path)
        _check_archive(path)
        with self._damage():
            self._book = _open(path, computed=True)
        try:
            self._sheet = _choose(self._book, sheet, self.name)
            self._formulas = _scan(path, self._sheet, self.name)
            self._other = _open(path, computed=False) if self._formulas else None
            self._rows = self._filled()
            self._header_row, header = next(self._rows, (0, ()))
            super().__init__(self.name, self._names(header), self._close_books)
        except BaseException:
            self._close_books()
            raise

    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the number of each row in the sheet and its values; empty rows are skipped."""
        places = {name: place for place, name in enumerate(self.columns)}
        positions = [places[name] for name in columns]
        width = len(self.columns)
        for number, values in self._rows:
            if any(value is not None for value in values[width:]):
                raise InputError(
                    f"{self.name}, row {number}: there is a value beyond the {width} columns that "
                    "have a name. Name its column in the first row, or remove it."
                )
            padded = (*values, *([None] * (width - len(values))))
            yield number, tuple([padded[position] for position in positions])

    def _close_books(self) -> None:
        if hasattr(self, "_rows"):
            self._rows.close()
        for book in (self._book, getattr(self, "_other", None)):
            if book is not None:
                book.close()

    def _filled(self) -> Generator[tuple[int, tuple[Any, ...]], None, None]:
        """Yield the rows with a value."""
        with contextlib.ExitStack() as opened:
            opened.enter_context(self._damage())
            rows = opened.enter_context(contextlib.closing(self._sheet.iter_rows(values_only=True)))
            others = None
            if self._other:
                others = self._other[self._sheet.title].iter_rows()
                opened.enter_context(contextlib.closing(others))
            for number, values in enumerate(rows, 1):
                if number > MOST_ROWS:
                    raise _too_many_rows(self.name)
                if others is not None:
                    self._refuse_uncomputed(values, next(others, ()))
                if any(value is not None and value != "" for value in values):
                    yield number, values

    def _refuse_uncomputed(self, values: tuple[Any, ...], cells: Sequence[Any]) -> None:
        for value, cell in zip(values, cells, strict=False):
            if value is None and getattr(cell, "data_type", "") == "f":
                raise InputError(
                    f"{self.name}, cell {cell.coordinate}: the formula was never computed. Open "
                    "the file in Excel or LibreOffice and save it, or write the value."
                )

    def _names(self, header: tuple[Any, ...]) -> tuple[str, ...]:
        names = ["" if value is None else str(value).strip() for value in header]
        while names and not names[-1]:
            names.pop()
        if not names:
            raise InputError(f"{self.name}: the sheet {self._sheet.title!r} is empty.")
        if "" in names:
            raise InputError(
                f"{self.name}, row {self._header_row}: column {names.index('') + 1} has no name. "
                "The first row with a value must name every column."
            )
        return tuple(names)

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        with disk_errors(self.name):
            try:
                yield
            except InputError:
                raise
            # The library raises various errors: KeyError, ValueError, ParseError, BadZipFile.
            except Exception as error:
                if isinstance(error, OSError) and error.errno:
                    raise
                reason = " ".join(str(error).split()) or type(error).__name__
                raise InputError(
                    f"{self.name} is not a complete Excel workbook ({reason}). Save it again."
                ) from error


def _open(path: Path, computed: bool) -> Any:
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(
            "Excel workbooks need openpyxl: pip install 'sentikit[excel]'. "
            "Or save the sheet as CSV UTF-8."
        ) from error
    return openpyxl.load_workbook(path, read_only=True, data_only=computed, keep_links=False)


def _choose(book: Any, wanted: str | None, name: str) -> Any:
    titles = [sheet.title for sheet in book.worksheets]
    if wanted is not None:
        if wanted not in titles:
            raise InputError(f"{name} has no sheet {wanted!r}. {did_you_mean(wanted, titles)}")
        chosen = book[wanted]
    elif len(titles) > 1:
        listed = ", ".join(map(repr, titles))
        raise InputError(
            f"{name} has several sheets: {listed}. Name one with --sheet or dataset.sheet, or save "
            "it as a file of its own."
        )
    elif not titles:
        raise InputError(f"{name} has no sheet with cells.")
    else:
        (chosen,) = book.worksheets
    # A sheet's declared size is often wrong and would cut off rows.
    chosen.reset_dimensions()
    return chosen


def _check_archive(path: Path) -> None:
    """Refuse files that are not workbooks, are encrypted, or unpack to too much memory."""
    with disk_errors(path), path.open("rb") as stream:
        if stream.read(4) == _OLE:
            raise InputError(
                f"{path} is protected by a password, or an old .xls renamed. Save it in Excel "
                "without a password as .xlsx, or as CSV UTF-8."
            )
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.flag_bits & 1:
                    raise InputError(f"{path} is encrypted. Save it without a password.")
                of_sheet = "/worksheets/" in member.filename
                if member.file_size > (_MOST_SHEET_BYTES if of_sheet else _MOST_BYTES):
                    raise InputError(
                        f"{path}: {member.filename} unpacks to {member.file_size:,} bytes, more "
                        "than a workbook of that many rows holds. Save the sheet as CSV."
                    )
                if member.filename.endswith((".xml", ".rels")):
                    with archive.open(member) as part:
                        if _DOCTYPE.search(part.read(2**16)):
                            raise InputError(
                                f"{path}: {member.filename} declares XML entities, which can "
                                "expand without limit and which Excel never writes. It is not read."
                            )
                if of_sheet or member.filename.lower().endswith("sharedstrings.xml"):
                    for text in _pieces(archive, member.filename, str(path)):
                        # openpyxl reads a sheet without dimensions to its end when it opens
                        # the book; _scan checks the other sheets.
                        if of_sheet and _DIMENSION.search(text):
                            break
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise InputError(f"{path} is not an Excel workbook (.xlsx): {error}.") from error


def _scan(path: Path, sheet: Any, name: str) -> bool:
    """Refuse merged cells; return whether the sheet has formulas."""
    formulas = False
    with zipfile.ZipFile(path) as archive:
        for text in _pieces(archive, sheet._worksheet_path.lstrip("/"), name):
            if merged := _MERGED.search(text):
                raise InputError(
                    f"{name}: the cells {merged[1].decode()} of {sheet.title!r} are merged: "
                    "only the first holds the value. Unmerge them and fill in each."
                )
            formulas = formulas or _FORMULA.search(text) is not None
    return formulas


def _pieces(archive: zipfile.ZipFile, member: str, name: str) -> Iterator[bytes]:
    """Yield overlapping pieces of a sheet or of the shared strings.

    Raises:
        InputError: an item is huge, or a sheet has too many rows.
    """
    tail, item_bytes, rows = b"", 0, 0
    with archive.open(member) as part:
        while piece := part.read(_CHUNK):
            text = tail + piece
            item_bytes = 0 if _ITEM.search(text) else item_bytes + len(piece)
            if item_bytes > _MOST_ITEM_BYTES:
                raise InputError(
                    f"{name}: a row or text in {member} unpacks to more than "
                    f"{_MOST_ITEM_BYTES:,} bytes. Save the sheet as CSV."
                )
            rows += text.count(_ROW) - tail.count(_ROW)
            if rows > MOST_ROWS:
                raise _too_many_rows(name)
            yield text
            tail = text[-200:]


def _too_many_rows(name: str) -> InputError:
    return InputError(
        f"{name}: the sheet has more than {MOST_ROWS:,} rows, the most that Excel can open. Save "
        "it as CSV."
    )
