"""The request loop against a real server with faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from llm_fixtures import (
    LABELS,
    PRICES,
    Asked,
    RunningServer,
    ask,
    ask_about,
    openai_backend,
    serving,
)

from sentikit import InputError, SentikitError
from sentikit.extension import (
    Answer,
    BackendSession,
    ChatRequest,
    FatalError,
    LLMBackend,
    Message,
    RetryableError,
    Usage,
)
from sentikit.llm.prices import Prices
from sentikit.llm.requests.calls import title_of
from sentikit.llm.requests.journal import AnswerJournal
from sentikit.llm.requests.loop import AnsweredQuestion, Question
from sentikit.llm.settings import FailureLimit, RequestOptions
from sentikit.stopping import Interrupted
from sentikit.tracking import LLMCall

TEXTS = [f"I {verb} text number {n}" for n in range(20) for verb in ("love", "hate", "read")]
EXPECTED = ["positive", "negative", "neutral"] * 20
# The two calls that find out what a server can do come before all others.
FIRST = 2


def fast(**options: object) -> RequestOptions:
    return RequestOptions(**{"in_flight": 8, **options})


class TestAnswers:
    def test_answers_arrive_in_order_with_probabilities(self, tmp_path: Path) -> None:
        with serving(faults={"5": "slow:0.3"}) as s:
            asked = ask(openai_backend(s.url), ask_about(TEXTS), tmp_path)
        assert asked.labels == EXPECTED
        assert [row.question.row for row in asked.rows] == TEXTS
        probabilities = asked.rows[0].probabilities
        assert probabilities is not None
        assert set(probabilities) == set(LABELS)
        assert probabilities["positive"] == pytest.approx(0.8, abs=1e-3)

    def test_answers_of_an_earlier_run_are_reused_without_paying_again(
        self, tmp_path: Path
    ) -> None:
        options = fast(prices=PRICES)
        with serving() as s:
            first = ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, "one", options)
            calls = s.server.calls
            second = ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, "two", options)
            assert s.server.calls == calls
        assert first.outcome is not None
        assert second.outcome is not None
        assert second.labels == first.labels
        assert all(row.saved and row.paid == 0 for row in second.rows)
        assert second.outcome.tally.paid.known == 0
        assert second.outcome.tally.saved.known == first.outcome.tally.paid.known
        assert [row.cost for row in second.rows] == [row.cost for row in first.rows]

    def test_repeated_requests_in_a_run_are_paid_once(self, tmp_path: Path) -> None:
        with serving(seconds=0.05) as s:
            asked = ask(
                openai_backend(s.url),
                ask_about(["I love it"] * 5),
                tmp_path,
                options=fast(prices=PRICES),
            )
            assert s.server.calls == FIRST + 1
        assert asked.labels == ["positive"] * 5
        assert [row.saved for row in asked.rows] == [False, True, True, True, True]
        assert sum(row.paid or 0 for row in asked.rows) == asked.rows[0].cost

    def test_answers_without_a_label_are_repaired_once(self, tmp_path: Path) -> None:
        with serving(faults={str(FIRST): "say:I think it is rather nice"}) as s:
            asked = ask(openai_backend(s.url), ask_about(["I love it"]), tmp_path)
            assert s.server.calls == FIRST + 2
            repair = s.server.bodies[-1]["messages"]
        assert asked.labels == ["positive"]
        assert [m["role"] for m in repair] == ["user", "assistant", "user"]
        assert repair[1]["content"] == "I think it is rather nice"
        assert "'negative', 'neutral' or 'positive'" in repair[2]["content"]
        assert asked.outcome is not None
        assert asked.outcome.tally.repaired == 1

    @pytest.mark.parametrize("answer", ["非常好", "", "mixed", "positive or negative"])
    def test_answers_still_without_a_label_are_recorded_as_invalid(
        self, answer: str, tmp_path: Path
    ) -> None:
        with serving(
            enforces=(),
            text=answer or " ",
            fault_words={"odd": f"say:{answer}", "one": f"say:{answer}"},
        ) as s:
            asked = ask(openai_backend(s.url), ask_about(["odd"]), tmp_path)
        row = asked.rows[0]
        assert row.label is None
        assert row.error is None
        assert row.probabilities is None
        assert [one.raw for one in row.answers] == [answer, answer]
        assert asked.outcome is not None
        assert asked.outcome.tally.invalid == 1

    def test_repair_of_answers_can_be_disabled(self, tmp_path: Path) -> None:
        with serving(fault_words={"odd": "say:Hm."}) as s:
            asked = ask(
                openai_backend(s.url), ask_about(["odd"]), tmp_path, options=fast(repair=False)
            )
            assert s.server.calls == FIRST + 1
        assert asked.labels == [None]


class TestFaults:
    @pytest.mark.parametrize("fault", ["500", "503:overloaded", "truncate", "drop", "408"])
    def test_a_retryable_failure_is_retried(self, fault: str, tmp_path: Path) -> None:
        with serving(faults={str(FIRST + 3): fault}) as s:
            asked = ask(openai_backend(s.url), ask_about(TEXTS[:6]), tmp_path, options=fast())
            assert s.server.calls == FIRST + 7
        assert asked.labels == EXPECTED[:6]

    def test_a_slow_call_times_out_and_is_retried(self, tmp_path: Path) -> None:
        with serving(faults={str(FIRST): "slow:5"}) as s:
            began = time.monotonic()
            options = fast(timeout=0.3)
            asked = ask(openai_backend(s.url), ask_about(TEXTS[:1]), tmp_path, options=options)
        assert asked.labels == EXPECTED[:1]
        assert time.monotonic() - began < 4

    def test_calls_that_time_out_behind_others_are_made_again_fewer_at_a_time(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        # Like many servers, this one goes on with calls that nobody waits for any more.
        with serving(seconds=0.15, slots=1) as s:
            options = RequestOptions(timeout=1.5, patience=1.5, tries=2)
            backend = openai_backend(s.url, guarantee="text")
            asked = ask(backend, ask_about(TEXTS[:30]), tmp_path, options=options)
            most = s.server.most_in_flight
        assert asked.labels == EXPECTED[:30]
        assert most == 20
        message = capfd.readouterr().err
        assert message.count("too few for 20 at a time. Calls that timed out are made again") == 1
        assert re.search(r"made again, [1-5] at a time.*--set llm.in_flight=[1-5]\n", message)

    def test_an_isolated_429_delays_only_its_own_call(self, tmp_path: Path) -> None:
        with serving(seconds=0.02, faults={str(FIRST + 4): "429:2"}) as s:
            asked = ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, options=fast())
            arrivals = s.server.arrivals
        assert asked.labels == EXPECTED
        # All but the refused call have come before it comes again.
        assert arrivals[-1] - arrivals[-2] >= 1.0
        assert asked.outcome is not None
        assert asked.outcome.tally.rate_limit_episodes == 0

    def test_a_share_of_429_delays_all_calls_as_long_as_requested(self, tmp_path: Path) -> None:
        faults = {str(FIRST + number): "429:1" for number in range(4, 12)}
        with serving(seconds=0.02, faults=faults) as s:
            asked = ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, options=fast())
            arrivals = s.server.arrivals
        assert asked.labels == EXPECTED
        gaps = [b - a for a, b in pairwise(arrivals)]
        assert max(gaps) >= 0.9
        assert asked.outcome is not None
        assert asked.outcome.tally.rate_limit_episodes == 1

    def test_calls_settle_at_the_servers_rate_limit(self, tmp_path: Path) -> None:
        with serving(requests_a_second=30, rate_headers=True) as s:
            asked = ask(openai_backend(s.url), ask_about(TEXTS), tmp_path)
            refused = s.server.statuses["429"]
        assert asked.labels == EXPECTED
        # Twenty may be on their way when the first is refused; after that hardly any are.
        assert refused <= 50

    def test_a_rejected_text_fails_only_its_row(self, tmp_path: Path) -> None:
        with serving(fault_words={"number 3": "400:too long for the model"}) as s:
            asked = ask(openai_backend(s.url), ask_about(TEXTS[:15]), tmp_path, options=fast())
            assert s.server.calls == FIRST + 15
        failed = [row for row in asked.rows if row.error]
        assert [row.question.row for row in failed] == TEXTS[9:12]
        assert all("too long for the model" in str(row.error) for row in failed)
        assert all(row.label is None and row.cost is None for row in failed)

    def test_a_text_that_always_fails_fails_only_its_row(self, tmp_path: Path) -> None:
        with serving(fault_words={"broken": "500"}) as s:
            texts = ["I love a broken thing", *TEXTS[:20]]
            options = fast(tries=2, in_flight=2)
            asked = ask(openai_backend(s.url), ask_about(texts), tmp_path, options=options)
        assert [bool(row.error) for row in asked.rows] == [True] + [False] * 20

    def test_the_last_remaining_row_may_fail_without_ending_the_run(self, tmp_path: Path) -> None:
        options = fast(tries=2, patience=2)
        with serving(fault_words={"broken": "503"}) as s:
            ask(openai_backend(s.url), ask_about(TEXTS[:3]), tmp_path, options=options)
            texts = [*TEXTS[:3], "I love a broken thing"]
            asked = ask(openai_backend(s.url), ask_about(texts), tmp_path, options=options)
        assert [bool(row.error) for row in asked.rows] == [False, False, False, True]

    def test_too_many_failing_rows_end_the_run(self, tmp_path: Path) -> None:
        limit = FailureLimit.parse("3")
        kept = Asked()
        with serving(fault_words={"hate": "400"}) as s:
            with pytest.raises(SentikitError, match="3 rows have failed, which reaches --fail-on"):
                ask(
                    openai_backend(s.url),
                    ask_about(TEXTS),
                    tmp_path,
                    options=fast(in_flight=1),
                    into=kept,
                    failure_limit=limit,
                )
            assert s.server.calls < FIRST + 20

    def test_a_tracker_that_fails_at_a_failed_call_leaves_no_slot_taken(
        self, tmp_path: Path
    ) -> None:
        kept = Asked()
        pacers = []

        def watch(call: LLMCall) -> None:
            assert kept.outcome is not None
            pacers.extend(member.pacer for member in kept.outcome.members)
            raise SentikitError("The tracker is gone.")

        with (
            serving(fault_words={"hate": "400"}) as s,
            pytest.raises(SentikitError, match="The tracker is gone"),
        ):
            ask(openai_backend(s.url), ask_about(["hate"]), tmp_path, into=kept, watch=watch)
        assert [pacer.in_flight for pacer in pacers] == [0]

    def test_failed_rows_are_queried_again_on_resume(self, tmp_path: Path) -> None:
        with serving(fault_words={"hate": "400"}) as s:
            first = ask(openai_backend(s.url), ask_about(TEXTS[:3]), tmp_path)
            s.server.behaviour = type(s.server.behaviour)()
            second = ask(openai_backend(s.url), ask_about(TEXTS[:3]), tmp_path)
            assert s.server.calls == FIRST + 4
        assert first.labels == ["positive", None, "neutral"]
        assert second.labels == EXPECTED[:3]
        assert [row.saved for row in second.rows] == [False, False, False]

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("quota", "lack of credit or quota .You exceeded your current quota"),
            ("401:no", r"requires a key .401: no., but OPENAI_API_KEY is not set"),
            ("404:The model is gone", "has no model 'any'"),
        ],
    )
    def test_a_fatal_failure_ends_the_run_at_once(
        self, fault: str, message: str, tmp_path: Path
    ) -> None:
        with serving(seconds=0.02, fault_words={"number 3": fault}) as s:
            with pytest.raises(SentikitError, match=message):
                ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, options=fast())
            assert s.server.calls < FIRST + 25

    def test_an_outage_ends_the_run_without_losing_answers(self, tmp_path: Path) -> None:
        options = fast(patience=1, in_flight=2)
        with serving() as s:
            ask(openai_backend(s.url), ask_about(TEXTS[:5]), tmp_path, options=options)
            s.server.behaviour = type(s.server.behaviour)(fault_words={"text": "503:down"})
            with pytest.raises(SentikitError, match=r"has not answered for .* --resume"):
                ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, options=options)
            s.server.behaviour = type(s.server.behaviour)()
            before = s.server.calls
            asked = ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, options=options)
            assert s.server.calls == before + len(TEXTS) - 5
        assert asked.labels == EXPECTED

    @pytest.mark.parametrize("fault", ["503:down", "429:0.3"])
    def test_an_outage_with_retry_after_also_ends_the_run(self, fault: str, tmp_path: Path) -> None:
        kept, options = Asked(), fast(patience=2, tries=2, in_flight=20)
        with serving() as s:
            ask(openai_backend(s.url), ask_about(["warm up"]), tmp_path)
            down = {"fault_words": {"text": fault}, "retry_after": "0.3"}
            s.server.behaviour = type(s.server.behaviour)(**down)
            with pytest.raises(SentikitError, match=r"has not answered for .* --resume"):
                ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, options=options, into=kept)
        assert not kept.rows

    def test_a_requested_wait_longer_than_the_patience_is_respected(self, tmp_path: Path) -> None:
        faults = {str(FIRST): "503", str(FIRST + 1): "503"}
        with serving(faults=faults, retry_after="2") as s:
            options = fast(patience=1)
            asked = ask(openai_backend(s.url), ask_about(TEXTS[:1]), tmp_path, options=options)
        assert asked.labels == EXPECTED[:1]

    def test_a_server_that_stops_near_the_end_leaves_a_resumable_run(self, tmp_path: Path) -> None:
        kept = Asked()
        with contextlib.ExitStack() as up:
            s = up.enter_context(serving(seconds=0.3))
            backend = openai_backend(s.url)

            def leave() -> None:
                while len(kept.rows) < 4:
                    time.sleep(0.01)
                up.close()

            leaving = threading.Thread(target=leave)
            leaving.start()
            with pytest.raises(SentikitError, match=r"has not answered for .* --resume"):
                ask(
                    backend,
                    ask_about(TEXTS[:9]),
                    tmp_path,
                    options=fast(patience=1, in_flight=2, prices=PRICES),
                    into=kept,
                    max_cost=1.0,
                )
            leaving.join()
        assert all(row.error is None for row in kept.rows)
        with AnswerJournal(tmp_path / "answers.sqlite") as journal:
            kept_cost = sum(round((row.paid or 0) * 10**12) for row in kept.rows)
            opening = journal.opening_cost("this run") or 0
            # What was never sent is not held back from the ceiling; one call may have been cut off.
            assert journal.spent("this run") - kept_cost - opening < 4 * 10**9

    def test_open_calls_are_kept_if_a_prompt_cannot_be_built(self, tmp_path: Path) -> None:
        def questions() -> Iterator[Question[str]]:
            yield from ask_about([f"I love number {number}" for number in range(64)])
            raise InputError("row 65 has no text")

        with serving(seconds=0.2) as s:
            backend = openai_backend(s.url)
            with pytest.raises(InputError, match="row 65"):
                ask(backend, questions(), tmp_path, options=fast(in_flight=4))
            paid = s.server.calls - FIRST
        with sqlite3.connect(tmp_path / "answers.sqlite") as journal:
            (kept,) = journal.execute("SELECT count(*) FROM answers WHERE row >= 0").fetchone()
        assert kept == paid > 0

    def test_a_wait_that_is_too_long_ends_the_run(self, tmp_path: Path) -> None:
        too_long = pytest.raises(SentikitError, match="asks to wait 7,200 s")
        with serving(faults={str(FIRST): "429:7200"}) as s, too_long:
            ask(openai_backend(s.url), ask_about(TEXTS), tmp_path)

    def test_twenty_rejections_and_no_answer_end_the_run(self, tmp_path: Path) -> None:
        with serving(fault_words={"text": "400:bad request"}) as s:
            with pytest.raises(SentikitError, match=r"rejected the first 20 calls.*bad request"):
                ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, options=fast())
            assert s.server.calls < FIRST + 40

    def test_a_journal_that_cannot_be_written_ends_the_run(self, tmp_path: Path) -> None:
        made: list[str] = []
        failures: list[Exception] = []

        def questions() -> Iterator[Question[str]]:
            yield from ask_about(TEXTS[:1])
            with contextlib.closing(sqlite3.connect(tmp_path / "answers.sqlite")) as journal:
                while not journal.execute("SELECT * FROM reservations").fetchall():
                    time.sleep(0.01)
                journal.execute("DROP TABLE reservations")
            for number in range(300):
                made.append(str(number))
                yield Question(made[-1], None)
                time.sleep(0.05)

        def run(url: str) -> None:
            try:
                ask(openai_backend(url), questions(), tmp_path, options=fast(prices=PRICES))
            except SentikitError as error:
                failures.append(error)

        with serving(seconds=0.5) as s:
            running = threading.Thread(target=run, args=(s.url,), daemon=True)
            running.start()
            running.join(30)
        assert not running.is_alive()
        assert "no such table" in str(failures[0])
        assert len(made) < 300

    def test_stopping_keeps_the_answers_received(self, tmp_path: Path) -> None:
        kept = Asked()
        with serving(seconds=0.05) as s:
            with pytest.raises(Interrupted):
                ask(
                    openai_backend(s.url),
                    ask_about(TEXTS),
                    tmp_path,
                    options=fast(in_flight=4),
                    into=kept,
                    stop_requested=lambda: len(kept.rows) > 10,
                )
            paid = s.server.calls
            assert paid < FIRST + len(TEXTS)
            asked = ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, options=fast())
            assert s.server.calls == FIRST + len(TEXTS)
        assert asked.labels == EXPECTED
        assert not any(row.saved for row in asked.rows)


class Opening(LLMBackend):
    """Makes two calls of its own as it opens, and settles only the second."""

    model = "own"

    def __init__(self, failure: Exception) -> None:
        super().__init__(self.Settings())
        self._failures = [failure]

    async def open(self, session: BackendSession) -> None:
        await session.reserve(Usage(prompt=100))
        if self._failures:
            raise self._failures.pop()
        await session.reserve(Usage(prompt=100))
        session.settle(Usage(prompt=10))

    def canonical(self, request: ChatRequest) -> dict[str, str]:
        return {"text": request.text}

    async def ask(self, request: ChatRequest) -> Answer:
        return Answer("positive", usage=Usage(prompt=1))


@pytest.mark.parametrize(
    ("failure", "spent"),
    [
        # Where it opens at the second try: a call that was never settled, another, and a row's.
        (RetryableError("Busy.", "server", 0.01), 100 + 10 + 1),
        (RetryableError("Lost.", "network", 0.01), 100 + 100 + 10 + 1),
        (FatalError("No such model."), 0),
        (RuntimeError("A bug."), 100),
    ],
)
def test_a_probe_without_result_does_not_block_calls(
    failure: Exception, spent: int, tmp_path: Path
) -> None:
    with contextlib.suppress(SentikitError, RuntimeError):
        asked = ask(
            Opening(failure),
            ask_about(TEXTS[:1]),
            tmp_path,
            options=fast(prices=PRICES),
            max_cost=1.0,
        )
        assert asked.labels == ["positive"]
    with AnswerJournal(tmp_path / "answers.sqlite") as journal:
        assert journal.spent("this run") == spent * 10**6


class LateRefusal(Opening):
    """Answers one text, then refuses the others, because something of its own timed out."""

    def __init__(self) -> None:
        super().__init__(RuntimeError())
        self.asked: list[str] = []

    async def open(self, session: BackendSession) -> None:
        pass

    def canonical(self, request: ChatRequest) -> dict[str, str]:
        return {"message": request.messages[0].content}

    async def ask(self, request: ChatRequest) -> Answer:
        self.asked.append(request.messages[0].content)
        if len(self.asked) == 1:
            await asyncio.sleep(0.05)
            return Answer("positive")
        await asyncio.sleep(0.2)
        raise FatalError("The key expired.") from TimeoutError()


def test_a_refusal_of_every_call_is_not_retried_whatever_caused_it(tmp_path: Path) -> None:
    backend = LateRefusal()
    with pytest.raises(FatalError, match="The key expired"):
        ask(backend, ask_about(["a", "b", "c"]), tmp_path, options=RequestOptions(timeout=1))
    assert len(backend.asked) == 3


class OddAnswers(Opening):
    """Answers with what is no log-probability."""

    async def open(self, session: BackendSession) -> None:
        """Make no call."""

    async def ask(self, request: ChatRequest) -> Answer:
        return Answer("positive", Usage(prompt=10), log_probabilities={"positive": 3.0})


def test_a_malformed_answer_is_blamed_on_the_backend_by_name_and_plugin() -> None:
    own = openai_backend("http://127.0.0.1:9/v1")
    assert title_of(own) == "The LLM backend 'openai' of plugin 'openai_backend'"
    assert title_of(OddAnswers(RuntimeError())) == "The LLM backend OddAnswers"


def ask_all(server: RunningServer, folder: Path, kept: Asked, ceiling: float) -> None:
    """Ask 60 questions of about 40 tokens at a dollar a million tokens."""
    backend, questions = openai_backend(server.url), ask_about(TEXTS, max_tokens=20)
    ask(backend, questions, folder, options=fast(prices=PRICES), into=kept, max_cost=ceiling)


class TestMoney:
    def test_a_malformed_answer_counts_as_spent_once(self, tmp_path: Path) -> None:
        backend, options = OddAnswers(RuntimeError()), fast(prices=PRICES)
        calls: list[LLMCall] = []
        with pytest.raises(FatalError, match="log-probability of 'positive' is 3"):
            ask(
                backend,
                ask_about(TEXTS[:1]),
                tmp_path,
                options=options,
                max_cost=1.0,
                watch=calls.append,
            )
        assert [call.reason for call in calls] == ["fatal"]
        with AnswerJournal(tmp_path / "answers.sqlite") as journal:
            spent = journal.spent("this run")
        request = ask_about(TEXTS[:1])[0].request
        assert request is not None
        assert 10 * 10**6 <= spent <= 10**6 * 2 * (len(TEXTS[0]) + request.max_tokens + 200)

    def spend(
        self, folder: Path, ceiling: float, **behaviour: object
    ) -> tuple[Asked, dict[str, int]]:
        """Ask about all texts within a ceiling; return the rows and what the server billed."""
        kept = Asked()
        with serving(seconds=0.01, **behaviour) as s:
            try:
                ask_all(s, folder, kept, ceiling)
            except SentikitError as error:
                assert "--max-cost" in error.message  # noqa: PT017
            return kept, s.server.billed

    @pytest.mark.parametrize("hidden", [0, 5, 3000])
    def test_the_ceiling_is_never_exceeded(self, hidden: int, tmp_path: Path) -> None:
        ceiling = 0.0013
        asked, billed = self.spend(tmp_path, ceiling, hidden_tokens=hidden)
        spent = (billed["prompt"] + billed["completion"]) / 1e6
        first_call = (hidden + 60) / 1e6
        assert spent <= max(ceiling, FIRST * first_call + first_call)
        if hidden < 100:
            assert spent <= ceiling
            assert 0 < len(asked.rows) < 60

    @pytest.mark.parametrize("hidden", [0, 50, 200])
    def test_hidden_tokens_of_a_server_never_exceed_the_ceiling(
        self, hidden: int, tmp_path: Path
    ) -> None:
        ceiling = 0.02
        asked, billed = self.spend(tmp_path, ceiling, hidden_tokens=hidden, usage="none")
        assert 0 < len(asked.rows) < 60
        assert sum(billed.values()) / 1e6 <= ceiling

    def test_thinking_that_a_silent_server_shows_counts_beyond_the_limit(
        self, tmp_path: Path
    ) -> None:
        thought = f"<think>{'so ' * 400}</think>positive"
        with serving(usage="none", enforces=(), text=thought) as s:
            asked = ask(
                openai_backend(s.url),
                ask_about(["one"], max_tokens=20),
                tmp_path,
                options=fast(prices=PRICES),
                max_cost=1,
            )
        assert asked.labels == ["positive"]
        assert (asked.rows[0].paid or 0) >= 400e-6

    @pytest.mark.parametrize("usage", ["none", "null"])
    def test_an_answer_without_usage_counts_at_its_worst_case_under_a_ceiling(
        self, usage: str, tmp_path: Path
    ) -> None:
        kept = Asked()
        with serving(seconds=0.01, usage=usage) as s:
            with pytest.raises(SentikitError, match="--max-cost"):
                ask_all(s, tmp_path, kept, 0.02)
            assert 0 < s.server.calls < FIRST + len(TEXTS)
            assert sum(s.server.billed.values()) / 1e6 <= 0.02
        assert all(row.usage is None and row.paid for row in kept.rows)
        with AnswerJournal(tmp_path / "answers.sqlite") as journal:
            assert journal.spent("this run") <= 0.02 * 10**12

    def test_an_answer_without_usage_has_an_unknown_cost_without_a_ceiling(
        self, tmp_path: Path
    ) -> None:
        with serving(usage="none") as s:
            asked = ask(
                openai_backend(s.url),
                ask_about(TEXTS[:3]),
                tmp_path,
                options=fast(prices=PRICES),
            )
        assert asked.outcome is not None
        assert asked.outcome.tally.calls_without_usage == 3
        assert asked.outcome.tally.paid.known is None
        assert [row.cost for row in asked.rows] == [None] * 3

    def test_a_sufficient_ceiling_changes_nothing(self, tmp_path: Path) -> None:
        asked, billed = self.spend(tmp_path, 1.0)
        assert asked.labels == EXPECTED
        assert asked.outcome is not None
        tally, opening = asked.outcome.tally, asked.outcome.opening_cost
        assert opening is not None
        assert tally.paid.picodollars + opening == sum(billed.values()) * 10**6

    def test_a_resumed_run_keeps_to_the_same_ceiling(self, tmp_path: Path) -> None:
        ceiling = 0.0013
        kept = Asked()
        with serving() as s:
            for _ in range(3):
                with pytest.raises(SentikitError, match="--max-cost"):
                    ask_all(s, tmp_path, kept, ceiling)
            assert sum(s.server.billed.values()) / 1e6 <= ceiling

    def test_a_budget_too_small_for_one_call_sends_nothing(self, tmp_path: Path) -> None:
        with serving() as s:
            with pytest.raises(InputError, match="Nothing was sent"):
                ask(
                    openai_backend(s.url, guarantee="json_schema"),
                    ask_about(TEXTS),
                    tmp_path,
                    options=fast(prices=PRICES),
                    max_cost=0.00001,
                )
            assert s.server.calls == 0

    def test_a_ceiling_for_a_model_without_a_price_is_refused(self, tmp_path: Path) -> None:
        with serving() as s:
            with pytest.raises(InputError, match=r"prices, but those of 'any' are unknown"):
                ask(openai_backend(s.url), ask_about(TEXTS), tmp_path, max_cost=1.0)
            assert s.server.calls == 0

    def test_a_model_without_a_price_has_unknown_cost(self, tmp_path: Path) -> None:
        with serving() as s:
            asked = ask(openai_backend(s.url), ask_about(TEXTS[:3]), tmp_path)
        assert [row.cost for row in asked.rows] == [None] * 3
        assert asked.outcome is not None
        assert asked.outcome.tally.paid.known is None

    def test_the_service_tier_that_answered_is_billed(self, tmp_path: Path) -> None:
        prices = Prices(prompt=1, completion=1, tiers={"flex": 0.5})
        options = fast(prices=prices)
        with serving(tier="flex") as s:
            flex = ask(openai_backend(s.url), ask_about(TEXTS[:1]), tmp_path / "a", options=options)
            s.server.behaviour = type(s.server.behaviour)(tier="default")
            full = ask(openai_backend(s.url), ask_about(TEXTS[:1]), tmp_path / "b", options=options)
        assert flex.rows[0].cost is not None
        assert full.rows[0].cost == pytest.approx(2 * flex.rows[0].cost)

    def test_a_ceiling_needs_the_price_of_the_requested_tier(self, tmp_path: Path) -> None:
        with serving() as s:
            backend, options = openai_backend(s.url, service_tier="fast"), fast(prices=PRICES)
            with pytest.raises(InputError, match=r"--max-cost needs the price .*tier 'fast'"):
                ask(backend, ask_about(TEXTS[:1]), tmp_path, options=options, max_cost=1.0)
            assert not s.server.calls

    def test_a_lost_answer_counts_as_spent_at_its_worst_case(self, tmp_path: Path) -> None:
        """The provider may have billed what never arrived."""
        kept = Asked()
        with serving(fault_words={"number 0": "truncate"}) as s:
            with pytest.raises(SentikitError, match="--max-cost"):
                ask(
                    openai_backend(s.url, guarantee="json_schema"),
                    ask_about(TEXTS[:1], max_tokens=20),
                    tmp_path,
                    options=fast(prices=PRICES, patience=60),
                    into=kept,
                    max_cost=0.0015,
                )
            assert sum(s.server.billed.values()) / 1e6 <= 0.0015

    def test_an_answer_that_cannot_be_stored_counts_as_spent(self, tmp_path: Path) -> None:
        path, full = tmp_path / "answers.sqlite", "SELECT RAISE(ABORT, 'the disk is full')"
        with AnswerJournal(path), sqlite3.connect(path) as connection:
            connection.execute(
                f"CREATE TRIGGER t BEFORE INSERT ON answers WHEN NEW.row >= 0 BEGIN {full}; END"
            )
        connection.close()
        with serving() as s, pytest.raises(SentikitError, match="the disk is full"):
            ask(
                openai_backend(s.url),
                ask_about(TEXTS[:1]),
                tmp_path,
                options=fast(prices=PRICES),
                max_cost=1.0,
            )
        with AnswerJournal(path) as journal:
            assert journal.spent("this run") >= sum(s.server.billed.values()) * 10**6


class Locked(LLMBackend):
    """Answers in this process, and waits in vain for a file's lock."""

    model = "own"
    in_process = True

    def canonical(self, request: ChatRequest) -> dict[str, str]:
        return {"text": request.messages[-1].content}

    async def ask(self, request: ChatRequest) -> Answer:
        raise TimeoutError("The lock is taken.")


def test_a_timeout_of_a_backend_without_a_time_limit_keeps_its_message(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="The lock is taken"):
        ask(Locked(Locked.Settings()), ask_about(["fine"]), tmp_path)


def test_probabilities_kept_for_other_classes_are_left_out() -> None:
    request = ChatRequest((Message("user", "Good?"),), ("negative", "positive"))
    rated = {"negative": -3.0, "neutral": -2.0, "positive": -0.2}
    answer = Answer("positive", log_probabilities=rated)
    row = AnsweredQuestion(Question("good", request), "positive", (answer,), 0.0)
    assert row.probabilities is not None
    assert list(row.probabilities) == ["negative", "positive"]
