"""The sources of plugins: entry points, and single files that the user names.

Entry points are read from the same files as by ``importlib.metadata.entry_points``. That function
is not used, because its import doubles the time of ``sentikit --help``, and because one malformed
distribution makes it fail. Distributions inside zip files are ignored.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from sentikit.errors import InputError
from sentikit.hookspecs import PROJECT

#: Environment variable with the paths of plugins that are single files, separated by commas.
FILES_VARIABLE = "SENTIKIT_PLUGINS"
_REQUIRES = re.compile(
    rf"Requires-Dist:\s*{PROJECT}\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)", re.IGNORECASE
)
_SUFFIXES = (".dist-info", ".egg-info")


@dataclass(frozen=True)
class PluginSource:
    """The source of a plugin.

    Attributes:
        name: the entry point's name.
        distribution: name of the plugin's package in ``pip``.
        version: version of the distribution.
        location: the entry point's value, such as ``film_club`` or ``film_club:plugin``.
        load: imports and returns the plugin; may raise anything.
        requires: the required versions of sentikit, such as ``>=0.1``.
    """

    name: str
    distribution: str
    version: str
    location: str
    load: Callable[[], object]
    requires: str = ""

    @classmethod
    def at(
        cls, name: str, distribution: str, version: str, location: str, requires: str = ""
    ) -> PluginSource:
        """Return the source of an entry point's value, or of a ``.py`` file."""
        load = load_file if location.endswith(".py") else load_entry_point
        return cls(name, distribution, version, location, lambda: load(location), requires)


def installed_plugins(path: Sequence[str] | None = None) -> list[PluginSource]:
    """Return the entry points of the group ``sentikit``, bundled ones first, then by name.

    Args:
        path: the folders of distributions; ``sys.path`` by default.
    """
    found = [
        source
        for folder in _metadata_folders(sys.path if path is None else path)
        for source in _sources(folder)
    ]
    return sorted(found, key=lambda s: (s.distribution != PROJECT, s.distribution, s.name))


def load_entry_point(location: str) -> object:
    """Import an entry point's value: ``package.module`` or ``package.module:object``."""
    # A value may end in extras, as in "film_club [audio]"; importers ignore them.
    module_name, _, attributes = location.partition("[")[0].strip().partition(":")
    if not module_name or module_name.startswith("."):
        raise InputError(f"the entry point {location!r} is not of the form 'package.module'")
    names = [name for name in attributes.strip().split(".") if name]
    return reduce(getattr, names, importlib.import_module(module_name.strip()))


def of_plugin(plugin: str, module: str, name: str) -> Any:
    """Import an object from a module of an installed plugin."""
    place = next((source.location for source in installed_plugins() if source.name == plugin), None)
    if place is None:
        raise InputError(f"{name} is in the plugin {plugin!r}, which is not installed.")
    return getattr(importlib.import_module(f"{place}.{module}"), name)


def plugin_files(environment: Mapping[str, str] = os.environ) -> list[PluginSource]:
    sources = []
    for file in environment.get(FILES_VARIABLE, "").split(","):
        if file.strip():
            path = os.path.abspath(os.path.expanduser(file.strip()))
            name = os.path.basename(path).removesuffix(".py").replace("_", "-").lower()
            sources.append(PluginSource.at(name, path, "", path))
    return sources


def load_file(path: str) -> object:
    if not (path.endswith(".py") and os.path.isfile(path)):
        raise InputError(f"{FILES_VARIABLE} names {path}, which is not a file that ends in .py")
    name = "sentikit_plugin_" + re.sub(r"\W", "_", os.path.basename(path)[:-3])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered under its name, so that "module:Class" targets can be imported.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _metadata_folders(path: Sequence[str]) -> Iterator[str]:
    """Yield the metadata folder of each distribution; the first on the path wins."""
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
    distribution, version, requires = _metadata(folder)
    for line in _section(text, PROJECT):
        name, _, location = (part.strip() for part in line.partition("="))
        yield PluginSource.at(name, distribution, version, location, requires)


def _section(text: str, wanted: str) -> Iterator[str]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[] ")
        elif line and not line.startswith(("#", ";")) and section == wanted:
            yield line


def _metadata(folder: str) -> tuple[str, str, str]:
    """Return a distribution's name, its version, and the versions of sentikit it requires."""
    text = _read(os.path.join(folder, "METADATA")) or _read(os.path.join(folder, "PKG-INFO"))
    header = [line for line in text.partition("\n\n")[0].splitlines() if ": " in line]
    fields = dict(line.split(": ", 1) for line in header)
    needs = [match[1] for line in header if (match := _REQUIRES.match(line))]
    name = fields.get("Name", os.path.basename(folder))
    return name, fields.get("Version", "unknown"), ",".join(filter(None, needs))


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
