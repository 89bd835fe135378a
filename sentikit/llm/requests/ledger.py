"""Keeps spending under a ceiling: reserved before a call, settled when its bill is known."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sentikit.errors import SentikitError
from sentikit.llm.prices import describe_cost


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
