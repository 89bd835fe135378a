"""What a run's questions came to so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from sentikit.classifiers.prediction import Usage
from sentikit.llm.backend import Answer


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
