"""Finds the plugins that installed distributions offer through entry points.

Reads the same files as ``importlib.metadata.entry_points``, whose import alone (it brings the
email package along) takes as long as everything else that ``sentikit --help`` does, and which one
malformed file of any distribution stops. Distributions inside zip files are not looked at.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

from sentikit.errors import InputError
from sentikit.hookspecs import PROJECT

_SUFFIXES = (".dist-info", ".egg-info")


@dataclass(frozen=True)
class PluginSource:
    """Where a plugin comes from.

    Attributes:
        name: the entry point's name.
        distribution: what ``pip`` calls the package that brings it.
        version: of the distribution.
        location: the entry point's value, as ``film_club`` or ``film_club:plugin``.
        load: imports and returns the plugin; may raise anything.
    """

    name: str
    distribution: str
    version: str
    location: str
    load: Callable[[], object]

    @classmethod
    def at(cls, name: str, distribution: str, version: str, location: str) -> PluginSource:
        """Describe the plugin behind an entry point's value."""
        return cls(name, distribution, version, location, lambda: load_entry_point(location))


def installed_plugins(path: Sequence[str] | None = None) -> list[PluginSource]:
    """Describe the entry points of the group ``sentikit``, bundled ones first, then by name.

    Args:
        path: folders to look for distributions in, ``sys.path`` by default.
    """
    found = [
        source
        for folder in _metadata_folders(sys.path if path is None else path)
        for source in _sources(folder)
    ]
    return sorted(found, key=lambda s: (s.distribution != PROJECT, s.distribution, s.name))


def load_entry_point(location: str) -> object:
    """Import what an entry point's value names: ``package.module`` or ``package.module:object``.

    Raises:
        InputError: the value is malformed.
    """
    # A value may end in extras, as in "film_club [audio]"; importers pay them no attention.
    module_name, _, attributes = location.partition("[")[0].strip().partition(":")
    if not module_name or module_name.startswith("."):
        raise InputError(f"the entry point {location!r} is not of the form 'package.module'")
    names = [name for name in attributes.strip().split(".") if name]
    return reduce(getattr, names, importlib.import_module(module_name.strip()))


def _metadata_folders(path: Sequence[str]) -> Iterator[str]:
    """Yield the metadata folder of each distribution; what comes first on the path hides later."""
    seen: set[str] = set()
    for folder in path:
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue
        for name in names:
            if name.endswith(_SUFFIXES):
                key = name.rpartition(".")[0].partition("-")[0].replace("_", "-").lower()
                if key not in seen:
                    seen.add(key)
                    yield os.path.join(folder, name)


def _sources(folder: str) -> Iterator[PluginSource]:
    text = _read(os.path.join(folder, "entry_points.txt"))
    if f"[{PROJECT}]" not in text:
        return
    distribution, version = _name_and_version(folder)
    for line in _section(text, PROJECT):
        name, _, location = (part.strip() for part in line.partition("="))
        yield PluginSource.at(name, distribution, version, location)


def _section(text: str, wanted: str) -> Iterator[str]:
    """Yield the lines of one section of an ``entry_points.txt``."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[] ")
        elif line and not line.startswith(("#", ";")) and section == wanted:
            yield line


def _name_and_version(folder: str) -> tuple[str, str]:
    """Read the two lines of a distribution's metadata that count."""
    text = _read(os.path.join(folder, "METADATA")) or _read(os.path.join(folder, "PKG-INFO"))
    header = text.partition("\n\n")[0].splitlines()
    fields = dict(line.split(": ", 1) for line in header if ": " in line)
    return fields.get("Name", os.path.basename(folder)), fields.get("Version", "unknown")


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
