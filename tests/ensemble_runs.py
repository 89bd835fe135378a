"""Result files of classifiers over the same few texts, for tests of cascades and votes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

LABELS = ("negative", "neutral", "positive")
Row = tuple[str, str, str | None]


def write_results(
    path: Path,
    rows: Sequence[Row],
    probabilities: Sequence[Sequence[float] | None] | None = None,
    costs: Sequence[float] | None = None,
) -> str:
    """Write rows of text, gold label and label as JSON Lines; return the path."""
    lines = []
    for number, (text, gold, label) in enumerate(rows):
        record = {"text": text, "gold": gold, "label": label, "source": f"s{number % 2}"}
        if probabilities is not None:
            given = probabilities[number]
            record["probabilities"] = given and dict(zip(LABELS, given, strict=True))  # type: ignore[assignment]
        if costs is not None:
            record["cost"] = costs[number]  # type: ignore[assignment]
        lines.append(json.dumps(record))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def sure(label: str, probability: float) -> list[float]:
    """Return probabilities: `probability` for one label, the rest shared by the others."""
    rest = (1 - probability) / (len(LABELS) - 1)
    return [probability if name == label else rest for name in LABELS]


def encoder_and_llm(folder: Path, rows: int = 60) -> tuple[str, str]:
    """Write an encoder that is wrong where it is unsure, and an LLM that is wrong elsewhere.

    The first third of the texts has confidence 0.5, the others 0.6 and 0.9 in turn; the LLM costs
    a cent a text.
    """
    encoder, llm, probabilities = [], [], []
    for number in range(rows):
        gold, other = LABELS[number % 3], LABELS[(number + 1) % 3]
        unsure = number < rows // 3
        predicted = other if unsure else gold
        text = f"text number {number}"
        encoder.append((text, gold, predicted))
        llm.append((text, gold, gold if unsure else other))
        probabilities.append(sure(predicted, 0.5 if unsure else 0.6 + 0.3 * (number % 2)))
    return (
        write_results(folder / "encoder.jsonl", encoder, probabilities),
        write_results(folder / "llm.jsonl", llm, costs=[0.01] * rows),
    )
