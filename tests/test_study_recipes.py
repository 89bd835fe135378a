"""Each of the study's 32 rows has a recipe, and its published figures stand beside it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sentikit.plugins.recipe_collection.study import (
    StudyRow,
    recipes_before,
    recipes_of,
    study_rows,
)

from sentikit.cli import sentikit
from sentikit.recipe.resolving import resolve_recipe
from sentikit.recipe_checks import recipe_problems
from sentikit.registry import default_registry

NAMES = default_registry().names("register_recipes")
ROWS = study_rows()
STUDY = [name for row in ROWS for name in recipes_of(row, NAMES)]
PROMPTS = [name for name in STUDY if resolve_recipe(name).values.get("kind") == "prompt"]
PUBLISHED_COLUMNS = {
    "merged": "overall",
    "dyn1": "dynasent_r1",
    "dyn2": "dynasent_r2",
    "sst": "sst_local",
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(sentikit, list(arguments))


def listed() -> list[dict[str, Any]]:
    result = run("recipes", "list", "--study", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_all_rows_are_listed_in_the_papers_order() -> None:
    numbers = [f"B{n}" for n in range(1, 5)] + [f"E{n}" for n in range(1, 29)]
    assert [row["id"] for row in listed()] == numbers


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_row_has_a_recipe(row: StudyRow) -> None:
    (name,) = recipes_of(row, NAMES)
    values = resolve_recipe(name).values
    assert values.get("kind", "train") == ("prompt" if row.llm else "train")
    before = recipes_before(values, NAMES)
    kinds = {resolve_recipe(needed).values.get("kind", "train") for needed in before}
    advised = {"train"} if row.llm and row.encoder else set()
    assert kinds == advised | ({"finetune"} if " FT" in row.llm else set())


def test_the_table_names_the_runs_needed_first() -> None:
    after = {row["id"]: row["recipes"][0]["after"] for row in listed()}
    assert after["B3"] == []
    assert after["E3"] == ["electra-base"]
    assert after["E17"] == ["electra-large", "finetune-gpt-4o-mini-electra-large-label"]


def test_a_row_id_finds_exactly_its_recipe() -> None:
    rows = {row.id: row for row in ROWS}
    names = ["e1-base", "e10-mini", "e11-mini", "electra-base"]
    assert recipes_of(rows["E1"], names) == ["e1-base"]
    assert recipes_of(rows["E10"], names) == ["e10-mini"]


@pytest.mark.parametrize("name", STUDY)
def test_every_study_recipe_is_valid(name: str) -> None:
    recipe = resolve_recipe(name)
    assert [recipe.describe(p) for p in recipe_problems(recipe, default_registry())] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMPTS)
def test_every_study_prompt_can_be_shown_without_a_key(name: str, trained_run: Path) -> None:
    words = ["prompt", "--recipe", name, "--set", "dataset.name=demo", "--show", "1", "--json"]
    values = resolve_recipe(name).values
    if "adviser" in values["strategy"]:
        words += ["--set", f"strategy.adviser={trained_run}"]
    if values["llm"]["model"].startswith("runs/"):  # what gpt-finetune would leave
        words += ["--set", "llm.model=ft:gpt-4o-mini-2024-07-18:film-club::1"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    (shown,) = json.loads(result.stdout)
    assert shown["messages"][-1]["role"] == "user"


def test_the_studys_figures_are_the_published_ones(shared_data: Path) -> None:
    with (shared_data / "recorded" / "published-round1.csv").open(encoding="utf-8") as stream:
        published = {row["id"]: row for row in csv.DictReader(stream)}
    rows = listed()
    assert len(rows) == len(published) == 32
    for row in rows:
        theirs = published[row["id"]]
        scores = {"overall": row["overall"], **row["by_source"]}
        for column, source in PUBLISHED_COLUMNS.items():
            for score, key in (("f1", "macro_f1"), ("accuracy", "accuracy")):
                expected = pytest.approx(float(theirs[f"{column}_{score}"]) / 100)
                assert scores[source][key] == expected, row["id"]
        assert f"${row['training_usd']:.2f}" == theirs["ft_cost"]
        assert f"${row['usd_per_f1_point']:.4f}" == theirs["cost_per_f1"]
        assert row["legacy_id"] == theirs["legacy_id"]


def test_the_cost_per_point_is_training_cost_over_macro_f1() -> None:
    for row in ROWS:
        price = row.training_usd / (100 * row.overall.macro_f1)
        assert row.usd_per_f1_point == pytest.approx(price, abs=1e-4), row.id


def test_the_table_names_recipe_scores_and_source() -> None:
    result = run("recipes", "list", "--study")
    assert result.exit_code == 0, result.output
    assert "Beno" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.split()[:1] == ["E3"]]
    assert line.split() == [
        *("E3", "e3-gpt-4o-mini-electra-base-label"),
        *("0.8274", "0.8650", "0.7619", "0.7172", "0.8335", "$9.73"),
    ]


def test_disabling_the_recipe_plugin_is_reported_for_the_study(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    default_registry.cache_clear()
    monkeypatch.setenv("SENTIKIT_DISABLE_PLUGINS", "recipe_collection")
    try:
        result = run("recipes", "list", "--study")
    finally:
        default_registry.cache_clear()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Switched off by SENTIKIT_DISABLE_PLUGINS: recipe_collection." in result.stderr
