"""Tools for plugin authors: the conformance kit, ``plugins check`` and ``plugins new``.

A plugin's own tests import the kit from ``sentikit.plugins.plugin_kit.checks``.
"""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_commands(register: Any) -> None:
    """Register ``plugins check`` and ``plugins new``."""
    register(
        "plugins check",
        f"{__name__}.commands:check",
        summary="Run sentikit's conformance kit on one plugin, or on all; exit 1 if one fails.",
    )
    register(
        "plugins new",
        f"{__name__}.commands:new",
        summary="Create a plugin to start from, with tests.",
    )
