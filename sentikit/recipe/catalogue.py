"""Catalogue of recipes: those that plugins offer, and those of the published study."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from sentikit.errors import InputError, SentikitError
from sentikit.recipe.resolving import kind_of, resolve_recipe
from sentikit.registry import Registry


@dataclass(frozen=True)
class ListedRecipe:
    """One line of a list.

    Attributes:
        name: as `--recipe` takes it.
        kind: which command runs it; "" where the recipe cannot be read.
        description: what it is for, or why it cannot be read.
        plugin: who offers it.
    """

    name: str
    kind: str
    description: str
    plugin: str


def list_recipes(registry: Registry, kind: str | None = None) -> list[ListedRecipe]:
    """Return the recipes that plugins offer, e2 before e10; of one kind where it is given."""
    listed = []
    for name in sorted(registry.names("register_recipes"), key=_natural_order):
        plugin, found, said = registry.find("register_recipes", name).plugin, "", ""
        try:
            recipe = resolve_recipe(name, registry=registry)
            found, said = kind_of(recipe), str(recipe.values.get("description", ""))
        except SentikitError as error:
            said = error.message
        listed.append(ListedRecipe(name, found, said, plugin))
    return [recipe for recipe in listed if kind in (None, recipe.kind)]


def needed_recipe(recipe: str | None, kind: str, registry: Registry) -> str:
    """Return the recipe, or list those of a kind where none was given.

    Raises:
        InputError: no recipe was given.
    """
    if recipe:
        return recipe
    choices = list_recipes(registry, kind)
    width = max((len(choice.name) for choice in choices), default=0)
    lines = [f"  {choice.name:<{width}}  {choice.description}".rstrip() for choice in choices]
    raise InputError(
        "\n".join(["Which recipe? Choose one with --recipe, or give a YAML file:", *lines])
    )


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in a name by their size."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


CITATION = 'Beno, "ELECTRA and GPT-4o: Cost-Effective Partners for Sentiment Analysis" (2025)'
#: The merged test split's sources, as its data spell them.
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
        id: the paper's, as E3; the recipes' names begin with it.
        legacy_id: what the study's result files are called.
        llm: which LLM answers; "FT" fine-tuned with the prompt, "FT-M" on the bare review, "FT-L"
            with the label, "5" for five epochs; "" where the encoder answers.
        encoder: which encoder answers or advises; "FT" all its layers fine-tuned; "" for none.
        method: how, in the study's words.
        overall: scores on the merged test split, 6,530 texts.
        by_source: scores on its three parts.
        training_usd: what training took, the encoder's and the LLM's together.
        usd_per_f1_point: `training_usd` for each point of macro-F1 in percent.
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
    """Return the recipes among `names` that repeat a row: those whose names begin with its id."""
    return [name for name in names if name.startswith(f"{row.id.lower()}-")]


def recipes_before(values: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return the recipes among `names` whose runs a recipe takes for its adviser or its model."""
    sections = (("strategy", "adviser"), ("strategy", "encoder"), ("llm", "model"))
    places = {(values.get(section) or {}).get(key) for section, key in sections}
    return [name for name in names if f"runs/{name}" in places]
