"""Checking texts by hand: the order in which they are shown, answers, undo and progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sentikit.assurance.checked import (
    CHECKED,
    DECIDED,
    NOT_SURE,
    SKIPPED,
    UNDONE,
    Check,
    append_answer,
    read_checked,
    read_draw,
    write_draw,
)
from sentikit.assurance.draws import group_draw, stratified_draw, uniform_draw
from sentikit.assurance.pile import CONFIDENCE, PILE_ROW, Pile, scan_pile
from sentikit.datasets.tables import InputFile
from sentikit.errors import InputError, did_you_mean
from sentikit.files import read_json
from sentikit.runs.result_format import LABEL_COLUMN

#: Part of the texts that is shown a second time, at least so many texts later.
REPEATS, _LATER = 0.05, 15
_IDLE = 180.0


@dataclass(frozen=True)
class Item:
    """A text to show.

    Attributes:
        row: of the pile.
        text: what is shown.
        id: of the row.
        inclusion: with which probability it was drawn; None in a queue.
        group: whose share of the draw it belongs to.
        predicted: what a classifier says, shown only when asked for.
        confidence: likewise.
    """

    row: int
    text: str
    id: str = ""
    inclusion: float | None = None
    group: str = ""
    predicted: str | None = None
    confidence: float | None = None


class Annotation:
    """One person's work on a drawn list of texts; every answer is on disk at once.

    Safe to use from several threads, as where the page is open twice.

    Attributes:
        labels: the classes; key 1 is the first.
        guidelines: for the fold of the page.
        annotator: who answers.
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
    ) -> None:
        self._given = DECIDED if deciding else CHECKED
        self.labels, self.guidelines, self.annotator = tuple(labels), guidelines, annotator
        self._output, self._lock = output, threading.Lock()
        self._order = _with_repeats(items, repeats)
        self._answers: dict[tuple[int, bool], Check] = self._read()
        self._history: list[tuple[int, bool]] = []
        self._paces: list[float] = []
        self._shown: tuple[tuple[int, bool], float] | None = None

    def state(self) -> dict[str, Any]:
        """Return what the page shows: the next text, progress and pace, and no prediction."""
        with self._lock:
            return self._state()

    def answer(
        self, row: int, repeat: bool, label: str | None, status: str, note: str, revealed: bool
    ) -> dict[str, Any]:
        """Keep an answer and return the next state.

        Raises:
            InputError: the row is not asked about, or the label is none of the classes.
        """
        if status not in (CHECKED, NOT_SURE, SKIPPED) or (
            (status == CHECKED) != (label is not None)
            or (label is not None and label not in self.labels)
        ):
            raise InputError(f"The label is one of {', '.join(self.labels)}.")
        with self._lock:
            key = (row, repeat)
            item = next((i for i, again in self._order if (i.row, again) == key), None)
            if item is None:
                raise InputError(f"Row {row} is none of the texts to check.")
            seconds = self._seconds(key)
            status = self._given if status == CHECKED else status
            check = Check(
                item.text, label, status, row, item.id, self.annotator, item.inclusion, repeat,
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
        """Take the last answer of this sitting back and return its text's state."""
        with self._lock:
            if self._history:
                key = self._history.pop()
                check = self._answers.pop(key, None)
                if check is not None:
                    append_answer(
                        self._output, replace(check, status=UNDONE, label=None, note="", time="")
                    )
            return self._state()

    def reveal(self, row: int) -> dict[str, Any]:
        """Return what the classifier says of a text, because the annotator asks."""
        item = next((i for i, _ in self._order if i.row == row), None)
        if item is None:
            raise InputError(f"Row {row} is none of the texts to check.")
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
        if not self._output.exists() or not self._output.stat().st_size:
            return {}
        try:
            checked = read_checked(self._output)
        except InputError as error:
            if "nothing is checked" in str(error) or "no rows" in str(error):
                return {}
            raise
        if self._given == DECIDED:
            return {(c.row, False): c for c in checked.answers if c.status == DECIDED and c.row}
        own = [c for c in checked.answers if c.annotator == self.annotator]
        again = [second for _, second in checked.repeats if second.annotator == self.annotator]
        return {(c.row, c.repeat): c for c in [*own, *again] if c.row is not None}


def _with_repeats(items: Sequence[Item], share: float) -> list[tuple[Item, bool]]:
    """Return the items in order, with every so many of them a second time later on."""
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


def annotator_agreement(checks: Sequence[Check], labels: Sequence[str]) -> dict[str, Any]:
    """Return how far annotators agree on the texts that several of them labelled.

    Cohen's kappa (1960) for each pair, Fleiss' kappa (1971) over texts that all labelled, and
    Krippendorff's alpha (nominal) over all, by the library `krippendorff` where it is installed.
    """
    names = sorted({c.annotator for c in checks if c.label is not None})
    said: dict[Any, dict[str, str]] = {}
    for check in checks:
        if check.label is not None:
            said.setdefault(check.key, {})[check.annotator] = check.label
    shared = [answers for answers in said.values() if len(answers) > 1]
    pairs = {}
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            both = [(a[one], a[other]) for a in shared if one in a and other in a]
            if both:
                pairs[f"{one or '(no name)'} and {other or '(no name)'}"] = {
                    "texts": len(both),
                    "agree": sum(a == b for a, b in both) / len(both),
                    "cohens_kappa": cohens_kappa(both, labels),
                }
    full = [a for a in shared if len(a) == len(names)]
    return {
        "annotators": names,
        "texts": len(shared),
        "pairs": pairs,
        "fleiss_kappa": fleiss_kappa(full, labels) if full else None,
        "krippendorffs_alpha": _alpha(shared, names, labels),
    }


def cohens_kappa(pairs: Sequence[tuple[str, str]], labels: Sequence[str]) -> float:
    """Return Cohen's kappa of pairs of labels; 1 where both always give one and the same."""
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    chance = (
        sum(sum(a == c for a, _ in pairs) * sum(b == c for _, b in pairs) for c in labels) / n**2
    )
    return 1.0 if chance == 1 else (observed - chance) / (1 - chance)


def fleiss_kappa(answers: Sequence[Mapping[str, str]], labels: Sequence[str]) -> float:
    """Return Fleiss' kappa of texts that the same number of annotators labelled."""
    counts = np.array([[list(a.values()).count(c) for c in labels] for a in answers], float)
    raters = counts.sum(axis=1)[0]
    each = ((counts**2).sum(axis=1) - raters) / (raters * (raters - 1))
    chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return 1.0 if chance == 1 else float((each.mean() - chance) / (1 - chance))


def _alpha(
    answers: Sequence[Mapping[str, str]], names: Sequence[str], labels: Sequence[str]
) -> float | None:
    try:
        import krippendorff
    except ImportError:
        return None
    numbers = {label: float(number) for number, label in enumerate(labels)}
    table = [[numbers[a[n]] if n in a else np.nan for a in answers] for n in names]
    if len({value for row in table for value in row if not np.isnan(value)}) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))


def self_agreement(pairs: Sequence[tuple[Check, Check]]) -> dict[str, Any]:
    """Return how often annotators answer a repeated text as they did before."""
    both = [(a.label, b.label) for a, b in pairs if a.label is not None and b.label is not None]
    return {
        "texts": len(both),
        "same": sum(a == b for a, b in both) / len(both) if both else None,
    }


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
                        CHECKED if chosen else SKIPPED,
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


@dataclass(frozen=True)
class DrawOptions:
    """Which texts are to be checked.

    Attributes:
        size: how many.
        seed: of the draw.
        labelled: a table by whose confidences the draw is stratified, or None.
        by: a column each of whose values gets the same number, or None.
    """

    size: int = 300
    seed: int = 0
    labelled: Path | None = None
    by: str | None = None


def drawn_items(source: InputFile, output: Path, options: DrawOptions) -> list[Item]:
    """Return the texts to check: those drawn before for this checked file, or a new draw.

    The draw is kept beside the checked file, so that anybody can resume it. Rows of a
    review queue, which name their row in the pile, are not drawn: all are shown, in their order.

    Raises:
        InputError: the pile has changed since, or was drawn from with other options.
    """
    with source.open() as rows:
        queue = {PILE_ROW, CONFIDENCE} <= set(rows.columns) and options.labelled is None
        if options.by is not None and options.by not in rows.columns:
            raise InputError(
                f"{source.file} has no column {options.by!r}. "
                f"{did_you_mean(options.by, rows.columns)}"
            )
    known = read_draw(output)
    if queue:
        if not known:
            write_draw(output, {"design": "queue", "file": source.file})
        return _queued(source)
    pile = scan_pile(source)
    if known and known.get("pile") != pile.fingerprint:
        raise InputError(
            f"{output} holds checks of another pile ({known.get('file')}), or {source.file} has "
            "changed since. Choose another --output."
        )
    if not known:
        known = _new_draw(source, pile, options)
        write_draw(output, known)
    elif len(known["drawn"]) != min(options.size, pile.rows):
        raise InputError(
            f"{output} was begun with {len(known['drawn'])} drawn texts (seed {known['seed']}). Go "
            f"on with --size {len(known['drawn'])}, or choose another --output."
        )
    return _items(source, known["drawn"], known["inclusion"], options.by)


def conflict_items(output: Path) -> list[Item]:
    """Return the texts that annotators label differently.

    Raises:
        InputError: there is none.
    """
    groups = read_checked(output).conflicts()
    if not groups:
        raise InputError(f"{output} has no open conflict: nothing is to be decided.")
    return [
        Item(c.row if c.row is not None else number, c.text, c.id, c.inclusion, c.group)
        for number, (c, *_) in enumerate(groups)
    ]


def _new_draw(source: InputFile, pile: Pile, options: DrawOptions) -> dict[str, Any]:
    size = min(options.size, pile.rows)
    if options.labelled is not None:
        labelled = InputFile(str(options.labelled), None, source.text_columns)
        if scan_pile(labelled).fingerprint != pile.fingerprint:
            raise InputError(
                f"--for {options.labelled} holds other texts than {source.file}: it is the table "
                "that sentikit label or predict wrote of this file."
            )
        draw = stratified_draw(_column(labelled, CONFIDENCE), size, options.seed)
    elif options.by is not None:
        draw = group_draw(_values(source, options.by), size, options.seed)
    else:
        draw = uniform_draw(pile.rows, size, options.seed)
    certificate = Path(source.file).with_suffix(".certificate.json")
    classifier = read_json(certificate).get("classifier") if certificate.exists() else None
    return {
        "design": draw.design,
        "classifier": classifier,
        "file": source.file,
        "pile": pile.fingerprint,
        "rows": pile.rows,
        "seed": options.seed,
        "by": options.by,
        "drawn": draw.rows.tolist(),
        "inclusion": [round(float(p), 12) for p in draw.inclusion],
    }


def _items(
    source: InputFile, drawn: Sequence[int], inclusion: Sequence[float], by: str | None
) -> list[Item]:
    """Read the drawn rows, in the order of the draw."""
    chances = dict(zip(drawn, inclusion, strict=True))
    found = {}
    with source.open() as rows:
        text_of = source.reader(rows)
        for number, (where, row) in enumerate(rows):
            if number in chances:
                group = "" if by is None else str(row.get(by) or "")
                found[number] = _item(row, text_of(where, row), number, chances[number], group)
    return [found[row] for row in drawn]


def _queued(source: InputFile) -> list[Item]:
    with source.open() as rows:
        text_of = source.reader(rows)
        return [
            _item(row, text_of(where, row), int(row[PILE_ROW]), None, "") for where, row in rows
        ]


def _item(
    row: Mapping[str, Any], text: str, number: int, inclusion: float | None, group: str
) -> Item:
    sure = row.get(CONFIDENCE)
    said = row.get(LABEL_COLUMN)
    return Item(
        number,
        text,
        str(row.get("id") or ""),
        inclusion,
        group,
        str(said) if said else None,
        float(sure) if sure not in (None, "") else None,
    )


def _values(source: InputFile, column: str) -> list[str]:
    with source.open() as rows:
        return [str(row.get(column) or "") for _, row in rows]


def _column(source: InputFile, column: str) -> list[float]:
    with source.open() as rows:
        if column not in rows.columns:
            raise InputError(f"{source.file} has no column {column!r}; sentikit label writes one.")
        return [float(row[column]) if row[column] not in (None, "") else 0.0 for _, row in rows]
