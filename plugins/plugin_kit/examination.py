"""Checks of a whole plugin: it loads, is light, and each component passes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from sentikit import InputError, SentikitError
from sentikit.extension import (
    Answer,
    ChatRequest,
    LLMCall,
    Message,
    PluginReport,
    PluginSource,
    Registration,
    Registry,
    TrackedRun,
    Tracker,
    Usage,
    did_you_mean,
    disabled_plugins,
    find_hardware,
    fine_tuner_of,
    installed_plugins,
)

from .classifiers import check_classifier, check_metric, check_report_format
from .components import check_component, check_settings_class, needs_settings, require
from .data import check_command, check_dataset, check_recipe, check_table_format
from .engines import check_engine
from .llm import check_llm_backend, check_prompt_strategy
from .models import check_encoder, check_format, check_head, check_result_format

_CALL = LLMCall(
    request=ChatRequest((Message("user", "Review: I love it"),), ("negative", "positive")),
    model="some-model",
    parameters={"temperature": 0.0},
    began=1_700_000_000.0,
    seconds=0.5,
    answer=Answer("positive", Usage(prompt=20, completion=1)),
    label="positive",
    cost=0.0001,
)


def check_tracker(tracker_class: type[Tracker], settings: Mapping[str, Any]) -> None:
    """Run a tracker on a short run; give settings that keep it off the network.

    Raises:
        AssertionError: its settings break a rule. Exceptions of the tracker are not caught.
    """
    tracker = check_component(tracker_class, settings)
    with tempfile.TemporaryDirectory() as temporary:
        recipe = {"kind": "train", "training": {"lr": 1e-5}}
        tracker.start(TrackedRun(kind="train", path=Path(temporary) / "run", recipe=recipe))
        step = {"kind": "step", "step": 1, "epoch": 1, "loss": 0.7, "gradient_norm": None}
        tracker.log(step)
        tracker.log({"kind": "epoch", "step": 1, "epoch": 1, "validation_macro_f1": 0.5})
        tracker.log({"kind": "of a later version", "step": 1})
        tracker.call(_CALL)
        tracker.call(replace(_CALL, answer=None, label=None, reason="network", error="Reset."))
        tracker.alert("Training collapsed", "Every text is called 'positive'.")
        tracker.finish({"overall": {"macro_f1": 0.5}}, "finished")


ComponentCheck = Callable[[Any, Mapping[str, Any]], None]


#: The check of each hook's components; recipes and commands have no settings.
COMPONENT_CHECKS: dict[str, ComponentCheck] = {
    "register_datasets": check_dataset,
    "register_table_formats": check_table_format,
    "register_encoders": check_encoder,
    "register_heads": check_head,
    "register_classifiers": check_classifier,
    "register_llm_backends": check_llm_backend,
    "register_prompt_strategies": check_prompt_strategy,
    "register_engines": check_engine,
    "register_trackers": check_tracker,
    "register_formats": check_format,
    "register_result_formats": check_result_format,
    "register_metrics": check_metric,
    "register_reports": check_report_format,
}
#: Hooks whose components may load large files or use the network: run only with given settings.
_CAREFUL = {
    "register_datasets",
    "register_encoders",
    "register_llm_backends",
    "register_trackers",
}


#: Packages that a plugin may only import when a component is used.
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

#: Seconds in which a plugin must load, and those after which the kit gives up.
QUICK, PATIENT = 0.3, 20.0
#: Further measurements of a plugin that is slow.
_REPEATS = 2

_MEASURE = """
import json, sys, threading, time
from sentikit.extension import PluginSource, Registry
heavy, measured = json.loads(sys.argv[1]), {}
for location in json.loads(sys.argv[2]):
    before, began = set(sys.modules), time.perf_counter()
    Registry([PluginSource.at("plugin", "a plugin", "", location)]).reports()
    measured[location] = {
        "seconds": time.perf_counter() - began,
        "heavy": [name for name in heavy if name in sys.modules and name not in before],
        "threads": sum(not t.daemon for t in threading.enumerate()) - 1,
    }
    with open(sys.argv[3], "w", encoding="utf-8") as stream:
        json.dump(measured, stream)
"""


@dataclass(frozen=True)
class Finding:
    """The kit's result for a plugin or one of its components.

    Attributes:
        plugin: the plugin's name.
        kind: of the component: dataset, head, …; ``plugin`` for the plugin itself.
        name: the component's, or the plugin's.
        tried: whether it was run; otherwise only its class and settings were checked.
        problem: what is wrong, or "".
    """

    plugin: str
    kind: str
    name: str
    tried: bool
    problem: str


def check_plugin(
    plugin: str | ModuleType, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Check a plugin and everything that it registers.

    Args:
        plugin: the name of an installed plugin, or the module of any plugin.
        settings: settings to try, by component name. Components that may load large files or use
            the network (datasets, encoders, LLM backends, trackers) are only run with settings.

    Raises:
        AssertionError: anything breaks a rule; the message lists all problems.
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
    """Check plugins one by one, and yield a finding for each component."""
    measured = measure_loading(r for r in reports if r.state == "loaded")
    for report in reports:
        problems = [*report.problems, *_loading_problems(report, measured)]
        if not (report.registrations or problems):
            problems.append("it registers nothing.")
        yield Finding(report.name, "plugin", report.name, True, " ".join(problems))
        for registration in report.registrations:
            yield _examined(registration, registry, settings.get(registration.name))


def _loading_problems(
    report: PluginReport, measured: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Describe problems with loading a plugin."""
    if report.state != "loaded":
        return
    if report.location not in measured:
        yield f"loading it took more than {PATIENT:.0f} s, or ended the process."
        return
    found = measured[report.location]
    if found["heavy"]:
        yield (
            f"loading it imports {', '.join(found['heavy'])}. Register 'module:Class' texts and "
            "import inside functions."
        )
    elif found["seconds"] > QUICK:
        yield (
            f"loading it takes {found['seconds']:.1f} s, and every command waits for it; less than "
            f"{QUICK} s are allowed. Import inside functions."
        )
    if found["threads"] > 0:
        yield "loading it starts a thread, which keeps every command from ending."


def measure_loading(reports: Iterable[PluginReport]) -> dict[str, dict[str, Any]]:
    """Load plugins in new interpreters; return the measurements by location.

    Each has ``seconds``, the ``heavy`` modules it imports, and the ``threads`` it leaves. A plugin
    that does not finish loading is missing. A slow one is measured up to three times, and its least
    seconds count: the machine may have been busy.
    """
    together: list[str] = []
    alone: list[str] = []
    for report in reports:
        (together if report.distribution == "sentikit" else alone).append(report.location)
    measured = _measured(together) if together else {}
    for location in alone:
        measured |= _measured([location])
    for location in [*together, *alone]:
        for _ in range(_REPEATS):
            if not QUICK < measured.get(location, {"seconds": 0.0})["seconds"] < 10 * QUICK:
                break
            again = _measured([location]).get(location, measured[location])
            measured[location] = min(measured[location], again, key=lambda found: found["seconds"])
    return measured


def _measured(locations: Sequence[str]) -> dict[str, dict[str, Any]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory() as temporary:
        # The result is written to a file, since a plugin may print anything.
        result = Path(temporary) / "measured.json"
        arguments = [json.dumps(HEAVY_MODULES), json.dumps(locations), str(result)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(  # noqa: S603 - our own interpreter, our own text
                [sys.executable, "-c", _MEASURE, *arguments],
                env=environment,
                capture_output=True,
                check=False,
                timeout=PATIENT * len(locations),
            )
        found: dict[str, dict[str, Any]] = json.loads(result.read_text()) if result.exists() else {}
    return found


def _sources(plugin: str | ModuleType) -> list[PluginSource]:
    sources = installed_plugins()
    if not isinstance(plugin, str):
        name = plugin.__name__
        sources.append(PluginSource.at(name, name, "", name))
    return sources


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
    # A component may raise anything; the others are still checked.
    except (Exception, SystemExit) as error:
        problem = f"{type(error).__name__}: {error}"
    return Finding(registration.plugin, registration.kind, registration.name, tried, problem)


def _check(
    registration: Registration, registry: Registry, settings: Mapping[str, Any] | None
) -> bool:
    """Check one registration; return whether the component was run."""
    if registration.hook == "register_recipes":
        check_recipe(registration.load(), registry)
        return True
    if registration.hook == "register_commands":
        check_command(registration.load(), registration.name)
        return True
    component_class = registration.load()
    check_settings_class(component_class)
    if registration.hook == "register_llm_backends":
        fine_tuner = fine_tuner_of(component_class)
        if fine_tuner is not None:
            check_settings_class(fine_tuner)
    careful = registration.hook in _CAREFUL or needs_settings(component_class)
    if settings is None and careful:
        return False
    if registration.hook == "register_engines" and not component_class.suits(find_hardware()):
        return False
    try:
        COMPONENT_CHECKS[registration.hook](component_class, settings or {})
    except InputError as error:
        # A component whose extra is not installed cannot be run.
        if settings is not None or not isinstance(error.__cause__, ImportError):
            raise
        return False
    return True
