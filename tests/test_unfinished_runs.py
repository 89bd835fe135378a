"""Runs that end early: what they cost, what they keep, and how they stay apart."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from llm_fixtures import serving
from prompt_commands import sentikit, texts, write_recipe

PRICES = ("--set", "llm.prices.prompt=1", "--set", "llm.prices.completion=1")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(name: str) -> list[dict[str, object]]:
    content = (Path("runs/a") / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in content.splitlines()]


def test_a_run_at_its_ceiling_shows_its_cost_and_keeps_paid_rows() -> None:
    with serving() as s:
        recipe = write_recipe(s.url, texts(30), in_flight=1, max_tokens=8)
        command = ["prompt", "--recipe", recipe, "--output", "runs/a", *PRICES]
        stopped = sentikit(*command, "--max-cost", "0.0015")
        assert stopped.returncode == 1, stopped.stderr
        billed = sum(s.server.billed.values()) / 1e6
        shown = sentikit("runs", "show", "runs/a")
        assert "failed" in shown.stdout
        assert f"spent usd      {billed:.9f}".rstrip("0") in shown.stdout
        assert "predictions.partial.jsonl" in shown.stderr
        kept = rows("predictions.partial.jsonl")
        assert 0 < len(kept) < 30
        assert all(row["label"] for row in kept)
        assert not Path("runs/a/predictions.jsonl").exists()
        resumed = sentikit(*command, "--max-cost", "1", "--resume", "--json")
        assert resumed.returncode == 0, resumed.stderr
        billed = sum(s.server.billed.values()) / 1e6
        assert json.loads(resumed.stdout)["paid_usd"] == pytest.approx(billed)
        shown = sentikit("runs", "show", "runs/a").stdout
        assert f"spent usd      {billed:.9f}".rstrip("0") in shown
        whole = rows("predictions.jsonl")
        assert len(whole) == 30
        assert [r["text"] for r in whole[: len(kept)]] == [r["text"] for r in kept]
        assert not Path("runs/a/predictions.partial.jsonl").exists()


@pytest.mark.parametrize("ceiling", [("--max-cost", "1"), ()], ids=["ceiling", "no-ceiling"])
@pytest.mark.posix
def test_a_killed_run_shows_its_cost_with_open_calls_at_their_worst_case(
    ceiling: tuple[str, ...],
) -> None:
    with serving(seconds=0.05) as s:
        recipe = write_recipe(s.url, texts(120), in_flight=4, max_tokens=8)
        command = ["prompt", "--recipe", recipe, "--output", "runs/a", *PRICES]
        command += ceiling
        process = subprocess.Popen([sys.executable, "-m", "sentikit", *command], stderr=-3)
        deadline = time.monotonic() + 60
        while s.server.calls < 40 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        time.sleep(0.3)
        billed = sum(s.server.billed.values()) / 1e6
        manifest = json.loads(sentikit("runs", "show", "runs/a", "--json").stdout)["manifest"]
        assert manifest["status"] == "running"
        # Four calls, each of which may be answered and repaired at length.
        most_in_flight = 4 * 0.0032
        assert billed <= manifest["spent_usd"] + 1e-12
        assert manifest["spent_usd"] <= billed + most_in_flight
        assert "spent usd" in sentikit("runs", "show", "runs/a").stdout
        resumed = sentikit(*command, "--resume")
        assert resumed.returncode == 0, resumed.stderr
        billed = sum(s.server.billed.values()) / 1e6
        spent = json.loads(Path("runs/a/manifest.json").read_text())["spent_usd"]
        assert billed <= spent + 1e-12
        assert spent <= billed + most_in_flight
