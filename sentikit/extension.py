"""The names that plugin authors need beside ``sentikit``, listed by hook in ``extension.pyi``."""

from __future__ import annotations

import importlib
import re
import warnings
from pathlib import Path
from typing import Any

_LINE = re.compile(r"^from (\S+) import (.+)$", re.MULTILINE)
_NAME = re.compile(r"(\w+) as \1\b")


def listed_names(module_file: str) -> dict[str, str]:
    """Return the names that a module's stub lists, each with the module that defines it."""
    stub = Path(module_file).with_suffix(".pyi").read_text(encoding="utf-8")
    lines = _LINE.findall(stub)
    return {name: module for module, names in lines for name in _NAME.findall(names)}


def imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


_NAMES = listed_names(__file__)
__all__ = list(_NAMES)


#: Old names, and the public places of their replacements.
OLD_NAMES = {
    "FinetuneParts": "sentikit.extension.FinetuneComponents",
    "Opinion": "sentikit.Prediction",
    "Part": "sentikit.extension.Component",
    "PartSettings": "sentikit.extension.ComponentSettings",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return imported(_NAMES[name], name)
    if name in OLD_NAMES:
        new = OLD_NAMES[name]
        warnings.warn(
            f"sentikit.extension.{name} is now {new}. The old name works until the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        module, _, public = new.rpartition(".")
        return getattr(importlib.import_module(module), public)
    raise AttributeError(f"module 'sentikit.extension' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
