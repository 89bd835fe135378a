"""``sentikit runs table``: a run's predictions with the columns of its data."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit import InputError, SentikitError
from sentikit.extension import atomic_writer, cell_text, complete_classifier, refuse_overlap

if TYPE_CHECKING:
    from sentikit.extension import OpenedDataset, RunTable

KINDS = (".csv", ".jsonl", ".parquet")


@click.command(epilog="Example: sentikit runs table runs/quickstart --output labelled.csv")
@click.argument("run", metavar="RUN|FILE", shell_complete=complete_classifier)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    required=True,
    help="The file to write: FILE.csv, FILE.jsonl or FILE.parquet. Replaces an existing file.",
)
def table(run: str, output: Path) -> None:
    """Write a run's predictions as a table, with the columns of its data."""
    _check_ending(output)
    from sentikit import read_run

    folder = Path(run.removesuffix("#encoder"))
    read = list(folder.iterdir()) if folder.is_dir() else [folder, Path(run)]
    refuse_overlap([("--output", output)], read)
    found = read_run(run)
    section, _ = _dataset_of(found)
    refuse_overlap([("--output", output)], [v for v in section.values() if isinstance(v, str)])
    export_table(found, output)
    click.echo(f"Wrote {output}: {len(found):,} rows.", err=True)


def export_table(table: RunTable, output: Path) -> None:
    """Write a run's rows, after the user's columns if the run's data is a table.

    Args:
        table: the run.
        output: ends in one of `KINDS`.

    Raises:
        InputError: the name has another ending.
    """
    _check_ending(output)
    import pandas as pd

    given = {f"p {name}": f"probability_{name}" for name in table.classes}
    given |= {"label": "predicted_label", "cost": "cost_usd"}
    own = table.to_frame().rename(columns=given).dropna(axis="columns", how="all")
    kept = {name: cells for name, cells in _user_columns(table).items() if name not in own}
    frame = pd.concat([pd.DataFrame(kept, index=own.index), own], axis="columns")
    with atomic_writer(output, "wb") as stream:
        if output.suffix.lower() == ".parquet":
            frame.to_parquet(stream, index=False)
        elif output.suffix.lower() == ".jsonl":
            frame.to_json(
                stream, orient="records", lines=True, force_ascii=False, double_precision=15
            )
        else:
            frame.to_csv(stream, index=False, lineterminator="\n")


def _check_ending(output: Path) -> None:
    if output.suffix.lower() not in KINDS:
        raise InputError(f"--output {output}: the name must end in {', '.join(KINDS)}.")


def _dataset_of(table: RunTable) -> tuple[Mapping[str, Any], str]:
    """Return the section and the split of a run's dataset; empty if the run names none."""
    recipe = table.manifest.get("recipe") or {}
    split = str((table.manifest.get("dataset") or {}).get("split") or "")
    section = (split != "train" and recipe.get("evaluation_dataset")) or recipe.get("dataset")
    return section or {}, split


def _user_columns(table: RunTable) -> dict[str, list[Any]]:
    """Return the columns of the table that the run's split was read from, found by its texts."""
    from sentikit import open_dataset

    section, split = _dataset_of(table)
    if not section or not split:
        return {}
    try:
        return _columns_of(open_dataset(section), split, table.examples.texts)
    except SentikitError:
        # Without the data, a plugin or a network, only the run's columns are written.
        return {}


def _columns_of(dataset: OpenedDataset, split: str, texts: Iterable[str]) -> dict[str, list[Any]]:
    """Return the columns of a split's table, by text; none for a held-out split.

    Raises:
        SentikitError: there is no table, or it cannot be read.
    """
    origin = dataset.options.splits.get(split, split)
    if origin is None or origin not in dataset.loader.splits():
        return {}
    rows = dataset.loader.rows(origin)
    settings = dataset.loader.settings
    wanted = getattr(settings, "text", None) or ()
    named = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    found: dict[str, deque[Mapping[str, Any]]] = defaultdict(deque)
    with rows:
        text = rows.text_reader(named, strip_markup=getattr(settings, "markup", "") == "strip")
        for where, row in rows:
            found[text(where, row)].append(row)
    matched = [_next(found, text) for text in texts]
    return {name: [_plain(row.get(name)) for row in matched] for name in rows.columns}


def _next(found: Mapping[str, deque[Mapping[str, Any]]], text: str) -> Mapping[str, Any]:
    """Return the next row of a text; the last row is repeated."""
    rows = found.get(text)
    if not rows:
        return {}
    return rows.popleft() if len(rows) > 1 else rows[0]


def _plain(value: Any) -> str | None:
    try:
        return cell_text(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, default=str)
