"""Money of a run: counted as answers come in, and kept under a ceiling."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sentikit.classifiers.prediction import Usage
from sentikit.errors import SentikitError
from sentikit.llm.backend import Answer
from sentikit.llm.counting import TokenCounter
from sentikit.llm.prices import Prices, describe_cost, picodollars


class BudgetSpentError(SentikitError):
    """The ceiling leaves no room for another call."""


@dataclass(frozen=True)
class Reservation:
    """Money set aside for one call, in picodollars.

    Attributes:
        worst: the most that the call was counted to cost.
        amount: what was set aside: `worst`, grown by what earlier bills were above theirs.
    """

    worst: int = 0
    amount: int = 0


class Ledger:
    """Money in picodollars; asyncio, one event loop.

    The first call runs alone: it shows whether the server bills more tokens than were counted, and
    later reservations grow by as much.

    Args:
        ceiling: what may be spent in all, or None for no ceiling.
        spent: what has been spent before, calls lost in flight at their worst.
    """

    def __init__(self, ceiling: int | None, spent: int = 0) -> None:
        self.ceiling = ceiling
        self.spent = spent
        self._reserved = 0
        self._factor: float | None = None
        self._changed = asyncio.Event()

    async def reserve(self, worst: int) -> Reservation:
        """Set aside the worst a call can cost, waiting for others to settle where needed.

        Returns:
            What was set aside; hand it back to `settle`, `release` or `lose`.

        Raises:
            BudgetSpentError: it does not fit, and no call in flight can make room.
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
                raise BudgetSpentError(self._refusal(amount))
            self._changed.clear()
            await self._changed.wait()

    def settle(self, reserved: Reservation, cost: int) -> None:
        """Book what a call really cost."""
        if self.ceiling is None:
            self.spent += cost
            return
        self._reserved -= reserved.amount
        self.spent += cost
        seen = cost / reserved.worst if reserved.worst else 0.0
        self._factor = max(1.0, self._factor or 1.0, seen)
        self._changed.set()

    def release(self, reserved: Reservation) -> None:
        """Book that a call was refused and costs nothing."""
        self._reserved -= reserved.amount
        self._changed.set()

    def lose(self, reserved: Reservation) -> None:
        """Book a call whose answer was lost: the provider may have billed it in full."""
        self._reserved -= reserved.amount
        self.spent += reserved.amount
        self._changed.set()

    def _refusal(self, amount: int) -> str:
        assert self.ceiling is not None
        left = describe_cost(max(0, self.ceiling - self.spent))
        return (
            f"--max-cost {describe_cost(self.ceiling)} leaves {left}, and the next call may cost "
            f"{describe_cost(amount)}."
        )


@dataclass
class Money:
    """Picodollars, with the calls whose price is unknown counted beside."""

    picodollars: int = 0
    unknown: int = 0

    def add(self, cost: int | None) -> None:
        """Add one call's cost."""
        if cost is None:
            self.unknown += 1
        else:
            self.picodollars += cost

    @property
    def known(self) -> int | None:
        """The sum, or None where some of it is unknown."""
        return None if self.unknown else self.picodollars


@dataclass
class Tally:
    """Counts of rows and calls, in the order they are reported.

    Attributes:
        rows: reported so far.
        invalid: rows without a valid answer.
        cut: those of `invalid` whose answer reached the limit on tokens.
        failed: rows that no call could answer.
        repaired: rows whose second answer was valid.
        calls: answers this run paid for.
        saved_calls: answers that were there before.
        usage: tokens of `calls`, as far as the server says.
        unmetered: those of `calls` whose usage the server does not say.
        paid: cost of `calls`.
        saved: cost of `saved_calls`.
        retries: calls made again after a failure.
        limited: rate-limit episodes.
        tiers: service tier to answers, where the server says.
    """

    rows: int = 0
    invalid: int = 0
    cut: int = 0
    failed: int = 0
    repaired: int = 0
    calls: int = 0
    saved_calls: int = 0
    usage: Usage = field(default_factory=Usage)
    unmetered: int = 0
    paid: Money = field(default_factory=Money)
    saved: Money = field(default_factory=Money)
    retries: int = 0
    limited: int = 0
    tiers: dict[str, int] = field(default_factory=dict)

    def add_paid(self, answer: Answer, cost: int | None) -> None:
        """Count an answer this run paid for."""
        self.calls += 1
        if answer.usage is None:
            self.unmetered += 1
        else:
            self.usage += answer.usage
        self.paid.add(cost)
        if answer.service_tier:
            self.tiers[answer.service_tier] = self.tiers.get(answer.service_tier, 0) + 1

    def add_saved(self, cost: int | None) -> None:
        """Count an answer that was there before."""
        self.saved_calls += 1
        self.saved.add(cost)


@dataclass(frozen=True)
class Budget:
    """What the calls to one model cost and may cost.

    Attributes:
        prices: of the model, or None where unknown.
        counter: counts prompts, for reservations.
        ledger: keeps the ceiling; several models may share it.
        tally: counts what comes back.
        any_tier: whether the prices hold for tiers they do not name, as the user's own do.
    """

    prices: Prices | None
    counter: TokenCounter
    ledger: Ledger
    tally: Tally
    any_tier: bool = False

    def cost(self, answer: Answer, tier: str | None, asked: str | None = None) -> int | None:
        """Return the greater of our price for an answer and of what the provider says it cost.

        Args:
            answer: what came back.
            tier: that served it.
            asked: the tier whose price counts where that of `tier` is unknown.

        Returns:
            Picodollars, or None where neither is known.
        """
        cost = None
        if self.prices is not None:
            cost = self.prices.cost(answer.usage, tier)
            if cost is None and self.any_tier:
                cost = self.prices.cost(answer.usage, asked)
        if answer.billed_usd is None:
            return cost
        return max(cost or 0, picodollars(answer.billed_usd))
