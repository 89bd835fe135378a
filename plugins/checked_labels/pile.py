"""Piles: tables of texts, and the rows of checked texts in them."""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sentikit import InputError
from sentikit.extension import InputFile, LiveBar, Rows, did_you_mean, quoted

from .checked import Check

#: Rows whose words are counted, and number of common words that are kept.
_ALL_ROWS, _EVERY, _COMMON = 20_000, 50, 2000
#: Rows between two updates of the progress bar.
_SHOWN_EVERY = 10_000
_WORD = re.compile(r"\w+")
_PERIODS = ("week", "month", "quarter", "year")

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Pile:
    """The result of one pass over a pile.

    Attributes:
        source: the file.
        rows: number of rows.
        fingerprint: of all texts in order.
        duplicates: rows that repeat an earlier row's text.
        language: lengths and words of the texts, for a later comparison.
    """

    source: InputFile
    rows: int
    fingerprint: str
    duplicates: int
    language: Language
    _places: Mapping[str, Sequence[int]] = field(repr=False)
    _by_id: Mapping[str, int] = field(repr=False)

    def rows_of(self, checks: Sequence[Check]) -> NDArray[np.int64]:
        """Return the row of each check, by id if both have one, else by the exact text.

        Raises:
            InputError: a text is not in the pile.
        """
        unused = {text: iter(rows) for text, rows in self._places.items()}
        found, missing = [], []
        for check in checks:
            if check.row is not None and check.row in self._places.get(check.text, ()):
                found.append(check.row)
            elif check.id and check.id in self._by_id:
                found.append(self._by_id[check.id])
            elif (row := next(unused.get(check.text, iter(())), None)) is not None:
                found.append(row)
            else:
                missing.append(check)
        if missing:
            raise InputError(
                f"{len(missing)} of {len(checks)} checked texts are not in {self.source.typed}, "
                f"such as {quoted(missing[0].text)}. A checked file must be drawn from the pile "
                "that it certifies."
            )
        return np.array(found, np.int64)


@dataclass
class Language:
    """Lengths and words of some rows of a pile: the first ones, then every fiftieth."""

    lengths: list[int] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)

    def add(self, number: int, text: str) -> None:
        """Add a row."""
        if number < _ALL_ROWS or not number % _EVERY:
            self.lengths.append(len(text))
            self.words.update(_WORD.findall(text.lower()))

    def reference(self) -> dict[str, Any]:
        """Return the reference for a later pile."""
        common = [word for word, _ in self.words.most_common(_COMMON)]
        total = self.words.total()
        step = max(1, len(self.lengths) // _COMMON)
        return {
            "length": sorted(self.lengths[::step]),
            "words": common,
            "unknown_words": total - sum(self.words[word] for word in common),
            "all_words": total,
        }


class TextsHash:
    """A hash of texts in their order."""

    def __init__(self) -> None:
        self._whole = hashlib.sha256()

    def add(self, text: str) -> bytes:
        """Add the next text, and return its own hash."""
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        self._whole.update(digest)
        return digest

    def value(self) -> str:
        """Return the hash of the texts so far."""
        return self._whole.hexdigest()[:16]


def refuse_other_texts(source: InputFile, before: str, now: str) -> None:
    """Refuse a table whose texts have changed since it was read before.

    Args:
        source: the table.
        before: the hash of the texts when it was first read.
        now: their hash when it was read again.

    Raises:
        InputError: a text or their order differs.
    """
    if now != before:
        advice = (
            "Start again when nothing writes to it."
            if source.query is None
            else "End the query with ORDER BY and a unique column, or save its rows in a file."
        )
        raise InputError(
            f"{source.typed} had other rows, or another order, when it was read again. {advice}"
        )


def rows_again(
    source: InputFile, rows: Rows, count: int, fingerprint: str
) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Yield each row's place, its text and the row, when a table is read again.

    Args:
        source: the table.
        rows: the opened table.
        count: number of rows when it was first read.
        fingerprint: of its texts then.

    Raises:
        InputError: a row is malformed; at the end, the texts or their order have changed.
    """
    whole, text_of = TextsHash(), source.reader(rows)
    for number, (where, row) in enumerate(rows):
        if number == count:
            refuse_other_texts(source, fingerprint, "more rows")
        text = text_of(where, row)
        whole.add(text)
        yield where, text, row
    refuse_other_texts(source, fingerprint, whole.value())


def certificate_beside(source: InputFile) -> Path:
    """Return where the certificate of a labelled table is expected."""
    # A folder such as . has a name, with a suffix to replace, only as an absolute path.
    stem, _ = os.path.splitext(os.path.abspath(source.file))
    return Path(f"{stem}.certificate.json")


def scan_pile(source: InputFile, checks: Collection[Check] = ()) -> Pile:
    """Read a pile once; memory grows by eight bytes per row.

    Args:
        source: its table.
        checks: checked texts to find in the pile.

    Raises:
        InputError: it cannot be read, or is empty.
    """
    wanted, known = {check.text for check in checks}, {check.id for check in checks if check.id}
    places: dict[str, list[int]] = {}
    by_id: dict[str, int] = {}
    whole, hashes, number, language = TextsHash(), array("Q"), 0, Language()
    with source.open() as rows:
        text_of = source.reader(rows)
        has_ids = "id" in rows.columns
        for number, (where, row) in enumerate(shown(rows, "Reading"), 1):
            text = text_of(where, row)
            language.add(number - 1, text)
            hashes.append(int.from_bytes(whole.add(text), "little"))
            if text in wanted:
                places.setdefault(text, []).append(number - 1)
            if has_ids and known and (identifier := _text(row.get("id"))) in known:
                by_id.setdefault(identifier, number - 1)
    distinct = len(np.unique(np.frombuffer(hashes, np.uint64)))
    repeated = number - distinct
    return Pile(source, number, whole.value(), repeated, language, places, by_id)


def shown(rows: Iterable[_Row], what: str, total: int | None = None) -> Iterator[_Row]:
    """Yield rows, and show on a terminal how many there were."""
    with LiveBar("rows") as bar:
        bar.update(0, total, what)
        for number, row in enumerate(rows, 1):
            if number % _SHOWN_EVERY == 0:
                bar.update(number)
            yield row


def group_reader(name: str, rows: Rows) -> Callable[[int, Mapping[str, Any]], str]:
    """Return a function that gives a row's group, by COLUMN or, for dates, by COLUMN:PERIOD.

    Periods are week (ISO 8601), month, quarter and year. An empty cell's group is "(none)".

    Raises:
        InputError: there is no such column or period; later, a cell is not a date.
    """
    column, _, period = name.rpartition(":")
    if name in rows.columns:
        return lambda where, row: _text(row.get(name)) or "(none)"
    if column not in rows.columns:
        known = did_you_mean(column or name, rows.columns)
        raise InputError(f"{rows.name} has no column {column or name!r}. {known}")
    if period not in _PERIODS:
        raise InputError(f"--by {name}: {did_you_mean(period, _PERIODS)}")

    def group(where: int, row: Mapping[str, Any]) -> str:
        cell = row.get(column)
        if cell in (None, ""):
            return "(none)"
        day = cell if isinstance(cell, date) else _date(str(cell).strip())
        if day is None:
            raise InputError(
                f"--by {name}: line {where} has {quoted(str(cell))}, which is not a date such as "
                "2026-03-14 or 2026-03-14T09:30. Write all its dates this way."
            )
        week = day.isocalendar()
        return {
            "week": f"{week.year:04d}-W{week.week:02d}",
            "month": f"{day.year:04d}-{day.month:02d}",
            "quarter": f"{day.year:04d}-Q{(day.month + 2) // 3}",
            "year": f"{day.year:04d}",
        }[period]

    return group


def _date(text: str) -> date | None:
    """Parse an ISO 8601 date or time, also with slashes or without a day."""
    spelled = text.replace("/", "-") if re.match(r"\d{4}/", text) else text
    spelled += "-01" if re.fullmatch(r"\d{4}-\d{2}", spelled) else ""
    try:
        return datetime.fromisoformat(spelled)
    except ValueError:
        return None


def _text(value: Any) -> str:
    return "" if value is None else str(value)
