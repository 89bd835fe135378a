"""Keeps each plugin's failures to itself, and knows every name and its owner."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pluggy

from sentikit import hookspecs
from sentikit.discovery import PluginSource, installed_plugins
from sentikit.errors import InputError, SentikitError, did_you_mean, unknown_name
from sentikit.hookspecs import DISABLE_VARIABLE
from sentikit.registration import Registration, one_line

__all__ = [
    "PluginReport",
    "Registration",
    "Registry",
    "build_registry",
    "default_registry",
    "disabled_plugins",
]


@dataclass(frozen=True)
class PluginReport:
    """What became of one plugin.

    Attributes:
        name: the plugin's name, as ``SENTIKIT_DISABLE_PLUGINS`` takes it.
        distribution: what ``pip`` calls the package that brings it.
        version: of the distribution.
        location: the entry point's value.
        state: ``loaded``, ``failed`` or ``disabled``.
        problems: why it failed or is disabled; for a loaded one, what is wrong
            all the same, such as names it cannot have.
        registrations: what it offers; of a plugin that failed, what its sound hooks offer.
    """

    name: str
    distribution: str
    version: str
    location: str
    state: str
    problems: tuple[str, ...]
    registrations: tuple[Registration, ...]


@dataclass
class _Plugin:
    """A plugin while it is being loaded and asked.

    Attributes:
        name: unique among the plugins.
        source: where it comes from.
        hooks: its implementations by hook.
        faults: what makes it a failed plugin.
        remarks: what else is wrong, such as names it cannot have.
    """

    name: str
    source: PluginSource
    hooks: dict[str, list[Callable[..., object]]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class Registry:
    """Every plugin's names, gathered hook by hook when first asked for.

    A plugin that fails to import, has a wrong signature, misspells a hook or raises inside one is
    reported by `reports` and otherwise ignored.
    """

    def __init__(self, sources: Iterable[PluginSource], disabled: Iterable[str] = ()) -> None:
        self._disabled = frozenset(disabled)
        self._plugins: dict[str, _Plugin] = {}
        self._by_hook: dict[str, tuple[Registration, ...]] = {}
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for source in sources:
            self._admit(source)

    def registrations(self, hook: str) -> tuple[Registration, ...]:
        """Return all that plugins register through `hook`, in plugin order."""
        if hook not in self._by_hook:
            gathered = [r for plugin in self._plugins.values() for r in _ask(plugin, hook)]
            self._by_hook[hook] = tuple(gathered)
            self._note_shared_names(gathered)
        return self._by_hook[hook]

    def names(self, hook: str) -> list[str]:
        """Return the names registered through `hook`, sorted; shared ones as ``plugin/name``."""
        registrations = self.registrations(hook)
        counts = Counter(registration.name for registration in registrations)
        return sorted(r.name if counts[r.name] == 1 else r.qualified_name for r in registrations)

    def find(self, hook: str, name: str) -> Registration:
        """Return the one registration that `name` (or ``plugin/name``) means.

        Raises:
            InputError: nobody registered the name, or several plugins did.
        """
        kind = hookspecs.KINDS[hook]
        matches = [r for r in self.registrations(hook) if name in (r.name, r.qualified_name)]
        if not matches:
            listed = "All are in: sentikit recipes list." if hook == "register_recipes" else ""
            advice = f"{listed} {self._advice()}".strip()
            raise unknown_name(kind, name, self.names(hook), advice)
        if len(matches) > 1:
            owners = " and ".join(f"{r.plugin!r} ({r.distribution})" for r in matches)
            choices = " or ".join(r.qualified_name for r in matches)
            raise InputError(
                f"The {kind} name {name!r} is claimed by the plugins {owners}. "
                f"Write {choices}, or switch one off with {DISABLE_VARIABLE}."
            )
        return matches[0]

    def load(self, hook: str, name: str) -> Any:
        """Import and return the part called `name`.

        Raises:
            InputError: nobody registered the name, or several plugins did.
            SentikitError: the part cannot be imported, or is not what the hook is for.
        """
        return self.find(hook, name).load()

    def title(self, hook: str, name: str) -> str:
        """Return what messages call a component, its plugin included."""
        return self.find(hook, name).title

    def require(self, hook: str, name: str, component: Mapping[str, str], place: str) -> None:
        """Refuse a component that is recorded in a file and not installed.

        Args:
            hook: what it was registered through.
            name: of the component.
            component: what `Registration.component` recorded; empty in files of older versions.
            place: the file that names it.

        Raises:
            InputError: nobody registers it; names the distribution to install.
        """
        if any(name in (r.name, r.qualified_name) for r in self.registrations(hook)):
            return
        kind = hookspecs.KINDS[hook]
        if component.get("distribution") in (None, "", hookspecs.PROJECT):
            raise unknown_name(kind, name, self.names(hook), f"{place} names it. {self._advice()}")
        wanted = component["distribution"]
        version = f"=={component['version']}" if component.get("version") else ""
        raise InputError(
            f"{place} needs the {kind} {name!r}, which the plugin {component.get('plugin')!r} "
            f"brings and which is not installed here: pip install '{wanted}{version}'"
        )

    def note_problem(self, plugin: str, problem: str) -> None:
        """Record what is wrong with a plugin that works otherwise, for ``plugins list``."""
        remarks = self._plugins[plugin].remarks
        if problem not in remarks:
            remarks.append(problem)

    def reports(self) -> list[PluginReport]:
        """Return what became of every plugin, asking each for every hook."""
        offered = [r for hook in hookspecs.KINDS for r in self.registrations(hook)]
        return [self._report(plugin, offered) for plugin in self._plugins.values()]

    def unknown_disabled(self) -> list[str]:
        """Return the names to switch off that no plugin bears, sorted."""
        return sorted(self._disabled - set(self._plugins))

    def _report(self, plugin: _Plugin, offered: Sequence[Registration]) -> PluginReport:
        state, problems = "loaded", (*plugin.faults, *plugin.remarks)
        if plugin.name in self._disabled:
            state, problems = "disabled", (f"switched off by {DISABLE_VARIABLE}",)
        elif plugin.faults:
            state = "failed"
        own = tuple(r for r in offered if r.plugin == plugin.name)
        source = plugin.source
        return PluginReport(
            plugin.name, source.distribution, source.version, source.location, state, problems, own
        )

    def _admit(self, source: PluginSource) -> None:
        """Import a plugin and take its hook implementations over, or note what is wrong."""
        plugin = _Plugin(self._free_name(source), source)
        self._plugins[plugin.name] = plugin
        if plugin.name != source.name:
            self.note_problem(plugin.name, f"the plugin name {source.name!r} is taken")
        if plugin.name in self._disabled:
            return
        with _blamed_on(plugin):
            loaded = source.load()
            # A class is pluggy's usual way to hold hooks together, but only its instances work.
            loaded = loaded() if isinstance(loaded, type) else loaded
            faults = _faults(loaded, self._manager)
            if faults:
                plugin.faults.extend(faults)
                return
            self._manager.register(loaded, name=plugin.name)
        for hook in hookspecs.KINDS:
            implementations = getattr(self._manager.hook, hook).get_hookimpls()
            own = [i.function for i in implementations if i.plugin_name == plugin.name]
            plugin.hooks[hook] = own

    def _free_name(self, source: PluginSource) -> str:
        """Return the entry point's name, with its distribution's where it is taken."""
        name, number = source.name, 1
        while name in self._plugins:
            suffix = "" if number == 1 else f"-{number}"
            name, number = f"{source.distribution}:{source.name}{suffix}", number + 1
        return name

    def _note_shared_names(self, gathered: Sequence[Registration]) -> None:
        by_name: dict[str, list[Registration]] = {}
        for registration in gathered:
            by_name.setdefault(registration.name, []).append(registration)
        for registration in gathered:
            for other in by_name[registration.name]:
                if other is not registration:
                    self.note_problem(
                        registration.plugin,
                        f"the {registration.kind} name {registration.name!r} is also claimed by "
                        f"plugin {other.plugin!r} ({other.distribution}); "
                        f"write {registration.qualified_name}",
                    )

    def _advice(self) -> str:
        broken = [plugin.name for plugin in self._plugins.values() if plugin.faults]
        off = [name for name in self._plugins if name in self._disabled]
        sentences = []
        if broken:
            sentences.append(f"Plugins that failed: {', '.join(broken)} (sentikit plugins list).")
        if off:
            sentences.append(f"Switched off by {DISABLE_VARIABLE}: {', '.join(off)}.")
        return " ".join(sentences)


def build_registry(environment: Mapping[str, str] = os.environ) -> Registry:
    """Build a registry of the installed plugins, less those the environment switches off."""
    return Registry(installed_plugins(), disabled_plugins(environment))


def disabled_plugins(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Return the names of the plugins that the environment switches off."""
    names = environment.get(DISABLE_VARIABLE, "").split(",")
    return {name.strip() for name in names} - {""}


@functools.cache
def default_registry() -> Registry:
    """Return the process's registry, built at the first call."""
    return build_registry()


def _ask(plugin: _Plugin, hook: str) -> list[Registration]:
    """Call one plugin's implementations of `hook`; a failure keeps nothing of it."""
    gathered: list[Registration] = []
    asking = True

    def register(name: str, target: Any, *, summary: str = "") -> None:
        if not asking:
            raise InputError(f"register was called after {hook} had returned")
        line = " ".join(summary.split()) if isinstance(summary, str) else summary
        registration = Registration(
            hook,
            name,
            target,
            line,
            plugin.name,
            plugin.source.distribution,
            plugin.source.version,
        )
        registration.check()
        if any(earlier.name == name for earlier in gathered):
            raise InputError(f"{registration.kind} name {name!r} is registered twice")
        gathered.append(registration)

    sound = False
    with _blamed_on(plugin, hook):
        for implementation in plugin.hooks.get(hook, ()):
            _refuse_result(implementation(register=register))
        sound = True
    asking = False
    return gathered if sound else []


def _refuse_result(result: object) -> None:
    """Refuse a hook that returns instead of registering, or has not even run yet."""
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()
        raise TypeError("a hook must be a plain function, without async and yield")
    if result is not None:
        raise TypeError(f"a hook calls register(...) and returns nothing, not {result!r:.80}")


@contextlib.contextmanager
def _blamed_on(plugin: _Plugin, hook: str = "") -> Iterator[None]:
    """Note whatever a plugin's code raises, and keep what it prints out of a command's output."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        raise
    # A plugin may do anything, SystemExit included; none of it is ours to die from.
    except BaseException as error:
        where = f"{hook}: " if hook else ""
        what = "" if isinstance(error, SentikitError) else f"{type(error).__name__}: "
        plugin.faults.append(f"{where}{what}{one_line(error)}")


def _faults(plugin: object, manager: pluggy.PluginManager) -> list[str]:
    """Say what is wrong with a plugin's hook implementations, before any is called."""
    marked = {
        name: options
        for name in dir(plugin)
        if (options := manager.parse_hookimpl_opts(plugin, name)) is not None
    }
    faults = []
    for name, options in marked.items():
        hook = options.get("specname") or name
        if hook not in hookspecs.KINDS:
            if not options.get("optionalhook"):
                faults.append(f"there is no hook {hook!r}. {did_you_mean(hook, hookspecs.KINDS)}")
        elif options.get("wrapper") or options.get("hookwrapper"):
            faults.append(f"{hook}: hook wrappers have nothing to wrap here; write a plain hook.")
        else:
            faults += _signature_faults(hook, getattr(plugin, name))
    unmarked = [hook for hook in hookspecs.KINDS if hook not in marked and hasattr(plugin, hook)]
    faults += [f"{hook} lacks the decorator @sentikit.hookimpl." for hook in unmarked]
    if not marked and not faults:
        known = ", ".join(hookspecs.KINDS)
        faults.append(f"it implements no hook. Decorate one with @sentikit.hookimpl: {known}.")
    return faults


def _signature_faults(hook: str, implementation: Callable[..., object]) -> list[str]:
    signature = inspect.signature(implementation)
    try:
        signature.bind(register=None)
    except TypeError as error:
        return [f"{hook}{signature}: {error}. Write def {hook}(register)."]
    return []
