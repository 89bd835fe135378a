"""The old module of the conformance kit, which the next release removes."""

from __future__ import annotations

import warnings
from typing import Any

from sentikit.plugin_sources import of_plugin


def __getattr__(name: str) -> Any:
    if not name.startswith("check_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check = of_plugin("plugin_kit", "checks", name)
    warnings.warn(
        f"{__name__} has moved. Import {name} from {check.__module__}; the old module works until "
        "the next release.",
        DeprecationWarning,
        stacklevel=2,
    )
    return check
