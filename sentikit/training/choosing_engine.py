"""Chooses the engine a recipe names, or for `auto` the one that fits the machine best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentikit.components import Part, Path, Problem, check_part
from sentikit.devices import find_hardware
from sentikit.registry import Registry

AUTO = "auto"


def check_engine(registry: Registry, raw: Any, prefix: Path) -> tuple[Part | None, list[Problem]]:
    """Make the engine of a recipe's section, or say what is wrong with it."""
    if not isinstance(raw, Mapping):
        return None, [Problem(prefix, "must be a section with a name.")]
    if raw.get("name", AUTO) != AUTO:
        return check_part(registry, "register_engines", raw, prefix)
    return check_part(registry, "register_engines", {**raw, "name": _best(registry)}, prefix)


def _best(registry: Registry) -> str:
    hardware = find_hardware()
    ranks = {
        name: registry.load("register_engines", name).suits(hardware)
        for name in registry.names("register_engines")
    }
    return max(ranks, key=lambda name: ranks[name], default=AUTO)
