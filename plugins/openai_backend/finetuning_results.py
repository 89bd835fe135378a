"""What a finished fine-tuning job leaves: its model's name, checkpoints, tables of metrics."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.extension import BackendError, FatalError, FineTunedModel, RejectedError

from .finetuning_events import EventStream, last_values, numbers

if TYPE_CHECKING:
    from .finetuning_calls import PatientCalls

_PAGE = 100
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
    server = {"base_url", "key_variable", "header_variables", "query"}
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
