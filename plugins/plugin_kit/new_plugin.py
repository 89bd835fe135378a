"""The distribution that ``sentikit plugins new`` writes: it installs and passes its tests."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from sentikit import InputError, __version__
from sentikit.extension import Registry, folder_writer

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SUFFIX = ".template"
_PROJECT = "pyproject.toml.template"
#: The folder of the template that becomes the plugin's package.
_PACKAGE = "package"
#: The folder with one template for each kind of component.
_KINDS = "kinds"


#: The kinds of component a plugin can start with, each with the words of its README; the page of
#: the kind's hook in `docs/hooks` shows the component.
KINDS = {
    "classifier": "a classifier",
    "command": "a command",
    "dataset": "a dataset",
    "encoder": "an encoder",
    "head": "a head",
    "llm_backend": "an LLM backend",
    "metric": "a metric",
    "prompt_strategy": "a prompt strategy",
    "report": "a report",
    "table_format": "a table format",
    "tracker": "a tracker",
}


def write_plugin(
    name: str,
    folder: Path,
    registry: Registry,
    commands: Collection[str] = (),
    kind: str | None = None,
) -> list[Path]:
    """Write a plugin called `name` into `folder`, which appears complete or not at all.

    Args:
        name: lower-case words joined by ``-``, for the distribution and the plugin.
        folder: where the distribution goes; it must be empty or not exist.
        registry: knows which plugin names are taken.
        commands: the names of the core's commands.
        kind: one of `KINDS`, for a plugin with one component; None for a dataset, a head and a
            command.

    Returns:
        The files written.

    Raises:
        InputError: the name cannot be used, or the folder is not empty.
        SentikitError: the folder cannot be written.
    """
    package = _package_name(name, registry)
    if name in commands:
        raise InputError(f"sentikit has a command {name!r} already. Choose another name.")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} exists already; nothing was written. Choose another --output.")
    values = {"name": name, "package": package, "version": __version__}
    template = files(__package__) / "template"
    with folder_writer(folder) as temporary:
        if kind is None:
            written = list(_write(template, temporary, values))
        else:
            values["kind"] = KINDS[kind]
            written = list(_write(template / "kinds" / kind, temporary, values))
            for common in (template / "kinds" / "README.md.template", template / _PROJECT):
                written.append(_write_file(common, temporary, values))
    return [folder / path.relative_to(temporary) for path in written]


def _package_name(name: str, registry: Registry) -> str:
    if not _NAME.fullmatch(name):
        likely = "-".join(re.findall(r"[a-z0-9]+", name.lower())).lstrip("0123456789-")
        hint = likely if _NAME.fullmatch(likely) else "film-club"
        raise InputError(
            f"A plugin cannot be called {name!r}. Use lower-case words joined by '-', such as "
            f"{hint!r}."
        )
    if any(report.name == name for report in registry.reports()):
        raise InputError(f"There is a plugin named {name!r} already. Choose another name.")
    package = name.replace("-", "_")
    reserved = keyword.iskeyword(package) or package in sys.stdlib_module_names
    if reserved or importlib.util.find_spec(package) is not None:
        raise InputError(f"Python has a module {package!r} already. Choose another name.")
    return package


def _write(source: Traversable, target: Path, values: Mapping[str, str]) -> Iterator[Path]:
    for entry in sorted(source.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir() and entry.name != _KINDS:
            inner = values["package"] if entry.name == _PACKAGE else entry.name
            yield from _write(entry, target / inner, values)
        elif entry.name.endswith(_SUFFIX):
            yield _write_file(entry, target, values)


def _write_file(source: Traversable, target: Path, values: Mapping[str, str]) -> Path:
    path = target / source.name.removesuffix(_SUFFIX)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = Template(source.read_text(encoding="utf-8")).substitute(values)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path
