"""Finds plugins, keeps each one's failures to itself, and knows every name and its owner."""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from sentikit import hookspecs
from sentikit.errors import InputError, SentikitError, did_you_mean, unknown_name

DISABLE_VARIABLE = "SENTIKIT_DISABLE_PLUGINS"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Registration:
    """One name a plugin offers."""

    kind: str
    name: str
    target: Any
    summary: str
    plugin: str
    distribution: str

    @property
    def qualified_name(self) -> str:
        """The name that always resolves: ``plugin/name``."""
        return f"{self.plugin}/{self.name}"

    def load(self) -> Any:
        """Import and return the target.

        Raises:
            SentikitError: the plugin's module cannot be imported or lacks the attribute.
        """
        if not isinstance(self.target, str) or self.kind == "recipe":
            return self.target
        module_name, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except Exception as error:
            raise SentikitError(
                f"The {self.kind} {self.name!r} of plugin {self.plugin!r} cannot be loaded from "
                f"{self.target}: {type(error).__name__}: {error}. "
                f"Repair or switch off the plugin ({DISABLE_VARIABLE}={self.plugin})."
            ) from error


@dataclass(frozen=True)
class PluginSource:
    """Where a plugin comes from: a name, its distribution, and how to import it."""

    name: str
    distribution: str
    version: str
    location: str
    load: Callable[[], object]

    @classmethod
    def from_entry_point(cls, entry_point: EntryPoint) -> PluginSource:
        """Describe an installed entry point of the group ``sentikit``."""
        distribution = entry_point.dist
        return cls(
            name=entry_point.name,
            distribution=distribution.name if distribution else "unknown",
            version=distribution.version if distribution else "unknown",
            location=entry_point.value,
            load=entry_point.load,
        )


@dataclass(frozen=True)
class PluginReport:
    """What became of one plugin: ``loaded``, ``failed`` or ``disabled``, and why."""

    name: str
    distribution: str
    version: str
    location: str
    state: str
    problems: tuple[str, ...]
    registrations: tuple[Registration, ...]


class Registry:
    """Every plugin's names, gathered hook by hook when first asked for.

    A plugin that fails to import, has a wrong signature, misspells a hook or raises inside one is
    reported by `reports` and otherwise ignored.
    """

    def __init__(self, sources: Iterable[PluginSource], disabled: Iterable[str] = ()) -> None:
        self._sources: dict[str, PluginSource] = {}
        self._problems: dict[str, list[str]] = {}
        self._disabled = frozenset(disabled)
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._by_hook: dict[str, tuple[Registration, ...]] = {}
        for source in sources:
            self._admit(source)

    def registrations(self, hook: str) -> tuple[Registration, ...]:
        """Return all that plugins register through `hook`, in plugin order."""
        if hook not in self._by_hook:
            gathered = [
                registration
                for plugin in self._loaded()
                for registration in self._ask(plugin, hook)
            ]
            self._by_hook[hook] = tuple(gathered)
            self._note_shared_names(gathered)
        return self._by_hook[hook]

    def names(self, hook: str) -> list[str]:
        """Return the names registered through `hook`, sorted; shared ones as ``plugin/name``."""
        registrations = self.registrations(hook)
        counts = _count(registration.name for registration in registrations)
        return sorted(
            registration.name if counts[registration.name] == 1 else registration.qualified_name
            for registration in registrations
        )

    def find(self, hook: str, name: str) -> Registration:
        """Return the one registration that `name` (or ``plugin/name``) means.

        Raises:
            InputError: nobody registered the name, or several plugins did.
        """
        kind = hookspecs.KINDS[hook]
        registrations = self.registrations(hook)
        matches = [r for r in registrations if name in (r.name, r.qualified_name)]
        if not matches:
            raise unknown_name(kind, name, self.names(hook), self._advice())
        if len(matches) > 1:
            owners = " and ".join(f"{r.plugin!r} ({r.distribution})" for r in matches)
            choices = " or ".join(r.qualified_name for r in matches)
            raise InputError(
                f"The {kind} name {name!r} is claimed by the plugins {owners}. "
                f"Write {choices}, or switch one off with {DISABLE_VARIABLE}."
            )
        return matches[0]

    def load(self, hook: str, name: str) -> Any:
        """Import and return the part called `name`."""
        return self.find(hook, name).load()

    def note_problem(self, plugin: str, problem: str) -> None:
        """Record something wrong with a plugin, to be shown by ``sentikit plugins list``."""
        problems = self._problems.setdefault(plugin, [])
        if problem not in problems:
            problems.append(problem)

    def reports(self) -> list[PluginReport]:
        """Return what became of every plugin, asking each for every hook."""
        offered = [r for hook in hookspecs.KINDS for r in self.registrations(hook)]
        return [self._report(name, offered) for name in self._sources]

    def _report(self, name: str, offered: Sequence[Registration]) -> PluginReport:
        source = self._sources[name]
        problems = tuple(self._problems.get(name, ()))
        own = tuple(r for r in offered if r.plugin == name)
        if self._is_disabled(source):
            state, problems = "disabled", (f"switched off by {DISABLE_VARIABLE}",)
        elif problems and not own:
            state = "failed"
        else:
            state = "loaded"
        return PluginReport(
            name, source.distribution, source.version, source.location, state, problems, own
        )

    def _admit(self, source: PluginSource) -> None:
        name = source.name
        if name in self._sources:
            name = f"{source.distribution}:{source.name}"
        self._sources[name] = source
        if self._is_disabled(source):
            return
        try:
            plugin = source.load()
            misspelt = self._misspelt_hooks(plugin)
            if misspelt:
                self.note_problem(name, misspelt)
                return
            self._manager.register(plugin, name=name)
        # A plugin may do anything at import, SystemExit included; none of it is ours to die from.
        except (Exception, SystemExit) as error:
            self.note_problem(name, f"{type(error).__name__}: {_one_line(error)}")

    def _is_disabled(self, source: PluginSource) -> bool:
        return source.name in self._disabled

    def _misspelt_hooks(self, plugin: object) -> str:
        """Say which functions marked as hook implementations match no hook."""
        for name in dir(plugin):
            options = self._manager.parse_hookimpl_opts(plugin, name)
            if not options or options.get("optionalhook"):
                continue
            hook = options.get("specname") or name
            if hook not in hookspecs.KINDS:
                return f"unknown hook {hook!r}. {did_you_mean(hook, hookspecs.KINDS)}"
        return ""

    def _loaded(self) -> list[str]:
        return [name for name in self._sources if self._manager.has_plugin(name)]

    def _ask(self, plugin: str, hook: str) -> list[Registration]:
        """Call one plugin's implementation of `hook`; a failure keeps nothing of it."""
        others = [p for name, p in self._manager.list_name_plugin() if name != plugin and p]
        caller = self._manager.subset_hook_caller(hook, remove_plugins=others)
        gathered: list[Registration] = []
        source = self._sources[plugin]

        def register(name: str, target: Any, *, summary: str = "") -> None:
            registration = Registration(
                hookspecs.KINDS[hook], name, target, summary, plugin, source.distribution
            )
            _check(registration, gathered)
            gathered.append(registration)

        try:
            caller(register=register)
        except (Exception, SystemExit) as error:
            self.note_problem(plugin, f"{hook}: {type(error).__name__}: {_one_line(error)}")
            return []
        return gathered

    def _note_shared_names(self, gathered: Sequence[Registration]) -> None:
        for registration in gathered:
            for other in gathered:
                if other is not registration and other.name == registration.name:
                    self.note_problem(
                        registration.plugin,
                        f"the {registration.kind} name {registration.name!r} is also claimed by "
                        f"plugin {other.plugin!r} ({other.distribution}); "
                        f"write {registration.qualified_name}",
                    )

    def _advice(self) -> str:
        broken = sorted(self._problems)
        return (
            f"Plugins with problems: {', '.join(broken)} (sentikit plugins list)." if broken else ""
        )


def installed_plugins() -> list[PluginSource]:
    """Describe the entry points of the group ``sentikit``, bundled ones first, by name."""
    found = [PluginSource.from_entry_point(e) for e in entry_points(group=hookspecs.PROJECT)]
    return sorted(
        found, key=lambda s: (s.distribution != hookspecs.PROJECT, s.distribution, s.name)
    )


def build_registry(environment: Mapping[str, str] = os.environ) -> Registry:
    """Build a registry of the installed plugins, less those the environment switches off."""
    disabled = {name.strip() for name in environment.get(DISABLE_VARIABLE, "").split(",")}
    return Registry(installed_plugins(), disabled - {""})


@functools.cache
def default_registry() -> Registry:
    """Return the process's registry, built at the first call."""
    return build_registry()


def _check(registration: Registration, earlier: Iterable[Registration]) -> None:
    kind, name, target = registration.kind, registration.name, registration.target
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{kind} name {name!r} must be lower-case letters, digits, '.', '_' and '-'"
        )
    if any(r.name == name for r in earlier):
        raise InputError(f"{kind} name {name!r} is registered twice")
    if isinstance(target, str) and kind != "recipe" and not _TARGET.fullmatch(target):
        raise InputError(f"target {target!r} of {kind} {name!r} is not of the form 'module:Class'")


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
