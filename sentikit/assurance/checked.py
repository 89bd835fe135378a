"""Checked files: what people said of drawn texts, how these were drawn, and who looked at them.

A checked file is a CSV to which each answer is appended as it is given; a later answer of the same
person about the same row takes the earlier one's place. Any table with texts and labels can be read
as one. Beside it, ``NAME.json`` keeps the draw and a ledger of the looks at it.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sentikit.datasets.labels import LabelScheme
from sentikit.datasets.tables import read_rows
from sentikit.errors import InputError, did_you_mean, quoted
from sentikit.files import disk_errors, read_json, write_json

#: Fewer checks certify nothing.
LEAST_CHECKS = 30
CHECKED, NOT_SURE, SKIPPED, UNDONE, DECIDED = "checked", "not sure", "skipped", "undone", "decided"
FIELDS = (
    "row", "id", "text", "label", "status", "note", "annotator", "inclusion", "repeat", "group",
    "predicted_label", "confidence", "revealed", "seconds", "time",
)  # fmt: skip
UNIFORM = "uniform"


@dataclass(frozen=True)
class Check:
    """What one person said of one text.

    Attributes:
        text: as in the pile.
        label: the class; None for "not sure" and skipped texts.
        status: checked, not sure, skipped, undone or decided.
        row: of the pile, from 0; None in files from elsewhere.
        id: of the row; "" where there is none.
        annotator: who said it.
        inclusion: the probability with which the text was drawn; None where unknown.
        repeat: whether the text was shown a second time to see whether the answer is the same.
        note: what the annotator wrote.
        predicted: the classifier's label, where the text was drawn from a labelled file.
        confidence: likewise.
        group: the value of the column whose groups were drawn, or "".
        seconds: that the answer took.
        time: when it was given.
        revealed: whether the annotator asked what the classifier says before answering.
    """

    text: str
    label: str | None
    status: str = CHECKED
    row: int | None = None
    id: str = ""
    annotator: str = ""
    inclusion: float | None = None
    repeat: bool = False
    note: str = ""
    predicted: str | None = None
    confidence: float | None = None
    group: str = ""
    seconds: float | None = None
    time: str = ""
    revealed: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What says which text it is: the row where it is known, else the id, else the text."""
        return ("row", str(self.row)) if self.row is not None else ("id", self.id or self.text)

    def record(self) -> dict[str, Any]:
        """Return the row of the checked file."""
        own = asdict(self) | {"predicted_label": self.predicted, "repeat": int(self.repeat)}
        own["revealed"] = int(self.revealed)
        return {name: "" if own[name] is None else own[name] for name in FIELDS}


@dataclass(frozen=True)
class CheckedFile:
    """A checked file as it stands.

    Attributes:
        path: of the file.
        answers: the last answer of each annotator about each text, repeats left out.
        repeats: second answers of an annotator about a text, by annotator and text.
        draw: how the texts were drawn, as the file beside it says; empty where there is none.
        looks: at it so far.
    """

    path: Path
    answers: tuple[Check, ...]
    repeats: tuple[tuple[Check, Check], ...] = ()
    draw: Mapping[str, Any] = field(default_factory=dict)
    looks: tuple[Mapping[str, Any], ...] = ()

    def conflicts(self) -> list[tuple[Check, ...]]:
        """Return the texts that annotators label differently and nobody has decided."""
        return [
            group
            for group in self._by_text()
            if len({c.label for c in group if c.label is not None}) > 1
            and not any(c.status == DECIDED for c in group)
        ]

    def checks(self) -> tuple[Check, ...]:
        """Return one answer a text: the decided one, else what the annotators agree on.

        Raises:
            InputError: two annotators label a text differently and nobody has decided.
        """
        conflicts = self.conflicts()
        if conflicts:
            said = " and ".join(
                f"{c.label} ({c.annotator or 'somebody'})" for c in conflicts[0] if c.label
            )
            raise InputError(
                f"{self.path}: {quoted(conflicts[0][0].text)} is labelled {said}; "
                f"{len(conflicts)} such conflict{'s are' if len(conflicts) > 1 else ' is'} open. "
                f"Decide with: sentikit annotate --decide --output {self.path}"
            )
        return tuple(
            next(
                (c for c in group if c.status == DECIDED),
                next((c for c in group if c.label is not None), group[0]),
            )
            for group in self._by_text()
        )

    @property
    def is_uniform(self) -> bool:
        """Whether the texts were drawn uniformly, or nothing else is known."""
        drawn = {c.inclusion for c in self.answers if c.inclusion is not None}
        design = self.draw.get("design", UNIFORM)
        return design == UNIFORM and (not drawn or max(drawn) - min(drawn) <= 1e-9 * max(drawn))

    def fingerprint(self) -> str:
        """Return what tells these answers from others."""
        digest = hashlib.sha256()
        for check in sorted(self.answers, key=lambda c: (c.text, c.annotator)):
            digest.update(f"{check.text}\0{check.label}\0{check.annotator}\0".encode())
        return digest.hexdigest()[:16]

    def _by_text(self) -> list[tuple[Check, ...]]:
        groups: dict[tuple[str, str], list[Check]] = {}
        for check in self.answers:
            groups.setdefault(check.key, []).append(check)
        return [tuple(group) for group in groups.values()]


def read_checked(path: Path, scheme: LabelScheme | None = None) -> CheckedFile:
    """Read a checked file, or any table of texts and labels.

    Args:
        path: of the file.
        scheme: into whose classes labels are folded; None leaves them as they are spelled.

    Raises:
        InputError: it cannot be read, holds a label that is no class, or nothing was checked.
    """
    with read_rows(str(path)) as rows:
        text, label = rows.find_column("text", None), rows.find_column("label", None)
        checks = [_check(row, text, label) for _, row in rows]
    if scheme is not None:
        checks = [fold(check, scheme, str(path)) for check in checks]
    beside = _beside(path)
    kept = read_json(beside) if beside.exists() else {}
    first: dict[tuple[str, tuple[str, str]], Check] = {}
    again: dict[tuple[str, tuple[str, str]], Check] = {}
    for check in checks:
        if check.status == DECIDED:
            first["\0decided", check.key] = check
            continue
        into = again if check.repeat else first
        if check.status == UNDONE:
            into.pop((check.annotator, check.key), None)
        else:
            _refuse_contradiction(path, into.get((check.annotator, check.key)), check)
            into[check.annotator, check.key] = check
    if not first:
        raise InputError(f"{path}: nothing is checked. Check texts with: sentikit annotate FILE.")
    pairs = tuple((first[key], second) for key, second in again.items() if key in first)
    draw, looks = kept.get("draw", {}), tuple(kept.get("looks", ()))
    return CheckedFile(path, tuple(first.values()), pairs, draw, looks)


def append_answer(path: Path, check: Check) -> None:
    """Add an answer to a checked file; it is on disk, whole, when this returns.

    Two people may write to one file: each line is appended at once, under a lock. A line that was
    cut short, as by a full disk, is no answer and is taken away.
    """
    cells = io.StringIO()
    writer = csv.DictWriter(cells, FIELDS, lineterminator="\n")
    stamped = check.record() | {"time": check.time or _now()}
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
            writer.writerow(stamped)
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


def write_draw(path: Path, draw: Mapping[str, Any]) -> None:
    """Keep beside a checked file how its texts were drawn."""
    beside = _beside(path)
    kept = read_json(beside) if beside.exists() else {}
    write_json(beside, kept | {"draw": dict(draw)})
    os.chmod(beside, 0o600)


def read_draw(path: Path) -> dict[str, Any]:
    """Return how the texts of a checked file were drawn; empty where nothing says."""
    beside = _beside(path)
    return dict(read_json(beside).get("draw", {})) if beside.exists() else {}


def planned_looks(checked: CheckedFile, look: Mapping[str, Any], looks: int | None) -> int:
    """Return among how many looks δ is divided for a look at a checked file.

    A certificate holds for looks that were declared before the first. The same look again, with the
    same classifier, pile, target, level and answers, shows nothing new and counts once.

    Raises:
        InputError: the look was not declared.
    """
    if not checked.looks:
        return looks or 1
    declared = int(checked.looks[0]["declared"])
    if looks is not None and looks != declared:
        raise InputError(
            f"{checked.path} was first looked at with --looks {declared}; the number cannot change "
            "afterwards, since each look got its part of the risk. Check new texts instead."
        )
    if any(_same_look(known, look) for known in checked.looks):
        return declared
    if len(checked.looks) >= declared:
        last = checked.looks[-1]
        raise InputError(
            f"{checked.path} has had its {declared} declared look{'s' if declared > 1 else ''} "
            f"(last on {str(last['time'])[:10]}, accuracy {last['target']:g}): looking again, with "
            "other answers, another target or classifier, breaks the promise more often than the "
            "level says. Check new texts, or declare --looks K before the first look."
        )
    return declared


def record_look(checked: CheckedFile, look: Mapping[str, Any], declared: int) -> None:
    """Add a look to the ledger, unless it is there."""
    if any(_same_look(known, look) for known in checked.looks):
        return
    beside = _beside(checked.path)
    kept = read_json(beside) if beside.exists() else {}
    entry = dict(look) | {"declared": declared, "time": _now()}
    write_json(beside, kept | {"looks": [*checked.looks, entry]})


def _same_look(known: Mapping[str, Any], look: Mapping[str, Any]) -> bool:
    return all(known.get(name) == value for name, value in look.items())


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def fold(check: Check, scheme: LabelScheme, name: str) -> Check:
    """Return a check with the class that its label means.

    Raises:
        InputError: it means none.
    """
    if check.label is None:
        return check
    known = scheme.class_of(check.label)
    if known is None:
        raise InputError(
            f"{name}: {quoted(check.label)} is no label. "
            f"{did_you_mean(check.label, scheme.classes)}"
        )
    said = None if check.predicted is None else scheme.class_of(check.predicted)
    return replace(check, label=known, predicted=said)


def _check(row: Mapping[str, Any], text: str, label: str) -> Check:
    status, said = str(row.get("status") or CHECKED), str(row.get(label) or "").strip()
    if status not in (CHECKED, NOT_SURE, SKIPPED, UNDONE, DECIDED):
        status = CHECKED
    if not said and status == CHECKED:
        status = SKIPPED
    number = _number(row.get("row"))
    return Check(
        text=str(row.get(text) or ""),
        label=said if status in (CHECKED, DECIDED) and said else None,
        status=status,
        row=None if number is None else int(number),
        id=str(row.get("id") or ""),
        annotator=str(row.get("annotator") or ""),
        inclusion=_number(row.get("inclusion")),
        repeat=str(row.get("repeat") or "0").strip().lower() in ("1", "true"),
        note=str(row.get("note") or ""),
        predicted=str(row.get("predicted_label") or "") or None,
        confidence=_number(row.get("confidence")),
        group=str(row.get("group") or ""),
        seconds=_number(row.get("seconds")),
        time=str(row.get("time") or ""),
    )


def _refuse_contradiction(path: Path, earlier: Check | None, check: Check) -> None:
    """Refuse a file from elsewhere that labels a text twice and differently."""
    if earlier is None or check.row is not None or None in (earlier.label, check.label):
        return
    if earlier.label != check.label:
        raise InputError(
            f"{path}: {quoted(check.text)} is labelled {earlier.label} and {check.label}. Keep one "
            "row of it, or give each person's a name in a column 'annotator'."
        )


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def match_rows(
    checks: Sequence[Check],
    places: Mapping[str, Sequence[int]],
    by_id: Mapping[str, int],
    name: str,
) -> list[int]:
    """Return the pile's row of each check: by id where both have one, else by the exact text.

    Raises:
        InputError: a text is not in the pile.
    """
    taken: dict[str, Iterator[int]] = {text: iter(rows) for text, rows in places.items()}
    found, missing = [], []
    for check in checks:
        rows = places.get(check.text, ())
        if check.row is not None and check.row in rows:
            found.append(check.row)
        elif check.id and check.id in by_id:
            found.append(by_id[check.id])
        elif (row := next(taken.get(check.text, iter(())), None)) is not None:
            found.append(row)
        else:
            missing.append(check)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(checks)} checked texts are not in {name}, as "
            f"{quoted(missing[0].text)}. A checked file is drawn from the pile that it certifies."
        )
    return found
