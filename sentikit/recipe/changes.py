"""Tells in what two resolved recipes differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differing_keys(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys in which two recipes differ, sorted."""
    before, after = _flat(begun), _flat(now)
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        flat |= _flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat
