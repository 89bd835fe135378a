"""Keys and other secrets: finding them, and redacting them from messages."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from sentikit.errors import InputError

ENV_FILE = ".env"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENDINGS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
#: Shorter values are not secrets; replacing them would garble ordinary words.
_SHORTEST = 8


def find_key(variable: str, folder: Path | None = None) -> str | None:
    """Return the value of an environment variable, or of the same name in ``.env``, or None.

    Args:
        variable: its name, such as ``OPENAI_API_KEY``.
        folder: where to look for ``.env``, and in its parents; the current folder by default.

    Raises:
        InputError: `variable` is not a variable's name, or its line in ``.env`` is malformed. The
            message repeats neither, because either may be the key itself.
    """
    if not _VARIABLE.fullmatch(variable):
        raise InputError(
            "A key is set by the name of an environment variable, such as OPENAI_API_KEY, never by "
            "its value. The given text is not such a name."
        )
    value = os.environ.get(variable) or _from_file(variable, folder or Path.cwd())
    return value.strip() or None if value else None


def key_names() -> list[str]:
    """Return the names of the keys that the environment or ``.env`` sets, sorted."""
    names = {*os.environ, *env_file_values(Path(ENV_FILE))}
    return sorted(name for name in names if name.endswith(("_API_KEY", "_TOKEN")))


def env_file_values(path: Path) -> dict[str, str | None]:
    """Return the variables that a ``.env`` sets; none if it is missing or unreadable.

    Lines other than ``NAME=VALUE`` are ignored, because other programs may use the file too.
    """
    import io

    from dotenv import dotenv_values

    text = _env_text(path)
    # The library's warnings do not name the file.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)
    return dotenv_values(stream=io.StringIO(text))


def _nearest_env_file(folder: Path) -> Path | None:
    places = (place / ENV_FILE for place in (folder, *folder.parents))
    return next((path for path in places if path.is_file()), None)


def _nearest_env_values() -> dict[str, str]:
    try:
        path = _nearest_env_file(Path.cwd())
    except OSError:
        return {}
    return dict(_secrets_of(path, path.stat().st_mtime_ns)) if path else {}


@functools.lru_cache(maxsize=8)
def _secrets_of(path: Path, changed: int) -> tuple[tuple[str, str], ...]:
    try:
        return tuple((name, value) for name, value in env_file_values(path).items() if value)
    except InputError:
        return ()


def _env_text(path: Path) -> str:
    if not (path.is_file() and os.access(path, os.R_OK)):
        return ""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8. Save it as UTF-8, or remove it.") from error


def _from_file(variable: str, folder: Path) -> str | None:
    path = _nearest_env_file(folder)
    if path is None:
        return None
    value = env_file_values(path).get(variable)
    if value is None:
        _refuse_malformed(path, variable)
    return value


def _refuse_malformed(path: Path, variable: str) -> None:
    meant = re.compile(rf"\s*(export\s+)?{variable}\s*=")
    for number, line in enumerate(_env_text(path).splitlines(), 1):
        if meant.match(line):
            raise InputError(
                f"{path}, line {number}: the value of {variable} cannot be read. Close its quotes, "
                f"or write {variable}=VALUE."
            )


def secret_values(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Map the values of variables such as WANDB_API_KEY to their names, the longest first.

    For the process's own environment, this includes the ``.env`` that `find_key` reads.
    """
    own = _nearest_env_values() if environment is os.environ else {}
    found = {
        value: name
        for name, value in {**own, **environment}.items()
        if name.upper().endswith(_ENDINGS) and len(value) >= _SHORTEST
    }
    # The longest first, because one key may be the beginning of another.
    return {value: found[value] for value in sorted(found, key=len, reverse=True)}


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return `text` with secrets replaced by the names of their variables."""
    for value, name in secret_values(environment).items():
        text = text.replace(value, f"[{name}]")
    return text


def without_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """Return `text` with known secrets replaced by their names.

    Args:
        text: a message that may quote a secret.
        secrets: name to value, in addition to those of the environment.
    """
    # The longest first, because one key may be the beginning of another.
    for name, value in sorted(secrets.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, f"[{name}]")
    return redacted(text)


def parsed_address(url: str) -> SplitResult | None:
    """Parse an HTTP(S) URL; return None if it is not one."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # an invalid port, or an open bracket
        return None
    return parts if usable else None


def may_hold_a_key(url: str) -> bool:
    """Return whether an address may contain a secret, so that messages must not show it."""
    return "@" in url or "?" in url
