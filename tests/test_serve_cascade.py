"""`sentikit serve` with a cascade whose last member asks an LLM server: headers, cost, budget."""

from __future__ import annotations

import json
from http.client import HTTPConnection

import pytest
from ensemble_recipes import UNSURE, asked_about, text, write_ensembles
from llm_fixtures import serving
from served_classifiers import served

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

#: USD, enough for some of the unsure texts but not for all.
BUDGET = "0.001"


def send(port: int, review: str) -> tuple[int, dict[str, str], str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        body = json.dumps({"inputs": review})
        connection.request("POST", "/predict", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read().decode()
    finally:
        connection.close()


def test_headers_name_the_member_that_answered_and_its_cost() -> None:
    with serving() as s:
        write_ensembles(s.url)
        with served("./cascade.yaml") as (port, _):
            sure, unsure = send(port, text(UNSURE)), send(port, text(0))
    assert (sure[0], unsure[0]) == (200, 200)
    assert "encoder" in sure[1]["x-answered-by"]
    assert float(sure[1]["x-cost-usd"]) == 0
    assert "asked" in unsure[1]["x-answered-by"]
    assert float(unsure[1]["x-cost-usd"]) > 0
    assert asked_about(s) == [0]


def test_the_days_spending_and_paid_answers_survive_a_restart() -> None:
    with serving() as s:
        write_ensembles(s.url)
        with served("./cascade.yaml", "--max-cost", BUDGET) as (port, _):
            statuses = [send(port, text(number))[0] for number in range(UNSURE)]
        paid = statuses.index(429)
        assert statuses == [200] * paid + [429] * (UNSURE - paid)
        assert paid > 0
        asked = asked_about(s)
        with served("./cascade.yaml", "--max-cost", BUDGET) as (port, _):
            again, refused = send(port, text(0)), send(port, text(UNSURE - 1))
            sure = send(port, text(UNSURE))
    assert (again[0], refused[0], sure[0]) == (200, 429, 200)
    assert 0 < int(refused[1]["retry-after"]) <= 86_400
    assert f"budget of {BUDGET} USD a day is spent" in refused[2]
    assert asked_about(s) == asked == list(range(paid))
    assert sum(s.server.billed.values()) / 1e6 <= float(BUDGET)
