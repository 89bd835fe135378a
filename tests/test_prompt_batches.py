"""``--batch``: the same requests through the provider's batch service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llm_fixtures import Asked, RunningServer, ask, ask_about, openai_backend, serving

from sentikit import InputError, SentikitError
from sentikit.llm.requests.loop import Question
from sentikit.llm.settings import FailureLimit, RequestOptions
from sentikit.stopping import Interrupted

PRICES = {"prompt": 1, "completion": 1, "tiers": {"batch": 0.5}}
TEXTS = [f"I {verb} text number {n}" for n in range(10) for verb in ("love", "hate", "read")]
EXPECTED = ["positive", "negative", "neutral"] * 10
FIRST = 2


def batch(s: RunningServer, folder: Path, texts: list[str] = TEXTS, **job: Any) -> Asked:
    return ask(
        openai_backend(s.url),
        ask_about(texts),
        folder,
        options=RequestOptions(prices=PRICES),
        batch_folder=folder / "batches",
        **job,
    )


def test_a_batch_gives_the_same_answers_at_the_batch_price(tmp_path: Path) -> None:
    with serving() as s:
        asked = batch(s, tmp_path / "batch")
        live_calls, bodies = s.server.calls, list(s.server.batches.bodies)
        s.server.bodies.clear()
        live = ask(
            openai_backend(s.url),
            ask_about(TEXTS),
            tmp_path / "live",
            options=RequestOptions(prices=PRICES),
        )
        sent_live = [body for body in s.server.bodies if "Review:" in str(body)]
    assert live_calls == FIRST
    assert asked.labels == EXPECTED == live.labels
    assert asked.rows[0].probabilities == live.rows[0].probabilities
    assert [row.cost for row in asked.rows] == [(row.cost or 0) / 2 for row in live.rows]
    assert not any(row.saved for row in asked.rows)
    assert sorted(map(json.dumps, bodies)) == sorted(map(json.dumps, sent_live))
    assert not (tmp_path / "batch" / "batches").exists()


def test_batch_answers_without_usage_keep_their_reservation(tmp_path: Path) -> None:
    with serving(usage="none") as s:
        asked = batch(s, tmp_path, max_cost=1.0)
        billed = sum(s.server.billed.values()) / 2e6
    assert asked.labels == EXPECTED
    assert sum(row.paid or 0 for row in asked.rows) >= billed


def test_repeated_batch_requests_are_sent_once(tmp_path: Path) -> None:
    with serving() as s:
        asked = batch(s, tmp_path, ["I love it"] * 4)
        assert len(s.server.batches.bodies) == 1
    assert asked.labels == ["positive"] * 4
    assert [row.saved for row in asked.rows] == [False, True, True, True]
    # What a repetition saves is what the batch charged, not the live price.
    assert len({row.cost for row in asked.rows}) == 1


def test_a_key_in_a_batch_answer_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "another-secret-0123456789"
    monkeypatch.setenv("OTHER_SECRET", key)
    with serving(enforces=(), text=f"positive {key}") as s:
        asked = batch(s, tmp_path, TEXTS[:2])
        assert len(s.server.batches.bodies) == 2
    assert "[OTHER_SECRET]" in asked.rows[0].answers[0].text
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()
    ]


def test_cached_answers_are_not_sent_in_a_batch(tmp_path: Path) -> None:
    with serving() as s:
        ask(openai_backend(s.url), ask_about(TEXTS[:10]), tmp_path, run="earlier")
        batch(s, tmp_path)
        assert len(s.server.batches.bodies) == 20
        batch(s, tmp_path, run="later")
        assert len(s.server.batches.batches) == 1


def test_a_batch_run_counts_its_rows_once(tmp_path: Path) -> None:
    with serving() as s:
        ask(openai_backend(s.url), ask_about(TEXTS[:10]), tmp_path, run="earlier")
        unasked = Question("unread", None, "The adviser gives no label for this text.")
        asked = ask(
            openai_backend(s.url),
            [unasked, *ask_about(TEXTS)],
            tmp_path,
            options=RequestOptions(prices=PRICES),
            batch_folder=tmp_path / "batches",
            failure_limit=FailureLimit.parse("2"),
        )
    assert asked.outcome is not None
    tally = asked.outcome.tally
    assert (tally.rows, tally.failed, tally.calls, tally.saved_calls) == (31, 1, 20, 10)


def test_large_batches_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as s:
        backend = openai_backend(s.url)
        monkeypatch.setattr(type(backend), "batch_requests", 12)
        asked = batch(s, tmp_path)
        assert [len(b) for b in s.server.batches.sizes()] == [12, 12, 6]
    assert asked.labels == EXPECTED


def test_an_invalid_batch_answer_is_repaired_live(tmp_path: Path) -> None:
    with serving(enforces=(), text="Hm.") as s:
        ask(openai_backend(s.url), ask_about(["warm up"]), tmp_path, run="finds out what it can")
        calls = s.server.calls
        s.server.behaviour = type(s.server.behaviour)(
            enforces=(), text="Hm.", fault_words={"exactly one word": "say:neutral"}
        )
        asked = batch(s, tmp_path, ["I love it"])
        assert s.server.calls == calls + 1
    assert asked.labels == ["neutral"]
    assert [answer.text for answer in asked.rows[0].answers] == ["Hm.", "neutral"]


def test_a_stopped_batch_run_resumes_without_submitting_twice(tmp_path: Path) -> None:
    with serving(batch="never") as s:
        with pytest.raises(Interrupted):
            batch(s, tmp_path, stop_requested=lambda: bool(s.server.batches.batches))
        assert len(s.server.batches.batches) == 1
        s.server.behaviour = type(s.server.behaviour)()
        asked = batch(s, tmp_path)
        assert len(s.server.batches.batches) == 1
    assert asked.labels == EXPECTED


def test_a_batch_whose_confirmation_was_lost_is_found(tmp_path: Path) -> None:
    """The connection breaks after the provider has made the batch."""
    with serving(batch="lost") as s:
        asked = batch(s, tmp_path)
        assert len(s.server.batches.batches) == 1
    assert asked.labels == EXPECTED


def test_expired_batch_requests_are_sent_live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(batch="expired") as s:
        asked = batch(s, tmp_path)
        assert s.server.calls == FIRST + 15
    assert asked.labels == EXPECTED
    message = capsys.readouterr().err
    assert "expired with 15 of 30 requests answered" in " ".join(message.split())
    assert "15 requests of batch_0 have no answer (This request expired.)" in message


def test_interrupted_downloads_of_batch_answers_are_repeated(tmp_path: Path) -> None:
    with serving(batch="torn") as s:
        asked = batch(s, tmp_path)
        assert s.server.calls == FIRST + 15
        assert len(s.server.batches.batches) == 1
    assert asked.labels == EXPECTED
    assert asked.outcome is not None
    assert asked.outcome.tally.calls == len(TEXTS)


def test_waiting_for_a_batch_does_not_use_up_patience(tmp_path: Path) -> None:
    with serving(batch="expired", faults={str(FIRST): "503"}) as s:
        asked = ask(
            openai_backend(s.url),
            ask_about(TEXTS),
            tmp_path,
            options=RequestOptions(patience=0.9, in_flight=1),
            batch_folder=tmp_path / "batches",
        )
    assert asked.labels == EXPECTED


def test_a_failed_batch_ends_the_run_and_says_why(tmp_path: Path) -> None:
    with serving(batch="failed") as s:
        with pytest.raises(SentikitError, match=r"batch_0 failed: too many tokens\."):
            batch(s, tmp_path)
        s.server.behaviour = type(s.server.behaviour)()
        assert batch(s, tmp_path).labels == EXPECTED


def test_without_a_batch_price_the_ceiling_uses_the_full_price(tmp_path: Path) -> None:
    with serving() as s:
        with pytest.raises(InputError, match="Nothing was submitted"):
            ask(
                openai_backend(s.url),
                ask_about(TEXTS),
                tmp_path,
                options=RequestOptions(prices={"prompt": 1, "completion": 1}),
                batch_folder=tmp_path / "batches",
                max_cost=0.004,
            )
        assert not s.server.batches.batches


def test_a_batch_answer_may_contain_unusual_line_separators(tmp_path: Path) -> None:
    texts = ["I love\u2028it", "I hate\x85it", "I read\u2029it"]
    with serving(text="positive \u2028\u2029\x85", enforces=()) as s:
        asked = batch(s, tmp_path, texts)
        assert len(s.server.batches.bodies) == 3
    assert asked.labels == ["positive"] * 3


def test_a_ceiling_below_the_worst_case_submits_no_batch(tmp_path: Path) -> None:
    with serving() as s:
        with pytest.raises(InputError, match=r"may cost .* Nothing was submitted"):
            batch(s, tmp_path, max_cost=0.004)
        assert not s.server.batches.batches
        asked = batch(s, tmp_path, max_cost=1.0)
        assert asked.outcome is not None
        opening, paid = asked.outcome.opening_cost, asked.outcome.tally.paid.known
    assert opening is not None
    assert paid is not None
    assert paid > 0
