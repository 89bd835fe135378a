"""Batch services that are not exactly OpenAI's: what becomes of each odd batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from llm_fixtures import Asked, ask, ask_about, in_thread, openai_backend

from sentikit import SentikitError
from sentikit.llm.settings import RequestOptions

TEXTS = [f"it is {word} {number}" for number in range(4) for word in ("good", "bad", "there")]
EXPECTED = ["positive", "negative", "neutral"] * 4
PRICES = {"prompt": 1, "completion": 1, "tiers": {"batch": 0.5}}


def label_of(body: dict[str, Any]) -> str:
    asked = body["messages"][-1]["content"]
    return "positive" if "good" in asked else "negative" if "bad" in asked else "neutral"


def completion(label: str) -> dict[str, Any]:
    return {
        "object": "chat.completion",
        "model": "m",
        "choices": [{"message": {"role": "assistant", "content": label}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105},
    }


def answered(request: dict[str, Any], body: Any = None, status: int = 200) -> dict[str, Any]:
    value = completion(label_of(request["body"])) if body is None else body
    response = {"status_code": status, "request_id": "q", "body": value}
    return {"id": "r", "custom_id": request["custom_id"], "response": response, "error": None}


def expired(request: dict[str, Any]) -> dict[str, Any]:
    error = {"code": "batch_expired", "message": "This request expired."}
    return {"custom_id": request["custom_id"], "response": None, "error": error}


#: From the requests to the lines of the output file, those of the error file, and the status.
Outcome = tuple[list[Any], list[Any], str]
Scenario = Callable[[list[dict[str, Any]]], Outcome]


def partial(requests: list[dict[str, Any]]) -> Outcome:
    """Some are refused, some missing, the rest in another order and one of them twice."""
    refused = {"error": {"message": "content_filter hit", "code": "content_filter"}}
    bad = [r for r in requests if label_of(r["body"]) == "negative"]
    rest = [answered(r) for r in requests[3:] if r not in bad]
    return [*rest[::-1], rest[0]], [answered(r, refused, 400) for r in bad], "completed"


def foreign(requests: list[dict[str, Any]]) -> Outcome:
    """Lines of nobody's requests, and lines that are no JSON, stand among the answers."""
    names = ("request-1", "", None, 7, "1.x", "99999999999999999999.AAAA")
    strange: list[Any] = [{**answered(requests[0]), "custom_id": name} for name in names]
    return [*strange, "oops", [1], *map(answered, requests)], [], "completed"


SCENARIOS: dict[str, Scenario] = {
    "partial": partial,
    "expired": lambda rs: (
        [answered(r) for r in rs[::2]],
        [expired(r) for r in rs[1::2]],
        "expired",
    ),
    "all refused": lambda rs: (
        [],
        [answered(r, {"error": {"message": "Unsupported parameter"}}, 400) for r in rs],
        "completed",
    ),
    "an error inside a 200": lambda rs: (
        [answered(r, {"error": {"message": "Overloaded", "code": 529}}) for r in rs],
        [],
        "completed",
    ),
    "a body that is text": lambda rs: ([answered(r, "oops") for r in rs], [], "completed"),
    "a response that is text": lambda rs: (
        [{"custom_id": r["custom_id"], "response": "oops", "error": None} for r in rs],
        [],
        "completed",
    ),
    "an error that is text": lambda rs: (
        [],
        [{"custom_id": r["custom_id"], "response": None, "error": "oops"} for r in rs],
        "completed",
    ),
    "foreign lines": foreign,
    "no files at all": lambda rs: ([], [], "completed"),
    "usage that is text": lambda rs: (
        [answered(r, completion(label_of(r["body"])) | {"usage": "n/a"}) for r in rs],
        [],
        "completed",
    ),
}


class Service:
    """Files, batches and live calls of one server."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.files = scenario, dict[str, bytes]()
        self.batches: dict[str, dict[str, Any]] = {}
        self.live = 0

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{id}/content", self.content)
        app.router.add_post("/v1/batches", self.create)
        app.router.add_get("/v1/batches", self.listed)
        app.router.add_get("/v1/batches/{id}", self.retrieve)
        app.router.add_post("/v1/chat/completions", self.chat)
        return app

    def keep(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        return web.json_response({"id": self.keep(form["file"].file.read()), "object": "file"})  # type: ignore[union-attr]

    async def content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        requests = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        output, errors, status = self.scenario(requests)
        name = f"batch_{len(self.batches)}"
        kept = [
            self.keep("\n".join(map(json.dumps, lines)).encode()) if lines else None
            for lines in (output, errors)
        ]
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "status": status,
            "output_file_id": kept[0],
            "error_file_id": kept[1],
            "metadata": body.get("metadata"),
            "request_counts": {"total": len(requests), "completed": len(output), "failed": 0},
        }
        if status == "failed":
            self.batches[name]["errors"] = {"data": [{"message": "Enqueued token limit reached."}]}
        return web.json_response(self.batches[name])

    async def listed(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": list(self.batches.values())})

    async def retrieve(self, request: web.Request) -> web.Response:
        return web.json_response(self.batches[request.match_info["id"]])

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        probing = "Review:" not in body["messages"][-1]["content"]
        self.live += not probing
        return web.json_response(completion("one two" if probing else label_of(body)))


@contextmanager
def service(scenario: Scenario) -> Iterator[tuple[str, Service]]:
    found = Service(scenario)
    with in_thread(found.application) as url:
        yield f"{url}/v1", found


def run(url: str, folder: Path, into: Asked | None = None, **job: Any) -> Asked:
    return ask(
        openai_backend(url, guarantee="text"),
        ask_about(TEXTS),
        folder,
        options=RequestOptions(prices=PRICES),
        into=into,
        batch_folder=folder / "batches",
        **job,
    )


@pytest.mark.parametrize(
    ("name", "live"),
    [
        ("partial", 3 + 3),
        ("expired", 6),
        ("all refused", 12),
        ("an error inside a 200", 12),
        ("a body that is text", 12),
        ("a response that is text", 12),
        ("an error that is text", 12),
        ("foreign lines", 0),
        ("no files at all", 12),
        ("usage that is text", 0),
    ],
)
@pytest.mark.parametrize("ceiling", [None, 1.0])
def test_answers_of_a_partial_batch_are_kept_and_the_rest_is_queried_live(
    name: str, live: int, ceiling: float | None, tmp_path: Path
) -> None:
    with service(SCENARIOS[name]) as (url, server):
        asked = run(url, tmp_path, max_cost=ceiling)
        assert asked.labels == EXPECTED
        assert server.live == live
        assert len(server.batches) == 1
        again = run(url, tmp_path, max_cost=ceiling)
        assert again.labels == EXPECTED
        assert server.live == live
    assert not (tmp_path / "batches").exists()


def test_the_reason_for_unanswered_batch_requests_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(SCENARIOS["all refused"]) as (url, _):
        run(url, tmp_path)
    message = " ".join(capsys.readouterr().err.split())
    assert "12 requests of batch_0 have no answer (Unsupported parameter)." in message
    assert "sent as live calls, at their full price" in message


def test_a_failed_batch_costs_nothing_and_is_retried_on_resume(tmp_path: Path) -> None:
    with service(lambda rs: ([], [], "failed")) as (url, server):
        with pytest.raises(SentikitError, match=r"batch_0 failed: Enqueued token limit.*--resume"):
            run(url, tmp_path, max_cost=1.0)
        server.scenario = lambda rs: ([answered(r) for r in rs], [], "completed")
        asked = run(url, tmp_path, max_cost=1.0)
    assert asked.labels == EXPECTED
    assert server.live == 0
