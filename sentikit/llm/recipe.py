"""The check of `prompt` recipes, their components, and fine-tuned models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentikit.components import Problem, check_section, split_options, validate
from sentikit.datasets.opening import OpenedDataset, check_dataset
from sentikit.errors import InputError
from sentikit.llm.backend import LLMBackend
from sentikit.llm.settings import LLMOptions, PromptRecipe, StrategyOptions
from sentikit.llm.strategy import PromptStrategy
from sentikit.recipe.resolving import ResolvedRecipe, checked_components
from sentikit.registry import Registry
from sentikit.runs.folder import FINISHED, MANIFEST, RUNS, recorded_manifest
from sentikit.tracking import Tracker, check_trackers

DEFAULT_STRATEGY = "zero-shot"
_KIND = "finetune"


@dataclass(frozen=True)
class StrategyComponents:
    """The components that turn a split's examples into messages."""

    recipe: ResolvedRecipe
    dataset: OpenedDataset
    split: str
    examples_dataset: OpenedDataset
    strategy: PromptStrategy
    strategy_options: StrategyOptions

    @property
    def strategy_name(self) -> str:
        return str(self.recipe.values.get("strategy", {}).get("name", DEFAULT_STRATEGY))


def check_strategy_components(
    recipe: ResolvedRecipe, registry: Registry, splits: Iterable[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the fields of `StrategyComponents` that can be made, and every problem."""
    made: dict[str, Any] = {}
    problems: list[Problem] = []
    raw, section = recipe.values.get("dataset"), recipe.values.get("strategy")
    # The recipe's schema refuses a section that is no mapping.
    if isinstance(raw, Mapping):
        made["dataset"], problems = check_dataset(registry, raw, ("dataset",))
    if section is None:
        section = {"name": DEFAULT_STRATEGY}
    if not isinstance(section, Mapping):
        return made, problems
    strategy, options, more = check_section(
        registry,
        "register_prompt_strategies",
        StrategyOptions,
        section,
        ("strategy",),
        PromptStrategy,
    )
    made |= {"strategy": strategy, "strategy_options": options}
    problems += more
    if options:
        made["examples_dataset"] = made.get("dataset")
        if options.examples.dataset is not None:
            place = ("strategy", "examples", "dataset")
            named, more = check_dataset(registry, options.examples.dataset, place)
            made["examples_dataset"] = named
            problems += more
    if options and strategy:
        problems += _check_needs(recipe.values, strategy, options, set(splits))
    return made, problems


def _check_needs(
    values: Mapping[str, Any], strategy: PromptStrategy, options: StrategyOptions, splits: set[str]
) -> list[Problem]:
    section = values.get("strategy") or {}
    name, needs, examples = section.get("name"), strategy.needs(), options.examples
    found = {}
    if needs.prediction and options.adviser is None:
        found["adviser"] = (
            f"the strategy {name!r} shows a prediction. Name the classifier that "
            "predicts: a model, a run, a results file or PATH#encoder."
        )
    elif needs.encoder and (examples.encoder or options.adviser) is None:
        found["adviser"] = (
            f"the strategy {name!r} needs an encoder to find examples. Name a model or a run."
        )
    own_dataset = examples.dataset is None or examples.dataset == values.get("dataset")
    if needs.examples and own_dataset and examples.split in splits:
        found["examples.split"] = (
            f"the split {examples.split!r} is the one to label, so its examples would reveal the "
            "labels. Choose another split."
        )
    return [Problem(("strategy", *key.split(".")), message) for key, message in found.items()]


@dataclass(frozen=True)
class FineTunedRun:
    """A finished run of ``gpt-finetune``."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def provider(self) -> str:
        return str(self.manifest.get("provider"))

    @property
    def model(self) -> str:
        """The backend's `model`: a name, or the model's folder."""
        made = self.manifest.get("fine_tuned") or {}
        return str(made.get("model") or self.path / str(made.get("folder")))

    @property
    def strategy(self) -> dict[str, Any]:
        recipe = self.manifest.get("recipe") or {}
        return dict(recipe.get("strategy") or {"name": "zero-shot"})

    @property
    def cost(self) -> float | None:
        """USD billed, or None if nothing was billed or the amount is unknown."""
        costs = self.manifest.get("cost_usd") or {}
        return costs.get("fine_tuning")

    def section(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return a recipe's ``llm`` section, naming the model instead of the run."""
        made = self.manifest.get("fine_tuned") or {}
        return {**(made.get("llm") or {}), **raw, "model": self.model}


@dataclass(frozen=True)
class PromptComponents(StrategyComponents):
    """The components of an LLM's run; `split` is the one to label."""

    llm: LLMBackend
    llm_options: LLMOptions
    trackers: Mapping[str, Tracker]
    fine_tuned: FineTunedRun | None = None


def prompt_components(recipe: ResolvedRecipe, registry: Registry) -> PromptComponents:
    return checked_components(recipe, "prompt", lambda: check_prompt(recipe, registry))


def check_prompt(
    recipe: ResolvedRecipe, registry: Registry
) -> tuple[PromptComponents | None, list[Problem]]:
    """Make the components, or return every problem, without reading data or calling a server."""
    settings, problems = validate(PromptRecipe, recipe.values)
    splits = [settings.split] if settings else []
    made, more = check_strategy_components(recipe, registry, splits)
    problems += more
    found, more = _llm(registry, recipe.values.get("llm"))
    made, problems = made | found, problems + more
    llm, options = made.get("llm"), made.get("strategy_options")
    if llm and options and options.rationale and not llm.writes_text:
        message = "this LLM backend only chooses among the labels; set strategy.rationale: false."
        problems.append(Problem(("strategy", "rationale"), message))
    made["trackers"], more = check_trackers(registry, recipe.values.get("trackers", []))
    problems += more
    if not problems and options and made["fine_tuned"]:
        classes = made["dataset"].scheme.classes
        problems += check_fine_tuned_on(
            made["fine_tuned"], made["strategy"], options, classes, registry
        )
    if problems or settings is None:
        return None, problems
    return PromptComponents(recipe=recipe, split=settings.split, **made), []


def _llm(registry: Registry, raw: Any) -> tuple[dict[str, Any], list[Problem]]:
    if not isinstance(raw, Mapping):
        return {}, []
    try:
        run = find_fine_tuned(raw)
    except InputError as error:
        return {}, [Problem(("llm", "model"), error.message)]
    section = run.section(raw) if run else raw
    part, options, problems = check_section(
        registry, "register_llm_backends", LLMOptions, section, ("llm",), LLMBackend, "backend"
    )
    return {"llm": part, "llm_options": options, "fine_tuned": run}, problems


def find_fine_tuned(raw: Mapping[str, Any]) -> FineTunedRun | None:
    """Return the fine-tuning run that ``llm.model`` names by folder or by model name, if any."""
    model = raw.get("model")
    if not isinstance(model, str) or not model:
        return None
    folder = Path(model).expanduser()
    # A model's name has the current folder as its parent, which is no run of it.
    run = _run(folder) or (_run(folder.parent) if folder.exists() else None)
    if run is None:
        return _by_name(model, raw.get("backend"))
    if run.manifest.get("status") != FINISHED:
        raise InputError(
            f"{run.path} has no model yet: its status is {run.manifest.get('status')}. Resume it: "
            f"sentikit gpt-finetune --recipe {run.path}/recipe.yaml --output {run.path} --resume."
        )
    if run.provider != raw.get("backend"):
        raise InputError(
            f"{run.path} was fine-tuned by {run.provider!r}, but llm.backend is "
            f"{raw.get('backend')!r}. Use {run.provider!r}, or give the model's name on its server."
        )
    return run


def missing_run(model: str) -> str:
    """Return a sentence if a model is the path of a run that does not exist, else ""."""
    path = Path(model).expanduser()
    if path.exists() or path.parts[:1] != RUNS.parts:
        return ""
    return (
        f"There is no run {model}. Fine-tune it first (sentikit gpt-finetune --recipe "
        f"{path.name}), or name another model with --set llm.model=…"
    )


def check_fine_tuned_on(
    run: FineTunedRun,
    strategy: PromptStrategy,
    options: StrategyOptions,
    classes: tuple[str, ...],
    registry: Registry,
) -> list[Problem]:
    """Report labels and messages that the model was not fine-tuned on, unless intended."""
    if options.not_as_trained:
        return []
    advice = "If that is intended, set strategy.not_as_trained: true."
    trained = tuple(run.manifest.get("classes") or ())
    problems = []
    if trained != classes:
        trained_names, names = ", ".join(trained), ", ".join(classes)
        message = f"{run.path} was fine-tuned on the labels {trained_names}, not {names}."
        problems.append(Problem(("dataset", "labels"), f"{message} {advice}"))
    if not _same(strategy, run.strategy, registry):
        message = (
            f"{run.path} was fine-tuned on the messages of {_described(run.strategy)}, but this "
            f"recipe sends others. Use that strategy. {advice}"
        )
        problems.append(Problem(("strategy",), message))
    return problems


def _same(strategy: PromptStrategy, trained: Mapping[str, Any], registry: Registry) -> bool:
    try:
        trained_class = registry.load("register_prompt_strategies", str(trained.get("name")))
    except InputError:
        return False
    own = split_options(StrategyOptions, trained)[1]
    own.pop("name", None)
    settings, _ = validate(trained_class.Settings, own)
    return type(strategy) is trained_class and strategy.settings == settings


def _described(section: Mapping[str, Any]) -> str:
    own = split_options(StrategyOptions, section)[1]
    name = own.pop("name", "zero-shot")
    settings = ", ".join(f"{key}: {str(value).lower()}" for key, value in own.items())
    return f"{name!r} ({settings})" if settings else repr(name)


def _run(path: Path) -> FineTunedRun | None:
    manifest = recorded_manifest(path)
    return FineTunedRun(path, manifest) if manifest.get("kind") == _KIND else None


def _by_name(model: str, backend: Any) -> FineTunedRun | None:
    """Return the finished run under runs/ that produced the model of this name, if any."""
    for manifest in sorted(RUNS.glob(f"*/{MANIFEST}")):
        with contextlib.suppress(InputError):
            run = _run(manifest.parent)
            finished = run is not None and run.manifest.get("status") == FINISHED
            if run and finished and (run.model, run.provider) == (model, backend):
                return run
    return None
