"""A run killed at any moment and resumed equals one that was never interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

# Many short epochs, a stateful schedule, and a checkpoint every few hundredths of a minute.
SETTINGS = (
    "training.epochs=8",
    "training.batch_size=4",
    "training.lr=2e-3",
    "training.schedule={name: reduce_on_plateau, patience: 0}",
    "training.checkpoints.every_minutes=0.003",
    "training.log_every=3",
)


def command(recipe: Path, output: str, resume: bool = False) -> list[str]:
    words = [sys.executable, "-m", "sentikit", "train", "--recipe", str(recipe), "--threads", "1"]
    for setting in SETTINGS:
        words += ["--set", setting]
    return [*words, "--output", output, *(["--resume"] if resume else [])]


def records(run: str) -> list[dict[str, Any]]:
    lines = Path(run, "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def assert_same_run(first: str, second: str) -> None:
    assert records(first) == records(second)
    weights = [load_file(Path(run, "model", "model.safetensors")) for run in (first, second)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    for name in ("predictions.jsonl", "metrics.json"):
        assert Path(first, name).read_text() == Path(second, name).read_text()
    manifests = [json.loads(Path(run, "manifest.json").read_text()) for run in (first, second)]
    for key in ("best_epoch", "epochs", "steps", "status", "data", "recipe"):
        assert manifests[0][key] == manifests[1][key]


@pytest.fixture
def uninterrupted(tiny_recipe: Path) -> Path:
    subprocess.run(command(tiny_recipe, "whole"), check=True, capture_output=True, timeout=300)
    return tiny_recipe


def test_training_killed_repeatedly_ends_the_same(uninterrupted: Path) -> None:
    kills, resume = 0, False
    lines_seen = 0
    for _ in range(40):
        process = subprocess.Popen(
            command(uninterrupted, "killed", resume), stderr=subprocess.PIPE, text=True
        )
        if kills == 4:
            _, error = process.communicate(timeout=300)
            assert process.returncode == 0, error
            break
        _wait_for_lines(process, Path("killed/log.jsonl"), lines_seen + 9)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        lines_seen = len(Path("killed/log.jsonl").read_text().splitlines())
        # An unfinished run is resumed; before its first checkpoint that means from the start.
        resume = True
    assert kills == 4
    assert_same_run("whole", "killed")


def _wait_for_lines(process: subprocess.Popen[str], log: Path, lines: int) -> None:
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_text().count("\n") >= lines:
            return
        time.sleep(0.005)
    process.kill()
    raise AssertionError(
        f"the run ended or hung before {lines} log lines: {process.communicate()[1]}"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_training_stopped_on_request_saves_and_resumes_as_it_says(
    uninterrupted: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(command(uninterrupted, "stopped"), stderr=subprocess.PIPE, text=True)
    _wait_for_lines(process, Path("stopped/log.jsonl"), 12)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number, error
    assert json.loads(Path("stopped/manifest.json").read_text())["status"] == "interrupted"
    resume = next(line for line in error.splitlines() if "--resume" in line)
    words = resume.partition("Resume with: ")[2]
    shell = f'exec "{sys.executable}" -m {words} --threads 1'
    subprocess.run(shell, shell=True, check=True, capture_output=True, timeout=300)
    assert_same_run("whole", "stopped")


def test_a_checkpoint_of_another_recipe_is_refused(uninterrupted: Path) -> None:
    process = subprocess.Popen(command(uninterrupted, "other"), stderr=subprocess.PIPE, text=True)
    _wait_for_lines(process, Path("other/log.jsonl"), 20)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    words = [*command(uninterrupted, "other", resume=True), "--set", "training.lr=1e-4"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    assert "another recipe" in result.stderr
    for found in Path("other/checkpoints").glob("step-*"):
        weights = found / "weights.safetensors"
        os.truncate(weights, weights.stat().st_size // 2)
    result = subprocess.run(
        command(uninterrupted, "other", resume=True),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 2
    assert "damaged or truncated" in result.stderr


def test_a_finished_training_run_is_not_resumed(uninterrupted: Path) -> None:
    result = subprocess.run(
        command(uninterrupted, "whole", resume=True),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 2
    assert "nothing to resume" in result.stderr
