"""What is expected of a whole plugin: it loads, it is light, and each of its parts is sound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from sentikit.devices import find_hardware
from sentikit.errors import SentikitError, did_you_mean
from sentikit.finetuning.recipe import fine_tuner_of
from sentikit.registration import Registration
from sentikit.registry import (
    PluginReport,
    PluginSource,
    Registry,
    disabled_plugins,
    installed_plugins,
)
from sentikit.testing.commands import check_command
from sentikit.testing.fine_tuners import check_fine_tuner_class
from sentikit.testing.kinds import PART_CHECKS
from sentikit.testing.parts import check_settings_class, needs_settings, require
from sentikit.testing.recipes import check_recipe

#: What a plugin may import when a part is used, not when it is loaded.
HEAVY_MODULES = (
    "datasets",
    "deepspeed",
    "numpy",
    "openai",
    "pandas",
    "pyarrow",
    "pydantic",
    "sklearn",
    "torch",
    "transformers",
)

_LIST_HEAVY = """
import json, sys
from sentikit.registry import PluginSource
from sentikit.registry import Registry
heavy, found = json.loads(sys.argv[1]), {}
for location in json.loads(sys.argv[2]):
    before = set(sys.modules)
    Registry([PluginSource.at("plugin", "", "", location)]).reports()
    found[location] = [name for name in heavy if name in sys.modules and name not in before]
sys.stdout.write(json.dumps(found))
"""


@dataclass(frozen=True)
class Finding:
    """What the kit has to say of a plugin, or of one of its parts.

    Attributes:
        plugin: the plugin's name.
        kind: of the part: dataset, head, …; ``plugin`` for the plugin itself.
        name: the part's, or the plugin's.
        tried: whether the part was put to work; otherwise only its class and settings were read.
        problem: what is wrong; empty where all is well.
    """

    plugin: str
    kind: str
    name: str
    tried: bool
    problem: str


def check_plugin(
    plugin: str | ModuleType, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Check a plugin and all that it registers.

    Args:
        plugin: the name of an installed plugin, or a plugin's module that need not be installed.
        settings: by part name, settings to try the part with. Parts that may load much or reach
            a network (datasets, encoders, LLM backends, trackers) are put to work only with them.

    Raises:
        AssertionError: anything breaks a rule; all problems at once.
    """
    name = plugin if isinstance(plugin, str) else plugin.__name__
    registry = Registry(_sources(plugin), disabled_plugins())
    reports = {report.name: report for report in registry.reports()}
    require(name in reports, f"There is no plugin named {name!r}. {did_you_mean(name, reports)}")
    findings = examine([reports[name]], registry, settings or {})
    problems = [f"{f.kind} {f.name}: {f.problem}" for f in findings if f.problem]
    require(not problems, f"Plugin {name}: " + "\n".join(problems))


def examine(
    reports: Sequence[PluginReport],
    registry: Registry,
    settings: Mapping[str, Mapping[str, Any]],
) -> Iterator[Finding]:
    """Check plugins one after the other and yield what is found, sound parts included."""
    heavy = heavy_imports(report.location for report in reports if report.state == "loaded")
    for report in reports:
        problems = [*report.problems]
        if heavy.get(report.location):
            problems.append(
                f"loading it imports {', '.join(heavy[report.location])}. Register "
                "'module:Class' texts and import inside functions."
            )
        if not (report.registrations or problems):
            problems.append("it registers nothing.")
        yield Finding(report.name, "plugin", report.name, True, " ".join(problems))
        for registration in report.registrations:
            yield _examined(registration, registry, settings.get(registration.name))


def heavy_imports(locations: Iterable[str]) -> dict[str, list[str]]:
    """Load plugins in a fresh interpreter; return which heavy modules each one pulls in."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arguments = [json.dumps(HEAVY_MODULES), json.dumps(list(locations))]
    done = subprocess.run(  # noqa: S603 - our own interpreter, our own text
        [sys.executable, "-c", _LIST_HEAVY, *arguments],
        env=environment,
        capture_output=True,
        check=True,
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def _sources(plugin: str | ModuleType) -> list[PluginSource]:
    installed = installed_plugins()
    if isinstance(plugin, str):
        return installed
    return [*installed, PluginSource.at(plugin.__name__, plugin.__name__, "", plugin.__name__)]


def _examined(
    registration: Registration, registry: Registry, settings: Mapping[str, Any] | None
) -> Finding:
    tried, problem = False, ""
    try:
        tried = _check(registration, registry, settings)
    except SentikitError as error:
        problem = error.message
    except AssertionError as error:
        problem = str(error)
    # A part may raise anything; the other parts are checked all the same.
    except (Exception, SystemExit) as error:
        problem = f"{type(error).__name__}: {error}"
    return Finding(registration.plugin, registration.kind, registration.name, tried, problem)


def _check(
    registration: Registration, registry: Registry, settings: Mapping[str, Any] | None
) -> bool:
    """Check one registration; say whether the part was put to work."""
    if registration.hook == "register_recipes":
        check_recipe(registration.load(), registry)
        return True
    if registration.hook == "register_commands":
        check_command(registration.load(), registration.name)
        return True
    rules = PART_CHECKS[registration.hook]
    part_class = registration.load()
    check_settings_class(part_class, rules.core_keys)
    if registration.hook == "register_llm_backends":
        teacher = fine_tuner_of(part_class)
        if teacher is not None:
            check_fine_tuner_class(teacher)
    if settings is None and (not rules.harmless or needs_settings(part_class)):
        return False
    if registration.hook == "register_engines" and not part_class.suits(find_hardware()):
        return False
    rules.check(part_class, settings or {})
    return True
