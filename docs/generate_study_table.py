"""Writes the study's rows into docs/reproducing-the-study.md; `--check` only compares."""

from __future__ import annotations

from pathlib import Path

from marked_part import write_or_check

from sentikit.recipe.study import StudyRow, recipes_of, study_rows
from sentikit.registry import default_registry

TARGET = Path(__file__).parent / "reproducing-the-study.md"


def table() -> str:
    """Return the table as Markdown."""
    names = default_registry().names("register_recipes")
    lines = [
        "| row | recipe | macro-F1 | DynaSent R1 | DynaSent R2 | SST-3 | accuracy | training |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    return "\n".join([*lines, *(_line(row, names) for row in study_rows()), ""])


def _line(row: StudyRow, names: list[str]) -> str:
    recipes = ", ".join(f"`{name}`" for name in recipes_of(row, names))
    scores = [row.overall, *row.by_source.values()]
    shown = [f"{score.macro_f1:.4f}" for score in scores] + [f"{row.overall.accuracy:.4f}"]
    return f"| {row.id} | {recipes} | {' | '.join(shown)} | ${row.training_usd:.2f} |"


if __name__ == "__main__":
    write_or_check(TARGET, table())
