"""Finds a recipe, follows what it extends, lays overrides in; every value knows its origin."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from sentikit.checking import Problem, dotted
from sentikit.errors import InputError
from sentikit.recipe.overrides import Path, merge, parse_overrides, paths_of
from sentikit.registry import Registry
from sentikit.yaml_reading import LocatedYaml, dump_yaml, read_yaml_file

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe with everything it extends and every override laid in.

    Attributes:
        name: what the user asked for, without folders and suffix.
        values: the sections, as plain YAML values.
        origins: for each path, ``file:line`` or ``--set``.
    """

    name: str
    values: dict[str, Any]
    origins: dict[Path, str]

    def describe(self, problem: Problem) -> str:
        """Write a problem with the place the value came from."""
        origin = self.origin(problem.path)
        if origin == f"--set {dotted(problem.path)}":
            return f"{origin}: {problem.message}"
        return f"{origin}: {problem}" if origin else f"recipe {self.name}: {problem}"

    def to_yaml(self) -> str:
        """Write the recipe so that it can be read again as it is."""
        return dump_yaml(self.values)

    def origin(self, path: Path) -> str:
        """Return the origin of the value, or of the nearest section around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return ""


def recipe_path(name: str, registry: Registry) -> FilePath:
    """Return the file of a recipe, by path or by registered name.

    Raises:
        InputError: no such file or no such recipe.
    """
    if name.endswith(_SUFFIXES) or "\\" in name:
        return FilePath(name)
    try:
        return FilePath(registry.find("register_recipes", name).target)
    except InputError as error:
        if FilePath(name).exists():
            raise InputError(f"{name} is no recipe: recipe files end in .yaml.") from error
        raise


def resolve_recipe(
    name: str, overrides: Sequence[str] = (), registry: Registry | None = None
) -> ResolvedRecipe:
    """Read a recipe by name or path, with what it extends and with ``--set`` overrides.

    Raises:
        InputError: unknown name, unreadable file, a circle of `extends`, a malformed override.
    """
    from sentikit.registry import default_registry

    registry = registry or default_registry()
    values, origins = _read_chain(recipe_path(name, registry), registry, ())
    changes = parse_overrides(overrides)
    changed = {path: f"--set {dotted(path)}" for path in paths_of(changes)}
    return ResolvedRecipe(FilePath(name).stem, merge(values, changes), _laid(changed, origins))


def resolve_values(values: Mapping[str, Any], name: str, origin: str) -> ResolvedRecipe:
    """Wrap sections that come from a program or a manifest."""
    return ResolvedRecipe(name, dict(values), dict.fromkeys(paths_of(values), origin))


def _read_chain(
    path: FilePath, registry: Registry, below: tuple[FilePath, ...]
) -> tuple[dict[str, Any], dict[Path, str]]:
    """Read `path` and, first, whatever it extends."""
    real = FilePath(os.path.realpath(path))
    if real in below:
        circle = " → ".join(p.name for p in (*below, path))
        raise InputError(f"{path}: recipes extend each other in a circle: {circle}.")
    document = read_yaml_file(path)
    own = _sections(document, path)
    origins = {key: f"{path}, line {line}" for key, line in document.lines.items() if key}
    parent = own.pop("extends", None)
    if parent is None:
        return own, origins
    parent_path = _parent_path(parent, path, registry)
    inherited, inherited_origins = _read_chain(parent_path, registry, (*below, real))
    own_description = {"description": own.get("description", "")}
    return merge(inherited, own | own_description), _laid(origins, inherited_origins)


def _laid(own: dict[Path, str], inherited: dict[Path, str]) -> dict[Path, str]:
    """Lay origins over inherited ones; those inside a value that is replaced go with it."""
    sections = {path[:length] for path in own for length in range(1, len(path))}
    values = own.keys() - sections
    kept = {
        path: origin
        for path, origin in inherited.items()
        if not any(path[:length] in values for length in range(1, len(path)))
    }
    return kept | own


def _sections(document: LocatedYaml, path: FilePath) -> dict[str, Any]:
    if not isinstance(document.value, dict):
        raise InputError(f"{path}: a recipe is a list of 'section: …'; this file holds none.")
    return dict(document.value)


def _parent_path(parent: Any, path: FilePath, registry: Registry) -> FilePath:
    if not isinstance(parent, str):
        raise InputError(f"{path}: extends must be one recipe's name or file, not {parent!r}.")
    if parent.endswith(_SUFFIXES):
        return path.parent / parent
    try:
        return recipe_path(parent, registry)
    except InputError as error:
        raise InputError(f"{path}: extends: {error.message}") from error
