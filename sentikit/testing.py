"""The old place of the conformance kit, which the next release removes."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from sentikit.errors import InputError
from sentikit.registry import installed_plugins

_PLUGIN, _MODULE = "plugin_kit", "checks"


def __getattr__(name: str) -> Any:
    if not name.startswith("check_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = next((s.location for s in installed_plugins() if s.name == _PLUGIN), None)
    if place is None:
        raise InputError(f"The conformance kit is in the plugin {_PLUGIN!r}, not installed here.")
    warnings.warn(
        f"{__name__} moves: import {name} from {place}.{_MODULE}. The old place works until the "
        "next release.",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(importlib.import_module(f"{place}.{_MODULE}"), name)
