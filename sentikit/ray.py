"""Ray Data: ``sentikit.ray.Labeller``, which a bundled plugin defines."""

from __future__ import annotations

from typing import Any

from sentikit.plugin_sources import of_plugin


def __getattr__(name: str) -> Any:
    if name != "Labeller":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return of_plugin("ray_data", "labeller", name)
