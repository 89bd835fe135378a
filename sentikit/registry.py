"""The registry of plugins and the names that they register."""

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

from sentikit import __version__, hookspecs
from sentikit.errors import (
    InputError,
    SentikitError,
    did_you_mean,
    one_line,
    printable,
    unknown_name,
)
from sentikit.hookspecs import DISABLE_VARIABLE, PROJECT
from sentikit.isolation import code_root, contained, describe_fault, frames, is_below, watched
from sentikit.plugin_sources import PluginSource, installed_plugins, plugin_files
from sentikit.registration import Registration
from sentikit.stopping import Terminated

_LONGEST_SUMMARY = 160
#: By section of a recipe: the hook of the component it names, and the key of the name.
_SECTION_HOOKS = {
    "dataset": ("register_datasets", "name"),
    "evaluation_dataset": ("register_datasets", "name"),
    "encoder": ("register_encoders", "name"),
    "head": ("register_heads", "name"),
    "classifier": ("register_classifiers", "name"),
    "engine": ("register_engines", "name"),
    "llm": ("register_llm_backends", "backend"),
    "strategy": ("register_prompt_strategies", "name"),
}


@dataclass(frozen=True)
class PluginReport:
    """The state of one plugin.

    Attributes:
        name: the plugin's name, as in ``SENTIKIT_DISABLE_PLUGINS``.
        distribution: name of its package in ``pip``.
        version: version of the distribution.
        location: the entry point's value.
        state: ``loaded``, ``failed`` or ``disabled``.
        problems: why it failed or is disabled; warnings, such as about names already taken, for a
            loaded one.
        registrations: what it registers; for a failed plugin, what its working hooks register.
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
    """A plugin that is being loaded; with any `faults` it counts as failed."""

    name: str
    source: PluginSource
    hooks: dict[str, list[Callable[..., object]]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Registry:
    """The names that plugins register, collected hook by hook on demand.

    A plugin that cannot be imported, misspells a hook, has a wrong signature or raises an error is
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
        """Return everything that plugins register through `hook`, in plugin order."""
        if hook not in self._by_hook:
            gathered = [r for plugin in self._plugins.values() for r in _ask(plugin, hook)]
            self._by_hook[hook] = tuple(gathered)
            self._note_shared_names(gathered)
        return self._by_hook[hook]

    def names(self, hook: str) -> list[str]:
        """Return the names registered through `hook`, sorted; shared ones as ``plugin/name``."""
        registrations = self.registrations(hook)
        counts = Counter(registration.name for registration in registrations)
        return sorted(
            r.name if counts[r.name] == 1 or _is_irreplaceable(r) else r.qualified_name
            for r in registrations
        )

    def find(self, hook: str, name: str) -> Registration:
        """Return the registration with the given name or ``plugin/name``.

        Raises:
            InputError: no plugin registered the name, or several did.
        """
        kind = hookspecs.KINDS[hook]
        matches = self._matches(hook, name)
        if not matches:
            listed = "All are in: sentikit recipes list." if hook == "register_recipes" else ""
            if hook == "register_datasets" and os.path.isfile(name):
                listed = f"For a table, use the dataset 'files' with --set test={name} or train=."
            advice = f"{listed} {self.advice()}".strip()
            raise unknown_name(kind, name, self.names(hook), advice)
        if len(matches) > 1:
            matches = [r for r in matches if _is_irreplaceable(r)] or matches
        if len(matches) > 1:
            owners = " and ".join(f"{r.plugin!r} ({r.distribution})" for r in matches)
            choices = " or ".join(r.qualified_name for r in matches)
            raise InputError(
                f"The {kind} name {name!r} is claimed by the plugins {owners}. "
                f"Write {choices}, or switch one off with {DISABLE_VARIABLE}."
            )
        return matches[0]

    def _matches(self, hook: str, name: object) -> list[Registration]:
        return [r for r in self.registrations(hook) if name in (r.name, r.qualified_name)]

    def load(self, hook: str, name: str) -> Any:
        """Import and return the component called `name`.

        Raises:
            InputError: no plugin registered the name, or several did.
            SentikitError: the component cannot be imported, or is not what the hook is for.
        """
        return self.find(hook, name).load()

    def title(self, hook: str, name: str) -> str:
        """Return what messages call a component, its plugin included."""
        return self.find(hook, name).title

    def require(
        self, hook: str, name: str, recorded: Iterable[Mapping[str, str]], place: str
    ) -> None:
        """Refuse a component that a file needs and that is not installed.

        Args:
            hook: the component's hook.
            name: the component's name.
            recorded: the components that the file records; none in files of older versions.
            place: the file that names it.

        Raises:
            InputError: it is not installed; the message names the distribution to install.
        """
        if self._matches(hook, name):
            return
        kind = hookspecs.KINDS[hook]
        own = [c for c in recorded if c.get("kind") == kind]
        component = own[0] if own else {}
        if component.get("distribution") in (None, "", hookspecs.PROJECT):
            raise unknown_name(kind, name, self.names(hook), f"{place} names it. {self.advice()}")
        wanted = component["distribution"]
        version = f"=={component['version']}" if component.get("version") else ""
        raise InputError(
            f"{place} needs the {kind} {name!r} of the plugin {component.get('plugin')!r}, which "
            f"is not installed. Install it: pip install '{wanted}{version}'"
        )

    def note_problem(self, plugin: str, problem: str) -> None:
        """Record a warning about a plugin, for ``plugins list``."""
        warnings = self._plugins[plugin].warnings
        if problem not in warnings:
            warnings.append(problem)

    def reports(self) -> list[PluginReport]:
        """Return the state of every plugin, calling all its hooks."""
        offered = [r for hook in hookspecs.KINDS for r in self.registrations(hook)]
        return [self._report(plugin, offered) for plugin in self._plugins.values()]

    def fault(self, error: BaseException) -> str:
        """Return a sentence that names the third-party plugin whose code raised an exception.

        Returns "" if no frame of the traceback is in such a plugin, or if a plugin's command ends
        with ``sys.exit``.
        """
        for report in self.reports():
            if report.distribution == hookspecs.PROJECT:
                continue
            modules = [report.location, *map(_module_of, report.registrations)]
            roots = {code_root(module): module for module in reversed(modules) if module}
            own = [
                (file, module)
                for file, _ in frames(error)
                for root, module in roots.items()
                if is_below(file, root)
            ]
            if not own:
                continue
            file, module = own[-1]
            parts = [r for r in report.registrations if _stands_in(r, file)]
            if isinstance(error, SystemExit) and parts and parts[0].hook == "register_commands":
                return ""  # a command may end like this
            # A file with several components does not tell which one failed.
            what = f"the {parts[0].kind} {parts[0].name!r} of " if len(parts) == 1 else ""
            plugin = f"plugin {report.name} {report.version}".rstrip()
            return (
                f"In {what}{plugin}, {describe_fault(error, module)} Report it to its author, or "
                f"run with {DISABLE_VARIABLE}={report.name}"
            )
        return ""

    def components(self, recipe: Mapping[str, Any]) -> list[dict[str, str]]:
        """Return the origin of each component that a resolved recipe names."""
        named = [(hook, recipe.get(s), key) for s, (hook, key) in _SECTION_HOOKS.items()]
        trackers = recipe.get("trackers")
        for tracker in trackers if isinstance(trackers, list) else ():
            named.append(("register_trackers", tracker, "name"))
        found = (
            self._matches(hook, section.get(key) if isinstance(section, Mapping) else section)
            for hook, section, key in named
        )
        return [matches[0].component() for matches in found if matches]

    def unknown_disabled(self) -> list[str]:
        """Return the disabled names that no plugin has, sorted."""
        return sorted(self._disabled - set(self._plugins))

    def _report(self, plugin: _Plugin, offered: Sequence[Registration]) -> PluginReport:
        state, problems = "loaded", (*plugin.faults, *plugin.warnings)
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
        plugin = _Plugin(self._free_name(source), source)
        self._plugins[plugin.name] = plugin
        if plugin.name != source.name:
            self.note_problem(plugin.name, f"the plugin name {source.name!r} is taken")
        if plugin.name in self._disabled:
            return
        with _recording_faults(plugin):
            _check_version(source)
            loaded = source.load()
            # Plugins may group their hooks in a class, of which pluggy needs an instance.
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
                if other is not registration and not _is_irreplaceable(registration):
                    self.note_problem(
                        registration.plugin,
                        f"the {registration.kind} name {registration.name!r} is also claimed by "
                        f"plugin {other.plugin!r} ({other.distribution}); "
                        f"write {registration.qualified_name}",
                    )

    def advice(self) -> str:
        """Return sentences on failed and disabled plugins, for an unknown name."""
        broken = [plugin.name for plugin in self._plugins.values() if plugin.faults]
        off = [name for name in self._plugins if name in self._disabled]
        sentences = []
        if broken:
            sentences.append(f"Plugins that failed: {', '.join(broken)} (sentikit plugins list).")
        if off:
            sentences.append(f"Switched off by {DISABLE_VARIABLE}: {', '.join(off)}.")
        return " ".join(sentences)


def build_registry(environment: Mapping[str, str] = os.environ) -> Registry:
    sources = [*installed_plugins(), *plugin_files(environment)]
    return Registry(sources, disabled_plugins(environment))


def disabled_plugins(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Return the names of the plugins that the environment switches off."""
    names = environment.get(DISABLE_VARIABLE, "").split(",")
    return {name.strip() for name in names} - {""}


@functools.cache
def default_registry() -> Registry:
    """Return the process's registry, built at the first call."""
    return build_registry()


def _module_of(registration: Registration) -> str:
    target = registration.target
    if isinstance(target, str):
        return target.partition(":")[0] if ":" in target else ""
    return str(getattr(target, "__module__", ""))


def _is_irreplaceable(registration: Registration) -> bool:
    """Return whether it is a bundled plugin's command, whose name scripts rely on."""
    return registration.hook == "register_commands" and registration.distribution == PROJECT


def _stands_in(registration: Registration, file: str) -> bool:
    loaded = sys.modules.get(_module_of(registration))
    return is_below(file, os.path.realpath(getattr(loaded, "__file__", None) or os.devnull))


def _ask(plugin: _Plugin, hook: str) -> list[Registration]:
    """Call one plugin's implementations of `hook`; after a failure, return nothing."""
    gathered: list[Registration] = []
    asking = True

    def register(name: str, target: Any, *, summary: str = "") -> None:
        if not asking:
            raise InputError(f"register was called after {hook} had returned")
        line = _summary(summary) if isinstance(summary, str) else summary
        registration = Registration(
            hook, name, target, line, plugin.name, plugin.source.distribution, plugin.source.version
        )
        registration.check()
        if any(earlier.name == name for earlier in gathered):
            raise InputError(f"{registration.kind} name {name!r} is registered twice")
        gathered.append(registration)

    sound = False
    with _recording_faults(plugin, hook):
        for implementation in plugin.hooks.get(hook, ()):
            _refuse_result(implementation(register=register))
        sound = True
    asking = False
    return gathered if sound else []


def _summary(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _LONGEST_SUMMARY else f"{line[: _LONGEST_SUMMARY - 1]}…"


def _refuse_result(result: object) -> None:
    """Refuse a hook that returns something, or is a coroutine or generator."""
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()
        raise TypeError("a hook must be a plain function, without async and yield")
    if result is not None:
        raise TypeError(f"a hook calls register(...) and returns nothing, not {result!r:.80}")


@contextlib.contextmanager
def _recording_faults(plugin: _Plugin, hook: str = "") -> Iterator[None]:
    """Record what a plugin's code raises as its fault, and undo its changes to the process."""
    foreign = plugin.source.distribution != hookspecs.PROJECT
    guard = contained(plugin.warnings.append) if foreign else contextlib.nullcontext()
    watch = watched(plugin.name) if foreign else contextlib.nullcontext()
    try:
        with guard, watch:
            yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"while the plugin {plugin.name!r} was loading") from error
    except Terminated:
        raise
    # Plugins raise anything, SystemExit included; a failing one does not end the command line.
    except BaseException as error:
        where = f"{hook}: " if hook else ""
        own = isinstance(error, SentikitError)
        what = one_line(error) if own else describe_fault(error, plugin.source.location)
        plugin.faults.append(f"{where}{what}")


def _check_version(source: PluginSource) -> None:
    """Refuse a distribution that requires another version of sentikit, before its import."""
    if not source.requires:
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        wanted = SpecifierSet(source.requires)
    except InvalidSpecifier:
        return
    if not wanted.contains(__version__, prereleases=True):
        raise InputError(f"it needs sentikit{source.requires}, but this is {__version__}.")


def _faults(plugin: object, manager: pluggy.PluginManager) -> list[str]:
    """Return what is wrong with a plugin's hook implementations, without calling them."""
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
            faults.append(f"{hook}: hook wrappers are not supported. Write a plain hook.")
        else:
            faults += _signature_faults(hook, getattr(plugin, name))
    unmarked = [hook for hook in hookspecs.KINDS if hook not in marked and hasattr(plugin, hook)]
    faults += [f"{hook} needs the decorator @sentikit.hookimpl." for hook in unmarked]
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
