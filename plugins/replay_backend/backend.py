"""Answers recorded in a run or a results file, found by text and occurrence."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import Field

from sentikit import read_run
from sentikit.extension import (
    Answer,
    BackendSession,
    ChatRequest,
    ComponentSettings,
    LLMBackend,
    RejectedError,
    RunTable,
    Usage,
)

# Replaces a recorded probability of 0, whose logarithm is not finite.
_ALMOST_NOTHING = 1e-12


class Replay(LLMBackend):
    """A backend that repeats recorded answers.

    Answers are found by text; for a repeated text, by the occurrence with the same id, else with
    the same number.
    """

    class Settings(ComponentSettings):
        """Settings of ``replay``."""

        run: str = Field(description="a run, a results file, or PATH#encoder")
        label_column: str | None = Field(None, description="column of the labels in a results file")
        probabilities_column: str | None = Field(
            None, description="column of the probabilities in a results file"
        )

    settings: Settings
    by_occurrence = True

    @property
    def model(self) -> str:
        """Return "": no model is used."""
        return ""

    @property
    def billed(self) -> bool:
        """Whether calls cost money: never."""
        return False

    async def open(self, session: BackendSession) -> None:
        """Read the records.

        Raises:
            InputError: there is no such run or file, or it cannot be read.
        """
        await asyncio.to_thread(lambda: self._records)

    def canonical(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the record's place and answer, so that a changed answer has another key."""
        row = self._records.find(request)
        return {
            "replay": self.settings.run,
            "text": request.text,
            "row": row,
            "answer": None if row is None else self._records.label(row),
        }

    async def ask(self, request: ChatRequest) -> Answer:
        """Return the recorded answer.

        Raises:
            RejectedError: there is no recorded answer for this text.
        """
        row = self._records.find(request)
        if row is None:
            shown = request.text if len(request.text) <= 60 else request.text[:57] + "…"
            raise RejectedError(f"{self.settings.run} holds no answer to {shown!r}.")
        return self._records.answer(row)

    async def examine(self) -> Mapping[str, Any]:
        """Return the number of recorded answers, and their classes."""
        table = self._records.table
        return {"run": table.name, "answers": len(table), "classes": list(table.classes)}

    @cached_property
    def _records(self) -> _Records:
        settings = self.settings
        return _Records(
            read_run(
                settings.run,
                label_column=settings.label_column,
                probabilities_column=settings.probabilities_column,
            )
        )


class _Records:
    """The rows of a run, by text."""

    def __init__(self, table: RunTable) -> None:
        self.table = table
        self._ids = table.examples.table.column("id")
        self._texts = table.examples.table.column("text")
        # Hashes take a tenth of the texts' memory.
        self._first: dict[int, int] = {}
        self._more: dict[int, list[int]] = {}
        column = "text" if table.has_texts else "id"
        row = 0
        for batch in table.examples.batches():
            for value in batch[column]:
                key = hash(value)
                if self._first.setdefault(key, row) != row:
                    self._more.setdefault(key, []).append(row)
                row += 1

    def find(self, request: ChatRequest) -> int | None:
        """Return the row that answers a request, or None."""
        column, wanted = self._texts, request.text
        if not self.table.has_texts:
            column, wanted = self._ids, request.example_id
        first = self._first.get(hash(wanted))
        if first is None:
            return None
        rows = [first, *self._more.get(hash(wanted), [])]
        rows = [row for row in rows if column[row].as_py() == wanted]
        if len(rows) > 1:
            same_id = [row for row in rows if self._ids[row].as_py() == request.example_id]
            rows = same_id or rows[request.occurrence :]
        return rows[0] if rows else None

    def label(self, row: int) -> str:
        """Return the recorded label, or the raw answer if it is invalid."""
        number = int(self.table.answers.labels[row])
        if number >= 0:
            return self.table.classes[number]
        return self._raw(row)

    def answer(self, row: int) -> Answer:
        """Return the recorded answer."""
        text = self.label(row)
        return Answer(
            text=text,
            usage=self._usage(row),
            log_probabilities=self._log_probabilities(row),
            finish_reason="stop",
            raw=self._raw(row) or text,
        )

    def _raw(self, row: int) -> str:
        recorded = self.table.raw
        return "" if recorded is None else recorded[row].as_py() or ""

    def _usage(self, row: int) -> Usage:
        if self.table.tokens is None:
            return Usage()
        prompt, cached, completion = self.table.tokens[row].tolist()
        return Usage(prompt=prompt, cached=cached, completion=completion)

    def _log_probabilities(self, row: int) -> dict[str, float] | None:
        recorded = self.table.answers.probabilities
        if recorded is None or np.isnan(recorded[row]).any():
            return None
        values = zip(self.table.classes, recorded[row].tolist(), strict=True)
        return {name: math.log(max(value, _ALMOST_NOTHING)) for name, value in values}
