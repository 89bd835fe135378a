"""One name a plugin offers, and the component behind it."""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import dataclass
from typing import Any

import click

from sentikit import hookspecs
from sentikit.errors import InputError, SentikitError, did_you_mean, one_line, quoted
from sentikit.isolation import contained, describe_fault
from sentikit.stopping import Terminated

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
#: A command's name may begin with a core group, such as ``runs prune``.
_COMMAND_NAME = re.compile(rf"({_NAME.pattern} )?{_NAME.pattern}")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_RECIPE_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Registration:
    """One name a plugin offers.

    Attributes:
        hook: the hook that registered it.
        name: lower-case letters, digits, ``.``, ``_`` and ``-``; a subcommand's includes its group.
        target: a class, a click command, ``"module:attribute"``, or a recipe's path.
        summary: one line for lists.
        plugin: the plugin's name.
        distribution: name of the plugin's package in ``pip``.
        version: version of the distribution.
    """

    hook: str
    name: str
    target: Any
    summary: str
    plugin: str
    distribution: str
    version: str = ""

    @property
    def kind(self) -> str:
        """What messages call the component, as ``head``."""
        return hookspecs.KINDS[self.hook]

    @property
    def qualified_name(self) -> str:
        """The name that always resolves: ``plugin/name``."""
        return f"{self.plugin}/{self.name}"

    @property
    def title(self) -> str:
        """What messages call the component, its plugin included."""
        return f"The {self.kind} {self.name!r} of plugin {self.plugin!r}"

    def component(self) -> dict[str, str]:
        """Return the component's origin, as manifests and models record it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "plugin": self.plugin,
            "distribution": self.distribution,
            "version": self.version,
        }

    def check(self) -> None:
        """Check the name, summary and target without importing anything."""
        pattern = _COMMAND_NAME if self.hook == "register_commands" else _NAME
        if not isinstance(self.name, str) or not pattern.fullmatch(self.name):
            raise InputError(
                f"{self.kind} name {quoted(self.name)} must be lower-case letters, digits, "
                "'.', '_' and '-', such as 'film-reviews'"
            )
        if not isinstance(self.summary, str):
            raise InputError(f"summary of {self.kind} {self.name!r} must be a string")
        problem = _target_problem(self.hook, self.target)
        if problem:
            target = quoted(self.target, 100)
            raise InputError(f"target {target} of {self.kind} {self.name!r} {problem}")

    def load(self) -> Any:
        """Import and return the target; a recipe's is its path.

        Raises:
            SentikitError: the target cannot be imported, or does not fit the hook.
        """
        if self.hook == "register_recipes":
            return self.target
        part = self._import() if isinstance(self.target, str) else self.target
        problem = _misfit(self.hook, part)
        if problem:
            raise SentikitError(
                f"{self.title} is not usable: {self.target} {problem}. {self._advice()}"
            )
        return part

    def _import(self) -> Any:
        module_name, _, attribute = self.target.partition(":")
        try:
            with contained():
                module = importlib.import_module(module_name)
            if not hasattr(module, attribute):
                raise ImportError(
                    f"{module_name} has no {attribute!r}. {did_you_mean(attribute, vars(module))}"
                )
            return getattr(module, attribute)
        except (KeyboardInterrupt, Terminated):
            raise
        # A module may raise anything at import; a failing plugin does not end the command line.
        except BaseException as error:
            raise SentikitError(
                f"{self.title} cannot be loaded from {self.target}: "
                f"{describe_fault(error, module_name)} {self._advice()}"
            ) from error

    def _advice(self) -> str:
        return f"Fix the plugin, or switch it off with {hookspecs.DISABLE_VARIABLE}={self.plugin}."


def _target_problem(hook: str, target: Any) -> str:
    """Return what is wrong with a target, without importing it, or ""."""
    if hook == "register_recipes":
        is_path = isinstance(target, str | os.PathLike)
        right = is_path and str(os.fspath(target)).endswith(_RECIPE_SUFFIXES)
        return "" if right else "must be the path of a .yaml file"
    if isinstance(target, str):
        return "" if _TARGET.fullmatch(target) else "must be of the form 'package.module:Name'"
    if hook == "register_commands":
        return "" if isinstance(target, click.Command) else "must be a click command, or its name"
    return "" if isinstance(target, type) else "must be a class, or its name"


def _misfit(hook: str, part: Any) -> str:
    if hook == "register_commands":
        return "" if isinstance(part, click.Command) else "must be a click command"
    from sentikit import extension

    interface = hookspecs.INTERFACES[hook]
    if not (isinstance(part, type) and issubclass(part, getattr(extension, interface))):
        return f"must be a subclass of sentikit.extension.{interface}"
    unwritten = sorted(getattr(part, "__abstractmethods__", ()))
    if unwritten:
        return f"does not implement {', '.join(unwritten)}"
    return _unusable_settings(getattr(part, "Settings", None))


def _unusable_settings(settings: Any) -> str:
    """Return why a component's settings class cannot be used."""
    from sentikit.extension import ComponentSettings

    if not (isinstance(settings, type) and issubclass(settings, ComponentSettings)):
        return "has a class Settings that is no subclass of sentikit.extension.ComponentSettings"
    if "name" in settings.model_fields:
        return "has a setting called 'name', which a recipe's section already has"
    try:
        settings.model_rebuild()
    except Exception as error:
        return f"has a class Settings that cannot be built: {one_line(error)[:-1]}"
    return ""
