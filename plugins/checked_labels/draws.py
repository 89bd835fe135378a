"""Draws of rows from a table: uniform, by group, by strata of confidence, or the least sure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentikit import InputError
from sentikit.extension import InputFile, confidence_strata, read_json

from .checked import read_checked, read_draw
from .pile import Pile, certificate_beside, group_reader, rows_again, scan_pile

#: Guessed error rates of the least and the most sure stratum. Chosen on the study's validation
#: predictions, as the number of strata: mean width of accuracy's interval over three labellings.
_GUESSED_ERRORS = (0.45, 0.02)
#: Least checks of a stratum, so that its variance can be estimated.
_LEAST = 2

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """Rows to check.

    Attributes:
        rows: row numbers in random order, which is the order of checking.
        inclusion: the probability with which each was drawn.
        design: uniform, stratified or by group.
    """

    rows: Integers
    inclusion: Floats
    design: str


def uniform_draw(rows: int, size: int, seed: int) -> Draw:
    """Draw `size` of `rows` uniformly without replacement, as a certificate needs."""
    _check_size(rows, size)
    drawn = np.random.default_rng(seed).permutation(rows)[:size]
    return Draw(drawn.astype(np.int64), np.full(size, size / rows), "uniform")


def stratified_draw(confidence: ArrayLike, size: int, seed: int) -> Draw:
    """Draw rows by strata of confidence, for the narrowest interval of accuracy.

    Stratum h gets n_h ∝ W_h·√(p_h(1 − p_h)) of the checks (Neyman 1934), with guessed error rates
    p_h that fall geometrically from .45 for the least sure eighth to .02 for the most sure. A
    certificate is refused on such a draw, since it needs a uniform one.
    """
    values = np.asarray(confidence, np.float64)
    _check_size(len(values), size)
    strata = confidence_strata(values)
    numbers, sizes = np.unique(strata, return_counts=True)
    high, low = _GUESSED_ERRORS
    guessed = high * (low / high) ** (numbers / max(1, int(numbers[-1])))
    weights = sizes.astype(np.float64) * np.sqrt(guessed * (1 - guessed))
    return _by_strata(strata, _allocation(weights, sizes, size), seed, "stratified")


def group_draw(groups: Sequence[Hashable], size: int, seed: int) -> Draw:
    """Draw rows so that each group gets the same number of checks, or all it has."""
    _check_size(len(groups), size)
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))}
    strata = np.fromiter((codes[group] for group in groups), np.int64, len(groups))
    sizes = np.bincount(strata).astype(np.int64)
    return _by_strata(strata, _allocation(np.ones(len(sizes)), sizes, size), seed, "by group")


def _by_strata(strata: Integers, wanted: Integers, seed: int, design: str) -> Draw:
    random = np.random.default_rng(seed)
    rows, inclusion = [], []
    for number, count in zip(np.unique(strata), wanted, strict=True):
        members = np.flatnonzero(strata == number)
        rows.append(random.choice(members, count, replace=False))
        inclusion.append(np.full(count, count / max(1, len(members))))
    order = random.permutation(int(wanted.sum()))
    return Draw(np.concatenate(rows)[order], np.concatenate(inclusion)[order], design)


def _allocation(weights: Floats, sizes: Integers, total: int) -> Integers:
    """Allocate `total` checks in proportion to weights, at least two and at most all of each."""
    counts = np.minimum(sizes, _LEAST if total >= _LEAST * len(sizes) else 0).astype(np.int64)
    while (left := total - int(counts.sum())) > 0:
        wanted = np.where(counts < sizes, weights, 0.0)
        ideal = wanted / wanted.sum() * total
        missing = np.where(counts < sizes, ideal - counts, -np.inf)
        step = np.clip(np.floor(missing), 0, sizes - counts).astype(np.int64)
        if 0 < step.sum() <= left:
            counts += step
        else:
            counts[int(np.argmax(missing))] += 1
    return counts


def _check_size(rows: int, size: int) -> None:
    if not 0 < size <= rows:
        raise InputError(f"{size} texts cannot be drawn from {rows} rows; choose 1 to {rows}.")


@dataclass(frozen=True)
class Item:
    """A text to show to annotators.

    Attributes:
        row: of the pile; negative if unknown, as in files of other programs.
        text: of the row.
        id: of the row.
        inclusion: the probability with which it was drawn; None in a queue.
        group: the group it was drawn for.
        predicted: the classifier's label, shown only on request.
        confidence: likewise.
    """

    row: int
    text: str
    id: str = ""
    inclusion: float | None = None
    group: str = ""
    predicted: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class DrawOptions:
    """Which texts to draw.

    Attributes:
        size: number of texts.
        seed: of the draw.
        labelled: a table whose confidences stratify the draw, or None.
        by: a column, or COLUMN:PERIOD, each value of which gets the same number; or None.
    """

    size: int = 300
    seed: int = 0
    labelled: Path | None = None
    by: str | None = None


@dataclass(frozen=True)
class Drawn:
    """The texts to check for a checked file.

    Attributes:
        items: the texts, in the order in which to show them.
        record: how they were drawn, to be written beside the checked file when annotation begins;
            None if it is there already.
    """

    items: list[Item]
    record: Mapping[str, Any] | None = None


def drawn_items(source: InputFile, output: Path, options: DrawOptions) -> Drawn:
    """Return the texts drawn before for this checked file, or a new draw.

    Nothing is written. A review queue, which names each row of the pile, and a file of suspects are
    not drawn from: all their rows are shown, in order.

    Raises:
        InputError: the pile has changed since, or was drawn from with other options.
    """
    with source.open() as rows:
        columns = frozenset(rows.columns)
        if options.by is not None:
            group_reader(options.by, rows)  # refuses a missing column first
    queue = columns >= {"row", "confidence"} or columns >= {"suggested", "margin"}
    known = read_draw(output)
    if queue and options.labelled is None:
        if known and known.get("design") != "queue":
            raise InputError(
                f"{output} holds texts drawn from {known.get('file')}; rows of the queue "
                f"{source.typed} were not drawn and would spoil it. Choose another --output."
            )
        return Drawn(_queued(source), None if known else {"design": "queue", "file": source.typed})
    pile = scan_pile(source)
    if known and known.get("pile") != pile.fingerprint:
        raise InputError(
            f"{output} holds checks of another pile ({known.get('file')}), or {source.typed} has "
            "changed since. Choose another --output."
        )
    if not known:
        new = _new_draw(source, pile, options)
        return Drawn(_items(pile, new["drawn"], new["inclusion"], options.by), new)
    if len(known["drawn"]) != min(options.size, pile.rows):
        raise InputError(
            f"{output} was started with {len(known['drawn'])} drawn texts (seed {known['seed']}). "
            f"Continue with --size {len(known['drawn'])}, or choose another --output."
        )
    return Drawn(_items(pile, known["drawn"], known["inclusion"], options.by))


def conflict_items(output: Path) -> list[Item]:
    """Return the texts that annotators label differently.

    Raises:
        InputError: there are no conflicts.
    """
    groups = read_checked(output).conflicts()
    if not groups:
        raise InputError(f"{output} has no open conflicts; there is nothing to decide.")
    return [
        Item(c.row if c.row is not None else -1 - number, c.text, c.id, c.inclusion, c.group)
        for number, (c, *_) in enumerate(groups)
    ]


def least_sure(labelled: InputFile, size: int) -> Integers:
    """Return the rows of a labelled table with the lowest confidence, in the table's order.

    Raises:
        InputError: the table has no confidences.
    """
    confidence = np.array(_confidences(labelled))
    _check_size(len(confidence), size)
    return np.sort(np.argsort(confidence, kind="stable")[:size])


def labelled_table(source: InputFile, labelled: Path) -> InputFile:
    """Return the labelled table of a pile, whose texts are in the pile's columns."""
    return replace(source, file=str(labelled), kind=None, sheet=None, query=None, database=None)


def _new_draw(source: InputFile, pile: Pile, options: DrawOptions) -> dict[str, Any]:
    size = min(options.size, pile.rows)
    if options.labelled is not None:
        labelled = labelled_table(source, options.labelled)
        if scan_pile(labelled).fingerprint != pile.fingerprint:
            raise InputError(
                f"--for {options.labelled} does not hold the texts of {source.typed}. Give the "
                "table "
                "that sentikit label or predict wrote for this file."
            )
        draw = stratified_draw(_confidences(labelled), size, options.seed)
    elif options.by is not None:
        with source.open() as rows:
            group = group_reader(options.by, rows)
            draw = group_draw([group(where, row) for where, row in rows], size, options.seed)
    else:
        draw = uniform_draw(pile.rows, size, options.seed)
    certificate = certificate_beside(source)
    classifier = read_json(certificate).get("classifier") if certificate.exists() else None
    return {
        "design": draw.design,
        "classifier": classifier,
        "file": source.typed,
        "pile": pile.fingerprint,
        "rows": pile.rows,
        "seed": options.seed,
        "by": options.by,
        "drawn": draw.rows.tolist(),
        "inclusion": [round(float(p), 12) for p in draw.inclusion],
    }


def _items(
    pile: Pile, drawn: Sequence[int], inclusion: Sequence[float], by: str | None
) -> list[Item]:
    """Read the drawn rows, in the order of the draw."""
    chances = dict(zip(drawn, inclusion, strict=True))
    found = {}
    with pile.source.open() as rows:
        group_of = by and group_reader(by, rows)
        again = rows_again(pile.source, rows, pile.rows, pile.fingerprint)
        for number, (where, text, row) in enumerate(again):
            if number in chances:
                group = group_of(where, row) if group_of else ""
                found[number] = _item(row, text, number, chances[number], group)
    return [found[row] for row in drawn]


def _queued(source: InputFile) -> list[Item]:
    with source.open() as rows:
        text_of = source.reader(rows)
        return [
            _item(row, text_of(where, row), int(row.get("row", number)), None, "")
            for number, (where, row) in enumerate(rows)
        ]


def _item(
    row: Mapping[str, Any], text: str, number: int, inclusion: float | None, group: str
) -> Item:
    sure, predicted = row.get("confidence"), row.get("predicted_label") or row.get("suggested")
    return Item(
        number,
        text,
        str(row.get("id") or ""),
        inclusion,
        group,
        str(predicted) if predicted else None,
        float(sure) if sure not in (None, "") else None,
    )


def _confidences(source: InputFile) -> list[float]:
    with source.open() as rows:
        if "confidence" not in rows.columns:
            raise InputError(f"{rows.name} has no column 'confidence'; sentikit label writes it.")
        sure = [row["confidence"] for _, row in rows]
    return [float(one) if one not in (None, "") else 0.0 for one in sure]
