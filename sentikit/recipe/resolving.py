"""Resolution of recipes: a file merged with the one it extends and with ``--set`` overrides."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeVar

from sentikit.components import Problem, dotted, refuse, yaml_spelling
from sentikit.errors import InputError, SentikitError, did_you_mean, quoted
from sentikit.registry import Registry, default_registry
from sentikit.yaml_files import comment_of, dump_yaml, parse_yaml, read_utf8, read_yaml_file

Made = TypeVar("Made")

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe merged with everything it extends and every override.

    `origins` maps each path to its ``file, line N`` or ``--set KEY``. `notes` and `warnings`, about
    old names, are sentences.
    """

    name: str
    values: dict[str, Any]
    origins: dict[Path, str]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def describe(self, problem: Problem) -> str:
        """Return a problem as text, with the origin of its value."""
        origin = self.origin(problem.path)
        if origin == f"--set {dotted(problem.path)}":
            return f"{origin}: {problem.message}"
        return f"{origin}: {problem}" if origin else f"recipe {self.name}: {problem}"

    def to_yaml(self) -> str:
        return dump_yaml(self.values)

    def origin(self, path: Path) -> str:
        """Return the origin of a value, or of the nearest enclosing section."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return ""


def recipe_path(name: str, registry: Registry) -> FilePath:
    if name.endswith(_SUFFIXES) or "\\" in name:
        return FilePath(name)
    try:
        return FilePath(registry.find("register_recipes", name).target)
    except InputError as error:
        if FilePath(name).exists():
            raise InputError(f"{name} is not a recipe; recipe files end in .yaml.") from error
        raise


def recipe_text(name: str) -> str:
    """Return the text of a recipe's file, by the recipe's name or path.

    Raises:
        InputError: an unknown name, or an unreadable file.
    """
    return read_utf8(recipe_path(name, default_registry()))


def resolve_recipe(
    name: str, overrides: Sequence[str] = (), registry: Registry | None = None
) -> ResolvedRecipe:
    """Read a recipe by name or path, with everything it extends and ``--set`` overrides.

    Raises:
        InputError: an unknown name, an unreadable file, circular `extends`, a malformed override.
    """
    registry = registry or default_registry()
    warnings: list[str] = []
    notes: list[str] = []
    own_notes = notes if name.endswith(_SUFFIXES) else []
    values, origins = _read_chain(recipe_path(name, registry), registry, (), warnings, own_notes)
    changes = parse_overrides(overrides)
    changed = {path: f"--set {dotted(path)}" for path in paths_of(changes)}
    changes, changed = _with_new_names(changes, changed, values, warnings)
    notes += _dropped(values, changes, "--set ")
    merged = merge(values, changes)
    return ResolvedRecipe(
        FilePath(name).stem,
        merged,
        _merged_origins(changed, origins),
        tuple(notes),
        tuple(warnings),
    )


def resolve_values(values: Mapping[str, Any], name: str, origin: str) -> ResolvedRecipe:
    """Resolve the sections of a program or a manifest."""
    warnings: list[str] = []
    origins = dict.fromkeys(paths_of(values), origin)
    renamed, origins = _with_new_names(dict(values), origins, {}, warnings)
    return ResolvedRecipe(name, renamed, origins, warnings=tuple(warnings))


def _read_chain(
    path: FilePath,
    registry: Registry,
    below: tuple[FilePath, ...],
    warnings: list[str],
    notes: list[str],
) -> tuple[dict[str, Any], dict[Path, str]]:
    """Read `path` after everything it extends; `notes` are for files that a user wrote."""
    real = FilePath(os.path.realpath(path))
    if real in below:
        circle = " → ".join(p.name for p in (*below, path))
        raise InputError(f"{path}: recipes extend each other in a circle: {circle}.")
    document = read_yaml_file(path)
    if not isinstance(document.value, dict):
        raise InputError(f"{path}: expected a mapping of sections, such as 'dataset: …'.")
    own = dict(document.value)
    origins = {key: f"{path}, line {line}" for key, line in document.lines.items() if key}
    parent = own.pop("extends", None)
    if parent is None:
        return _with_new_names(own, origins, {}, warnings)
    if not isinstance(parent, str):
        raise InputError(f"{path}: extends must be one recipe's name or file, not {parent!r}.")
    try:
        beside = parent.endswith(_SUFFIXES)
        parent_path = path.parent / parent if beside else recipe_path(parent, registry)
    except InputError as error:
        raise InputError(f"{path}: extends: {error.message}") from error
    inherited, inherited_origins = _read_chain(
        parent_path, registry, (*below, real), warnings, notes if beside else []
    )
    own, origins = _with_new_names(own, origins, inherited, warnings)
    notes += _dropped(inherited, own, f"{path}: ")
    own_description = {"description": own.get("description", "")}
    return merge(inherited, own | own_description), _merged_origins(origins, inherited_origins)


#: Old keys that work for one release: a section, the old and the new name.
_RENAMED = (
    ("strategy", "encoder", "adviser"),
    ("cascade", "encoder", "members"),
    ("cascade", "llm", "members"),
    ("cascade", "threshold", "thresholds"),
)


def _with_new_names(
    own: dict[str, Any], origins: dict[Path, str], base: Mapping[str, Any], warnings: list[str]
) -> tuple[dict[str, Any], dict[Path, str]]:
    """Rename old keys before merging, so that the later value wins."""
    made: dict[str, Any] = {}
    for section, old, new in _RENAMED:
        given, inherited = own.get(section), base.get(section)
        if not isinstance(given, Mapping) or old not in given:
            continue
        where = origins[section, old]
        renamed = f"{where}: {section}.{old} is the old name of {section}.{new}"
        if new in given and new not in made:
            raise InputError(f"{renamed}; give only {section}.{new}.")
        known = inherited.get(new) if isinstance(inherited, Mapping) else None
        value = given[old]
        at: Path = (section, new)
        if new == "thresholds" and value is not None:
            value = [value]
        elif new == "members":
            place = int(old == "llm")
            at = (*at, place)
            pair = made.get(new) or (known if isinstance(known, list) else [])
            value = [value, *pair[1:]] if place == 0 else [*pair[:1], value]
        made[new] = value
        own = own | {section: {k: v for k, v in given.items() if k != old} | {new: value}}
        origins = {
            (*at, *path[2:]) if path[:2] == (section, old) else path: origin
            for path, origin in origins.items()
        }
        warnings.append(f"{renamed}. It works until the next release.")
    return own, origins


def _merged_origins(own: dict[Path, str], inherited: dict[Path, str]) -> dict[Path, str]:
    """Merge origins with inherited ones, except those inside replaced values."""
    sections = {path[:length] for path in own for length in range(1, len(path))}
    values = own.keys() - sections
    kept = {
        path: origin
        for path, origin in inherited.items()
        if not any(path[:length] in values for length in range(1, len(path)))
    }
    return kept | own


Path = tuple[str | int, ...]

#: Maximum nesting of a recipe's keys.
_DEEPEST = 20
#: The keys by which a section names its component.
PART_KEYS = ("name", "backend", "provider")


def parse_overrides(
    assignments: Sequence[str], example: str = "training.lr=1e-5"
) -> dict[str, Any]:
    """Turn ``KEY.SUBKEY=VALUE`` texts into a nested mapping; later ones win.

    A value is read as YAML and coerced by the recipe's schema afterwards. A component's name and
    its settings may come in any order: ``training.schedule=cosine``,
    ``training.schedule.eta_min=1e-7``.
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        keys = key.strip().split(".")
        if not equals or not all(keys):
            shown = quoted(assignment)
            raise InputError(f"--set {shown} is not of the form KEY=VALUE, such as {example}.")
        if len(keys) > _DEEPEST:
            raise InputError(f"--set {quoted(key)} is nested too deeply ({len(keys):,} keys).")
        value = parse_yaml(text, f"--set {key.strip()}").value
        if comment := comment_of(text):
            # YAML would drop it silently, but in ``label=# Stars`` it is a column's name.
            advice = "Remove it, or quote the text that contains it."
            if text.strip()[0] not in "{[\"'":
                whole = json.dumps(text.strip(), ensure_ascii=False)
                advice = f"Quote the value: --set {shlex.quote(f'{key.strip()}={whole}')}"
            raise InputError(f"--set {key.strip()}: in YAML, {comment!r} is a comment. {advice}")
        for name in value if isinstance(value, dict) else ():
            if value[name] is None and ":" in str(name):
                spaced = str(name).replace(":", ": ")
                raise InputError(
                    f"--set {key.strip()}: YAML needs a space after a colon: {{{spaced}}}."
                )
        assign(result, keys, value)
    return result


def parse_dataset_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse overrides of a dataset section; the prefix ``dataset.`` is optional."""
    own = [assignment.strip().removeprefix("dataset.") for assignment in assignments]
    section = parse_overrides(own, "labels=five")
    if "dataset" in section:
        raise InputError(
            "--set dataset=… is a whole section. Set its keys instead, such as labels=five."
        )
    return section


def assign(target: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set one key in nested sections; setting a component's name keeps earlier settings."""
    *sections, last = keys
    for number, section in enumerate(sections, 1):
        inner = target.setdefault(section, {})
        if isinstance(inner, str):
            # The short form of a component, its name, becomes a section.
            inner = target[section] = {"name": inner}
        if not isinstance(inner, dict):
            outer = ".".join(sections[:number])
            raise InputError(
                f"{'.'.join(keys)} cannot be set, because {outer}={inner} is not a section. Leave "
                "out one of the two."
            )
        target = inner
    settings = target.get(last)
    shortened = isinstance(value, str) and isinstance(settings, dict)
    target[last] = {**settings, "name": value} if shortened and settings else value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base`, section by section.

    A section that changes its component's ``name`` (``backend``, ``provider``) inherits nothing,
    because the inherited keys belong to another component.
    """
    if _changed_name(base, over) is not None:
        return dict(over)
    result = dict(base)
    for key, value in over.items():
        inherited = result.get(key)
        if isinstance(value, Mapping) and isinstance(inherited, Mapping):
            result[key] = merge(inherited, value)
        else:
            result[key] = value
    return result


def _changed_name(base: Mapping[str, Any], over: Mapping[str, Any]) -> str | None:
    """Return the key by which `over` names another component than `base`, or None."""
    return next((key for key in PART_KEYS if key in over and over[key] != base.get(key)), None)


def _dropped(
    base: Mapping[str, Any], over: Mapping[str, Any], where: str, at: Path = ()
) -> Iterator[str]:
    """Yield a sentence on the keys that `merge` drops, because `over` names another component."""
    key = _changed_name(base, over)
    if key is not None:
        lost = [name for name in base if name != key and name not in over]
        was = f" of {base[key]!r}" if base.get(key) else ""
        kept = ", ".join(f"{dotted((*at, name))}={yaml_spelling(base[name])}" for name in lost)
        if lost:
            yield f"{where}{dotted((*at, key))}={over[key]} drops {kept}{was}."
        return
    for name, value in over.items():
        inner = base.get(name)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            yield from _dropped(inner, value, where, (*at, name))


def paths_of(value: Any, prefix: Path = ()) -> list[Path]:
    """Return the paths of all sections and leaves of a nested mapping."""
    if not isinstance(value, Mapping):
        return [prefix]
    inner = [path for key, item in value.items() for path in paths_of(item, (*prefix, str(key)))]
    return [prefix, *inner] if prefix else inner


#: The command that runs a recipe of each kind.
COMMANDS = {
    "train": "train",
    "prompt": "prompt",
    "finetune": "gpt-finetune",
    "cascade": "cascade",
    "vote": "vote",
}


def kind_of(recipe: ResolvedRecipe) -> str:
    """Return a recipe's kind; the default is ``train``."""
    return str(recipe.values.get("kind", "train"))


def unknown_kind(kind: str) -> Problem:
    return Problem(("kind",), f"unknown kind {kind!r}. {did_you_mean(kind, COMMANDS)}")


def refuse_other_kind(recipe: ResolvedRecipe, wanted: str) -> None:
    kind = kind_of(recipe)
    if kind == wanted:
        return
    if kind not in COMMANDS:
        refuse([unknown_kind(kind)], recipe.describe)
    message = f"this command needs a recipe of kind {wanted}, not {kind}. "
    problem = Problem(("kind",), f"{message}Run it with sentikit {COMMANDS[kind]}.")
    refuse([problem], recipe.describe)


def checked_components(
    recipe: ResolvedRecipe, kind: str, check: Callable[[], tuple[Made | None, list[Problem]]]
) -> Made:
    """Return the components that `check` makes, or refuse the recipe with all its problems."""
    refuse_other_kind(recipe, kind)
    made, problems = check()
    refuse(problems, recipe.describe)
    assert made is not None
    return made


def differing_keys(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys in which two recipes differ, sorted."""
    # A run may have begun with old names.
    before, after = (_flat(resolve_values(values, "", "").values) for values in (begun, now))
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        flat |= _flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat


@dataclass(frozen=True)
class ListedRecipe:
    """A registered recipe; if it cannot be read, it has no kind and its description says why."""

    name: str
    kind: str
    description: str
    plugin: str


def list_recipes(registry: Registry, kind: str | None = None) -> list[ListedRecipe]:
    """Return the registered recipes, of one kind if given, in natural order (e2 before e10)."""
    listed = []
    for name in sorted(registry.names("register_recipes"), key=_natural_order):
        plugin, found, description = registry.find("register_recipes", name).plugin, "", ""
        try:
            recipe = resolve_recipe(name, registry=registry)
            found, description = kind_of(recipe), str(recipe.values.get("description", ""))
        except SentikitError as error:
            description = error.message
        listed.append(ListedRecipe(name, found, description, plugin))
    return [recipe for recipe in listed if kind in (None, recipe.kind)]


def needed_recipe(recipe: str | None, kind: str, registry: Registry) -> str:
    """Return the recipe; without one, raise an error that lists the recipes of the kind."""
    if recipe:
        return recipe
    choices = list_recipes(registry, kind)
    width = max((len(choice.name) for choice in choices), default=0)
    lines = [f"  {choice.name:<{width}}  {choice.description}".rstrip() for choice in choices]
    raise InputError(
        "\n".join(["Which recipe? Choose one with --recipe, or give a YAML file:", *lines])
    )


def _natural_order(name: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
