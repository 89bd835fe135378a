"""Lazily imported public names, which a stub file lists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

_LINE = re.compile(r"^from (\S+) import (\w+) as \2$", re.MULTILINE)


def listed_names(module_file: str) -> dict[str, str]:
    """Return the names that a module's stub lists, each with the module that defines it."""
    stub = Path(module_file).with_suffix(".pyi").read_text(encoding="utf-8")
    return {name: module for module, name in _LINE.findall(stub)}


def imported(module: str, name: str) -> Any:
    if module == "sentikit":
        return importlib.import_module(f"sentikit.{name}")
    return getattr(importlib.import_module(module), name)
