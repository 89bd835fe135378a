"""OpenAI's batch service (https://platform.openai.com/docs/guides/batch)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from sentikit.extension import Answer, BackendError, BatchStatus

from .client import Connection

ENDPOINT = "/v1/chat/completions"
_TAG = "sentikit"
_MOST_SEARCHED = 1000
_STATES = {"completed": "done", "expired": "done", "cancelled": "done", "failed": "failed"}

Reader = Callable[[Mapping[str, Any]], Answer]


def line(name: str, body: Mapping[str, Any]) -> bytes:
    """Return a request as a line of an input file."""
    request = {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": dict(body)}
    return json.dumps(request, separators=(",", ":")).encode("ascii")


async def submit(connection: Connection, path: Path, tag: str) -> str:
    """Upload a file of lines, start a batch, and return its id."""
    client = connection.client
    uploaded = await connection.guard(client.files.create(file=path, purpose="batch"))
    batch = await connection.guard(
        client.batches.create(
            input_file_id=uploaded.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={_TAG: tag},
        )
    )
    return str(batch.id)


async def find(connection: Connection, tag: str) -> str | None:
    """Return the id of the batch started with `tag`, among the latest."""
    after: str | None = None
    for _ in range(_MOST_SEARCHED // 100):
        options = {"limit": 100} | ({"after": after} if after else {})
        page = await connection.guard(connection.client.batches.list(**options))  # type: ignore[arg-type]
        for batch in page.data:
            if (batch.metadata or {}).get(_TAG) == tag:
                return str(batch.id)
        if not page.data or not page.has_more:
            return None
        after = page.data[-1].id
    return None


async def status(connection: Connection, batch_id: str) -> BatchStatus:
    """Say how far a batch is; an unknown status is not finished."""
    batch = await connection.guard(connection.client.batches.retrieve(batch_id))
    counts = batch.request_counts
    answered = counts.completed + counts.failed if counts else 0
    total = counts.total if counts else 0
    state = _STATES.get(batch.status, "running")
    message = ""
    if state == "failed":
        errors = (batch.errors.data if batch.errors else None) or []
        said = (
            "; ".join(dict.fromkeys(str(error.message) for error in errors)) or "no reason given."
        )
        message = connection.safe(said)
    elif state == "done" and batch.status != "completed":
        completed = counts.completed if counts else 0
        message = f"{batch.status} with {completed:,} of {total:,} requests answered."
    return BatchStatus(state, answered, total, message)


async def answers(
    connection: Connection, batch_id: str, read: Reader
) -> AsyncIterator[tuple[str, Answer | str]]:
    """Yield the results of a batch: those of its output file, then those of its error file."""
    batch = await connection.guard(connection.client.batches.retrieve(batch_id))
    for file_id in (batch.output_file_id, batch.error_file_id):
        if file_id is None:
            continue
        content = await connection.guard(connection.client.files.content(file_id))
        # Bytes, for lines of text also end in the middle of an answer, as at U+2028.
        for line in content.content.split(b"\n"):
            value = _parsed(line)
            if value:
                yield _result(connection, value, read)


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line's object; empty where it holds none, and the request counts as unanswered."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _result(
    connection: Connection, value: Mapping[str, Any], read: Reader
) -> tuple[str, Answer | str]:
    name = str(value.get("custom_id"))
    response = value.get("response") or {}
    body = response.get("body")
    if response.get("status_code") == 200 and isinstance(body, Mapping):
        try:
            return name, read(body)
        except BackendError as error:
            return name, error.message
    problem = value.get("error") or (body if isinstance(body, Mapping) else {})
    return name, connection.safe(json.dumps(problem, ensure_ascii=False))
