"""Checked files: each answer is on disk at once; and Label Studio's JSON, in and out."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sentikit import InputError
from sentikit.extension import Check, disk_errors

FIELDS = (
    "row", "id", "text", "label", "status", "note", "annotator", "inclusion", "repeat", "group",
    "predicted_label", "confidence", "revealed", "seconds", "time",
)  # fmt: skip


def append_answer(path: Path, check: Check) -> None:
    """Add an answer to a checked file; it is on disk, whole, when this returns.

    Two people may write to one file: each line is appended at once, under a lock. A line that was
    cut short, as by a full disk, is no answer and is taken away.
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
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if not size:
                writer.writeheader()
            elif os.pread(descriptor, 1, size - 1) != b"\n":
                os.ftruncate(descriptor, _whole_lines(os.pread(descriptor, size, 0)))
            writer.writerow({name: record[name] for name in FIELDS})
            os.write(descriptor, cells.getvalue().encode("utf-8", errors="replace"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _whole_lines(content: bytes) -> int:
    """Return how many bytes of a CSV are whole records."""
    inside, end = False, 0
    for place, byte in enumerate(content):
        if byte == 0x22:
            inside = not inside
        elif byte == 0x0A and not inside:
            end = place + 1
    return end


def label_studio(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Return answers as Label Studio's JSON: one task a text, one annotation a person."""
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
        InputError: it is none.
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
            f"{name} is no Label Studio export: a list of tasks with data.text and annotations is "
            "expected (Export > JSON)."
        ) from error
    return checks
