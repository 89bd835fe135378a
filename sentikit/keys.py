"""Finds keys in the environment or in ``.env``; they are never written or shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from sentikit.errors import InputError
from sentikit.redaction import redacted

ENV_FILE = ".env"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def find_key(variable: str, folder: Path | None = None) -> str | None:
    """Return the value of an environment variable, or of the same name in ``.env``, or None.

    Args:
        variable: its name, as ``OPENAI_API_KEY``.
        folder: where ``.env`` is looked for, and in the folders above; the current one by default.

    Raises:
        InputError: `variable` cannot be a variable's name. The message does not repeat it, since
            people put the key itself there.
    """
    if not _VARIABLE.fullmatch(variable):
        raise InputError(
            "A key is given by the name of an environment variable, as OPENAI_API_KEY, never by "
            "its value: what stands there is no such name."
        )
    value = os.environ.get(variable) or _from_file(variable, folder or Path.cwd())
    return value.strip() or None if value else None


def key_source(variable: str, folder: Path | None = None) -> str:
    """Return where a key comes from, for people: the environment, the file, or ""."""
    if os.environ.get(variable):
        return "environment"
    return ENV_FILE if _from_file(variable, folder or Path.cwd()) else ""


def without_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """Return `text` with known secrets replaced by their names.

    Args:
        text: a message that may quote a secret.
        secrets: name to value, beside those of the environment.
    """
    # The longest first: one key may begin like another.
    for name, value in sorted(secrets.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, f"[{name}]")
    return redacted(text)


def _from_file(variable: str, folder: Path) -> str | None:
    from dotenv import dotenv_values

    for place in (folder, *folder.parents):
        path = place / ENV_FILE
        if path.is_file() and os.access(path, os.R_OK):
            return dotenv_values(path).get(variable)
    return None
