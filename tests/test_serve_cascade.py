"""`sentikit serve` with a cascade whose last member asks an LLM server: headers, cost, budget."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from urllib.request import urlopen

import pytest
from ensemble_recipes import UNSURE, asked_about, text, write_ensembles
from llm_fixtures import serving
from served_classifiers import application_served, ask, served, wait_until

import sentikit

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


@contextlib.contextmanager
def served_at(now: list[datetime], max_cost: float) -> Iterator[int]:
    """Serve ./cascade.yaml in a thread, with a clock that reads `now`; yields the port."""
    from sentikit.plugins.serving.command import DailyBudget
    from sentikit.plugins.serving.server import Limits, build_app

    classifier = sentikit.load("./cascade.yaml")
    cache = Path("serve.sqlite")
    with contextlib.closing(DailyBudget(classifier, cache, max_cost, lambda: now[0])) as budget:
        app = build_app(classifier, "cascade", budget.classify, Limits(workers=8))
        with application_served(app) as port:
            yield port


def test_the_budget_of_a_running_server_starts_anew_at_midnight_utc() -> None:
    now = [datetime(2026, 3, 31, 23, 59, 30, tzinfo=UTC)]
    with serving() as s:
        write_ensembles(s.url)
        with served_at(now, float(BUDGET)) as port:
            statuses = [send(port, text(number))[0] for number in range(UNSURE)]
            paid = statuses.index(429)
            refused = send(port, text(paid))
            now[0] = datetime(2026, 4, 1, 0, 0, 1, tzinfo=UTC)
            asked = [send(port, text(number)) for number in range(paid, UNSURE)]
    assert (refused[0], refused[1]["retry-after"]) == (429, "30")
    assert [status for status, _, _ in asked[:paid]] == [200] * paid
    assert 429 in [status for status, _, _ in asked]
    assert all(float(headers["x-cost-usd"]) > 0 for _, headers, _ in asked[:paid])


def test_an_answer_paid_for_a_client_that_hung_up_is_kept_and_counted() -> None:
    with serving(seconds=0.5) as s:
        write_ensembles(s.url)
        with served("./cascade.yaml") as (port, process):
            with ask(port, text(0)):
                wait_until(lambda: asked_about(s) == [0])
            again, other = send(port, text(0)), send(port, text(1))
            with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                metrics = answer.read().decode()
            assert process.poll() is None
    assert (again[0], other[0]) == (200, 200)
    assert asked_about(s) == [0, 1]
    paid = re.findall(r"^sentikit(?:_probing)?_cost_usd(?:_total)? (\S+)$", metrics, re.MULTILINE)
    assert sum(map(float, paid)) == pytest.approx(sum(s.server.billed.values()) / 1e6)


def test_a_text_that_needs_no_llm_is_answered_beside_one_that_the_budget_refuses() -> None:
    with serving(seconds=0.2) as s:
        write_ensembles(s.url)
        with served("./cascade.yaml", "--max-cost", BUDGET) as (port, _):
            while send(port, text(len(asked_about(s))))[0] == 200:
                pass
            unsure = [text(number) for number in range(UNSURE // 2, UNSURE)] * 4
            sure = [text(number) for number in range(UNSURE, 2 * UNSURE)]
            mixed = [review for pair in zip(unsure, sure, strict=False) for review in pair]
            with ThreadPoolExecutor(len(mixed)) as pool:
                answers = pool.map(lambda review: send(port, review), mixed)
                found = dict(zip(mixed, answers, strict=True))
    assert {found[review][0] for review in sure} == {200}
    assert found[text(UNSURE - 1)][0] == 429
