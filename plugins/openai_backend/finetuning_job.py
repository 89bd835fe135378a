"""A provider's fine-tuning job: the upload of its files, its start, progress and result.

Responses are read leniently: values that cannot be read are None, and a response that describes no
job counts as no response.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import random
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sentikit import InputError, SentikitError
from sentikit.extension import (
    BackendError,
    FatalError,
    FineTunedModel,
    FineTuningJob,
    FineTuningSession,
    RejectedError,
    RetryableError,
)

from .connection import FINE_TUNING, Connection, UnknownModelError
from .responses import as_count, as_list, as_mapping, as_text

if TYPE_CHECKING:
    from .settings import OpenAIFineTuningSettings

#: Tries of a request; an upload can safely be repeated, so the SDK retries it.
_TRIES = 4
_TYPE = "text/jsonl"
#: The metadata key of a job's fingerprint.
_TAG = "sentikit"
_ENDED = ("succeeded", "failed", "cancelled")
_KNOWN = ("validating_files", "queued", "running", *_ENDED)
_PAGE, _MOST_JOBS, _MOST_PAGES = 100, 2000, 10_000
_SLICE, _LONGEST = 0.2, 30.0
#: Timeout of a request in seconds, except for uploads.
_ANSWER_SECONDS = 60.0
_JOBS = "/fine_tuning/jobs"
#: A step's losses and accuracies: the log's names, and the service's.
_NUMBERS = {
    "loss": "train_loss",
    "accuracy": "train_mean_token_accuracy",
    "validation_loss": "valid_loss",
    "validation_accuracy": "valid_mean_token_accuracy",
    "full_validation_loss": "full_valid_loss",
    "full_validation_accuracy": "full_valid_mean_token_accuracy",
}

Result = TypeVar("Result")


@dataclass(frozen=True)
class RemoteJob:
    """A job as the service describes it."""

    id: str
    status: str = ""
    fingerprint: str = ""
    reason: str = ""
    model: str = ""
    tokens: int | None = None
    files: tuple[str, ...] = ()
    hyperparameters: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, value: Any) -> RemoteJob | None:
        """Read a job; return None if the value does not describe one."""
        job = as_mapping(value)
        identifier = as_text(job.get("id"))
        if not identifier:
            return None
        supervised = as_mapping(as_mapping(job.get("method")).get("supervised"))
        reported = as_mapping(supervised.get("hyperparameters") or job.get("hyperparameters"))
        error = job.get("error")
        files = (
            as_text(as_mapping(f).get("id")) or as_text(f) for f in as_list(job.get("result_files"))
        )
        return cls(
            id=identifier,
            status=as_text(job.get("status")),
            fingerprint=as_text(as_mapping(job.get("metadata")).get(_TAG)),
            reason=as_text(as_mapping(error).get("message")) or as_text(error),
            model=as_text(job.get("fine_tuned_model")),
            tokens=as_count(job.get("trained_tokens")),
            files=tuple(file for file in files if file),
            hyperparameters={key: v for key, v in reported.items() if v is not None},
        )


class PatientCalls:
    """Calls over one connection; a request to stop ends every wait early."""

    def __init__(
        self, connection: Connection[OpenAIFineTuningSettings], session: FineTuningSession
    ) -> None:
        self.connection, self._session = connection, session
        self.client = connection.client.with_options(timeout=_ANSWER_SECONDS)

    async def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at a path of the server."""
        options: Any = {"params": {key: value for key, value in query.items() if value}}
        return await self.once(self.client.get(path, cast_to=object, options=options))

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return await self.once(self.client.post(path, cast_to=object, body=body))

    async def once(self, call: Awaitable[Result]) -> Result:
        return await self.connection.guard(call, FINE_TUNING)

    async def again(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Make a call, and retry it after a pause if the server fails."""
        for tried in range(1, _TRIES):
            try:
                return await call()
            except RetryableError as error:
                await self.pause(error, tried)
        return await call()

    async def pause(self, error: RetryableError, tried: int) -> None:
        """Wait as long as the server asks, or else longer with each try."""
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        backoff = min(_LONGEST, self.connection.settings.poll_seconds, 0.5 * 2.0**tried) * jitter
        await self.sleep(error.retry_after or backoff)

    async def sleep(self, seconds: float) -> None:
        """Sleep, but wake up if the user asks to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._session.stop_requested():
            await asyncio.sleep(min(_SLICE, left))


class EventStream:
    """The events of one job, polled."""

    def __init__(self, calls: PatientCalls, path: str) -> None:
        self._calls, self._path = calls, f"{path}/events"
        self._seen: set[str] = set()
        self._steps: dict[int, dict[str, Any]] = {}

    @property
    def curve(self) -> list[dict[str, Any]]:
        """Losses and accuracies so far, in the order of the steps."""
        return [self._steps[step] for step in sorted(self._steps)]

    async def fresh(self, complete: bool = False) -> list[dict[str, Any]]:
        """Return log records of the new events, oldest first.

        With `complete`, all pages are read, in case events are listed out of order.
        """
        found: dict[str, Mapping[str, Any]] = {}
        after = ""
        for _ in range(_MOST_PAGES):
            # Servers list the newest first.
            page = await self._calls.get(self._path, limit=_PAGE, after=after)
            listed = {_identity(event): as_mapping(event) for event in _data(page)}
            new = listed.keys() - self._seen
            found |= {key: listed[key] for key in new}
            last = as_text(next(reversed(listed.values()), {}).get("id"))
            known = not new and not complete
            if known or not as_mapping(page).get("has_more") or last in ("", after):
                break
            after = last
        # Not earlier: if a page fails, the next poll must return these events again.
        self._seen |= found.keys()
        ordered = sorted(found.values(), key=lambda event: (_moment(event), _step(event)))
        records = [_record(event, self._calls.connection.safe) for event in ordered]
        for record in records:
            if record["kind"] == "step":
                self._steps.setdefault(record["step"], record)
        return records


def _data(page: Any) -> list[Any]:
    return as_list(as_mapping(page).get("data"))


def _identity(event: Any) -> str:
    return as_text(as_mapping(event).get("id")) or json.dumps(event, sort_keys=True)


def _moment(event: Mapping[str, Any]) -> int:
    return as_count(event.get("created_at")) or 0


def _step(event: Mapping[str, Any]) -> int:
    return as_count(as_mapping(event.get("data")).get("step")) or 0


def _record(event: Mapping[str, Any], safe: Callable[[str], str]) -> dict[str, Any]:
    data, at, step = as_mapping(event.get("data")), _moment(event), _step(event)
    if event.get("type") != "metrics" or not step:
        message = safe(as_text(event.get("message"))) or "an event without a message"
        return {"kind": "event", "at": at, "message": message}
    steps = as_count(data.get("total_steps"))
    total = {} if steps is None else {"steps": steps}
    return {"kind": "step", "at": at, "step": step, **total, **_numbers(data)}


def _numbers(data: Mapping[str, Any]) -> dict[str, float]:
    """Return a step's losses and accuracies under the log's names; -1 means none."""
    found = {}
    for name, theirs in _NUMBERS.items():
        value = data.get(theirs)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        # Whole numbers in JSON may be larger than any float.
        if 0 <= value <= sys.float_info.max:
            found[name] = float(value)
    return found


def _last_values(curve: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the last value of each loss and accuracy."""
    return {name: record[name] for record in curve for name in _NUMBERS if name in record}


def pause_after(failures: int, seconds: float) -> float:
    """Return the seconds to wait after a number of failed polls, 60 at most."""
    # Capped: after days without a server, 2.0**failures would overflow.
    return min(60.0, seconds * 2.0 ** min(failures, 30))


class JobFollower:
    """The requests about one job."""

    def __init__(
        self, connection: Connection[OpenAIFineTuningSettings], session: FineTuningSession
    ) -> None:
        self._connection, self._session = connection, session
        self._calls = PatientCalls(connection, session)
        self._settings = connection.settings

    async def check(self) -> None:
        """Refuse an unknown model and missing permissions before an upload."""
        await self._find("")
        model = f"/models/{_quoted(self._settings.model)}"
        try:
            found = await self._calls.again(lambda: self._calls.get(model))
        except UnknownModelError:
            raise
        except (RejectedError, FatalError):
            return  # Without this endpoint, the service reports errors when the job is created.
        end = as_text(as_mapping(found).get("shutdown_date"))[:10]
        if end and end <= date.today().isoformat():
            raise InputError(f"{self._settings.model} was switched off on {end}.")

    async def run(self, job: FineTuningJob) -> FineTunedModel | None:
        """Start or find the job; return None if the user does not wait for it."""
        identifier = await self._identifier(job)
        if identifier is None or not job.wait:
            return None
        events = EventStream(self._calls, _path(identifier))
        self._session.rewind(0)
        ended = await self._follow(identifier, events)
        if ended is None:
            return None
        if ended.status != "succeeded":
            raise self._unsuccessful(ended)
        if not ended.model:
            raise SentikitError(
                f"The job {ended.id} succeeded, but {self._settings.address} does not name its "
                "model. Check again with --resume."
            )
        return await self._fetch(ended, events, job.path)

    async def cancel(self, job: FineTuningJob) -> None:
        identifier = self._session.recall("job") or await self._find(job.fingerprint)
        if not identifier:
            raise InputError(f"{job.path} has started no job; there is nothing to cancel.")
        await self._calls.again(lambda: self._calls.post(f"{_path(identifier)}/cancel"))

    async def _identifier(self, job: FineTuningJob) -> str | None:
        """Return the id of this run's job: a remembered, a found or a new one."""
        known = self._session.recall("job")
        if known:
            self._session.say(f"Resuming job {known}.")
            return str(known)
        found = await self._find(job.fingerprint)
        if found:
            self._session.say(f"This job already exists as {found}; it is not started again.")
        else:
            files = await self._files(job)
            if self._session.stop_requested():
                return None
            found = await self._create(job, files)
            self._session.say(f"Started job {found}.")
        self._session.remember("job", found)
        return found

    async def _find(self, fingerprint: str) -> str | None:
        """Return the id of a job with this fingerprint that has not failed, or None."""
        after = ""
        for _ in range(_MOST_JOBS // _PAGE):
            options = {"limit": _PAGE, "after": after}
            page = await self._calls.again(lambda o=options: self._calls.get(_JOBS, **o))  # type: ignore[misc]
            jobs = [job for job in map(RemoteJob.read, _data(page)) if job]
            for job in jobs:
                mine = fingerprint and job.fingerprint == fingerprint
                if mine and job.status not in ("failed", "cancelled"):
                    return job.id
            more = jobs and jobs[-1].id != after and as_mapping(page).get("has_more")
            if not more or not fingerprint:
                return None
            after = jobs[-1].id
        return None

    async def _files(self, job: FineTuningJob) -> dict[str, str]:
        """Upload the files that were not uploaded before; return their ids by use."""
        uploaded: dict[str, str] = dict(self._session.recall("files") or {})
        given = {"train": job.train, "validation": job.validation}
        for use, path in given.items():
            if path is None or use in uploaded or self._session.stop_requested():
                continue
            self._session.say(f"Uploading {path.name} ({path.stat().st_size:,} bytes) …")
            uploaded[use] = await self._upload(path, f"{use}-{job.fingerprint[:12]}.jsonl")
            self._session.remember("files", uploaded)
        return uploaded

    async def _upload(self, path: Path, name: str) -> str:
        """Upload a file, in parts where it is large, and return its id."""
        client = self._connection.client.with_options(max_retries=_TRIES)
        size, whole = path.stat().st_size, None
        if size > self._settings.file_bytes:
            whole = await self._calls.once(
                client.uploads.upload_file_chunked(  # type: ignore[call-overload]  # of a path its types leave out the name
                    file=path,
                    filename=name,
                    bytes=size,
                    mime_type=_TYPE,
                    purpose="fine-tune",
                    part_size=self._settings.part_bytes,
                )
            )
            uploaded = getattr(whole, "file", None)
        else:
            # A Path would be sent under its own name.
            content = (name, path.read_bytes(), _TYPE)
            uploaded = await self._calls.once(
                client.files.create(file=content, purpose="fine-tune")
            )
        identifier = as_text(getattr(uploaded, "id", None))
        status = as_text(getattr(uploaded if whole is None else whole, "status", None))
        if not identifier or status == "error":
            details = as_text(getattr(uploaded, "status_details", None)) or status or "no status"
            raise SentikitError(
                f"The server received {path.name} but created no file "
                f"({self._connection.safe(details)}). Try again with --resume."
            )
        return identifier

    async def _create(self, job: FineTuningJob, files: dict[str, str]) -> str:
        """Start a job once: if the response is lost, the job may exist nevertheless."""
        for tried in range(1, _TRIES + 1):
            try:
                answer = await self._calls.post(_JOBS, self._body(job, files))
            except RejectedError as error:
                # The files may be the reason.
                self._session.remember("files", None)
                raise InputError(f"{error.message} No job was started.") from error
            except RetryableError as error:
                await self._calls.pause(error, tried)
                found = await self._find(job.fingerprint)
                if found:
                    return found
                if tried == _TRIES:
                    raise SentikitError(f"{error.message} Resume with --resume.") from error
            else:
                created = RemoteJob.read(answer)
                return await self._unnamed(job) if created is None else created.id
        raise AssertionError

    async def _unnamed(self, job: FineTuningJob) -> str:
        """Find a job that was accepted without an id; a second one would cost again."""
        found = await self._find(job.fingerprint)
        if found:
            return found
        raise SentikitError(
            f"{self._settings.address} accepted a job but does not name it. It may be running: "
            "look for it there. --resume starts another unless this one is listed by then."
        )

    def _body(self, job: FineTuningJob, files: dict[str, str]) -> dict[str, Any]:
        settings = self._settings
        hyperparameters = {
            "n_epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "learning_rate_multiplier": settings.learning_rate_multiplier,
        }
        body: dict[str, Any] = {
            "model": settings.model,
            "training_file": files["train"],
            "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
            "seed": settings.seed,
            "metadata": {_TAG: job.fingerprint},
        }
        if "validation" in files:
            body["validation_file"] = files["validation"]
        if settings.suffix is not None:
            body["suffix"] = settings.suffix
        if settings.wandb is not None:
            wandb = settings.wandb.model_dump(exclude_none=True)
            body["integrations"] = [{"type": "wandb", "wandb": wandb}]
        return body

    async def _follow(self, identifier: str, events: EventStream) -> RemoteJob | None:
        """Return the job once it has ended; None if the user asks to stop."""
        answered, failures = time.monotonic(), 0
        while not self._session.stop_requested():
            try:
                job = await self._look(identifier)
                for record in await events.fresh(complete=job.status in _ENDED):
                    self._session.record(record)
                answered, failures = time.monotonic(), 0
            except RetryableError as error:
                failures += 1
                if time.monotonic() - answered > self._settings.patience:
                    raise SentikitError(
                        f"{error.message} The job {identifier} continues; follow it with --resume."
                    ) from error
                await self._calls.sleep(pause_after(failures, self._settings.poll_seconds))
                continue
            if job.status in _ENDED:
                return job
            if job.status not in _KNOWN:
                self._session.say(f"The job's status is {job.status!r}; waiting.")
            await self._calls.sleep(self._settings.poll_seconds)
        return None

    async def _look(self, identifier: str) -> RemoteJob:
        job = RemoteJob.read(await self._calls.get(_path(identifier)))
        if job is None:
            raise RetryableError(
                f"The answer of {self._settings.address} about job {identifier} cannot be read.",
                "server",
            )
        return job

    def _unsuccessful(self, job: RemoteJob) -> SentikitError:
        """Return the error for a failed or cancelled job; --resume then starts another."""
        self._session.remember("job", None)
        if job.status == "cancelled":
            return SentikitError(
                f"The job {job.id} was cancelled. Start another one with --resume."
            )
        reason = self._connection.safe(job.reason) or "no reason given."
        return SentikitError(
            f"The job {job.id} failed: {reason} Fix that, then start another one with --resume."
        )

    async def _fetch(self, job: RemoteJob, events: EventStream, folder: Path) -> FineTunedModel:
        """Fetch a job's results; its files go into ``results/`` in the folder."""
        for file in job.files:
            await self._save(file, folder / "results")
        # The time of a record says nothing about the model.
        curve = [{k: v for k, v in r.items() if k not in ("kind", "at")} for r in events.curve]
        metrics = {
            **_last_values(curve),
            "job": job.id,
            "hyperparameters": job.hyperparameters,
            "curve": curve,
            "checkpoints": await self._checkpoints(job.id),
        }
        server = {"base_url", "key_variable", "header_variables", "headers", "query"}
        return FineTunedModel(
            model=job.model,
            llm=self._settings.model_dump(include=server, exclude_defaults=True),
            tokens=job.tokens,
            metrics=metrics,
        )

    async def _checkpoints(self, identifier: str) -> list[dict[str, Any]]:
        path = f"{_path(identifier)}/checkpoints"
        try:
            page = await self._calls.again(lambda: self._calls.get(path, limit=_PAGE))
        except (RejectedError, FatalError):
            return []  # some services have none
        found = [
            {
                "step": as_count(one.get("step_number")) or 0,
                "model": as_text(one.get("fine_tuned_model_checkpoint")),
                **_numbers(as_mapping(one.get("metrics"))),
            }
            for one in map(as_mapping, _data(page))
        ]
        return sorted((one for one in found if one["model"]), key=lambda one: one["step"])

    async def _save(self, file: str, folder: Path) -> None:
        """Save a table of metrics by step; OpenAI sends it as base64."""
        try:
            content = await self._calls.again(
                lambda: self._calls.once(self._calls.client.files.content(file))
            )
        except BackendError:
            return  # the curve has the same numbers
        folder.mkdir(exist_ok=True)
        name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in file)
        (folder / f"{name}.csv").write_bytes(_decoded(content.content))


def _path(identifier: str) -> str:
    return f"{_JOBS}/{_quoted(identifier)}"


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe=":")


def _decoded(content: bytes) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        return content
