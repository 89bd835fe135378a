"""Uploads the files of a fine-tuning job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sentikit import SentikitError

from .failures import FINE_TUNING

if TYPE_CHECKING:
    from .client import Connection
    from .finetuning_settings import OpenAIFineTuningSettings

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
        client.uploads.upload_file_chunked(
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
            f"{whole.status}). Go on with --resume."
        )
    return str(whole.file.id)
