"""The generator of docs/python.md, from docstrings of public names; `--check` only compares."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from marked_part import write_or_check
from sentikit.plugins.plugin_kit import checks

import sentikit
from sentikit import extension

_WIDTH = 80
TARGET = Path(__file__).parent / "python.md"


def reference() -> str:
    """Return all public names with their signatures and docstrings, as Markdown."""
    lines = [*_section("For programs: sentikit", sentikit)]
    lines += _section("For plugin authors: sentikit.extension", extension)
    lines += _section("For the tests of plugins: sentikit.plugins.plugin_kit.checks", checks)
    return "\n".join(lines)


def _section(title: str, module: ModuleType) -> Iterator[str]:
    """Describe a module's public functions, then its classes; constants are left out."""
    names = [name for name in sorted(module.__all__, key=str.lower) if not name.isupper()]
    values = {name: getattr(module, name) for name in names}
    values = {name: value for name, value in values.items() if callable(value)}
    yield f"## {title}\n"
    for name in sorted(values, key=lambda name: inspect.isclass(values[name])):
        yield _entry(name, values[name])


def _entry(name: str, value: Any) -> str:
    text = "\n".join(_lines(name, value)).rstrip()
    return f"### {name}\n\n```text\n{text}\n```\n"


def _lines(name: str, value: Any) -> Iterator[str]:
    yield from [f"{name}{_signature(value)}", "", inspect.getdoc(value) or ""]
    if inspect.isclass(value):
        described = [line for member in _members(value) for line in member]
        yield from ["", *described] if described else []


def _members(value: type) -> Iterator[list[str]]:
    """Describe the methods and properties that a class defines itself."""
    for name, member in vars(value).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property | cached_property):
            yield [name, f"    {_first_line(member)}"]
        function = getattr(member, "__func__", member)
        if inspect.isfunction(function):
            word = "async " if inspect.iscoroutinefunction(function) else ""
            must = " (to be written)" if getattr(function, "__isabstractmethod__", False) else ""
            yield [f"{word}{name}{_signature(function)}", f"    {_first_line(function)}{must}"]


def _first_line(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


def _signature(value: Any) -> str:
    """Write parameters as the source does: annotations are texts already."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    shown = [_parameter(p) for p in signature.parameters.values() if p.name not in ("self", "cls")]
    result = signature.return_annotation
    arrow = f" -> {result}" if isinstance(result, str) and not inspect.isclass(value) else ""
    line = f"({', '.join(shown)}){arrow}"
    if len(line) < _WIDTH:
        return line
    return "".join(["(\n", *(f"    {parameter},\n" for parameter in shown), f"){arrow}"])


def _parameter(parameter: inspect.Parameter) -> str:
    plain = parameter.replace(annotation=inspect.Parameter.empty, default=inspect.Parameter.empty)
    annotation = parameter.annotation
    text = f"{plain}: {annotation}" if isinstance(annotation, str) else str(plain)
    default = parameter.default
    if default is inspect.Parameter.empty:
        return text
    simple = default is None or isinstance(default, str | int | float | tuple)
    return f"{text} = {default!r}" if simple else f"{text} = …"


if __name__ == "__main__":
    write_or_check(TARGET, reference())
