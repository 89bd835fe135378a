"""Alignment of runs: one order of rows and classes, with gold labels and sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.datasets.examples import Examples
from sentikit.errors import InputError, quoted
from sentikit.runs.alignment import align, text_occurrences
from sentikit.runs.reading import ENCODER_SUFFIX
from sentikit.runs.table import Labelling, RunTable, class_numbers


@dataclass(frozen=True)
class AlignedRun:
    """One run in the common order of rows and classes.

    Attributes:
        name: short and unique in the comparison.
        path: as the user gave it.
        answers: labels (class numbers, -1 invalid) and probabilities.
        adviser: the predictions that the LLM was shown, or None.
        cost: USD of each row, NaN where unknown; None where all are.
        manifest: of a run; empty for a file.
    """

    name: str
    path: str
    answers: Labelling
    adviser: Labelling | None = None
    cost: NDArray[np.float64] | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def select(self, rows: NDArray[np.int64]) -> AlignedRun:
        """Return some rows, in the order given."""
        return replace(
            self,
            answers=self.answers.select(rows),
            adviser=None if self.adviser is None else self.adviser.select(rows),
            cost=None if self.cost is None else self.cost[rows],
        )


@dataclass(frozen=True)
class AlignedRuns:
    """Runs over the same examples.

    Attributes:
        classes: what class numbers stand for.
        examples: ids and texts, (rows,); texts are empty where no run has any.
        gold: class numbers, (rows,); every row has one.
        sources: the sources' names, sorted; empty where unknown.
        source_of: number of each row's source, (rows,); -1 where unknown.
        runs: in the order the user gave.
        dataset: what the examples are called, or "".
        notes: sentences on what was left out or matched loosely.
    """

    classes: tuple[str, ...]
    examples: Examples
    gold: NDArray[np.int64]
    sources: tuple[str, ...]
    source_of: NDArray[np.int64]
    runs: tuple[AlignedRun, ...]
    dataset: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.gold)

    def run(self, name: str) -> AlignedRun:
        """Return the run of that name."""
        return next(run for run in self.runs if run.name == name)

    def select(self, rows: NDArray[np.int64]) -> AlignedRuns:
        """Return some rows, in the order given."""
        return replace(
            self,
            examples=self.examples.select(rows),
            gold=self.gold[rows],
            source_of=self.source_of[rows],
            runs=tuple(run.select(rows) for run in self.runs),
        )

    def rows_of_source(self, name: str) -> NDArray[np.int64]:
        """Return the rows of a source."""
        return np.flatnonzero(self.source_of == self.sources.index(name))


def is_called(wanted: str, name: str, path: str) -> bool:
    """Return whether a name, a path or the last part of one means a run."""
    return wanted in (name, path, Path(path).name) or same_path(wanted, path)


def same_path(wanted: str, path: str) -> bool:
    """Return whether two spellings, such as ``runs/a/`` and ``runs/a``, are one path."""
    return Path(wanted) == Path(path)


def align_runs(
    tables: Sequence[RunTable], truth: Truth | None = None, intersect: bool = False
) -> AlignedRuns:
    """Bring runs into one order.

    Rows belong together as `sentikit.runs.alignment.align` has it. Gold labels and sources come
    from `truth`, else from the first run that has them; rows without a gold label are left out.

    Args:
        tables: the runs.
        truth: a dataset's split.
        intersect: keep what all runs share instead of refusing runs over different texts.

    Raises:
        InputError: no runs; different classes, texts or gold labels; no gold labels at all.
    """
    if not tables:
        raise InputError("There is nothing to compare. Give runs or results files.")
    classes = truth.classes if truth else reference_run(tables).classes
    base = _reference(tables, truth)
    placed = [_place(base, table, intersect) for table in tables]
    kept = np.flatnonzero(np.all([rows >= 0 for rows in placed], axis=0))
    if not len(kept):
        raise InputError("The runs have no text in common; there is nothing to compare.")
    tables = [table.in_classes(classes, base.name) for table in tables]
    chosen = [_rows_of(rows, kept, len(table)) for rows, table in zip(placed, tables, strict=True)]
    examples = base.examples if len(kept) == len(base.examples) else base.examples.select(kept)
    gold = gold_labels(examples, classes, truth, tables, chosen)
    notes = _notes(base, tables, kept, examples, base.by_id)
    aligned = AlignedRuns(
        classes,
        examples,
        gold,
        *sources_of(examples, tables, chosen),
        runs=tuple(
            _aligned_run(table, name, rows)
            for table, name, rows in zip(tables, display_names(tables), chosen, strict=True)
        ),
        dataset=truth.name if truth else _dataset_of(tables),
        notes=notes,
    )
    return _with_gold_alone(aligned)


def reference_run(tables: Sequence[RunTable]) -> RunTable:
    """Return the run whose classes, in their order, are those of a comparison."""
    return next((table for table in tables if table.ordered), tables[0])


def display_names(tables: Sequence[RunTable]) -> list[str]:
    """Return a unique short name for each run: its last part, with folders where needed."""
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
    """Return the name of a run that no other shares."""
    return _parts(path)[-1]


def _parts(name: str) -> tuple[str, ...]:
    plain = name.removesuffix(ENCODER_SUFFIX)
    path = Path(plain)
    last = path.stem if path.suffix in _SUFFIXES else path.name
    return (*path.parts[:-1], (last or plain) + name[len(plain) :])


_SUFFIXES = {".csv", ".tsv", ".jsonl", ".json", ".parquet", ".ndjson", ".gz"}


@dataclass(frozen=True)
class _Reference:
    name: str
    examples: Examples
    by_id: bool


def _reference(tables: Sequence[RunTable], truth: Truth | None) -> _Reference:
    if truth:
        return _Reference(truth.name, truth.examples, False)
    with_texts = [table for table in tables if table.has_texts]
    first = (with_texts or list(tables))[0]
    return _Reference(first.name, first.examples, not with_texts)


def _place(base: _Reference, table: RunTable, intersect: bool) -> Rows:
    """Return the run's row for each row of the reference, -1 where there is none."""
    by_id = base.by_id or not table.has_texts
    if table.examples is base.examples:
        return np.arange(len(base.examples), dtype=np.int64)
    rows = align(base.examples, table.examples, by_id)
    if not intersect and ((rows < 0).any() or len(table) != len(base.examples)):
        raise _different_texts(base, table, rows, by_id)
    return rows


def _different_texts(base: _Reference, table: RunTable, rows: Rows, by_id: bool) -> InputError:
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
        f"{len(base.examples):,} {what} of {base.name} are not in {table.name}, {len(extra):,} of "
        f"{len(table):,} the other way round. The first is row {row + 1} of {owner}, {shown}. "
        "Compare what they share with --intersect."
    )


def _rows_of(rows: Rows, kept: Rows, length: int) -> Rows | None:
    """Return the rows to take from a run; None means all in their order."""
    taken = rows[kept] if len(kept) != len(rows) else rows
    same = len(taken) == length and np.array_equal(taken, np.arange(length))
    return None if same else taken


def _aligned_run(table: RunTable, name: str, rows: Rows | None) -> AlignedRun:
    run = AlignedRun(name, table.name, table.answers, table.adviser, table.cost, table.manifest)
    return run if rows is None else run.select(rows)


def _dataset_of(tables: Sequence[RunTable]) -> str:
    """Return the dataset and split that the first manifest names."""
    for table in tables:
        described = table.manifest.get("dataset") or {}
        if described.get("dataset"):
            return f"{described['dataset']} {described.get('split', '')}".strip()
    return ""


def _notes(
    base: _Reference, tables: Sequence[RunTable], kept: Rows, examples: Examples, by_id: bool
) -> tuple[str, ...]:
    notes = []
    most = max(len(base.examples), *(len(table) for table in tables))
    if len(kept) < most:
        notes.append(f"Compared are the {len(kept):,} texts that all runs share, of {most:,}.")
    repeated = 0 if by_id else int((text_occurrences(examples) > 0).sum())
    if repeated:
        notes.append(
            f"{repeated:,} {'text repeats' if repeated == 1 else 'texts repeat'} an earlier one; "
            "they were matched by id where ids are the same, else in their order."
        )
    return tuple(notes)


def _with_gold_alone(aligned: AlignedRuns) -> AlignedRuns:
    """Leave out rows without a gold label, and say so."""
    known = np.flatnonzero(aligned.gold >= 0)
    left_out = len(aligned) - len(known)
    if not left_out:
        return aligned
    note = (
        f"{left_out:,} of {len(aligned):,} texts have no gold label and are left out; "
        "--dataset NAME --split SPLIT can supply them."
    )
    return _without_empty_sources(replace(aligned.select(known), notes=(*aligned.notes, note)))


def _without_empty_sources(aligned: AlignedRuns) -> AlignedRuns:
    present = np.unique(aligned.source_of[aligned.source_of >= 0])
    numbers = np.full(len(aligned.sources) + 1, -1, np.int64)
    numbers[present] = np.arange(len(present))
    sources = tuple(aligned.sources[number] for number in present)
    return replace(aligned, sources=sources, source_of=numbers[aligned.source_of])


Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """Examples with gold labels from a dataset.

    Attributes:
        name: of the dataset and split, for messages.
        examples: with gold labels as class names.
        classes: of its label scheme.
    """

    name: str
    examples: Examples
    classes: tuple[str, ...]


def _taken(values: Rows, rows: Rows | None) -> Rows:
    return values if rows is None else values[rows]


def gold_labels(
    examples: Examples,
    classes: tuple[str, ...],
    truth: Truth | None,
    tables: Sequence[RunTable],
    chosen: Sequence[Rows | None],
) -> Rows:
    """Merge the gold labels of the dataset and the runs; -1 where none has one.

    Raises:
        InputError: two of them differ; none has any.
    """
    owners: list[tuple[str, Rows]] = []
    if truth:
        owners.append((truth.name, class_numbers(_arrow(examples, "label"), classes)))
    for table, rows in zip(tables, chosen, strict=True):
        owners.append((table.name, _taken(table.gold, rows)))
    first_name, gold = owners[0]
    gold = gold.copy()
    for name, other in owners[1:]:
        _refuse_conflict(examples, classes, (first_name, gold), (name, other))
        if (gold < 0).all():
            first_name = name
        np.copyto(gold, other, where=gold < 0)
    if (gold < 0).all():
        raise InputError(
            "No run has gold labels, so none can be scored. Name the data they are of, as "
            "--dataset merged --split test, or add a column of gold labels to a file."
        )
    return gold


def _refuse_conflict(
    examples: Examples,
    classes: tuple[str, ...],
    first: tuple[str, Rows],
    other: tuple[str, Rows],
) -> None:
    odd = np.flatnonzero((first[1] >= 0) & (other[1] >= 0) & (first[1] != other[1]))
    if not len(odd):
        return
    row = int(odd[0])
    text = quoted(examples.select([row]).texts[0] or examples.select([row]).ids[0])
    raise InputError(
        f"{first[0]} and {other[0]} have different gold labels for {len(odd):,} of "
        f"{len(examples):,} texts. The first is row {row + 1}, {text}: "
        f"{classes[int(first[1][row])]} and {classes[int(other[1][row])]}."
    )


def _arrow(examples: Examples, column: str) -> Any:
    values = examples.table.column(column)
    return values if examples.order is None else values.take(examples.order)


def sources_of(
    examples: Examples, tables: Sequence[RunTable], chosen: Sequence[Rows | None]
) -> tuple[tuple[str, ...], Rows]:
    """Return the sources' names, and each row's source from the first run that has it."""
    names: list[str] = []
    found = np.full(len(examples), -1, np.int64)
    for own in [
        examples,
        *(
            t.examples if r is None else t.examples.select(r)
            for t, r in zip(tables, chosen, strict=True)
        ),
    ]:
        if not (found < 0).any():
            break
        codes, known = _source_codes(own)
        for name in known:
            if name not in names:
                names.append(name)
        lookup = np.array([*(names.index(name) for name in known), -1], np.int64)
        np.copyto(found, lookup[codes], where=found < 0)
    ordered = sorted(names)
    lookup = np.array([*(ordered.index(name) for name in names), -1], np.int64)
    return tuple(ordered), lookup[found]


def _source_codes(examples: Examples) -> tuple[Rows, list[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _arrow(examples, "source")
    together = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = together.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return np.asarray(codes, np.int64), encoded.dictionary.to_pylist()
