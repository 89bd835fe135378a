"""The generator of the table in docs/reproducing-the-study.md; `--check` only compares."""

from __future__ import annotations

from pathlib import Path

from marked_part import write_or_check
from sentikit.plugins.recipe_collection.study import (
    StudyRow,
    recipes_before,
    recipes_of,
    study_rows,
)

from sentikit.recipe.resolving import resolve_recipe
from sentikit.registry import default_registry

TARGET = Path(__file__).parent / "reproducing-the-study.md"


def table() -> str:
    """Return the table as Markdown."""
    names = default_registry().names("register_recipes")
    lines = [
        "| row | recipe | to run before | macro-F1 | R1 | R2 | SST-3 | accuracy | training |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    return "\n".join([*lines, *(_line(row, names) for row in study_rows()), ""])


def _line(row: StudyRow, names: list[str]) -> str:
    own = recipes_of(row, names)
    before = dict.fromkeys(
        needed for name in own for needed in recipes_before(resolve_recipe(name).values, names)
    )
    recipes, needed = (", ".join(f"`{name}`" for name in group) for group in (own, before))
    scores = [row.overall, *row.by_source.values()]
    shown = [f"{score.macro_f1:.4f}" for score in scores] + [f"{row.overall.accuracy:.4f}"]
    return f"| {row.id} | {recipes} | {needed} | {' | '.join(shown)} | ${row.training_usd:.2f} |"


if __name__ == "__main__":
    write_or_check(TARGET, table())
