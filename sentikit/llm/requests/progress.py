"""The progress of requests: a live line on standard error, messages, lines in log.jsonl."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Self

from sentikit.llm.prices import describe_cost, plain_usd
from sentikit.llm.requests.budget import Tally
from sentikit.runs.folder import JsonLinesLog
from sentikit.terminal import LiveBar


class RequestReporter:
    """Shows the progress of one job; use as a context manager."""

    def __init__(self, total: int | None, log: JsonLinesLog | None = None) -> None:
        self.rows: int | None = None
        self._total, self.log = total, log
        self._bar = LiveBar()
        self._began = time.monotonic()
        self._shown: set[str] = set()
        self._tally = Tally()
        self._summed_up = False

    def __enter__(self) -> Self:
        self._bar.start(self._total)
        return self

    def __exit__(self, *details: object) -> None:
        self._bar.stop()
        self.write_summary()
        if self.log is not None:
            self.log.close()

    def write_summary(self) -> None:
        """Write the summary into the log, once."""
        if self.log is not None and not self._summed_up:
            self._summed_up = True
            self.log.write(self.summary())

    def summary(self) -> dict[str, Any]:
        """Return the log's summary of this process; a resumed run has several."""
        counts = asdict(self._tally)
        del counts["paid"], counts["saved"]
        return {
            "kind": "requests",
            "seconds": round(time.monotonic() - self._began, 3),
            **counts,
            "paid_usd": plain_usd(self._tally.paid.known),
            "saved_usd": plain_usd(self._tally.saved.known),
        }

    def update(self, tally: Tally, in_flight: int) -> None:
        """Show the counts so far."""
        self._tally = tally
        rows = tally.rows if self.rows is None else self.rows
        self._bar.update(rows, line=live_line(tally, in_flight))

    def waiting(self, what: str, answered: int, total: int) -> None:
        """Show how much of a batch is answered."""
        line = f"{what}: {answered:,} of {total:,} answered, waiting for the provider"
        self._bar.update(line=line)

    def say(self, message: str) -> None:
        """Show and log a message, once."""
        if message in self._shown:
            return
        self._shown.add(message)
        if self.log is not None:
            self.log.write({"kind": "message", "message": message})
        self._bar.say(message)


def live_line(tally: Tally, in_flight: int) -> str:
    if not tally.rows:
        return ""
    parts = [describe_cost(tally.paid.known)]
    if tally.saved_calls:
        parts.append(f"saved {describe_cost(tally.saved.known)}")
    parts.append(f"{tally.invalid / max(1, tally.rows):.1%} invalid")
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    return "  ".join([*parts, f"{in_flight} in flight"])
