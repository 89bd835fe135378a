"""Fine-tuned models in prompt recipes: found by their run, asked what they were taught."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentikit.components import Problem, split_options, validate
from sentikit.errors import InputError
from sentikit.files import read_json
from sentikit.llm.settings import StrategyOptions
from sentikit.llm.strategy import PromptStrategy
from sentikit.registry import Registry
from sentikit.runs.folder import FINISHED, MANIFEST

_RUNS = Path("runs")
_KIND = "finetune"


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
        """What the backend is asked for: a name, or the folder of the model."""
        made = self.manifest.get("fine_tuned") or {}
        return str(made.get("model") or self.path / str(made.get("folder")))

    @property
    def strategy(self) -> dict[str, Any]:
        recipe = self.manifest.get("recipe") or {}
        return dict(recipe.get("strategy") or {"name": "zero-shot"})

    @property
    def cost(self) -> float | None:
        """USD that was billed, or None where nothing was, or it is unknown."""
        costs = self.manifest.get("cost_usd") or {}
        return costs.get("fine_tuning")

    def section(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return a recipe's ``llm`` section with the model itself in the place of the run."""
        made = self.manifest.get("fine_tuned") or {}
        return {**(made.get("llm") or {}), **raw, "model": self.model}


def find_fine_tuned(raw: Mapping[str, Any]) -> FineTunedRun | None:
    """Return the run whose model an ``llm`` section asks for: by its folder, or by its name."""
    model = raw.get("model")
    if not isinstance(model, str) or not model:
        return None
    folder = Path(model).expanduser()
    # The name of a model that is no folder here has no parent either, but for this very folder.
    run = _run(folder) or (_run(folder.parent) if folder.exists() else None)
    if run is None:
        return _by_name(model, raw.get("backend"))
    if run.manifest.get("status") != FINISHED:
        raise InputError(
            f"{run.path} has no model yet: it is {run.manifest.get('status')}. Come back to it: "
            f"sentikit gpt-finetune --recipe {run.path}/recipe.yaml --output {run.path} --resume."
        )
    if run.provider != raw.get("backend"):
        raise InputError(
            f"{run.path} was taught by {run.provider!r}; llm.backend is {raw.get('backend')!r}. "
            f"Ask it through {run.provider!r}, or name the model as its server does."
        )
    return run


def missing_run(model: str) -> str:
    """Say that a model is meant to be a run and is not there, or return ""."""
    path = Path(model).expanduser()
    if path.exists() or path.parts[:1] != _RUNS.parts:
        return ""
    return (
        f"There is no run {model}. Make it first (sentikit gpt-finetune --recipe {path.name} "
        "leaves it there), or name another model with --set llm.model=…"
    )


def check_taught(
    run: FineTunedRun,
    strategy: PromptStrategy,
    options: StrategyOptions,
    classes: tuple[str, ...],
    registry: Registry,
) -> list[Problem]:
    """Say in what the messages differ from those the model was taught, unless that is meant."""
    if options.not_as_trained:
        return []
    advice = "If that is meant, say so: strategy.not_as_trained: true."
    learnt = tuple(run.manifest.get("classes") or ())
    problems = []
    if learnt != classes:
        message = f"{run.path} learnt the labels {', '.join(learnt)}, not {', '.join(classes)}."
        problems.append(Problem(("dataset", "labels"), f"{message} {advice}"))
    if not _same(strategy, run.strategy, registry):
        message = (
            f"{run.path} learnt the messages of {_described(run.strategy)}; this recipe sends "
            f"others, which it was never taught. Take that strategy. {advice}"
        )
        problems.append(Problem(("strategy",), message))
    return problems


def _same(strategy: PromptStrategy, learnt: Mapping[str, Any], registry: Registry) -> bool:
    try:
        learnt_class = registry.load("register_prompt_strategies", str(learnt.get("name")))
    except InputError:
        return False
    own = split_options(StrategyOptions, learnt)[1]
    own.pop("name", None)
    settings, _ = validate(learnt_class.Settings, own)
    return type(strategy) is learnt_class and strategy.settings == settings


def _described(section: Mapping[str, Any]) -> str:
    own = split_options(StrategyOptions, section)[1]
    name = own.pop("name", "zero-shot")
    settings = ", ".join(f"{key}: {str(value).lower()}" for key, value in own.items())
    return f"{name!r} ({settings})" if settings else repr(name)


def _run(path: Path) -> FineTunedRun | None:
    if not (path / MANIFEST).is_file():
        return None
    manifest = read_json(path / MANIFEST)
    return FineTunedRun(path, manifest) if manifest.get("kind") == _KIND else None


def _by_name(model: str, backend: Any) -> FineTunedRun | None:
    """Return the finished run under runs/ that made the model of this name, if any."""
    for manifest in sorted(_RUNS.glob(f"*/{MANIFEST}")):
        with contextlib.suppress(InputError):
            run = _run(manifest.parent)
            finished = run is not None and run.manifest.get("status") == FINISHED
            if run and finished and (run.model, run.provider) == (model, backend):
                return run
    return None
