"""The command ``sentikit datasets suspects``."""

from __future__ import annotations

import csv
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sentikit import InputError, read_run
from sentikit.extension import atomic_writer, complete_classifier, print_table, refuse_overlap

_EXCERPT = 80
_SHOWN = 20


@click.command(epilog="Example: sentikit datasets suspects runs/quickstart --output suspects.csv")
@click.argument("run", metavar="RUN|FILE", shell_complete=complete_classifier)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.csv",
    help="Write all suspects to a file that sentikit annotate opens. Replaces an existing file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def suspects(run: str, output: Path | None, as_json: bool) -> None:
    """List examples whose gold label is likely wrong, by a run's probabilities.

    The run's model must not be trained on these examples: use other data, or predict each part of
    the data with a model trained on the rest.
    """
    from .confident_learning import find_suspects

    folder = Path(run.removesuffix("#encoder"))
    read = list(folder.iterdir()) if folder.is_dir() else [folder, Path(run)]
    refuse_overlap([("--output", output)], read)
    table = read_run(run)
    if table.answers.probabilities is None:
        raise InputError(f"{run} has no probabilities, which are needed to find suspects.")
    found = find_suspects(table.gold, table.answers.probabilities)
    chosen = table.select(found.rows).examples
    names = [table.classes[number] for number in found.suggested]
    columns = (chosen.ids, chosen.texts, chosen.labels, names, chosen.sources, found.margins)
    keys = ("id", "text", "label", "suggested", "source", "margin")
    entries = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
    for entry in entries:
        entry["margin"] = round(float(entry["margin"]), 4)
    if output is not None:
        _write_csv(output, keys, entries)
    if as_json:
        click.echo(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    share = f"{len(entries):,} of {found.judged:,} labels are suspect"
    rows = [
        [
            entry["id"],
            entry["label"],
            entry["suggested"],
            f"{entry['margin']:.2f}",
            textwrap.shorten(entry["text"], _EXCERPT, placeholder="…"),
        ]
        for entry in entries[:_SHOWN]
    ]
    print_table(share, ["id", "label", "suggested", "margin", "text"], rows, ["margin"])
    if len(entries) > len(rows) and output is None:
        click.echo(f"{len(entries) - len(rows):,} more: --output FILE.csv or --json.", err=True)


def _write_csv(path: Path, keys: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> None:
    with atomic_writer(path) as stream:
        writer = csv.DictWriter(stream, keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(entries)
    click.echo(f"Wrote {path}.", err=True)
