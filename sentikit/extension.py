"""What plugin authors need beside ``sentikit``, listed by hook in ``extension.pyi``."""

from __future__ import annotations

from typing import Any

from sentikit.public_names import imported, listed_names

_NAMES = listed_names(__file__)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return imported(_NAMES[name], name)
    raise AttributeError(f"module 'sentikit.extension' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
