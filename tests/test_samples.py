"""``llm.samples``: several answers to one question, their shares as probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from llm_fixtures import serving
from prompt_runs import make_components, run_prompts

from sentikit import InputError


def rows_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_shares_of_sampled_answers_are_the_probabilities() -> None:
    Path("test.csv").write_text("text,label\nI like it,positive\nI hate it,negative\n")
    # Without a guarantee, so that two of the calls about the first text may be answered otherwise.
    with serving(
        enforces=(), logprobs=False, faults={"1": "say:positive", "2": "say:positive"}
    ) as s:
        components = make_components(
            dataset={"name": "files", "test": "test.csv"},
            llm={
                "backend": "openai",
                "model": "any",
                "base_url": s.url,
                "guarantee": "text",
                "temperature": 0.7,
                "samples": 4,
                "in_flight": 1,
                "prices": {"prompt": 1, "completion": 1},
            },
        )
        finished = run_prompts(components, Path("runs/a"))
        calls = s.server.calls
        billed = sum(s.server.billed.values())
        run_prompts(components, Path("runs/b"))
        assert s.server.calls == calls
    assert calls == 1 + 2 * 4
    assert finished.totals.rows == 2
    first, second = rows_of(Path("runs/a"))
    assert first["probabilities"] == {"negative": 0.0, "neutral": 0.5, "positive": 0.5}
    assert second["probabilities"] == {"negative": 1.0, "neutral": 0.0, "positive": 0.0}
    assert second["label"] == "negative"
    manifest = json.loads(Path("runs/a/manifest.json").read_text())
    assert sum(manifest["cost_usd"].values()) == pytest.approx(billed / 1e6)
    assert [row["probabilities"] for row in rows_of(Path("runs/b"))] == [
        first["probabilities"],
        second["probabilities"],
    ]


def test_several_samples_at_temperature_0_are_refused() -> None:
    Path("test.csv").write_text("text,label\nI like it,positive\n")
    with pytest.raises(InputError, match=r"4 answers at temperature 0 are all the same"):
        make_components(
            dataset={"name": "files", "test": "test.csv"},
            llm={"backend": "openai", "model": "any", "samples": 4},
        )
