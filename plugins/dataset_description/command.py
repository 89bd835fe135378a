"""The commands ``sentikit datasets list`` and ``show``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from sentikit import InputError
from sentikit.extension import default_registry, print_table

if TYPE_CHECKING:
    from sentikit import Examples
    from sentikit.extension import OpenedDataset

    from .description import DatasetDescription, SourceDescription, SplitDescription

#: Most sources in the table; --json has all of them.
_SOURCES_SHOWN = 20
_EXCERPT = 80


@click.command("list", epilog="Example: sentikit datasets list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_all(as_json: bool) -> None:
    """List available datasets."""
    registry = default_registry()
    found = [registry.find("register_datasets", n) for n in registry.names("register_datasets")]
    entries = [{"name": r.name, "plugin": r.plugin, "summary": r.summary} for r in found]
    if as_json:
        click.echo(json.dumps(entries, indent=2, ensure_ascii=False))
    else:
        print_table("", ("name", "plugin", "summary"), [list(entry.values()) for entry in entries])


@click.command(
    epilog="Example: sentikit datasets show files --set test=reviews.csv --set text=comment"
)
@click.argument("name")
@click.option("--path", metavar="DIR", help="The folder or file of the dataset.")
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set one key of the dataset section, such as 'label_map={good: positive}'; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def show(name: str, path: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Describe a dataset: labels, sources, lengths, duplicates, leaks between splits."""
    from sentikit import open_dataset

    dataset = open_dataset(_section(name, path, settings))
    description = _describe(dataset)
    if as_json:
        found = description.to_json()
        click.echo(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(description)


def _section(name: str, path: str | None, settings: Sequence[str]) -> dict[str, Any]:
    from sentikit.extension import parse_dataset_overrides, with_path

    section = parse_dataset_overrides(settings)
    if "name" in section:
        raise InputError(f"--set name=… would replace the dataset {name!r}. Leave it out.")
    return with_path({**section, "name": name}, path)


def _describe(dataset: OpenedDataset) -> DatasetDescription:
    from sentikit.extension import LiveBar

    from .description import describe_dataset

    with LiveBar("texts") as bar:

        def load() -> Iterator[tuple[str, Examples]]:
            for split in dataset.splits:
                bar.update(line=f"Reading {split}")
                examples = dataset.split(split, labelled=False, empty_texts=True)
                bar.update(0, len(examples), f"Describing {split}")
                yield split, examples

        found = describe_dataset(dataset.name, dataset.scheme.classes, load(), advance=bar.advance)
    if all(split.unlabelled == split.examples for split in found.splits):
        dataset.refuse_unused_map()
    for warning in dataset.warnings():
        click.echo(f"Warning: {warning}", err=True)
    return found


def _show(description: DatasetDescription) -> None:
    _print_labels(description)
    _print_texts(description)
    for split in description.splits:
        for problem in split.problems:
            click.echo(f"{split.name}: {problem}")
    for leak in description.leaks:
        texts = "1 text" if leak.texts == 1 else f"{leak.texts:,} texts"
        click.echo(
            f"{leak.first} and {leak.second} share {texts} (in {leak.second}: {leak.examples:,} of "
            f"the examples), such as {_excerpt(leak.example)!r}."
        )


def _print_labels(description: DatasetDescription) -> None:
    labels = list(dict.fromkeys(label for s in description.splits for label in s.labels))
    with_gaps = any(split.unlabelled for split in description.splits)
    numbers = ["examples", *labels, *(["no label"] if with_gaps else [])]

    def row(split: str, source: str, part: SplitDescription | SourceDescription) -> list[str]:
        counts = [part.examples, *(part.labels.get(label, 0) for label in labels)]
        counts += [part.unlabelled] if with_gaps else []
        return [split, source, *(f"{count:,}" for count in counts)]

    rows = []
    for split in description.splits:
        alone = len(split.sources) == 1 and not split.without_source
        rows.append(row(split.name, next(iter(split.sources)) if alone else "all", split))
        largest = [] if alone else list(split.sources.items())[:_SOURCES_SHOWN]
        rows += [row("", source, part) for source, part in largest]
        if len(split.sources) > _SOURCES_SHOWN:
            more = f"and {len(split.sources) - _SOURCES_SHOWN} more (--json)"
            rows.append(["", more, *("" for _ in numbers)])
    print_table(description.name, ["split", "source", *numbers], rows, numbers)


def _print_texts(description: DatasetDescription) -> None:
    numbers = ["duplicates", "conflicts", "p50", "p95", "p99", "max"]
    how = "estimated as English WordPiece" if description.tokens_are_estimated else "counted"
    rows = []
    for split in description.splits:
        lengths = split.tokens
        quantiles = (lengths.p50, lengths.p95, lengths.p99, lengths.max) if lengths else ()
        counts = (split.duplicates, split.conflicts, *quantiles)
        rows.append([split.name, *(f"{count:,}" for count in counts), split.fingerprint[:12]])
    print_table(
        f"Texts; quantiles of their tokens, {how}",
        ["split", *numbers, "fingerprint"],
        rows,
        numbers,
    )


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"
