"""Writing of checked files, one answer at a time, and Label Studio's JSON."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from sentikit import InputError
from sentikit.extension import disk_errors, first_line

from .checked import Check

FIELDS = (
    "row", "id", "text", "label", "status", "note", "annotator", "inclusion", "repeat", "group",
    "predicted_label", "confidence", "revealed", "seconds", "time",
)  # fmt: skip


def append_answer(path: Path, check: Check) -> None:
    """Append an answer to a checked file; when this returns, it is on disk.

    Two people may write to one file: each line is appended under a lock. An incomplete line, as
    after a full disk, is removed.

    Raises:
        InputError: the file is a table of another program.
    """
    cells = io.StringIO()
    writer = csv.DictWriter(cells, FIELDS, lineterminator="\n")
    record = asdict(check) | {
        "predicted_label": check.predicted,
        "repeat": int(check.repeat),
        "revealed": int(check.revealed),
        "time": check.time or datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            refuse_foreign(path)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0) as stream:
                size = stream.seek(0, os.SEEK_END)
                if not size:
                    writer.writeheader()
                elif _last_byte(stream) != b"\n":
                    stream.seek(0)
                    stream.truncate(_whole_lines(stream.readall()))
                writer.writerow({name: record[name] for name in FIELDS})
                stream.write(cells.getvalue().encode("utf-8", errors="replace"))
                os.fsync(stream.fileno())


def holds_checks(path: Path) -> bool:
    """Return whether a file is a checked file that `annotate` began."""
    # A spreadsheet may have saved the file with other delimiters, and further columns.
    return set(re.findall(r"\w+", first_line(path))).issuperset(FIELDS)


def refuse_foreign(path: Path) -> None:
    """Refuse to add answers to a table with other columns.

    Raises:
        InputError: it has other columns.
    """
    first = first_line(path)
    if first and first.rstrip() != ",".join(FIELDS):
        raise InputError(
            f"{path} was not written by sentikit annotate, so answers cannot be added to it. "
            f"Import it first with: sentikit annotate --import {path} --output CHECKED.csv"
        )


def _last_byte(stream: io.FileIO) -> bytes:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1)


def _whole_lines(content: bytes) -> int:
    """Return the number of bytes of a CSV that are complete records."""
    inside, end = False, 0
    for place, byte in enumerate(content):
        if byte == 0x22:
            inside = not inside
        elif byte == 0x0A and not inside:
            end = place + 1
    return end


def label_studio(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Return answers as Label Studio's JSON: one task per text, one annotation per person."""
    tasks: dict[Any, dict[str, Any]] = {}
    for check in checks:
        task = tasks.setdefault(
            check.key,
            {"data": {"text": check.text, "id": check.id, "row": check.row}, "annotations": []},
        )
        choices = [check.label] if check.label is not None else []
        result = {
            "from_name": "sentiment",
            "to_name": "text",
            "type": "choices",
            "value": {"choices": choices},
        }
        task["annotations"].append(
            {
                "result": [result] if choices else [],
                "was_cancelled": not choices,
                "completed_by": {"email": check.annotator},
            }
        )
    return list(tasks.values())


def from_label_studio(tasks: Any, name: str) -> list[Check]:
    """Return the answers of a Label Studio export.

    Raises:
        InputError: it is not an export.
    """
    checks = []
    try:
        for task in tasks:
            data = task["data"]
            for annotation in task.get("annotations", ()):
                by = annotation.get("completed_by", "")
                who = str(by.get("email", "")) if isinstance(by, dict) else str(by)
                chosen = [
                    choice
                    for result in annotation.get("result", ())
                    if result.get("type") == "choices"
                    for choice in result["value"]["choices"]
                ]
                row = data.get("row")
                checks.append(
                    Check(
                        str(data["text"]),
                        chosen[0] if chosen else None,
                        "checked" if chosen else "skipped",
                        None if row is None else int(row),
                        str(data.get("id") or ""),
                        who,
                    )
                )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{name} is not a Label Studio export: a list of tasks with data.text and "
            "annotations is "
            "expected (Export > JSON)."
        ) from error
    return checks
