"""What a fine-tuning job reports on its way and leaves: events, model, checkpoints, metrics."""

from __future__ import annotations

import asyncio
import base64
import binascii
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sentikit.extension import (
    BackendError,
    FatalError,
    FineTunedModel,
    FineTuningSession,
    RejectedError,
    RetryableError,
)

from .failures import FINE_TUNING

if TYPE_CHECKING:
    from .connection import Connection
    from .settings import OpenAIFineTuningSettings


TRIES = 4
_SLICE, _LONGEST = 0.2, 30.0
#: Seconds a server has for an answer; only uploads may take longer.
_ANSWER_SECONDS = 60.0

Result = TypeVar("Result")


class PatientCalls:
    """Calls of one connection; the user's wish to stop cuts every wait short.

    Attributes:
        connection: to the server.
        client: the same, for calls that are answered soon.
    """

    def __init__(
        self, connection: Connection[OpenAIFineTuningSettings], session: FineTuningSession
    ) -> None:
        self.connection, self._session = connection, session
        self.client = connection.client.with_options(timeout=_ANSWER_SECONDS)

    async def once(self, call: Awaitable[Result]) -> Result:
        """Make a call once.

        Raises:
            BackendError: the server refuses or fails.
        """
        return await self.connection.guard(call, FINE_TUNING)

    async def ask(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Make a call, again after a while where the server fails.

        Raises:
            BackendError: the server refuses, or fails again and again.
        """
        for tried in range(1, TRIES + 1):
            try:
                return await self.once(call())
            except RetryableError as error:
                if tried == TRIES:
                    raise
                await self.pause(error, tried)
        raise AssertionError

    async def pause(self, error: RetryableError, tried: int) -> None:
        """Wait as long as the server asks, or longer from try to try."""
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        backoff = min(_LONGEST, self.connection.settings.poll_seconds, 0.5 * 2.0**tried) * jitter
        await self.sleep(error.retry_after or backoff)

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the user's wish to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._session.stop_requested():
            await asyncio.sleep(min(_SLICE, left))


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

    def __init__(self, calls: PatientCalls, job: str) -> None:
        self._calls, self._job = calls, job
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
        records = [_record(event, self._calls.connection.safe) for event in ordered]
        for record in records:
            if record["kind"] == "step":
                self._steps.setdefault(record["step"], record)
        return records

    async def _page(self, after: str | None) -> Any:
        jobs = self._calls.client.fine_tuning.jobs
        options: dict[str, Any] = {"limit": _PAGE, **({"after": after} if after else {})}
        return await self._calls.once(jobs.list_events(self._job, **options))


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


def _record(event: Any, safe: Callable[[str], str]) -> dict[str, Any]:
    data = _data(event)
    if getattr(event, "type", None) != "metrics" or not _step(event):
        return {"kind": "event", "at": event.created_at, "message": safe(str(event.message))}
    record: dict[str, Any] = {"kind": "step", "at": event.created_at, "step": _step(event)}
    if isinstance(data.get("total_steps"), int | float):
        record["steps"] = int(data["total_steps"])
    return record | numbers(data)


def last_values(curve: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return each loss and accuracy as it last was."""
    return {
        name: record[name] for record in curve for name in NUMBERS if name in record
    }  # later ones win


#: Keys of a record that say when it came, not how the model fares.
_BESIDE = ("kind", "at")


async def fetch(calls: PatientCalls, job: Any, events: EventStream, folder: Path) -> FineTunedModel:
    """Fetch all that a job leaves; its result files go into ``results/`` of the run's folder.

    Raises:
        BackendError: the server fails again and again.
    """
    for file in job.result_files:
        await _save(calls, file, folder / "results")
    supervised = job.method.supervised if job.method else None
    told = supervised.hyperparameters if supervised else job.hyperparameters
    curve = [{k: v for k, v in record.items() if k not in _BESIDE} for record in events.curve]
    metrics = {
        **last_values(curve),
        "job": job.id,
        "hyperparameters": told.model_dump(mode="json", exclude_none=True) if told else {},
        "curve": curve,
        "checkpoints": await _checkpoints(calls, job.id),
    }
    server = {"base_url", "key_variable", "header_variables", "headers", "query"}
    return FineTunedModel(
        model=job.fine_tuned_model,
        llm=calls.connection.settings.model_dump(include=server, exclude_defaults=True),
        tokens=job.trained_tokens,
        metrics=metrics,
    )


async def _checkpoints(calls: PatientCalls, identifier: str) -> list[dict[str, Any]]:
    checkpoints = calls.client.fine_tuning.jobs.checkpoints

    async def listed() -> list[Any]:
        return [one async for one in checkpoints.list(identifier, limit=_PAGE)]

    try:
        found = await calls.ask(listed)
    except (RejectedError, FatalError):
        return []  # not every service keeps any
    return [
        {
            "step": one.step_number,
            "model": one.fine_tuned_model_checkpoint,
            **numbers(one.metrics.model_dump() if one.metrics else {}),
        }
        for one in sorted(found, key=lambda one: one.step_number)
    ]


async def _save(calls: PatientCalls, file: str, folder: Path) -> None:
    """Save a table of metrics by step; OpenAI sends it as base64."""
    try:
        content = await calls.ask(lambda: calls.client.files.content(file))
    except BackendError:
        return  # the curve says the same
    folder.mkdir(exist_ok=True)
    (folder / f"{file}.csv").write_bytes(_decoded(content.content))


def _decoded(content: bytes) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        return content
