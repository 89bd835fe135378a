"""Third-party distributions as pip would install them, and a registry that finds them."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sentikit.plugin_sources import installed_plugins
from sentikit.registry import PluginReport, Registry

PART_MODULE = '''
from sentikit import Examples
from sentikit.extension import DatasetLoader


class Reviews(DatasetLoader):
    """Two examples."""

    def splits(self):
        return ("test",)

    def load(self, split):
        return Examples.from_columns(["fine", "bad"], ["positive", "negative"])
'''


class SitePackages:
    """A folder of installed distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def add_module(self, name: str, code: str) -> None:
        """Write a module; dots make packages."""
        path = self.folder.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
        importlib.invalidate_caches()

    def add_distribution(
        self, name: str, entry_points: dict[str, str], version: str = "1.0"
    ) -> None:
        """Write a distribution's metadata with entry points of the group ``sentikit``."""
        lines = [f"{key} = {value}" for key, value in entry_points.items()]
        self.add_metadata(name, "[sentikit]\n" + "\n".join(lines) + "\n", version)

    def add_metadata(self, name: str, entry_points: str, version: str = "1.0") -> None:
        """Write a distribution's metadata with this ``entry_points.txt``."""
        folder = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(metadata)
        (folder / "entry_points.txt").write_text(entry_points)

    def add_plugin(self, name: str, code: str, distribution: str = "") -> None:
        """Write a distribution that holds one plugin in one module, all of the same name."""
        module = name.replace("-", "_")
        self.add_module(module, code)
        self.add_distribution(distribution or name, {name: module})

    def registry(self, *disabled: str) -> Registry:
        """Return a registry of what is installed here."""
        return Registry(installed_plugins([str(self.folder)]), disabled)

    def report(self, name: str) -> PluginReport:
        """Return the report of one plugin."""
        return next(report for report in self.registry().reports() if report.name == name)


@contextmanager
def site_packages(folder: Path) -> Iterator[SitePackages]:
    """Make `folder` importable inside the block, and unload its modules afterwards."""
    sys.path.insert(0, str(folder))
    before = set(sys.modules)
    try:
        yield SitePackages(folder)
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            module = sys.modules[name]
            # A package without an __init__.py has no file, but one or more locations.
            places = [getattr(module, "__file__", None), *_places(module)]
            if any(str(place).startswith(str(folder)) for place in places):
                del sys.modules[name]


def _places(module: object) -> list[str]:
    spec = getattr(module, "__spec__", None)
    return list(getattr(spec, "submodule_search_locations", None) or [])
