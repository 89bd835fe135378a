"""The number of calls in flight, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from sentikit import SentikitError
from sentikit.extension import RateLimit
from sentikit.llm.backend import RetryableError
from sentikit.llm.requests.budget import BudgetSpentError, Ledger
from sentikit.llm.requests.loop import OrderedDelivery
from sentikit.llm.requests.pacing import Pacer, Patience, Tries, backoff


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer: minutes of pacing in a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        timers = self._scheduled  # type: ignore[attr-defined]
        if timers and not self._ready:  # type: ignore[attr-defined]
            self.now = max(self.now, timers[0].when()) + 1e-6
        super()._run_once()  # type: ignore[misc]


class LimitedServer:
    """Answers after 50 ms; refuses some calls by chance, or those beyond so many a second."""

    def __init__(self, share: float, per_second: float, seed: int) -> None:
        self.loop = VirtualLoop()
        self._share, self._rate, self._level, self._at = share, per_second, per_second, 0.0
        self._chance = random.Random(seed)
        self.refused = 0

    async def call(self) -> bool:
        await asyncio.sleep(0.002)
        now = self.loop.time()
        self._level = min(self._rate, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._chance.random() < self._share or (self._rate and self._level < 1):
            self.refused += 1
            return False
        self._level -= 1
        await asyncio.sleep(0.05 * self._chance.uniform(0.95, 1.1))
        return True

    def seconds(self, row: Callable[[], Awaitable[None]], workers: int) -> float:
        """Put a thousand rows through, and return how long that takes."""
        numbers = iter(range(1000))

        async def work() -> None:
            for _ in numbers:
                await row()

        async def everybody() -> None:
            await asyncio.gather(*(work() for _ in range(workers)))

        try:
            self.loop.run_until_complete(everybody())
            return self.loop.time()
        finally:
            self.loop.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


async def work(pacer: Pacer, clock: Clock, seconds: float, rate: float | None = None) -> None:
    """Keep all slots busy; a server answers at its rate, or a call in 50 ms."""
    until = clock.now + seconds
    while clock.now < until:
        running = pacer.idle
        for _ in range(running):
            await pacer.acquire()
        took = 0.05 if rate is None else max(0.05, running / rate)
        clock.now += took
        for _ in range(running):
            pacer.release()
            pacer.answered()


class TestPacer:
    def test_the_pacer_grows_while_the_rate_rises(self) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(20, 256, clock)
            await work(pacer, clock, 5)
            assert pacer.limit == 256

        run(test())

    def test_the_pacer_stops_growing_when_the_server_gets_no_faster(self) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(20, 256, clock)
            await work(pacer, clock, 60, rate=100)
            assert pacer.limit <= 40

        run(test())

    def test_a_fixed_number_of_calls_in_flight_is_kept(self) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(8, 8, clock)
            await work(pacer, clock, 5)
            assert pacer.limit == 8

        run(test())

    def test_the_pacer_shrinks_once_per_episode_and_grows_after_a_cool_down(self) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(100, 200, clock)
            episodes = [await pacer.acquire() for _ in range(100)]
            news = [pacer.refused(episode, retry_after=1.0) for episode in episodes]
            assert news == [False] * 4 + [True] + [False] * 95
            assert pacer.limit == 80
            for _ in range(100):
                pacer.release()
            clock.now += 2
            await work(pacer, clock, 12)
            assert pacer.limit == 80
            await work(pacer, clock, 5)
            assert 80 < pacer.limit < 120

        run(test())

    def test_timeouts_behind_other_calls_lower_the_limit_once_per_episode(self) -> None:
        clock = Clock()
        pacer = Pacer(start=20, clock=clock)
        pacer.in_flight = 20
        clock.now += 120
        assert pacer.timed_out(0, answered=10, timeout=120)
        assert pacer.limit == 5
        assert pacer.timed_out(0, answered=10, timeout=120)
        assert pacer.limit == 5
        clock.now += 120
        # The server may still be working on the calls that timed out before.
        assert pacer.timed_out(1, answered=0, timeout=120)
        clock.now += 121
        assert not pacer.timed_out(1, answered=0, timeout=120)

    @pytest.mark.parametrize(
        ("answered", "most"),
        [
            pytest.param(0, 256, id="silent server"),
            pytest.param(200, 256, id="one slow call"),
            pytest.param(10, 20, id="fixed number"),
        ],
    )
    def test_a_timeout_that_is_not_due_to_waiting_changes_nothing(
        self, answered: int, most: int
    ) -> None:
        pacer = Pacer(start=20, most=most, clock=Clock())
        pacer.in_flight = 20
        assert not pacer.timed_out(0, answered=answered, timeout=120)
        assert pacer.limit == 20

    def test_after_a_requested_wait_the_pacer_starts_one_two_then_four_calls(self) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(16, 16, clock)
            episode = await pacer.acquire()
            pacer.refused(episode, retry_after=10.0, exhausted=True)
            pacer.release()
            clock.now += 9.9
            assert pacer.idle == 0
            clock.now += 1.1
            widths = []
            for _ in range(4):
                widths.append(pacer.idle)
                await pacer.acquire()
                pacer.release()
                pacer.answered()
            assert widths == [1, 2, 4, 8]
            assert pacer.idle == pacer.limit == 12

        run(test())

    def test_isolated_refusals_do_not_hold_other_calls_back(self) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(64, 64, clock)
            for _ in range(30):
                episode = await pacer.acquire()
                assert not pacer.refused(episode, retry_after=1.0)
                pacer.release()
                for _ in range(9):
                    pacer.answered()
                assert pacer.idle == pacer.limit == 64
            assert pacer.episodes == 0

        run(test())

    def test_a_quarter_of_refusals_holds_all_calls_back(self) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(64, 64, clock)
            for _ in range(15):
                pacer.answered()
            news = [pacer.refused(pacer.episodes, retry_after=1.0) for _ in range(5)]
            assert news == [False] * 4 + [True]
            assert pacer.idle == 0

        run(test())

    def test_the_pacer_respects_requests_per_minute(self) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(64, 64, clock, requests_per_minute=600)
            started = 0
            while clock.now < 1006:
                while pacer.idle:
                    await pacer.acquire()
                    started += 1
                    pacer.release()
                    pacer.answered()
                clock.now += 0.01
            # What a second brings at once, then ten a second.
            assert 65 <= started <= 71

        run(test())

    def test_the_pacer_respects_tokens_per_minute(self) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(4, 4, clock, tokens_per_minute=60_000)
            used = 0
            while clock.now < 1010:
                while pacer.idle:
                    await pacer.acquire()
                    used += 200
                    pacer.release()
                    pacer.answered(tokens=200)
                clock.now += 0.01
            assert 9_000 <= used <= 11_400

        run(test())

    def test_the_pacer_respects_the_servers_remaining_quota(self) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(16, 16, clock)
            pacer.answered(RateLimit(requests=3, requests_reset=5.0))
            assert pacer.idle == 16
            pacer.answered(RateLimit(requests=0, requests_reset=5.0))
            assert pacer.idle == 0
            clock.now += 6
            assert pacer.idle == 16
            pacer.answered(RateLimit(tokens=100, tokens_reset=5.0), tokens=200)
            assert pacer.idle == 0

        run(test())

    def test_the_pacer_learns_the_rate_of_a_token_bucket(self) -> None:
        async def test() -> None:
            clock, source = Clock(), random.Random(0)
            pacer = Pacer(64, 64, clock, source)
            level, answered, refused = 80.0, 0, 0
            running: list[tuple[float, int, bool]] = []
            again: list[float] = []
            began = clock.now
            while answered < 2000:
                clock.now += 0.005
                level = min(80.0, level + 0.005 * 80)
                due = [call for call in running if call[0] <= clock.now]
                running = [call for call in running if call[0] > clock.now]
                for _, episode, accepted in due:
                    pacer.release()
                    if accepted:
                        answered += 1
                        pacer.answered()
                    else:
                        refused += 1
                        pacer.refused(episode, retry_after=1.0)
                        again.append(clock.now + 1.1)
                # Of 64 workers, those whose call was refused wait.
                again = [moment for moment in again if moment > clock.now]
                while pacer.idle and len(running) + len(again) < 64:
                    episode = await pacer.acquire()
                    accepted = level >= 1
                    level -= accepted
                    running.append((clock.now + 0.05, episode, accepted))
            lasted = clock.now - began
            assert lasted < 1.08 * (2000 - 80) / 80
            assert refused < 300

        run(test())

    @pytest.mark.parametrize(("allowed", "into", "seed"), [(30, 0, 0), (60, 0, 0), (30, 25, 3)])
    def test_the_pacer_fills_the_window_of_a_per_minute_limit(
        self, allowed: int, into: float, seed: int
    ) -> None:
        async def test() -> None:
            clock = Clock()
            pacer = Pacer(20, 256, clock, random.Random(seed))
            # Seconds of the first minute have passed when the work begins.
            began = clock.now - into
            accepted, answered = [0] * 12, [0] * 12
            running: list[tuple[float, int, float | None]] = []
            again: list[float] = []
            while (minute := int((clock.now - began) // 60)) < 12:
                for _, episode, wait in [call for call in running if call[0] <= clock.now]:
                    pacer.release()
                    if wait is None:
                        answered[minute] += 1
                        pacer.answered()
                    else:
                        pacer.refused(episode, wait)
                        again.append(clock.now + wait)
                running = [call for call in running if call[0] > clock.now]
                again = [moment for moment in again if moment > clock.now]
                while pacer.idle and len(running) + len(again) < 64:
                    episode = await pacer.acquire()
                    full = accepted[minute] >= allowed
                    accepted[minute] += not full
                    wait = 60.0 - (clock.now - began) % 60 if full else None
                    running.append((clock.now + 0.5, episode, wait))
                clock.now += 0.02
            # The rate is learned in the first two minutes.
            assert min(answered[2:]) >= 0.8 * allowed, answered

        run(test())

    @pytest.mark.parametrize(
        ("share", "per_second", "slower"),
        [(0, 0, 1.02), (0.01, 0, 1.02), (0.03, 0, 1.02), (0, 80, 1.05)],
    )
    def test_refusals_cost_no_more_time_than_a_client_that_only_waits_and_tries_again(
        self, share: float, per_second: float, slower: float
    ) -> None:
        """A client such as AsyncOpenAI: 64 calls at a time, each again after Retry-After: 1."""
        refusal = RetryableError("429", "rate_limit", 1.0)
        ours = theirs = refused = 0.0
        for seed in range(3):
            server = LimitedServer(share, per_second, seed)

            async def plain(server: LimitedServer = server) -> None:
                while not await server.call():
                    await asyncio.sleep(1)

            theirs += server.seconds(plain, 64)
            refused += server.refused
            server = LimitedServer(share, per_second, seed)
            pacer = Pacer(64, 64, server.loop.time, random.Random(seed))
            tries = Tries(random.Random(seed))

            async def paced(
                server: LimitedServer = server, pacer: Pacer = pacer, tries: Tries = tries
            ) -> None:
                while True:
                    episode = await pacer.acquire()
                    accepted = await server.call()
                    pacer.release()
                    if accepted:
                        return pacer.answered()
                    pacer.refused(episode, 1.0)
                    await asyncio.sleep(tries.wait(refusal))

            ours += server.seconds(paced, 128)
            refused -= server.refused
        assert ours <= slower * theirs
        assert refused >= 0

    def test_waiting_calls_are_served_in_order(self) -> None:
        async def test() -> None:
            pacer = Pacer(1, 1)
            order: list[int] = []

            async def one(number: int) -> None:
                await pacer.acquire()
                order.append(number)
                await asyncio.sleep(0)
                pacer.release()

            await asyncio.gather(*(one(number) for number in range(5)))
            assert order == [0, 1, 2, 3, 4]
            assert pacer.in_flight == 0

        run(test())

    def test_a_cancelled_wait_leaves_no_slot_taken(self) -> None:
        async def test() -> None:
            pacer = Pacer(1, 1)
            await pacer.acquire()
            waiting = asyncio.create_task(pacer.acquire())
            await asyncio.sleep(0)
            waiting.cancel()
            pacer.release()
            await asyncio.sleep(0)
            assert (pacer.in_flight, pacer.idle) == (0, 1)

        run(test())


class TestLedger:
    def test_the_ledger_waits_for_open_calls_before_it_refuses(self) -> None:
        async def test() -> None:
            ledger = Ledger(100)
            ledger.settle(await ledger.reserve(10), 5)
            first = await ledger.reserve(60)
            second = asyncio.create_task(ledger.reserve(60))
            await asyncio.sleep(0)
            assert not second.done()
            ledger.settle(first, 20)
            assert (await second).amount == 60
            assert ledger.spent == 25

        run(test())

    def test_the_ledger_refuses_a_call_that_can_never_fit(self) -> None:
        async def test() -> None:
            ledger = Ledger(100, spent=50)
            with pytest.raises(BudgetSpentError):
                await ledger.reserve(51)
            ledger.release(await ledger.reserve(50))
            assert ledger.spent == 50

        run(test())

    def test_the_ledger_learns_from_the_first_bill(self) -> None:
        async def test() -> None:
            ledger = Ledger(1000)
            first = await ledger.reserve(10)
            alone = asyncio.create_task(ledger.reserve(10))
            await asyncio.sleep(0)
            assert not alone.done()
            ledger.settle(first, 30)
            assert (await alone).amount == 30

        run(test())

    def test_the_ledger_keeps_learning_from_bills(self) -> None:
        async def test() -> None:
            ledger = Ledger(1000)
            for billed in (150, 180):
                ledger.settle(await ledger.reserve(100), billed)
            assert (await ledger.reserve(100)).amount == 180

        run(test())

    def test_a_lost_answer_counts_as_spent(self) -> None:
        async def test() -> None:
            ledger = Ledger(100)
            ledger.lose(await ledger.reserve(40))
            assert ledger.spent == 40

        run(test())


class TestPatience:
    def test_the_back_off_doubles_with_jitter(self) -> None:
        source = random.Random(0)
        waits = [backoff(failures, source) for failures in range(1, 8)]
        assert all(b > a for a, b in pairwise(waits))
        assert 0.375 <= waits[0] <= 0.625
        assert max(backoff(99, source) for _ in range(99)) <= 37.5
        assert len({backoff(1, source) for _ in range(9)}) == 9

    def test_patience_ends_outages_but_not_requested_waits(self) -> None:
        clock = Clock()
        patience = Patience(60, 600, clock)
        patience.note_wait(RetryableError("busy.", "rate_limit", 300))
        clock.now += 359
        assert not patience.exhausted
        clock.now += 2
        assert patience.exhausted
        patience.answered()
        clock.now += 61
        assert patience.exhausted
        with pytest.raises(SentikitError, match="asks to wait 601 s"):
            patience.note_wait(RetryableError("busy.", "rate_limit", 601))

    def test_patience_ends_an_outage_in_which_every_row_is_asked_to_wait(self) -> None:
        clock = Clock()
        patience, began = Patience(60, 600, clock), clock.now
        for _ in range(100):
            for _ in range(20):
                patience.note_wait(RetryableError("down.", "server", 1))
            clock.now += 1
        assert patience.last_answer == began
        assert patience.exhausted


class TestTries:
    @pytest.mark.parametrize("reason", ["server", "rate_limit"])
    def test_a_call_is_given_up_only_if_others_succeed(self, reason: str) -> None:
        tries = Tries(random.Random(0))
        before = time.monotonic()
        for _ in range(50):
            tries.fail(RetryableError("down.", reason, 1))
        assert not tries.gives_up(6, last_answer=before)
        assert tries.gives_up(6, last_answer=time.monotonic())


class TestOrder:
    def test_answers_keep_the_order_of_the_requests_within_a_window(self) -> None:
        async def test() -> None:
            delivery: OrderedDelivery[str] = OrderedDelivery(window=3)
            delivery.put(2, "c")
            delivery.put(1, "b")
            room = asyncio.create_task(delivery.room(3))
            await asyncio.sleep(0)
            assert not room.done()
            delivery.put(0, "a")
            assert next(iter(delivery)) == ["a", "b", "c"]
            await asyncio.sleep(0)
            assert not room.done()
            delivery.take(1)
            await room

        run(test())
