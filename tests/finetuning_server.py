"""A local fine-tuning service: files, uploads and jobs with state, and faults on demand.

It also answers chats, as ``llm_server`` does.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from llm_fixtures import in_thread
from llm_server import Behaviour, LLMServer

STEPS = 6
_ROUTE = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: A job's status at each poll; the last one repeats.
_LIFE = ("validating_files", "queued", "running", "running", "running", "succeeded")


@dataclass(frozen=True)
class ServiceBehaviour:
    """How the server behaves.

    Attributes:
        faults: name of a fault to how many times it happens. ``upload_cut`` and ``part_500`` (the
            file is not there), ``create_500`` and ``create_lost`` (the job exists nevertheless),
            ``look_500`` (a job cannot be retrieved).
        life: a job's status at each poll; the last one repeats.
        reason: why a job fails.
        events: "" or how the list of events deviates: repeated, shuffled.
        forbidden: whether the organisation may not fine-tune.
        refusal: why a job is refused at its creation, or "".
        models: the available models; () for any.
        shutdown_date: of every model, or "".
        hold: number of the request (from 1) that is never answered; 0 for none.
        hold_after: whether that request is carried out although it is never answered.
        changes: by the name of a handler of `FineTuningServer`, a function from its JSON to
            another JSON value or a whole response.
    """

    faults: dict[str, int] = field(default_factory=dict)
    life: tuple[str, ...] = _LIFE
    reason: str = "The job was made to fail."
    events: str = ""
    forbidden: bool = False
    refusal: str = ""
    models: tuple[str, ...] = ()
    shutdown_date: str = ""
    hold: int = 0
    hold_after: bool = False
    changes: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)


class FineTuningServer(LLMServer):
    """An LLM server with a fine-tuning service.

    Attributes:
        files: name, purpose and content by id.
        jobs: by id, in their current state.
        requests: method and path of each request about files and jobs.
        held: set once the request that is never answered has arrived.
    """

    def __init__(self, how: ServiceBehaviour, behaviour: Behaviour | None = None) -> None:
        super().__init__(behaviour or Behaviour())
        self.how = how
        self.files: dict[str, tuple[str, str, bytes]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.held = threading.Event()
        self._left = Counter(how.faults)
        self._looks: Counter[str] = Counter()
        self._uploads: dict[str, dict[str, Any]] = {}
        self._parts: dict[str, bytes] = {}

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self.chat)
        jobs = "/v1/fine_tuning/jobs"
        routes: list[tuple[str, str, _ROUTE]] = [
            ("GET", "/v1/models", self.models),
            ("GET", "/v1/models/{id}", self.model),
            ("POST", "/v1/files", self.upload),
            ("GET", "/v1/files/{id}/content", self.content),
            ("POST", "/v1/uploads", self.begin_upload),
            ("POST", "/v1/uploads/{id}/parts", self.upload_part),
            ("POST", "/v1/uploads/{id}/complete", self.complete_upload),
            ("POST", jobs, self.create),
            ("GET", jobs, self.listed),
            ("GET", jobs + "/{id}", self.look),
            ("POST", jobs + "/{id}/cancel", self.cancel),
            ("GET", jobs + "/{id}/events", self.events),
            ("GET", jobs + "/{id}/checkpoints", self.checkpoints),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, self._counted(handler))
        return app

    def _counted(self, handler: _ROUTE) -> _ROUTE:
        async def counted(request: web.Request) -> web.StreamResponse:
            self.requests.append(f"{request.method} {request.path}")
            change = self.how.changes.get(getattr(handler, "__name__", ""))
            if change is not None:
                answer = await handler(request)
                assert isinstance(answer, web.Response)
                kept = json.loads(answer.body) if answer.content_type.endswith("json") else None  # type: ignore[arg-type]
                changed = change(kept)
                return changed if isinstance(changed, web.Response) else web.json_response(changed)
            if len(self.requests) != self.how.hold:
                return await handler(request)
            if self.how.hold_after:
                await handler(request)
            self.held.set()
            await asyncio.Event().wait()
            raise AssertionError

        return counted

    def _happens(self, fault: str) -> bool:
        self._left[fault] -= 1
        return self._left[fault] >= 0

    def behave(self, **how: Any) -> None:
        """Change how it behaves, and count requests anew."""
        self.how = replace(self.how, **how)
        self._left = Counter(self.how.faults)
        self.requests.clear()
        self.held.clear()

    async def model(self, request: web.Request) -> web.Response:
        """Describe a model."""
        name = request.match_info["id"]
        if self.how.models and name not in self.how.models:
            return _error(404, f"The model '{name}' does not exist", "model_not_found")
        entry = {"id": name, "object": "model", "created": 0, "owned_by": "us"}
        if self.how.shutdown_date:
            entry["shutdown_date"] = self.how.shutdown_date
        return web.json_response(entry)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Keep a file."""
        form = await request.post()
        name, content = _received(form["file"])
        if self._happens("upload_cut"):
            return _drop(request)
        return web.json_response(self._keep(name, str(form["purpose"]), content))

    def _keep(self, name: str, purpose: str, content: bytes) -> dict[str, Any]:
        identifier = f"file-{len(self.files)}"
        self.files[identifier] = (name, purpose, content)
        return _file(identifier, name, purpose, len(content))

    async def content(self, request: web.Request) -> web.Response:
        """Return a file; tables of results are base64, as OpenAI sends them."""
        name, _, content = self.files[request.match_info["id"]]
        body = base64.b64encode(content) if name.endswith(".csv") else content
        return web.Response(body=body)

    async def begin_upload(self, request: web.Request) -> web.Response:
        """Begin an upload in parts."""
        identifier = f"upload_{len(self._uploads)}"
        self._uploads[identifier] = await request.json()
        return web.json_response(self._upload(identifier, "pending"))

    def _upload(self, identifier: str, status: str) -> dict[str, Any]:
        asked = self._uploads[identifier]
        return {
            "id": identifier,
            "object": "upload",
            "bytes": asked["bytes"],
            "filename": asked["filename"],
            "purpose": asked["purpose"],
            "created_at": 0,
            "expires_at": 3600,
            "status": status,
        }

    async def upload_part(self, request: web.Request) -> web.StreamResponse:
        """Keep a part."""
        _, content = _received((await request.post())["data"])
        if self._happens("part_500"):
            return _error(500, "the disk is full", "server_error")
        identifier = f"part_{len(self._parts)}"
        self._parts[identifier] = content
        upload = request.match_info["id"]
        part = {"id": identifier, "object": "upload.part", "created_at": 0, "upload_id": upload}
        return web.json_response(part)

    async def complete_upload(self, request: web.Request) -> web.Response:
        """Make a file of parts."""
        identifier = request.match_info["id"]
        asked = self._uploads[identifier]
        body = await request.json()
        whole = b"".join(self._parts[part] for part in body["part_ids"])
        if len(whole) != asked["bytes"]:
            return _error(400, "The number of bytes does not match.", "invalid_request_error")
        kept = self._keep(asked["filename"], asked["purpose"], whole)
        return web.json_response({**self._upload(identifier, "completed"), "file": kept})

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Start a job."""
        if self.how.forbidden:
            return _forbidden()
        if self.how.refusal:
            return _error(400, self.how.refusal, "model_not_available")
        asked = await request.json()
        if asked["training_file"] not in self.files:
            return _error(400, "There is no such file.", "invalid_request_error")
        identifier = f"ftjob-{len(self.jobs)}"
        self.jobs[identifier] = {
            "id": identifier,
            "object": "fine_tuning.job",
            "created_at": 100 + len(self.jobs),
            "error": None,
            "fine_tuned_model": None,
            "finished_at": None,
            "hyperparameters": {"n_epochs": 1},
            "organization_id": "org-us",
            "result_files": [],
            "status": "validating_files",
            "trained_tokens": None,
            "validation_file": None,
            "integrations": [],
            **asked,
        }
        if self._happens("create_500"):
            return _error(500, "something broke", "server_error")
        if self._happens("create_lost"):
            return _drop(request)
        return web.json_response(self.jobs[identifier])

    async def listed(self, request: web.Request) -> web.Response:
        """List jobs, the latest first."""
        if self.how.forbidden:
            return _forbidden()
        return web.json_response(_page(list(reversed(self.jobs.values())), request))

    async def look(self, request: web.Request) -> web.Response:
        """Return a job and advance its status."""
        job = self.jobs[request.match_info["id"]]
        if self._happens("look_500"):
            return _error(500, "something broke", "server_error")
        life = self.how.life
        if job["status"] not in ("succeeded", "failed", "cancelled"):
            job["status"] = life[min(self._looks[job["id"]], len(life) - 1)]
            self._looks[job["id"]] += 1
            self._end(job)
        return web.json_response(job)

    def _end(self, job: dict[str, Any]) -> None:
        if job["status"] == "failed":
            job["error"] = {"code": "invalid", "message": self.how.reason, "param": None}
        if job["status"] == "succeeded":
            content = self.files[job["training_file"]][2]
            suffix = job.get("suffix") or ""
            job["fine_tuned_model"] = f"ft:{job['model']}:us:{suffix}:{job['id'][6:]}"
            # A token is a word here, and every epoch is billed.
            epochs = job["method"]["supervised"]["hyperparameters"]["n_epochs"]
            job["trained_tokens"] = len(content.split()) * (1 if epochs == "auto" else epochs)
            table = b"step,train_loss\n" + b"".join(b"%d,0.5\n" % n for n in range(1, STEPS + 1))
            kept = self._keep("step_metrics.csv", "fine-tune-results", table)
            job["result_files"] = [kept["id"]]

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a job."""
        job = self.jobs[request.match_info["id"]]
        job["status"] = "cancelled"
        return web.json_response(job)

    async def events(self, request: web.Request) -> web.Response:
        """List the events so far, the latest first."""
        job = self.jobs[request.match_info["id"]]
        done = min(STEPS, 2 * max(0, self._looks[job["id"]] - 2))
        found = [_message(job["id"], 0, "Files validated, moving job to queued state")]
        found += [_metrics(job["id"], step) for step in range(1, done + 1)]
        if job["status"] == "succeeded":
            found.append(_message(job["id"], STEPS + 1, "The job has successfully completed"))
        found.reverse()
        if self.how.events == "repeated":
            found = [event for event in found for _ in range(2)]
        if self.how.events == "shuffled":
            found = found[1::2] + found[::2]
        return web.json_response(_page(found, request, most=4))

    async def checkpoints(self, request: web.Request) -> web.Response:
        """List intermediate models."""
        job = self.jobs[request.match_info["id"]]
        found = [
            {
                "id": f"ftckpt_{step}",
                "object": "fine_tuning.job.checkpoint",
                "created_at": 200 + step,
                "fine_tuned_model_checkpoint": f"{job['fine_tuned_model']}:ckpt-step-{step}",
                "fine_tuning_job_id": job["id"],
                "metrics": {"step": step, "train_loss": 1 / step, "full_valid_loss": 0.5},
                "step_number": step,
            }
            for step in (STEPS, STEPS // 2)
        ]
        return web.json_response(_page(found, request))


def _received(field: Any) -> tuple[str, bytes]:
    """Return a file's name and content, and remove it."""
    with field.file as stream:
        return field.filename, stream.read()


def _page(entries: list[dict[str, Any]], request: web.Request, most: int = 100) -> dict[str, Any]:
    limit = min(most, int(request.query.get("limit", 20)))
    after, begin = request.query.get("after"), 0
    if after:
        begin = 1 + max(n for n, entry in enumerate(entries) if entry["id"] == after)
    data = entries[begin : begin + limit]
    more = begin + limit < len(entries)
    return {"object": "list", "data": data, "has_more": more}


def _file(identifier: str, name: str, purpose: str, size: int) -> dict[str, Any]:
    return {
        "id": identifier,
        "object": "file",
        "bytes": size,
        "created_at": 0,
        "filename": name,
        "purpose": purpose,
        "status": "processed",
    }


def _message(job: str, moment: int, text: str) -> dict[str, Any]:
    return {
        "id": f"ftevent-{job}-m{moment}",
        "object": "fine_tuning.job.event",
        "created_at": 100 + moment,
        "level": "info",
        "message": text,
        "type": "message",
        "data": {},
    }


def _metrics(job: str, step: int) -> dict[str, Any]:
    loss = round(1 / step, 4)
    data = {"step": step, "total_steps": STEPS, "train_loss": loss, "valid_loss": -1}
    data |= {"train_mean_token_accuracy": 1 - loss / 2}
    if step == STEPS:
        data["full_valid_loss"] = 0.25
    text = f"Step {step}/{STEPS}: training loss={loss}"
    return _message(job, step, text) | {"type": "metrics", "data": data, "id": f"ftevent-{step}"}


def _forbidden() -> web.Response:
    return _error(403, "Your organization is not allowed to fine-tune.", "forbidden")


def _error(status: int, message: str, code: str) -> web.Response:
    error = {"message": message, "type": code, "param": None, "code": code}
    return web.json_response({"error": error}, status=status)


def _drop(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response(status=500)


@dataclass
class RunningService:
    """A server and its address."""

    server: FineTuningServer
    url: str


@contextlib.contextmanager
def fine_tuning_service(**how: Any) -> Iterator[RunningService]:
    """Serve in a thread until the block ends."""
    server = FineTuningServer(ServiceBehaviour(**how))
    with in_thread(server.application) as url:
        yield RunningService(server, f"{url}/v1")
