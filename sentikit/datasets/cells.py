"""Writes the values of table cells, numbers and dates among them, as text."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

_KINDS: dict[type, str] = {list: "a list", dict: "a mapping", bytes: "bytes"}


def cell_text(value: Any) -> str | None:
    """Write a value as text, numbers as short as they go (``1``, not ``1.0``); None stays None.

    Raises:
        TypeError: the value is a list, a mapping or bytes; the message names which.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value).removesuffix(".0")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(_KINDS.get(type(value), f"a {type(value).__name__}"))


def is_plain(value: object) -> bool:
    """Say whether `cell_text` can write a value."""
    try:
        cell_text(value)
    except TypeError:
        return False
    return True
