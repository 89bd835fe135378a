"""A report on this machine and installation."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from sentikit import SentikitError
from sentikit.extension import (
    Registry,
    choose_device,
    choose_precision,
    default_registry,
    find_key,
    key_names,
    versions,
)

_GIB = 2**30


def machine_report() -> dict[str, Any]:
    """Return JSON values: machine, versions, extras, keys and plugins, without secrets."""
    registry = default_registry()
    return {
        "machine": _machine(),
        "versions": versions(),
        "extras": _extras(),
        "keys": _keys(registry),
        "plugins": _plugins(registry),
    }


def _machine() -> dict[str, Any]:
    import torch

    device = choose_device()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_cores": os.cpu_count(),
        "memory_gib": _memory(),
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / _GIB, 1),
        "gpus": gpus,
        "device": str(device),
        "half_precision_pays": choose_precision("auto", device) == "bf16",
    }


def _memory() -> float | None:
    """Return the physical memory, if known."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return round(size / _GIB, 1)


def _extras() -> dict[str, Any]:
    """Return the missing packages of each extra."""
    from packaging.requirements import Requirement

    try:
        described = importlib.metadata.metadata("sentikit")
    except importlib.metadata.PackageNotFoundError:
        return {}
    listed = [Requirement(text) for text in described.get_all("Requires-Dist") or ()]
    extras: dict[str, Any] = {}
    for extra in described.get_all("Provides-Extra") or ():
        own = [r for r in listed if r.marker and r.marker.evaluate({"extra": extra})]
        missing = [r.name for r in own if not _installed(r.name)]
        extras[extra] = f"pip install 'sentikit[{extra}]'" if missing else "installed"
    return extras


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _keys(registry: Registry) -> dict[str, str]:
    """Return the source of each key: those that backends read, and others that are set."""
    names = {*_backend_variables(registry), *key_names()}
    return {name: _key_source(name) for name in sorted(names)}


def _key_source(name: str) -> str:
    if os.environ.get(name):
        return "environment"
    return ".env" if find_key(name) else "not set"


def _backend_variables(registry: Registry) -> list[str]:
    """Return the default of every backend's setting ``key_variable``."""
    found = []
    for registration in registry.registrations("register_llm_backends"):
        field = _settings(registration).get("key_variable")
        if field is not None and isinstance(field.default, str):
            found.append(field.default)
    return found


def _settings(registration: Any) -> dict[str, Any]:
    try:
        return dict(registration.load().Settings.model_fields)
    except SentikitError:
        return {}


def _plugins(registry: Registry) -> dict[str, Any]:
    reports = registry.reports()
    problems = {r.name: "; ".join(r.problems) for r in reports if r.problems}
    return {"loaded": sum(r.state == "loaded" for r in reports), "problems": problems}
