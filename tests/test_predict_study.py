"""``sentikit predict`` on the study's test split: an ensemble's recorded answers, asked again."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from click.testing import CliRunner
from llm_fixtures import in_thread
from sklearn.metrics import f1_score

import sentikit as toolkit
from sentikit.cli import sentikit

pytestmark = pytest.mark.slow
THRESHOLD = 0.80


@dataclass
class Replayed:
    """A chat server that gives the answers recorded in a results file, by the review asked about.

    Attributes:
        answers: of each text, as recorded.
        asked: how often each text was asked about.
    """

    answers: dict[str, str]
    asked: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    url: str = ""

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self.models)
        return app

    async def models(self, request: web.Request) -> web.Response:
        entry = {"id": "gpt-4o-mini", "object": "model", "created": 0}
        return web.json_response({"object": "list", "data": [entry]})

    async def chat(self, request: web.Request) -> web.Response:
        self.in_flight += 1
        try:
            prompt = (await request.json())["messages"][-1]["content"]
            text = prompt.rpartition("Review: ")[2].rpartition("\nClassification:")[0]
            label = self.answers.get(text, "neutral")
            # The first calls of a session find out what the server can do.
            self.asked.update([text] if text in self.answers else [])
            message = {"role": "assistant", "content": json.dumps({"label": label})}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}
            return web.json_response(
                {
                    "id": "chatcmpl-0",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "gpt-4o-mini",
                    "choices": [choice],
                    "usage": usage,
                }
            )
        finally:
            self.in_flight -= 1


@contextmanager
def replayed(table: toolkit.RunTable) -> Iterator[Replayed]:
    labels = [table.classes[number] for number in table.answers.labels]
    server = Replayed(dict(zip(table.examples.texts, labels, strict=True)))
    with in_thread(server.application) as url:
        server.url = f"{url}/v1"
        yield server


def write_recipes(server: Replayed, recorded: Path, in_flight: int = 32) -> None:
    llm = {
        "backend": "openai",
        "model": "gpt-4o-mini",
        "base_url": server.url,
        "guarantee": "json_schema",
        "probabilities": False,
        "in_flight": in_flight,
        "prices": {"prompt": 0.15, "completion": 0.6},
    }
    prompt = {"kind": "prompt", "dataset": {"name": "demo"}, "llm": llm}
    Path("asked.yaml").write_text(json.dumps(prompt))
    first = f"{recorded / 'E3-G4OM-EBFT.csv'}#encoder"
    cascade = {"members": [first, "./asked.yaml"], "thresholds": [THRESHOLD]}
    Path("cascade.yaml").write_text(json.dumps({"kind": "cascade", "cascade": cascade}))
    members = [first, "./asked.yaml", str(recorded / "B4-G4O.csv")]
    Path("vote.yaml").write_text(json.dumps({"kind": "vote", "vote": {"members": members}}))


def write_texts(table: toolkit.RunTable) -> None:
    with Path("in.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text"])
        writer.writerows([text] for text in table.examples.texts)


def labelled(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


def macro_f1(table: toolkit.RunTable, rows: list[dict[str, str]]) -> float:
    predicted = [table.classes.index(row["predicted_label"]) for row in rows]
    return float(f1_score(table.gold, predicted, average="macro"))


def predict(recipe: str, output: str, *more: str) -> str:
    arguments = ["predict", recipe, "in.csv", "--output", output, *more]
    done = CliRunner().invoke(sentikit, arguments)
    assert done.exit_code == 0, done.output
    return done.stderr


def test_predict_with_a_cascade_a_vote_and_a_prompt_gives_the_recorded_labels(
    shared_data: Path,
) -> None:
    recorded = shared_data / "recorded"
    first = toolkit.read_run(recorded / "E3-G4OM-EBFT.csv#encoder")
    last = toolkit.read_run(recorded / "B3-G4OM.csv")
    write_texts(last)
    with replayed(last) as server:
        write_recipes(server, recorded)
        message = predict("cascade.yaml", "cascade.csv")
        asked = sum(server.asked.values())
        predict("asked.yaml", "prompt.csv")
        predict("vote.yaml", "vote.csv")
        # What the cascade asked is not asked again, nor what the prompt asked.
        assert set(server.asked.values()) == {1}
    rows = labelled("cascade.csv")
    share = sum(row["answered_by"] == "asked" for row in rows) / len(rows)
    assert round(100 * share, 1) == 21.9
    assert asked <= round(share * len(rows))
    assert macro_f1(last, rows) == pytest.approx(0.8234, abs=5e-5)
    assert "gpt-4o-mini: about" in message
    assert first.answers.probabilities is not None
    sure = first.answers.probabilities.max(1) >= THRESHOLD
    expected = np.where(sure, first.answers.labels, last.answers.labels)
    names = [last.classes[number] for number in expected]
    assert [row["predicted_label"] for row in rows] == names
    prompt = [row["predicted_label"] for row in labelled("prompt.csv")]
    assert prompt == [last.classes[number] for number in last.answers.labels]
    vote = toolkit.vote(
        [
            f"{recorded / 'E3-G4OM-EBFT.csv'}#encoder",
            recorded / "B3-G4OM.csv",
            recorded / "B4-G4O.csv",
        ]
    )
    names = [last.classes[number] for number in vote.labels]
    assert [row["predicted_label"] for row in labelled("vote.csv")] == names


def test_a_cascade_killed_twenty_times_writes_the_same_bytes(shared_data: Path) -> None:
    recorded, kills, in_flight = shared_data / "recorded", 20, 4
    last = toolkit.read_run(recorded / "B3-G4OM.csv")
    write_texts(last)
    moments = random.Random(7)
    with replayed(last) as server:
        write_recipes(server, recorded, in_flight)
        command = [sys.executable, "-m", "sentikit", "predict", "cascade.yaml", "in.csv"]
        command += ["--output", "out.csv"]
        done = 0
        for number in range(kills):
            before = sum(server.asked.values())
            process = subprocess.Popen(command + ["--resume"] * (number > 0))
            wanted = moments.randint(1, 60)
            while sum(server.asked.values()) < before + wanted and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            done += process.wait() == -signal.SIGKILL
            while server.in_flight:
                time.sleep(0.001)
        assert done == kills
        predict("cascade.yaml", "out.csv", "--resume")
        twice = sum(server.asked.values()) - len(server.asked)
        assert twice <= in_flight * kills
        predict("cascade.yaml", "whole.csv")
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
