"""Alignment of runs: the same examples and classes in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.datasets.examples import Examples
from sentikit.errors import InputError, quoted
from sentikit.runs.alignment import align, text_occurrences
from sentikit.runs.reading import ENCODER_SUFFIX
from sentikit.runs.table import RunTable, class_numbers

Rows = NDArray[np.int64]
_SUFFIXES = {".csv", ".tsv", ".jsonl", ".json", ".parquet", ".ndjson", ".gz"}


@dataclass(frozen=True)
class Truth:
    """A dataset's split, whose gold labels are class names."""

    name: str
    examples: Examples
    classes: tuple[str, ...]


@dataclass(frozen=True)
class AlignedRuns:
    """Runs over the same examples.

    Attributes:
        classes: class names, indexed by class number.
        examples: ids and texts, (rows,); texts are empty if no run has any.
        gold: class numbers, (rows,); every row has one.
        sources: the names of the sources, sorted; empty if unknown.
        source_of: index of each row's source, (rows,); -1 if unknown.
        runs: in the user's order; `name` is short and unique, `path` as the user gave it.
        dataset: the dataset's name and split, or "".
        notes: sentences on what was left out or matched loosely.
    """

    classes: tuple[str, ...]
    examples: Examples
    gold: NDArray[np.int64]
    sources: tuple[str, ...]
    source_of: NDArray[np.int64]
    runs: tuple[RunTable, ...]
    dataset: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.gold)

    def rows_of_source(self, name: str) -> NDArray[np.int64]:
        """Return the rows of a source."""
        return np.flatnonzero(self.source_of == self.sources.index(name))


def is_called(wanted: str, name: str, path: str) -> bool:
    """Return whether `wanted` is a run's name, its path or the last part of its path."""
    return wanted in (name, path, Path(path).name) or same_path(wanted, path)


def same_path(wanted: str, path: str) -> bool:
    """Return whether two spellings, such as ``runs/a/`` and ``runs/a``, are the same path."""
    return Path(wanted) == Path(path)


def align_runs(
    tables: Sequence[RunTable], truth: Truth | None = None, intersect: bool = False
) -> AlignedRuns:
    """Align runs row by row, with `sentikit.runs.alignment.align`.

    Gold labels and sources come from `truth`, else from the first run that has them; rows without
    a gold label are left out. `intersect` keeps the texts that all runs share instead of refusing
    runs over different texts.
    """
    if not tables:
        raise InputError("No runs to compare. Give runs or results files.")
    classes = truth.classes if truth else reference_run(tables).classes
    base: Truth | RunTable = truth or next((t for t in tables if t.has_texts), tables[0])
    by_id = truth is None and not any(table.has_texts for table in tables)
    placed = [_place(base, table, by_id, intersect) for table in tables]
    kept = np.flatnonzero(np.all([rows >= 0 for rows in placed], axis=0))
    if not len(kept):
        raise InputError("The runs have no text in common. Give runs on the same data.")
    complete = len(kept) == len(base.examples)
    examples = base.examples if complete else base.examples.select(kept)
    runs = [
        _selected(table.in_classes(classes, base.name), name, rows[kept])
        for table, name, rows in zip(tables, display_names(tables), placed, strict=True)
    ]
    most = max(len(base.examples), *(len(table) for table in tables))
    notes = _notes(most, examples, by_id)
    gold = gold_labels(examples, classes, truth, runs)
    known = np.flatnonzero(gold >= 0)
    if len(known) < len(gold):
        notes.append(
            f"{len(gold) - len(known):,} of {len(gold):,} texts have no gold label and are left "
            "out; --dataset NAME --split SPLIT can supply them."
        )
        examples, gold = examples.select(known), gold[known]
        runs = [run.select(known) for run in runs]
    return AlignedRuns(
        classes,
        examples,
        gold,
        *sources_of([examples, *(run.examples for run in runs)]),
        runs=tuple(replace(run, examples=examples) for run in runs),
        dataset=truth.name if truth else _dataset_of(tables),
        notes=tuple(notes),
    )


def _selected(table: RunTable, name: str, rows: Rows) -> RunTable:
    """Return the compared rows of a run, without the columns that are not compared."""
    run = replace(table, name=name, path=table.name, raw=None, tokens=None)
    complete = len(rows) == len(table) and np.array_equal(rows, np.arange(len(rows)))
    return run if complete else run.select(rows)


def reference_run(tables: Sequence[RunTable]) -> RunTable:
    """Return the run that sets the classes of a comparison and their order."""
    return next((table for table in tables if table.ordered), tables[0])


def display_names(tables: Sequence[RunTable]) -> list[str]:
    """Return a unique short name for each run: its last part, with folders if needed."""
    parts = [_parts(table.name) for table in tables]
    names = []
    for number, own in enumerate(parts):
        others = [other for i, other in enumerate(parts) if i != number]
        depth = 1
        while depth < len(own) and any(other[-depth:] == own[-depth:] for other in others):
            depth += 1
        name = "/".join(own[-depth:])
        repeated = sum("/".join(earlier[-depth:]) == name for earlier in parts[:number])
        names.append(f"{name} ({repeated + 1})" if repeated else name)
    return names


def short_name(path: str) -> str:
    return _parts(path)[-1]


def _parts(name: str) -> tuple[str, ...]:
    plain = name.removesuffix(ENCODER_SUFFIX)
    path = Path(plain)
    last = path.stem if path.suffix in _SUFFIXES else path.name
    return (*path.parts[:-1], (last or plain) + name[len(plain) :])


def _place(base: Truth | RunTable, table: RunTable, by_id: bool, intersect: bool) -> Rows:
    """Return the run's row for each row of the reference, -1 if there is none."""
    by_id = by_id or not table.has_texts
    if table.examples is base.examples:
        return np.arange(len(base.examples), dtype=np.int64)
    rows = align(base.examples, table.examples, by_id)
    if not intersect and ((rows < 0).any() or len(table) != len(base.examples)):
        raise _different_texts(base, table, rows, by_id)
    return rows


def _different_texts(
    base: Truth | RunTable, table: RunTable, rows: Rows, by_id: bool
) -> InputError:
    missing = np.flatnonzero(rows < 0)
    used = np.zeros(len(table), np.bool_)
    used[rows[rows >= 0]] = True
    extra = np.flatnonzero(~used)
    here, row, owner = (
        (base.examples, int(missing[0]), base.name)
        if len(missing)
        else (table.examples, int(extra[0]), table.name)
    )
    what = "ids" if by_id else "texts"
    shown = quoted(here.select([row]).column("id" if by_id else "text")[0])
    return InputError(
        f"{table.name} and {base.name} are over different texts: {len(missing):,} of "
        f"{len(base.examples):,} {what} of {base.name} are not in {table.name}, and {len(extra):,} "
        f"of {len(table):,} the other way round. The first is row {row + 1} of {owner}, {shown}. "
        "Use --intersect to compare the texts they share, or evaluate the runs on one split."
    )


def _dataset_of(tables: Sequence[RunTable]) -> str:
    for table in tables:
        described = table.manifest.get("dataset") or {}
        if described.get("dataset"):
            return f"{described['dataset']} {described.get('split', '')}".strip()
    return ""


def _notes(most: int, examples: Examples, by_id: bool) -> list[str]:
    notes = []
    if len(examples) < most:
        notes.append(
            f"The runs share {len(examples):,} of {most:,} texts; only those are compared."
        )
    repeated = 0 if by_id else int((text_occurrences(examples) > 0).sum())
    if repeated:
        notes.append(
            f"{repeated:,} {'text repeats' if repeated == 1 else 'texts repeat'} an earlier one; "
            "they were matched by id where ids are equal, otherwise in order."
        )
    return notes


def gold_labels(
    examples: Examples, classes: tuple[str, ...], truth: Truth | None, runs: Sequence[RunTable]
) -> Rows:
    """Merge the gold labels of the dataset and the runs, and refuse runs without any."""
    owners = [(run.path, run.gold) for run in runs]
    if truth:
        owners.insert(0, (truth.name, class_numbers(_arrow(examples, "label"), classes)))
    gold = merged_gold(examples, classes, owners)
    if (gold < 0).all():
        raise InputError(
            "No run has gold labels, so none can be scored. Name their dataset, for example "
            "--dataset merged --split test, or add a column of gold labels to a file."
        )
    return gold


def merged_gold(
    examples: Examples, classes: tuple[str, ...], owners: Sequence[tuple[str, Rows]]
) -> Rows:
    """Merge the gold labels of several owners, each given with its name; -1 if none has one.

    Raises:
        InputError: two owners have different gold labels for an example.
    """
    first_name, gold = owners[0][0], owners[0][1].copy()
    for name, other in owners[1:]:
        _refuse_conflict(examples, classes, (first_name, gold), (name, other))
        if (gold < 0).all():
            first_name = name
        np.copyto(gold, other, where=gold < 0)
    return gold


def _refuse_conflict(
    examples: Examples, classes: tuple[str, ...], first: tuple[str, Rows], other: tuple[str, Rows]
) -> None:
    odd = np.flatnonzero((first[1] >= 0) & (other[1] >= 0) & (first[1] != other[1]))
    if not len(odd):
        return
    row = int(odd[0])
    text = quoted(examples.select([row]).texts[0] or examples.select([row]).ids[0])
    raise InputError(
        f"{first[0]} and {other[0]} have different gold labels for {len(odd):,} of "
        f"{len(examples):,} texts. The first is row {row + 1}, {text}: "
        f"{classes[int(first[1][row])]} and {classes[int(other[1][row])]}. Give runs on the same "
        "data."
    )


def _arrow(examples: Examples, column: str) -> Any:
    values = examples.table.column(column)
    return values if examples.order is None else values.take(examples.order)


def sources_of(owners: Sequence[Examples]) -> tuple[tuple[str, ...], Rows]:
    """Return the sources' names, and each row's source from the first owner that has it."""
    import pyarrow.compute as pc

    found = pc.coalesce(*(_arrow(own, "source") for own in owners))
    names = tuple(sorted(pc.unique(found).drop_null().to_pylist()))
    return names, class_numbers(found, names)
