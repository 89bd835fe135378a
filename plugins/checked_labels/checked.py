"""Checked files: people's labels of drawn texts, the draw, and the ledger of looks.

A checked file is a table of texts and labels. In a file of ``sentikit annotate``, a later answer of
the same person about the same row replaces the earlier one. Beside the file, ``NAME.json`` records
the draw and the looks at the file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from sentikit import InputError, LabelScheme
from sentikit.extension import did_you_mean, quoted, read_json, read_rows, write_json

CHECKED, SKIPPED, UNDONE = "checked", "skipped", "undone"
DECIDED, UNDECIDED = "decided", "undecided"
_STATUSES = (CHECKED, "not sure", SKIPPED, UNDONE, DECIDED, UNDECIDED)


@dataclass(frozen=True)
class Check:
    """One person's answer about one text.

    Attributes:
        text: as in the pile.
        label: the class; None for "not sure" and skipped texts.
        status: checked, not sure, skipped, undone, decided, or undecided if a decision is undone.
        row: of the pile, from 0; None in files from elsewhere.
        id: of the row; "" where there is none.
        annotator: the person's name.
        inclusion: the probability with which the text was drawn; None if unknown.
        repeat: whether this is the second answer, which measures self-agreement.
        note: the annotator's comment.
        predicted: the classifier's label, if the text was drawn from a labelled file.
        confidence: likewise.
        group: the value of the column given by ``--by``, or "".
        seconds: the time the answer took.
        time: of the answer.
        revealed: whether the annotator saw the classifier's label before answering.
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
        """The text's identity: its row if known, else its id, else the text."""
        return ("row", str(self.row)) if self.row is not None else ("id", self.id or self.text)


@dataclass(frozen=True)
class CheckedFile:
    """The current content of a checked file.

    Attributes:
        path: of the file.
        answers: the last answer of each annotator about each text, repeats left out.
        repeats: first and second answers of an annotator to a repeated text.
        draw: how the texts were drawn; empty if unknown.
        looks: the looks at it so far.
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
        """Return one answer per text: the decided one, else the one annotators agree on.

        Raises:
            InputError: two annotators label a text differently and nobody has decided.
        """
        conflicts = self.conflicts()
        if conflicts:
            labels = " and ".join(
                f"{c.label} ({c.annotator or 'somebody'})" for c in conflicts[0] if c.label
            )
            raise InputError(
                f"{self.path}: {quoted(conflicts[0][0].text)} is labelled {labels}; "
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
        """Whether the texts were drawn uniformly; True if the draw is unknown."""
        drawn = {c.inclusion for c in self.answers if c.inclusion is not None}
        if self.draw.get("design", "uniform") != "uniform" or self.undrawn():
            return False
        return not drawn or max(drawn) - min(drawn) <= 1e-9 * max(drawn)

    def undrawn(self) -> list[Check]:
        """Return the answers about rows that were not drawn."""
        if "drawn" not in self.draw:
            return []
        listed = frozenset(self.draw["drawn"])
        return [check for check in self.answers if check.row not in listed]

    def fingerprint(self) -> str:
        """Return a digest of the answers."""
        digest = hashlib.sha256()
        for check in sorted(self.answers, key=lambda c: (c.text, c.annotator)):
            digest.update(f"{check.text}\0{check.label}\0{check.annotator}\0".encode())
        return digest.hexdigest()[:16]

    def in_classes(self, scheme: LabelScheme) -> CheckedFile:
        """Return the file with labels mapped to a scheme's classes.

        Raises:
            InputError: a label is no class, or people chose from other labels.
        """
        _refuse_other_labels(self.path, self.draw, scheme)
        answers = tuple(_fold(check, scheme, str(self.path)) for check in self.answers)
        return replace(self, answers=answers)

    def planned_looks(self, look: Mapping[str, Any], looks: int | None) -> int:
        """Return the number of looks that share δ.

        A guarantee needs the number of looks to be declared before the first one. A repeated look,
        with the same classifier, pile, target, level and answers, counts once.

        Raises:
            InputError: the look was not declared.
        """
        if not self.looks:
            return looks or 1
        declared = int(self.looks[0]["declared"])
        if looks is not None and looks != declared:
            raise InputError(
                f"{self.path} was first looked at with --looks {declared}; the number cannot "
                "change afterwards, since each look has its share of the risk. Check new texts."
            )
        if len(self.looks) >= declared and not self._has_had(look):
            last = self.looks[-1]
            raise InputError(
                f"{self.path} has had its {declared} declared look{'s' if declared > 1 else ''} "
                f"(last on {str(last['time'])[:10]}, accuracy {last['target']:g}): another look "
                "with other answers, another target or classifier would break the guarantee more "
                "often than the level allows. Check new texts, or declare --looks K before the "
                "first look."
            )
        return declared

    def record_look(self, look: Mapping[str, Any], declared: int) -> None:
        """Add a look to the ledger, unless it is there already.

        Raises:
            InputError: other runs have used up the declared looks since the file was read.
        """
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            kept = _kept(self.path)
            known = replace(self, looks=tuple(kept.get("looks", ())))
            known.planned_looks(look, declared)
            if not known._has_had(look):
                time = datetime.now(UTC).isoformat(timespec="seconds")
                looks = [*known.looks, dict(look) | {"declared": declared, "time": time}]
                write_json(_beside(self.path), kept | {"looks": looks})

    def _has_had(self, look: Mapping[str, Any]) -> bool:
        return any(all(one.get(n) == value for n, value in look.items()) for one in self.looks)

    def _by_text(self) -> list[tuple[Check, ...]]:
        groups: dict[tuple[str, str], list[Check]] = {}
        for check in self.answers:
            groups.setdefault(check.key, []).append(check)
        return [tuple(group) for group in groups.values()]


def read_checked(path: Path, scheme: LabelScheme | None = None) -> CheckedFile:
    """Read a checked file, or any table of texts and labels.

    Args:
        path: of the file.
        scheme: maps labels to its classes; None leaves them unchanged.

    Raises:
        InputError: it cannot be read, a label is not a class, or nothing is checked.
    """
    if scheme is not None:
        _refuse_other_labels(path, read_draw(path), scheme)
    with read_rows(str(path)) as rows:
        text, label = rows.find_column("text", None), rows.find_column("label", None)
        checks = [_check(row, text, label) for _, row in rows]
    first: dict[tuple[str, tuple[str, str]], Check] = {}
    again: dict[tuple[str, tuple[str, str]], Check] = {}
    for check in checks:
        if scheme is not None:
            check = _fold(check, scheme, str(path))
        key = (check.annotator, check.key)
        into = again if check.repeat else first
        if check.status == DECIDED:
            first["\0decided", check.key] = check
        elif check.status == UNDECIDED:
            first.pop(("\0decided", check.key), None)
        elif check.status == UNDONE:
            into.pop(key, None)
        else:
            _refuse_contradiction(path, into.get(key), check)
            into[key] = check
    if not first:
        raise InputError(f"{path}: nothing is checked. Check texts with: sentikit annotate FILE.")
    pairs = tuple((first[key], second) for key, second in again.items() if key in first)
    kept = _kept(path)
    draw, looks = kept.get("draw", {}), tuple(kept.get("looks", ()))
    return CheckedFile(path, tuple(first.values()), pairs, draw, looks)


def read_draw(path: Path) -> dict[str, Any]:
    """Return how the texts of a checked file were drawn; empty if unknown."""
    return dict(_kept(path).get("draw", {}))


def write_draw(path: Path, draw: Mapping[str, Any]) -> None:
    """Record beside a checked file how its texts were drawn; only the owner can read it."""
    write_json(_beside(path), _kept(path) | {"draw": dict(draw)})
    os.chmod(_beside(path), 0o600)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _kept(path: Path) -> dict[str, Any]:
    beside = _beside(path)
    return dict(read_json(beside)) if beside.exists() else {}


def _refuse_other_labels(path: Path, draw: Mapping[str, Any], scheme: LabelScheme) -> None:
    """Refuse a file for which people chose from other labels than a scheme's classes."""
    given = draw.get("labels")
    if given and {scheme.class_of(label) for label in given} != set(scheme.classes):
        raise InputError(
            f"{path} was checked with the labels {', '.join(given)}, but the classifier's are "
            f"{', '.join(scheme.classes)}. Check texts with sentikit annotate --labels "
            f"{','.join(scheme.classes)!r}."
        )


def _fold(check: Check, scheme: LabelScheme, name: str) -> Check:
    if check.label is None:
        return check
    known = scheme.class_of(check.label)
    if known is None:
        raise InputError(
            f"{name}: {quoted(check.label)} is not a label. "
            f"{did_you_mean(check.label, scheme.classes)}"
        )
    predicted = None if check.predicted is None else scheme.class_of(check.predicted)
    return replace(check, label=known, predicted=predicted)


def _check(row: Mapping[str, Any], text: str, label: str) -> Check:
    status, answer = str(row.get("status") or CHECKED), str(row.get(label) or "").strip()
    if status not in _STATUSES:
        status = CHECKED
    if not answer and status == CHECKED:
        status = SKIPPED
    number = _number(row.get("row"))
    return Check(
        text=str(row.get(text) or ""),
        label=answer if status in (CHECKED, DECIDED) and answer else None,
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
    """Refuse a file of another program that labels a text in two ways."""
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
