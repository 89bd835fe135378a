"""The published study's configurations, and the command ``sentikit recipes study``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import click

from sentikit.extension import default_registry, print_table, resolve_recipe

CITATION = 'Beno, "ELECTRA and GPT-4o: Cost-Effective Partners for Sentiment Analysis" (2025)'
#: The sources of the merged test split.
SOURCES = ("dynasent_r1", "dynasent_r2", "sst_local")


@dataclass(frozen=True)
class PublishedScores:
    """Two scores as fractions, published with four decimals."""

    macro_f1: float
    accuracy: float


@dataclass(frozen=True)
class StudyRow:
    """One configuration of the study.

    Attributes:
        id: in the paper, as E3; the recipes' names begin with it.
        legacy_id: the name of the study's result files.
        llm: the LLM that answers; "FT" fine-tuned with the prompt, "FT-M" on the bare review,
            "FT-L" with the label, "5" for five epochs; "" if the encoder answers.
        encoder: the encoder that answers or advises; "FT": fully fine-tuned; "": none.
        method: the study's description.
        overall: scores on the merged test split, 6,530 texts.
        by_source: scores on its three parts.
        training_usd: cost of training, encoder and LLM together.
        usd_per_f1_point: `training_usd` per percentage point of macro-F1.
    """

    id: str
    legacy_id: str
    llm: str
    encoder: str
    method: str
    overall: PublishedScores
    by_source: Mapping[str, PublishedScores]
    training_usd: float
    usd_per_f1_point: float


def study_rows() -> list[StudyRow]:
    """Return the study's configurations in the paper's order, B1 to B4 and E1 to E28."""
    text = (files("sentikit.recipes") / "published-round1.csv").read_text(encoding="utf-8")
    rows = []
    for fields in csv.DictReader(text.splitlines()):
        scores = {
            name: PublishedScores(
                float(fields[f"{name}_macro_f1"]), float(fields[f"{name}_accuracy"])
            )
            for name in ("overall", *SOURCES)
        }
        described = ("id", "legacy_id", "llm", "encoder", "method")
        row = StudyRow(
            **{key: fields[key] for key in described},
            overall=scores.pop("overall"),
            by_source=scores,
            training_usd=float(fields["training_usd"]),
            usd_per_f1_point=float(fields["usd_per_f1_point"]),
        )
        rows.append(row)
    return rows


def recipes_of(row: StudyRow, names: Iterable[str]) -> list[str]:
    """Return the recipes among `names` that reproduce a row: their names begin with its id."""
    return [name for name in names if name.startswith(f"{row.id.lower()}-")]


def recipes_before(values: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return the recipes among `names` whose runs a recipe uses as adviser or model."""
    sections = (("strategy", "adviser"), ("strategy", "encoder"), ("llm", "model"))
    places = {(values.get(section) or {}).get(key) for section, key in sections}
    return [name for name in names if f"runs/{name}" in places]


@click.command(epilog="Example: sentikit recipes study --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def study(as_json: bool) -> None:
    """List the study's 32 rows with their published scores and the recipes to reproduce them."""
    registry = default_registry()
    names = registry.names("register_recipes")

    def described(name: str) -> dict[str, Any]:
        values = resolve_recipe(name, registry=registry).values
        return {"name": name, "after": recipes_before(values, names)}

    rows = [
        {**asdict(row), "recipes": [described(name) for name in recipes_of(row, names)]}
        for row in study_rows()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        _print_rows(rows)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    numbers = ["macro-F1", "DynaSent R1", "DynaSent R2", "SST-3", "accuracy", "training"]
    table = []
    for row in rows:
        scores = [row["overall"], *row["by_source"].values()]
        shown = [f"{score['macro_f1']:.4f}" for score in scores]
        shown += [f"{row['overall']['accuracy']:.4f}", f"${row['training_usd']:.2f}"]
        names = "\n".join(recipe["name"] for recipe in row["recipes"])
        table.append([row["id"], names, *shown])
    print_table(f"Published, first round: {CITATION}", ["", "recipe", *numbers], table, numbers)
