"""The answer journal: one SQLite file that caches answers and lets runs resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sentikit.chat import Answer, Usage
from sentikit.errors import InputError, SentikitError
from sentikit.files import disk_errors

_VERSION = 2
_RESERVATIONS = """
CREATE TABLE reservations (
    key BLOB NOT NULL, run TEXT NOT NULL, cost INTEGER NOT NULL, PRIMARY KEY (key, run)
) WITHOUT ROWID"""
_SCHEMA = (
    """CREATE TABLE answers (
    key BLOB PRIMARY KEY, run TEXT NOT NULL, row INTEGER NOT NULL, cost INTEGER, answer TEXT
) WITHOUT ROWID""",
    "CREATE INDEX answers_of_run ON answers (run, row)",
    _RESERVATIONS,
    "CREATE TABLE memory (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE batches (
    run TEXT NOT NULL, part INTEGER NOT NULL, tag TEXT NOT NULL, batch TEXT, state TEXT NOT NULL,
    requests INTEGER NOT NULL, cost INTEGER, PRIMARY KEY (run, part)
) WITHOUT ROWID""",
    f"PRAGMA user_version = {_VERSION}",
)
#: Migration from version 1, in which a key had one reservation for all runs.
_FROM_VERSION_1 = (
    "ALTER TABLE reservations RENAME TO reservations_1",
    _RESERVATIONS,
    "INSERT INTO reservations SELECT key, run, cost FROM reservations_1",
    "DROP TABLE reservations_1",
    f"PRAGMA user_version = {_VERSION}",
)
#: `json.dumps` would make an encoder for every call.
_SORTED = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_COMPACT = json.JSONEncoder(separators=(",", ":"))
#: Seconds to wait for other processes.
_WAIT = 60.0
# The row number of the calls a run makes before its first row.
_OPENING_ROW = -1


@dataclass(frozen=True)
class Record:
    run: str
    row: int
    #: Picodollars, or None where the price was unknown.
    cost: int | None
    answer: Answer


@dataclass(frozen=True)
class BatchPart:
    part: int
    tag: str
    batch: str | None
    state: str
    requests: int
    cost: int | None


def request_key(canonical: Mapping[str, Any]) -> bytes:
    """Return the SHA-256 of everything that determines an answer."""
    return hashlib.sha256(_SORTED.encode(canonical).encode("ascii")).digest()


def opening_key(run: str) -> bytes:
    """Return the key of all calls that a run makes before its first row."""
    return f"opening:{run}".encode()


class AnswerJournal:
    """The answer journal; use as a context manager.

    An answer is committed before its row is reported, in WAL mode (https://sqlite.org/wal.html):
    a killed process loses only calls in flight. Several runs may use the file at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise IsADirectoryError(str(self.path))
        with self._errors():
            self._connection = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(self._connection.close)
                self._make_tables()
                self._log_ahead()
                # NORMAL survives a kill at any moment; a power cut may lose the last few answers.
                self._connection.execute("PRAGMA synchronous = NORMAL")
                on_failure.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._connection.close()

    def find(self, key: bytes) -> Record | None:
        found = self._one("SELECT run, row, cost, answer FROM answers WHERE key = ?", key)
        if found is None:
            return None
        run, row, cost, answer = found
        return Record(run, row, cost, _read_answer(answer))

    def keep(self, key: bytes, record: Record, reserved: int = 0) -> None:
        """Commit an answer; the first one with a key is kept."""
        values = (key, record.run, record.row, record.cost, _write_answer(record.answer))
        insert = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)"
        if not reserved:
            self._one(insert, *values)
            return
        with self._transaction():
            kept = self._connection.execute(insert, values).rowcount
            # If another run's answer was first, this run's cost stays in the reservations.
            billed = 0 if kept else record.cost or 0
            self._reduce(key, record.run, reserved - billed)

    def spent(self, run: str) -> int:
        """Return the picodollars a run has paid; calls and batches in flight at worst case."""
        query = """SELECT (SELECT COALESCE(SUM(cost), 0) FROM answers WHERE run = ?1)
                        + (SELECT COALESCE(SUM(cost), 0) FROM reservations WHERE run = ?1)
                        + (SELECT COALESCE(SUM(cost), 0) FROM batches
                           WHERE (run = ?1 OR substr(run, 1, length(?1) + 1) = ?1 || '.')
                           AND state != 'fetched')"""
        return int(self._one(query, run)[0])

    def add_opening(self, run: str, cost: int | None, reserved: int = 0) -> None:
        """Record the cost of a call before a run's first row, and release its reservation."""
        key = opening_key(run)
        with self._transaction():
            self._connection.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?, '') "
                "ON CONFLICT (key) DO UPDATE SET cost = cost + excluded.cost",
                (key, run, _OPENING_ROW, cost),
            )
            self._reduce(key, run, reserved)

    def opening_cost(self, run: str) -> int | None:
        """Return the picodollars a run paid before its first row."""
        found = self._one("SELECT cost FROM answers WHERE run = ? AND row = ?", run, _OPENING_ROW)
        return 0 if found is None else found[0]

    def reserve(self, key: bytes, run: str, cost: int) -> None:
        """Record a call that is about to be made, with its worst-case cost."""
        self._one(
            "INSERT INTO reservations VALUES (?, ?, ?) "
            "ON CONFLICT (key, run) DO UPDATE SET cost = cost + excluded.cost",
            key,
            run,
            cost,
        )

    def note(self, key: bytes, run: str, cost: int) -> None:
        """Replace the amount reserved under `key`."""
        if cost:
            self._one("INSERT OR REPLACE INTO reservations VALUES (?, ?, ?)", key, run, cost)
        else:
            self._one("DELETE FROM reservations WHERE key = ? AND run = ?", key, run)

    def release(self, key: bytes, run: str, cost: int) -> None:
        with self._transaction():
            self._reduce(key, run, cost)

    def recall(self, key: str) -> Any:
        found = self._one("SELECT value FROM memory WHERE key = ?", key)
        return None if found is None else json.loads(found[0])

    def remember(self, key: str, value: Any) -> None:
        self._one("INSERT OR REPLACE INTO memory VALUES (?, ?)", key, json.dumps(value))

    def forget(self, prefix: str) -> None:
        """Delete the values whose keys begin with `prefix`."""
        self._one("DELETE FROM memory WHERE substr(key, 1, ?) = ?", len(prefix), prefix)

    def batches(self, run: str) -> list[BatchPart]:
        query = "SELECT part, tag, batch, state, requests, cost FROM batches WHERE run = ?"
        with self._errors():
            found = self._connection.execute(f"{query} ORDER BY part", (run,)).fetchall()
        return [BatchPart(*values) for values in found]

    def keep_batches(self, run: str, parts: Sequence[BatchPart]) -> None:
        """Commit parts, all of them or none."""
        rows = [(run, p.part, p.tag, p.batch, p.state, p.requests, p.cost) for p in parts]
        with self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )

    def _one(self, statement: str, *values: Any) -> Any:
        """Execute a statement in its own transaction and return its first row, or None."""
        with self._errors():
            return self._connection.execute(statement, values).fetchone()

    def _reduce(self, key: bytes, run: str, cost: int) -> None:
        """Subtract `cost` from a reservation, which may include lost attempts of the same call."""
        self._connection.execute(
            "UPDATE reservations SET cost = cost - ? WHERE key = ? AND run = ?", (cost, key, run)
        )
        self._connection.execute(
            "DELETE FROM reservations WHERE key = ? AND run = ? AND cost <= 0", (key, run)
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    def _make_tables(self) -> None:
        with self._transaction():
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            steps: tuple[str, ...] = ()
            if version in (0, 1) and not tables:
                steps = _SCHEMA
            elif version == 1:
                steps = _FROM_VERSION_1
            elif version != _VERSION:
                raise InputError(
                    f"{self.path} is not a file of answers that this version of sentikit can read. "
                    "Name another with --set llm.cache=FILE."
                )
            for step in steps:
                self._connection.execute(step)

    def _log_ahead(self) -> None:
        # SQLite's own timeout does not apply to this statement.
        deadline = time.monotonic() + _WAIT
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise SentikitError(
                f"{self.path}: {error}. All earlier answers are kept. Check the free space and "
                "permissions, then resume with --resume."
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self.path} is damaged or not a file of answers ({error}). Move it away, or name "
                "another with --set llm.cache=FILE."
            ) from error


def _write_answer(answer: Answer) -> str:
    usage = answer.usage
    values = {
        "text": answer.text,
        "raw": answer.raw,
        "usage": usage and [usage.prompt, usage.cached, usage.completion, usage.cache_writes],
        "logs": None if answer.log_probabilities is None else dict(answer.log_probabilities),
        "finish": answer.finish_reason,
        "model": answer.model,
        "tier": answer.service_tier,
        "billed": answer.billed_usd,
    }
    # ASCII, because an answer may contain a lone surrogate, which SQLite cannot store.
    return _COMPACT.encode(values)


def _read_answer(text: str) -> Answer:
    values = json.loads(text)
    return Answer(
        text=values["text"],
        usage=None if values["usage"] is None else Usage(*values["usage"]),
        log_probabilities=values["logs"],
        finish_reason=values["finish"],
        model=values["model"],
        service_tier=values["tier"],
        raw=values["raw"],
        billed_usd=values.get("billed"),
    )
