"""OpenAI's batch service (https://platform.openai.com/docs/guides/batch)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from sentikit.extension import Answer, BackendError, BatchStatus

from .connection import Connection
from .responses import parse_body, read_error
from .settings import OpenAISettings

_TAG = "sentikit"
_MOST_SEARCHED = 1000
_STATES = {"completed": "done", "expired": "done", "cancelled": "done", "failed": "failed"}

Reader = Callable[[Mapping[str, Any]], Answer]


def line(name: str, endpoint: str, body: Mapping[str, Any]) -> bytes:
    """Return a request as a line of an input file."""
    request = {"custom_id": name, "method": "POST", "url": endpoint, "body": dict(body)}
    return json.dumps(request, separators=(",", ":")).encode("ascii")


async def submit(
    connection: Connection[OpenAISettings], path: Path, endpoint: Any, tag: str
) -> str:
    """Upload a file of lines, start a batch, and return its id."""
    client = connection.client
    uploaded = await connection.guard(client.files.create(file=path, purpose="batch"))
    batch = await connection.guard(
        client.batches.create(
            input_file_id=uploaded.id,
            endpoint=endpoint,
            completion_window="24h",
            metadata={_TAG: tag},
        )
    )
    return str(batch.id)


async def find(connection: Connection[OpenAISettings], tag: str) -> str | None:
    """Return the id of the batch started with `tag`, among the latest."""
    after: str | None = None
    for _ in range(_MOST_SEARCHED // 100):
        options = {"limit": 100} | ({"after": after} if after else {})
        page = await connection.guard(connection.client.batches.list(**options))  # type: ignore[arg-type]
        listed = page.data if isinstance(page.data, list) else []
        for batch in listed:
            metadata = batch.metadata if isinstance(batch.metadata, Mapping) else {}
            if metadata.get(_TAG) == tag:
                return str(batch.id)
        if not listed or not page.has_more:
            return None
        after = listed[-1].id
    return None


async def status(connection: Connection[OpenAISettings], batch_id: str) -> BatchStatus:
    """Say how far a batch is; an unknown status is not finished."""
    batch = await connection.guard(connection.client.batches.retrieve(batch_id))
    counts = batch.request_counts
    completed, failed, total = (
        number if isinstance(number := getattr(counts, name, 0), int) else 0
        for name in ("completed", "failed", "total")
    )
    state = _STATES.get(str(batch.status), "running")
    message = ""
    if state == "failed":
        errors = getattr(batch.errors, "data", None) or []
        said = (getattr(error, "message", None) for error in errors)
        reasons = dict.fromkeys(str(reason) for reason in said if reason)
        message = connection.safe("; ".join(reasons) or "no reason given.")
    elif state == "done" and batch.status != "completed":
        message = f"{batch.status} with {completed:,} of {total:,} requests answered."
    return BatchStatus(state, completed + failed, total, message)


async def answers(
    connection: Connection[OpenAISettings], batch_id: str, read: Reader
) -> AsyncIterator[tuple[str, Answer | str]]:
    """Yield the results of a batch: those of its output file, then those of its error file."""
    batch = await connection.guard(connection.client.batches.retrieve(batch_id))
    for file_id in (batch.output_file_id, batch.error_file_id):
        if not isinstance(file_id, str):
            continue
        content = await connection.guard(connection.client.files.content(file_id))
        # Bytes, for lines of text also end in the middle of an answer, as at U+2028.
        for row in content.content.split(b"\n"):
            value = parse_body(row)
            # A line that holds no object leaves its request unanswered.
            if isinstance(value, Mapping):
                yield _result(connection, value, read)


def _result(
    connection: Connection[OpenAISettings], value: Mapping[str, Any], read: Reader
) -> tuple[str, Answer | str]:
    name = str(value.get("custom_id"))
    response = value.get("response")
    body = response.get("body") if isinstance(response, Mapping) else response
    if isinstance(response, Mapping) and response.get("status_code") == 200:
        if not isinstance(body, Mapping):
            return name, connection.safe(f"The answer is no chat completion: {body!r}")
        try:
            return name, read(body)
        except BackendError as error:
            return name, error.message
    said = read_error(value).message or read_error(body).message
    return name, connection.safe(said or json.dumps(value.get("error") or body))
