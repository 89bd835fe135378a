"""The budget of a job: reservations under a ceiling, and totals."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import NamedTuple

from sentikit.chat import Answer, Usage
from sentikit.errors import SentikitError
from sentikit.llm.backend import FatalError, RejectedError, RetryableError
from sentikit.llm.prices import describe_cost
from sentikit.llm.requests.journal import AnswerJournal, Record


class BudgetSpentError(SentikitError):
    """The ceiling does not allow another call."""


class Reservation(NamedTuple):
    """Picodollars for one call: its counted worst case, and the amount reserved."""

    worst: int = 0
    amount: int = 0


class Ledger:
    """The money spent and reserved, in picodollars; for one asyncio event loop.

    The first call runs alone: it shows whether the server bills more tokens than were counted, and
    later reservations are scaled by that ratio.
    """

    def __init__(self, ceiling: int | None, spent: int = 0) -> None:
        self.ceiling = ceiling
        self.spent = spent
        self._reserved = 0
        self._factor: float | None = None
        self._changed = asyncio.Event()

    async def reserve(self, worst: int) -> Reservation:
        """Reserve the worst-case cost of a call, waiting for other calls to settle if needed.

        Pass the result to `settle`, `release` or `lose`. Raises a `BudgetSpentError` if it does
        not fit when no call is in flight.
        """
        if self.ceiling is None:
            return Reservation()
        while True:
            amount = worst if self._factor is None else round(worst * self._factor)
            fits = self.spent + self._reserved + amount <= self.ceiling
            alone = self._factor is not None or not self._reserved
            if fits and alone:
                self._reserved += amount
                return Reservation(worst, amount)
            if not self._reserved:
                left = describe_cost(max(0, self.ceiling - self.spent))
                raise BudgetSpentError(
                    f"--max-cost {describe_cost(self.ceiling)} leaves {left}, but the next call "
                    f"may cost {describe_cost(amount)}."
                )
            self._changed.clear()
            await self._changed.wait()

    def settle(self, reserved: Reservation, cost: int) -> None:
        self.spent += cost
        if self.ceiling is None:
            return
        self._reserved -= reserved.amount
        seen = cost / reserved.worst if reserved.worst else 0.0
        self._factor = max(1.0, self._factor or 1.0, seen)
        self._changed.set()

    def release(self, reserved: Reservation) -> None:
        self._reserved -= reserved.amount
        self._changed.set()

    def lose(self, reserved: Reservation) -> None:
        """Count a call whose answer was lost as spent: the provider may have billed it."""
        self.spent += reserved.amount
        self.release(reserved)


class InFlight:
    """The worst-case cost of the calls in flight, for a run without a ceiling.

    Their sum is recorded in the journal from time to time, so that a killed run counts them. With
    a ceiling, each call has its own reservation instead.
    """

    def __init__(self, journal: AnswerJournal, run: str) -> None:
        self._journal, self._run = journal, run
        self._key = b"in flight:" + os.urandom(16)
        self._worst = self._noted = 0

    def add(self, worst: int) -> None:
        self._worst += worst
        if self._worst > self._noted:
            self.note()

    def remove(self, worst: int) -> None:
        self._worst -= worst

    def note(self) -> None:
        """Update the journal; called from time to time and at the end."""
        if self._worst != self._noted:
            self._journal.note(self._key, self._run, self._worst)
            self._noted = self._worst


@dataclass
class Amount:
    """An amount in picodollars, and the number of calls of unknown cost."""

    picodollars: int = 0
    unknown: int = 0

    def add(self, cost: int | None) -> None:
        if cost is None:
            self.unknown += 1
        else:
            self.picodollars += cost

    @property
    def known(self) -> int | None:
        return None if self.unknown else self.picodollars


@dataclass
class Tally:
    """Totals of rows and calls; the names are those of the log."""

    rows: int = 0
    #: Rows without a valid answer, and those of them cut at the token limit.
    invalid: int = 0
    cut: int = 0
    failed: int = 0
    #: Rows whose second answer was valid.
    repaired: int = 0
    #: Answers this run paid for, their tokens and cost, and those without reported usage.
    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    calls_without_usage: int = 0
    paid: Amount = field(default_factory=Amount)
    #: Answers found in the journal, and their cost at today's prices.
    saved_calls: int = 0
    saved: Amount = field(default_factory=Amount)
    retries: int = 0
    rate_limit_episodes: int = 0
    #: Number of answers by the service tier that the server reports.
    service_tiers: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Count rows from the first again, for another pass over them."""
        self.rows = self.invalid = self.cut = self.failed = self.repaired = 0

    def add(self, answer: Answer, cost: int | None, own: bool) -> None:
        """Count an answer: this run's own, or one found in the journal."""
        if not own:
            self.saved_calls += 1
            self.saved.add(cost)
            return
        self.calls += 1
        self.paid.add(cost)
        if answer.service_tier:
            tiers = self.service_tiers
            tiers[answer.service_tier] = tiers.get(answer.service_tier, 0) + 1
        if answer.usage is None:
            self.calls_without_usage += 1
        else:
            self.usage += answer.usage


@dataclass(frozen=True)
class Budget:
    """Reserves money before each call to one model, and settles it after the call."""

    ledger: Ledger
    tally: Tally
    journal: AnswerJournal
    run: str
    in_flight: InFlight

    async def reserve(self, key: bytes, worst: int | None) -> Reservation:
        """Reserve the worst-case cost of a call, in the journal too."""
        if self.ledger.ceiling is None:
            self.in_flight.add(worst or 0)
            return Reservation(worst or 0)
        assert worst is not None
        reserved = await self.ledger.reserve(worst)
        self.journal.reserve(key, self.run, reserved.amount)
        return reserved

    def settle(
        self, key: bytes, row: int, reserved: Reservation, answer: Answer, cost: int | None
    ) -> None:
        """Count a row's answer at its cost, and commit it to the journal."""
        self.ledger.settle(reserved, cost or 0)
        if self.ledger.ceiling is None:
            self.in_flight.remove(reserved.worst)
        self.tally.add(answer, cost, own=True)
        self.journal.keep(key, Record(self.run, row, cost, answer), reserved.amount)

    def release(self, key: bytes, reserved: Reservation) -> None:
        """Release the reservation of a call that was not billed."""
        if self.ledger.ceiling is None:
            self.in_flight.remove(reserved.worst)
        else:
            self.ledger.release(reserved)
            self.journal.release(key, self.run, reserved.amount)

    def unsettle(self, key: bytes, reserved: Reservation, error: BaseException) -> None:
        """Release a failed call's reservation, unless the provider may have billed it."""
        refused = isinstance(error, RejectedError | FatalError) or (
            isinstance(error, RetryableError) and error.reason != "network"
        )
        if refused:
            self.release(key, reserved)
        elif not isinstance(error, SentikitError) or isinstance(error, RetryableError):
            self.ledger.lose(reserved)
