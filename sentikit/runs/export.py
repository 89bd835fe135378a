"""Export of a run: its predictions as a table, beside the columns of the data they are about."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sentikit.datasets.opening import open_dataset
from sentikit.datasets.rows import cell_text
from sentikit.errors import InputError
from sentikit.files import atomic_writer
from sentikit.runs.table import RunTable

KINDS = (".csv", ".jsonl", ".parquet")


def export_table(table: RunTable, output: Path) -> None:
    """Write a run's rows, the user's own columns first where the run's data are a table.

    Args:
        table: the run.
        output: ends in one of `KINDS`.

    Raises:
        InputError: the name ends otherwise.
    """
    if output.suffix.lower() not in KINDS:
        raise InputError(f"--output {output}: let the name end in {', '.join(KINDS)}.")
    own = _predictions(table)
    kept = {name: cells for name, cells in _user_columns(table).items() if name not in own}
    columns = {**kept, **own}
    if output.suffix.lower() == ".parquet":
        _write_parquet(columns, output)
        return
    with atomic_writer(output) as stream:
        for line in _lines(columns, output.suffix.lower()):
            stream.write(line)


def _predictions(table: RunTable) -> dict[str, list[Any]]:
    names = np.array([*table.classes, None], object)
    columns: dict[str, list[Any]] = {"id": table.examples.ids, "text": table.examples.texts}
    columns["source"] = table.examples.sources
    columns["gold"] = list(names[table.gold])
    columns["predicted_label"] = list(names[table.answers.labels])
    if table.answers.probabilities is not None:
        for name, shares in zip(table.classes, table.answers.probabilities.T, strict=True):
            columns[f"probability_{name}"] = [None if np.isnan(s) else float(s) for s in shares]
    if table.cost is not None:
        columns["cost_usd"] = [None if np.isnan(cost) else float(cost) for cost in table.cost]
    return {name: cells for name, cells in columns.items() if any(c is not None for c in cells)}


def _user_columns(table: RunTable) -> dict[str, list[Any]]:
    """Return the columns of the table that the run's split was read from, found by its texts."""
    section = (table.manifest.get("recipe") or {}).get("dataset")
    split = (table.manifest.get("dataset") or {}).get("split")
    if not section or not split:
        return {}
    dataset = open_dataset(section)
    try:
        rows = dataset.loader.rows(dataset.options.splits.get(split) or split)
    except InputError:
        return {}
    settings = dataset.loader.settings
    wanted = getattr(settings, "text", None) or ()
    named = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    found: dict[str, deque[Mapping[str, Any]]] = defaultdict(deque)
    with rows:
        text = rows.text_reader(named, strip_markup=getattr(settings, "markup", "") == "strip")
        for where, row in rows:
            found[text(where, row)].append(row)
    matched = [_next(found, text) for text in table.examples.texts]
    return {name: [_plain(row.get(name)) for row in matched] for name in rows.columns}


def _next(found: Mapping[str, deque[Mapping[str, Any]]], text: str) -> Mapping[str, Any]:
    """Return the next row of a text; the last one stays for all that follow."""
    rows = found.get(text)
    if not rows:
        return {}
    return rows.popleft() if len(rows) > 1 else rows[0]


def _plain(value: Any) -> str | None:
    try:
        return cell_text(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, default=str)


def _lines(columns: Mapping[str, Sequence[Any]], kind: str) -> Iterator[str]:
    import csv
    import io

    records = zip(*columns.values(), strict=True)
    if kind == ".jsonl":
        for record in records:
            row = dict(zip(columns, record, strict=True))
            yield json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        return
    for record in [tuple(columns), *records]:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(record)
        yield line.getvalue()


def _write_parquet(columns: Mapping[str, Sequence[Any]], output: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    written = pa.table({name: pa.array(cells) for name, cells in columns.items()})
    with atomic_writer(output, "wb") as stream:
        pq.write_table(written, stream)
