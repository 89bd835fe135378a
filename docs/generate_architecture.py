"""The generator of the import drawing in docs/architecture.md; `--check` only compares."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

from marked_part import write_or_check

import sentikit
from sentikit import extension

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "sentikit"
TARGET = ROOT / "docs" / "architecture.md"
API, FOUNDATIONS, PLUGINS = "api", "foundations", "plugins"
Arrows = dict[str, set[str]]


def rooms() -> list[str]:
    """Return the core's packages and modules, those that only start it left out."""
    entries = [p.parent.name for p in CORE.glob("*/__init__.py")]
    entries += [p.stem for p in CORE.glob("*.py") if not p.stem.startswith("__")]
    return sorted(entries)


def imports() -> Arrows:
    """Return which room imports which when it runs; imports for type checkers do not count."""
    known = rooms()
    found: Arrows = {room: set() for room in known}
    for path in CORE.rglob("*.py"):
        room = path.relative_to(CORE).parts[0].removesuffix(".py")
        if room in found:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found[room] |= set(_imported(tree)) & set(known) - {room}
    listed = [*sentikit._NAMES.values(), *extension._NAMES.values()]
    found[API] = {module.split(".")[1] for module in listed if "." in module}
    return found


def _imported(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom) and child.module == "sentikit":
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and (child.module or "").startswith("sentikit."):
            yield str(child.module).split(".")[1]
        yield from _imported(child)


def with_foundations(arrows: Arrows) -> tuple[Arrows, list[str]]:
    """Take the single modules that lean on no package together as one room."""
    packages = {room for room in arrows if (CORE / room).is_dir()} | {API}
    low = [room for room in arrows if not (reached(arrows, room) | {room}) & packages]
    merged: Arrows = {
        room: {FOUNDATIONS if target in low else target for target in targets}
        for room, targets in arrows.items()
        if room not in low
    }
    return {**merged, FOUNDATIONS: set(), PLUGINS: {API}}, low


def reached(arrows: Arrows, start: str) -> set[str]:
    """Return all that `start` leads to."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in arrows[waiting.pop()] - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def without_shortcuts(arrows: Arrows) -> Arrows:
    """Leave out the arrows that a longer way shows already."""
    left = {room: set(targets) for room, targets in arrows.items()}
    for room in sorted(left):
        for target in sorted(left[room]):
            left[room].discard(target)
            if target not in reached(left, room):
                left[room].add(target)
    return left


def drawing() -> str:
    """Return the drawing and the table of its rooms, as Markdown."""
    arrows, low = with_foundations(imports())
    lines = ["```mermaid", "flowchart TD", f"    {API}[public names of sentikit]"]
    left = without_shortcuts(arrows)
    for room in sorted(left):
        for target in sorted(left[room]):
            mutual = room in left[target]
            if not mutual or room < target:
                lines.append(f"    {room} {'<-->' if mutual else '-->'} {target}")
    table = ["| part | what it is for |", "|---|---|"]
    parts = [room for room in sorted(arrows) if room not in (API, FOUNDATIONS, PLUGINS)]
    table += [f"| `{room}` | {_purpose(room)} |" for room in parts]
    table += [f"| foundations: `{room}` | {_purpose(room)} |" for room in low]
    return "\n".join([*lines, "```", "", *table, ""])


def _purpose(room: str) -> str:
    text = importlib.import_module(f"sentikit.{room}").__doc__ or ""
    return text.strip().splitlines()[0].replace("``", "`")


if __name__ == "__main__":
    write_or_check(TARGET, drawing())
