"""Recipes of a cascade and a vote over an LLM server, and the texts the server was asked about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ensemble_runs import LABELS, sure, write_results
from llm_fixtures import RunningServer

WORDS = {"negative": "hate", "neutral": "read", "positive": "love"}


ROWS = 60


#: Numbers of the texts that the encoder is unsure of, and wrong about.
UNSURE = ROWS // 3


def text(number: int) -> str:
    return f"I {WORDS[LABELS[number % 3]]} thing number {number} of all"


def write_ensembles(url: str, rows: int = ROWS) -> None:
    """Write an encoder's predictions and recipes of an LLM and of both ensembles."""
    gold = [LABELS[number % 3] for number in range(rows)]
    answered = [LABELS[(n + (n < UNSURE)) % 3] for n in range(rows)]
    answers = [(text(n), gold[n], answered[n]) for n in range(rows)]
    predicted = [sure(answered[n], 0.5 if n < UNSURE else 0.9) for n in range(rows)]
    write_results(Path("encoder.jsonl"), answers, predicted)
    lines = ["text,label", *(f"{review},{label}" for review, label, _ in answers)]
    Path("test.csv").write_text("\n".join(lines) + "\n")
    prompt: dict[str, Any] = {
        "kind": "prompt",
        "dataset": {"name": "files", "test": "test.csv"},
        "llm": {
            "backend": "openai",
            "model": "any",
            "base_url": url,
            "in_flight": 4,
            "prices": {"prompt": 1, "completion": 1},
        },
    }
    write_recipe("asked", prompt)
    members = {"members": ["./encoder.jsonl", "./asked.yaml"], "thresholds": [0.7]}
    write_recipe("cascade", {"kind": "cascade", "cascade": members})


def write_recipe(name: str, recipe: dict[str, Any]) -> None:
    Path(f"{name}.yaml").write_text(json.dumps(recipe))


def asked_about(s: RunningServer) -> list[int]:
    """Return the numbers of the texts that the server was asked about, without its probes."""
    prompts = [body["messages"][-1]["content"] for body in s.server.bodies]
    return sorted(
        int(words.split("number ")[1].split()[0]) for words in prompts if "number" in words
    )
