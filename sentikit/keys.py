"""Finds keys in the environment or in ``.env``; they are never written or shown."""

from __future__ import annotations

import logging
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


def env_file_values(path: Path) -> dict[str, str | None]:
    """Return the variables that a ``.env`` sets; none where it is not there or not for us.

    Lines that are no ``NAME=VALUE`` are passed over: the file may be another program's too.

    Raises:
        InputError: the file is no text in UTF-8. Its content is not repeated.
    """
    import io

    from dotenv import dotenv_values

    if not (path.is_file() and os.access(path, os.R_OK)):
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8. Save it as UTF-8, or remove it.") from error
    # The library's warning of a line names no file.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)
    return dotenv_values(stream=io.StringIO(text))


def _from_file(variable: str, folder: Path) -> str | None:
    for place in (folder, *folder.parents):
        if (place / ENV_FILE).is_file():
            return env_file_values(place / ENV_FILE).get(variable)
    return None
