"""One annotator's work on a list of texts: the next text, answers, undo and progress."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from sentikit import InputError
from sentikit.extension import disk_errors

from .checked import Check, read_checked, write_draw
from .checked_files import append_answer
from .draws import Item

#: Share of the texts that is shown twice, and the least number of texts in between.
REPEATS, _LATER = 0.05, 15
_IDLE = 180.0


class Annotation:
    """One annotator's work on a list of texts; every answer is on disk at once.

    Thread-safe: the page may be open twice.

    Attributes:
        labels: the classes; key 1 is the first.
        guidelines: shown when unfolded.
        annotator: the person's name.
    """

    def __init__(
        self,
        items: Sequence[Item],
        output: Path,
        labels: Sequence[str],
        annotator: str = "",
        guidelines: str = "",
        repeats: float = REPEATS,
        deciding: bool = False,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self._given = "decided" if deciding else "checked"
        self.labels, self.guidelines, self.annotator = tuple(labels), guidelines, annotator
        self._output, self._lock, self._record = output, threading.Lock(), record
        self._order = _with_repeats(items, repeats)
        self._answers: dict[tuple[int, bool], Check] = self._read()
        self._history: list[tuple[int, bool]] = []
        self._paces: list[float] = []
        self._shown: tuple[tuple[int, bool], float] | None = None

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Keep this annotator from answering in two places at once, where texts come twice.

        Raises:
            InputError: another process asks the same annotator for the same file, or it may not
                be written.
        """
        person = sha256(self.annotator.encode()).hexdigest()[:8]
        place = self._output.with_name(f".{self._output.name}.{person}.lock")
        try:
            with disk_errors(self._output):
                self._output.parent.mkdir(parents=True, exist_ok=True)
                if self._output.exists():
                    self._output.open("ab").close()  # refused before the first answer, not by it
                lock = FileLock(place).acquire(blocking=False)
        except Timeout as error:
            who = f"--annotator {self.annotator}" if self.annotator else "you"
            raise InputError(
                f"{self._output} is being checked by {who} in another sentikit annotate. Continue "
                "there or end it; another person gives another --annotator NAME."
            ) from error
        with lock:
            self._answers = self._read()
            try:
                yield
            finally:
                # Windows cannot remove an open file, so there the empty file stays.
                with contextlib.suppress(OSError):
                    place.unlink()

    def begin(self) -> None:
        """Write how the texts were drawn beside the checked file, for whoever continues it."""
        if self._record is not None:
            write_draw(self._output, {**self._record, "labels": list(self.labels)})
            self._record = None

    @property
    def twice(self) -> int:
        """The number of texts that are asked a second time."""
        return sum(again for _, again in self._order)

    def state(self) -> dict[str, Any]:
        """Return what the page shows: the next text, progress and pace, but no prediction."""
        with self._lock:
            return self._state()

    def answer(
        self, row: int, repeat: bool, label: str | None, status: str, note: str, revealed: bool
    ) -> dict[str, Any]:
        """Save an answer and return the next state.

        Raises:
            InputError: the row is not in the list, or the label is not one of the classes.
        """
        if status not in ("checked", "not sure", "skipped") or (
            (status == "checked") != (label is not None)
            or (label is not None and label not in self.labels)
        ):
            raise InputError(f"The label must be one of {', '.join(self.labels)}.")
        self.begin()
        with self._lock:
            key = (row, repeat)
            item = next((i for i, again in self._order if (i.row, again) == key), None)
            if item is None:
                raise InputError(f"Row {row} is not one of the texts to check.")
            seconds = self._seconds(key)
            status = self._given if status == "checked" else status
            known = row if row >= 0 else None
            check = Check(
                item.text, label, status, known, item.id, self.annotator, item.inclusion, repeat,
                note.strip(), item.predicted, item.confidence, item.group, seconds,
                revealed=revealed,
            )  # fmt: skip
            append_answer(self._output, check)
            self._answers[key] = check
            self._history.append(key)
            if seconds is not None:
                self._paces.append(seconds)
            return self._state()

    def undo(self) -> dict[str, Any]:
        """Undo the last answer of this session and return the state with its text."""
        with self._lock:
            if self._history:
                key = self._history.pop()
                check = self._answers.pop(key, None)
                if check is not None:
                    status = "undecided" if check.status == "decided" else "undone"
                    append_answer(
                        self._output, replace(check, status=status, label=None, note="", time="")
                    )
            return self._state()

    def reveal(self, row: int) -> dict[str, Any]:
        """Return the classifier's prediction for a text."""
        item = next((i for i, _ in self._order if i.row == row), None)
        if item is None:
            raise InputError(f"Row {row} is not one of the texts to check.")
        return {"predicted": item.predicted, "confidence": item.confidence}

    def _state(self) -> dict[str, Any]:
        waiting = [(i, again) for i, again in self._order if (i.row, again) not in self._answers]
        total, done = len(self._order), len(self._order) - len(waiting)
        pace = float(np.median(self._paces[-30:])) if self._paces else None
        state: dict[str, Any] = {
            "done": done,
            "total": total,
            "not_sure": sum(c.label is None for c in self._answers.values()),
            "seconds_each": None if pace is None else round(pace, 1),
            "minutes_left": None if pace is None else round(pace * len(waiting) / 60, 1),
            "labels": list(self.labels),
            "can_undo": bool(self._history),
            "item": None,
        }
        if waiting:
            item, again = waiting[0]
            key = (item.row, again)
            if self._shown is None or self._shown[0] != key:
                self._shown = (key, time.monotonic())
            state["item"] = {
                "row": item.row,
                "repeat": again,
                "text": item.text,
                "has_prediction": item.predicted is not None,
            }
        return state

    def _seconds(self, key: tuple[int, bool]) -> float | None:
        """Return how long a text was shown; None after a break."""
        if self._shown is None or self._shown[0] != key:
            return None
        passed = time.monotonic() - self._shown[1]
        return round(passed, 1) if passed < _IDLE else None

    def _read(self) -> dict[tuple[int, bool], Check]:
        """Return this annotator's answers so far."""
        if self._given == "decided":
            return {}  # the items are open conflicts
        if not self._output.exists() or not self._output.stat().st_size:
            return {}
        try:
            checked = read_checked(self._output)
        except InputError as error:
            if "nothing is checked" in str(error) or "no rows" in str(error):
                return {}
            raise
        own = [c for c in checked.answers if c.annotator == self.annotator]
        again = [second for _, second in checked.repeats if second.annotator == self.annotator]
        return {(c.row, c.repeat): c for c in [*own, *again] if c.row is not None}


def _with_repeats(items: Sequence[Item], share: float) -> list[tuple[Item, bool]]:
    """Return the items in order, with a share of them again later."""
    order = [(item, False) for item in items]
    count = int(len(items) * share)
    if not count:
        return order
    step = len(items) / count
    chosen = [items[int(number * step)] for number in range(count)]
    for item in chosen:
        place = next(at for at, (known, again) in enumerate(order) if known is item and not again)
        order.insert(min(len(order), place + _LATER), (item, True))
    return order
