"""A fine-tuning job at a provider: files uploaded, found or started, followed to its end."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit import InputError, SentikitError
from sentikit.extension import (
    FatalError,
    FineTunedModel,
    FineTuningJob,
    FineTuningSession,
    RejectedError,
    RetryableError,
)

from .failures import FINE_TUNING, UnknownModelError
from .finetuning_results import TRIES, EventStream, PatientCalls, fetch

if TYPE_CHECKING:
    from .connection import Connection
    from .settings import OpenAIFineTuningSettings


#: An upload may be repeated at will, so the SDK does so by itself.
_TRIES = 4
_TYPE = "text/jsonl"


async def upload(connection: Connection[OpenAIFineTuningSettings], path: Path, name: str) -> str:
    """Upload a file, in parts where it is large, and return its id.

    Args:
        connection: to the server.
        path: of the file.
        name: what the server calls it.

    Raises:
        BackendError: the server refuses, or fails again and again.
    """
    size = path.stat().st_size
    if size > connection.settings.file_bytes:
        return await _upload_in_parts(connection, path, name, size)
    client = connection.client.with_options(max_retries=_TRIES)
    # A Path would be sent under its own name.
    content = (name, path.read_bytes(), _TYPE)
    uploaded = await connection.guard(
        client.files.create(file=content, purpose="fine-tune"), FINE_TUNING
    )
    return str(uploaded.id)


async def _upload_in_parts(
    connection: Connection[OpenAIFineTuningSettings], path: Path, name: str, size: int
) -> str:
    client = connection.client.with_options(max_retries=_TRIES)
    whole = await connection.guard(
        client.uploads.upload_file_chunked(  # type: ignore[call-overload]  # of a path its types leave out the name
            file=path,
            filename=name,
            bytes=size,
            mime_type=_TYPE,
            purpose="fine-tune",
            part_size=connection.settings.part_bytes,
        ),
        FINE_TUNING,
    )
    if whole.file is None:
        raise SentikitError(
            f"The server took all parts of {path} and made no file of them (status "
            f"{whole.status}). Resume with --resume."
        )
    return str(whole.file.id)


#: The metadata's key that holds a job's fingerprint.
TAG = "sentikit"
_ENDED = ("succeeded", "failed", "cancelled")
_KNOWN = ("validating_files", "queued", "running", *_ENDED)
_PAGE, _MOST_JOBS = 100, 2000


def pause_after(failures: int, seconds: float) -> float:
    """Return how long to wait for the next look at a job, a minute at most.

    Args:
        failures: looks without an answer, one after another.
        seconds: between two looks that are answered.
    """
    # A server may be away for days, and 2.0**1024 is no float.
    return min(60.0, seconds * 2.0 ** min(failures, 30))


class RemoteJob:
    """Everything that is said to the server about one job."""

    def __init__(
        self, connection: Connection[OpenAIFineTuningSettings], session: FineTuningSession
    ) -> None:
        self._connection, self._session = connection, session
        self._calls = PatientCalls(connection, session)
        self._settings = connection.settings
        self._jobs = self._calls.client.fine_tuning.jobs

    async def check(self) -> None:
        """Refuse a model that is not there and an organisation that may not, before an upload.

        Raises:
            BackendError: the server refuses.
        """
        await self._find("")
        try:
            models = self._calls.client.models
            found = await self._calls.ask(lambda: models.retrieve(self._settings.model))
        except UnknownModelError:
            raise
        except (RejectedError, FatalError):
            return  # a service without this list says more when the job is created
        end = getattr(found, "shutdown_date", None)
        if isinstance(end, str) and end[:10] <= date.today().isoformat():
            raise InputError(f"{self._settings.model} was switched off on {end[:10]}.")

    async def run(self, job: FineTuningJob) -> FineTunedModel | None:
        """Start or find the job; return None where the user does not wait for its end.

        Raises:
            SentikitError: the job failed or was cancelled; gives the service's reason.
        """
        identifier = await self._identifier(job)
        if identifier is None or not job.wait:
            return None
        events = EventStream(self._calls, identifier)
        self._session.rewind(0)
        ended = await self._follow(identifier, events)
        if ended is None:
            return None
        if ended.status != "succeeded":
            raise self._unsuccessful(ended)
        return await fetch(self._calls, ended, events, job.path)

    async def cancel(self, job: FineTuningJob) -> None:
        """Cancel the job.

        Raises:
            InputError: there is none.
            BackendError: the server refuses.
        """
        identifier = self._session.recall("job") or await self._find(job.fingerprint)
        if not identifier:
            raise InputError(f"{job.path} has started no job; there is nothing to cancel.")
        await self._calls.ask(lambda: self._jobs.cancel(identifier))

    async def _identifier(self, job: FineTuningJob) -> str | None:
        """Return the id of this run's job: remembered, found, or of a new one."""
        known = self._session.recall("job")
        if known:
            self._session.say(f"Coming back to job {known}.")
            return str(known)
        found = await self._find(job.fingerprint)
        if found:
            self._session.say(
                f"This very job runs or ran already, as {found}: nothing is paid twice."
            )
        else:
            files = await self._files(job)
            if self._session.stop_requested():
                return None
            found = await self._create(job, files)
            self._session.say(f"Started job {found}.")
        self._session.remember("job", found)
        return found

    async def _find(self, fingerprint: str) -> str | None:
        """Return the id of a job with this fingerprint that has not failed, or None.

        Raises:
            BackendError: the server refuses to list jobs.
        """
        after: str | None = None
        for _ in range(_MOST_JOBS // _PAGE):
            options: dict[str, Any] = {"limit": _PAGE, **({"after": after} if after else {})}
            page = await self._calls.ask(lambda o=options: self._jobs.list(**o))  # type: ignore[misc]
            for job in page.data:
                mine = (job.metadata or {}).get(TAG) == fingerprint
                if mine and job.status not in ("failed", "cancelled"):
                    return str(job.id)
            if not page.data or not page.has_more or not fingerprint:
                return None
            after = page.data[-1].id
        return None

    async def _files(self, job: FineTuningJob) -> dict[str, str]:
        """Upload the files that were not uploaded before; return their ids by use."""
        uploaded: dict[str, str] = dict(self._session.recall("files") or {})
        given = {"train": job.train, "validation": job.validation}
        for use, path in given.items():
            if path is None or use in uploaded or self._session.stop_requested():
                continue
            self._session.say(f"Uploading {path.name} ({path.stat().st_size:,} bytes) …")
            name = f"{use}-{job.fingerprint[:12]}.jsonl"
            uploaded[use] = await upload(self._connection, path, name)
            self._session.remember("files", uploaded)
        return uploaded

    async def _create(self, job: FineTuningJob, files: dict[str, str]) -> str:
        """Start a job, once: where the answer is lost, the job may be there all the same.

        Raises:
            InputError: the server refuses it.
            BackendError: the server fails again and again.
        """
        for tried in range(1, TRIES + 1):
            try:
                call = self._jobs.create(**self._body(job, files))
                created = await self._calls.once(call)
                return str(created.id)
            except RejectedError as error:
                # The files themselves may be what is refused.
                self._session.remember("files", None)
                raise InputError(f"{error.message} No job was started.") from error
            except RetryableError as error:
                await self._calls.pause(error, tried)
                found = await self._find(job.fingerprint)
                if found:
                    return found
                if tried == TRIES:
                    raise SentikitError(f"{error.message} Resume with --resume.") from error
        raise AssertionError

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
            "metadata": {TAG: job.fingerprint},
        }
        if "validation" in files:
            body["validation_file"] = files["validation"]
        if settings.suffix is not None:
            body["suffix"] = settings.suffix
        if settings.wandb is not None:
            said = settings.wandb.model_dump(exclude_none=True)
            body["integrations"] = [{"type": "wandb", "wandb": said}]
        return body

    async def _follow(self, identifier: str, events: EventStream) -> Any:
        """Return the job once it has ended; None where the user asks to stop.

        Raises:
            FatalError: the server refuses.
            SentikitError: it answers nothing for too long.
        """
        answered, failures = time.monotonic(), 0
        while not self._session.stop_requested():
            try:
                job = await self._calls.once(self._jobs.retrieve(identifier))
                for record in await events.fresh(complete=job.status in _ENDED):
                    self._session.record(record)
                answered, failures = time.monotonic(), 0
            except RetryableError as error:
                failures += 1
                if time.monotonic() - answered > self._settings.patience:
                    raise SentikitError(
                        f"{error.message} The job {identifier} goes on; come back with --resume."
                    ) from error
                await self._calls.sleep(pause_after(failures, self._settings.poll_seconds))
                continue
            if job.status in _ENDED:
                return job
            if job.status not in _KNOWN:
                self._session.say(f"The job's status is {job.status!r}; waiting.")
            await self._calls.sleep(self._settings.poll_seconds)
        return None

    def _unsuccessful(self, job: Any) -> SentikitError:
        """Describe a job that failed or was cancelled, and let the next try start another."""
        self._session.remember("job", None)
        if job.status == "cancelled":
            return SentikitError(
                f"The job {job.id} was cancelled. Start another one with --resume."
            )
        reason = (job.error.message if job.error else None) or "no reason given."
        return SentikitError(
            f"The job {job.id} failed: {self._connection.safe(reason)} Mend that, then start "
            "another one with --resume."
        )
