"""What a fine-tuning job reports on its way: each event once, in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .failures import FINE_TUNING

if TYPE_CHECKING:
    from .client import Connection
    from .finetuning_settings import OpenAIFineTuningSettings

_PAGE, _MOST_PAGES = 100, 10_000
#: Numbers of a metrics event, by what the log calls them.
NUMBERS = {
    "loss": "train_loss",
    "accuracy": "train_mean_token_accuracy",
    "validation_loss": "valid_loss",
    "validation_accuracy": "valid_mean_token_accuracy",
    "full_validation_loss": "full_valid_loss",
    "full_validation_accuracy": "full_valid_mean_token_accuracy",
}


class EventStream:
    """The events of one job, asked for again and again."""

    def __init__(self, connection: Connection[OpenAIFineTuningSettings], job: str) -> None:
        self._connection, self._job = connection, job
        self._seen: set[str] = set()
        self._steps: dict[int, dict[str, Any]] = {}

    @property
    def curve(self) -> list[dict[str, Any]]:
        """Losses and accuracies by step, in order, so far."""
        return [self._steps[step] for step in sorted(self._steps)]

    async def fresh(self, complete: bool = False) -> list[dict[str, Any]]:
        """Return the log's records of events not seen before, the oldest first.

        Args:
            complete: look through all of them, for those that were listed out of order.

        Raises:
            BackendError: the server fails.
        """
        found: dict[str, Any] = {}
        after: str | None = None
        for _ in range(_MOST_PAGES):
            # Servers list the newest first.
            page = await self._page(after)
            new = [event for event in page.data if event.id not in self._seen]
            found |= {event.id: event for event in new}
            known = not new and not complete
            if known or not page.data or not page.has_more or page.data[-1].id == after:
                break
            after = page.data[-1].id
        # Only now: a page that fails half-way leaves them to the next look.
        self._seen |= found.keys()
        ordered = sorted(found.values(), key=lambda event: (event.created_at, _step(event)))
        records = [_record(event) for event in ordered]
        for record in records:
            if record["kind"] == "step":
                self._steps.setdefault(record["step"], record)
        return records

    async def _page(self, after: str | None) -> Any:
        jobs = self._connection.client.fine_tuning.jobs
        options: dict[str, Any] = {"limit": _PAGE, **({"after": after} if after else {})}
        call = jobs.list_events(self._job, **options)
        return await self._connection.guard(call, FINE_TUNING)


def numbers(data: Mapping[str, Any]) -> dict[str, float]:
    """Return a step's losses and accuracies under the log's names; -1 stands for none."""
    found = {}
    for name, theirs in NUMBERS.items():
        value = data.get(theirs)
        if isinstance(value, int | float) and value >= 0:
            found[name] = float(value)
    return found


def _data(event: Any) -> Mapping[str, Any]:
    return event.data if isinstance(event.data, Mapping) else {}


def _step(event: Any) -> int:
    step = _data(event).get("step")
    return int(step) if isinstance(step, int | float) else 0


def _record(event: Any) -> dict[str, Any]:
    data = _data(event)
    if getattr(event, "type", None) != "metrics" or not _step(event):
        return {"kind": "event", "at": event.created_at, "message": str(event.message)}
    record: dict[str, Any] = {"kind": "step", "at": event.created_at, "step": _step(event)}
    if isinstance(data.get("total_steps"), int | float):
        record["steps"] = int(data["total_steps"])
    return record | numbers(data)


def last_values(curve: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return each loss and accuracy as it last was."""
    return {
        name: record[name] for record in curve for name in NUMBERS if name in record
    }  # later ones win
