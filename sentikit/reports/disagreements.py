"""The texts on which runs disagree, as data for the page's browser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.comparison.alignment import AlignedRuns
from sentikit.reports.markup import Markup

#: A page with more texts opens slowly on a phone.
MOST_TEXTS = 3000
#: A text longer than this is cut.
MOST_CHARACTERS = 2000
_MOST_CHARACTERS_IN_ALL = 4_000_000


@dataclass(frozen=True)
class Disagreements:
    """Texts on which runs disagree.

    Attributes:
        total: how many there are.
        rows: those embedded, (rows,).
        data: for the page, see `to_script`.
    """

    total: int
    rows: NDArray[np.int64]
    data: dict[str, Any]

    @property
    def note(self) -> str:
        """A sentence on how many there are, and how many of them the page holds."""
        kept = len(self.rows)
        if kept == self.total:
            return f"{self.total:,} texts on which the runs do not all give the same label."
        return (
            f"{kept:,} of the {self.total:,} texts on which the runs do not all give the same "
            "label, taken evenly from first to last."
        )


def find_disagreements(aligned: AlignedRuns, most: int = MOST_TEXTS) -> Disagreements:
    """Find the rows on which not all runs give the same label; one run disagrees with the gold."""
    labels = [run.answers.labels for run in aligned.runs]
    against = labels if len(labels) > 1 else [*labels, aligned.gold]
    answers = np.stack(against, 1)
    found = np.flatnonzero((answers != answers[:, :1]).any(1))
    rows = _evenly(found, most)
    texts = _shown(aligned, rows)
    kept = _within(texts)
    if kept < len(rows):
        rows = _evenly(found, kept)
        texts = _shown(aligned, rows)
    return Disagreements(len(found), rows, _data(aligned, rows, texts))


def to_script(data: dict[str, Any]) -> Markup:
    """Write data as JSON that may stand inside a ``<script>``: no ``<`` is left in it."""
    written = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Markup(written)


def _data(aligned: AlignedRuns, rows: NDArray[np.int64], texts: Sequence[str]) -> dict[str, Any]:
    """Return names once, and numbers that stand for them: [text, gold, source, [labels]]."""
    labels = np.stack([run.answers.labels[rows] for run in aligned.runs], 1)
    columns = (
        texts,
        aligned.gold[rows].tolist(),
        aligned.source_of[rows].tolist(),
        labels.tolist(),
    )
    return {
        "classes": list(aligned.classes),
        "sources": list(aligned.sources),
        "runs": [run.name for run in aligned.runs],
        "rows": [list(row) for row in zip(*columns, strict=True)],
    }


def _evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, max(1, most)).astype(np.int64)]


def _shown(aligned: AlignedRuns, rows: NDArray[np.int64]) -> list[str]:
    """Return texts, cut where they are long; ids where there are none."""
    chosen = aligned.examples.select(rows)
    return [_cut(text) or f"id {name}" for text, name in zip(chosen.texts, chosen.ids, strict=True)]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " […]"


def _within(texts: Sequence[str]) -> int:
    """Return how many texts of this length the page may hold."""
    characters = sum(map(len, texts))
    if characters <= _MOST_CHARACTERS_IN_ALL:
        return len(texts)
    return int(len(texts) * _MOST_CHARACTERS_IN_ALL / characters)
