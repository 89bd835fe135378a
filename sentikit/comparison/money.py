"""Costs of runs in USD: training once, and inference per text."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sentikit.comparison.alignment import is_called
from sentikit.comparison.results import BreakEven, RunCost, RunFindings
from sentikit.errors import InputError, did_you_mean
from sentikit.runs.folder import recorded_manifest
from sentikit.runs.table import RunTable
from sentikit.terminal import usd_text

#: Items of a manifest's cost_usd: the answers, and the costs paid once before them.
_ANSWERS, _PROBING, _ENCODER = "llm", "probing", "encoder"
_ENSEMBLES = ("cascade", "vote")
#: Kinds of runs that train a model.
_TRAINED = ("train", "finetune")


@dataclass(frozen=True)
class Rates:
    """Costs in USD that the user gives: per GPU hour, and by a run's name or path."""

    gpu_hour: float | None = None
    training: Mapping[str, float] = field(default_factory=dict)
    per_1000: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Cost:
    usd: float | None
    basis: str


def check_rates(runs: Sequence[RunTable], rates: Rates) -> None:
    """Refuse amounts out of range, and costs of runs that are not compared."""
    if rates.gpu_hour is not None and not _is_amount(rates.gpu_hour):
        raise InputError(f"--gpu-rate must be 0 USD or more, not {rates.gpu_hour:g}.")
    parts = (
        [part for run in runs for part in _trained_parts(run.manifest)] if rates.training else []
    )
    for option, amounts, own in (
        ("--training-cost", rates.training, parts),
        ("--inference-cost", rates.per_1000, []),
    ):
        for name, usd in amounts.items():
            if not _is_amount(usd):
                raise InputError(f"{option} of {name} must be 0 USD or more, not {usd:g}.")
            called = any(is_called(name, run.name, run.path) for run in runs)
            if not called and not any(is_called(name, part, part) for part in own):
                known = [*(run.name for run in runs), *dict.fromkeys(own)]
                raise InputError(
                    f"{option}: {name!r} is not among the runs. {did_you_mean(name, known)}"
                )


#: A recorded amount above this comes from a damaged file.
_MOST_USD = 1e12


def check_recorded(run: RunTable) -> None:
    """Refuse impossible amounts in a manifest or a row."""
    costs = run.manifest.get("cost_usd") or {}
    if not isinstance(costs, Mapping):
        raise InputError(
            f"{run.path}: cost_usd in its manifest.json must be a mapping of items to USD."
        )
    for item, usd in costs.items():
        if usd is not None and not _is_amount(usd):
            raise InputError(
                f"{run.path}: {item} in its manifest is {_shown(usd)}, which is not a cost in USD. "
                "Correct cost_usd in its manifest.json, or set it to null if it is unknown."
            )
    for key in ("training_seconds", "processes"):
        value = run.manifest.get(key)
        if value is not None and not _is_amount(value):
            raise InputError(
                f"{run.path}: {key} in its manifest.json is {_shown(value)}. Set it to a number of "
                "0 or more, or to null."
            )
    if run.cost is not None:
        odd = np.flatnonzero((run.cost < 0) | (run.cost > _MOST_USD))
        if len(odd):
            raise InputError(
                f"{run.path}: a row has a cost of {run.cost[odd[0]]:g} USD. Costs must be 0 or "
                "more, or null if they are unknown."
            )


def _is_amount(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= _MOST_USD


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 30 else f"{repr(value)[:30]}…"


def run_cost(run: RunTable, macro_f1: float, examples: int, rates: Rates) -> RunCost:
    check_recorded(run)
    training, answers = _training(run, rates), _per_1000(run, rates)
    total = None
    if training.usd is not None and answers.usd is not None:
        total = training.usd + answers.usd * examples / 1000
    return RunCost(
        training=training.usd,
        training_basis=training.basis,
        per_1000=answers.usd,
        per_1000_basis=answers.basis,
        total=total,
        per_f1_point=cost_per_point(training.usd, macro_f1),
        per_f1_point_with_inference=cost_per_point(total, macro_f1),
    )


def cost_per_point(usd: float | None, macro_f1: float) -> float | None:
    """Return USD per point of macro-F1 (Beno 2025, section 4); None if undefined."""
    return None if usd is None or macro_f1 <= 0 else usd / (100 * macro_f1)


def _training(run: RunTable, rates: Rates) -> _Cost:
    given = _given(run, rates.training)
    if given is not None:
        return _Cost(given, "given by the user")
    manifest = run.manifest
    if not manifest:
        return _Cost(None, "unknown: a results file has no manifest")
    parts = [_measured(manifest, rates), *_billed(manifest), *_of_encoder(manifest, rates)]
    known = [part for part in parts if part is not None]
    if not known and manifest.get("kind") == "train":
        return _Cost(None, "unknown: give --gpu-rate")
    if any(part.usd is None for part in known):
        return next(part for part in known if part.usd is None)
    total = float(sum(part.usd or 0.0 for part in known))
    return _Cost(total, "; ".join(part.basis for part in known) or "nothing was trained")


def _measured(manifest: Mapping[str, Any], rates: Rates) -> _Cost | None:
    seconds = manifest.get("training_seconds")
    if manifest.get("kind") not in _TRAINED or not isinstance(seconds, int | float):
        return None
    if rates.gpu_hour is None:
        return _Cost(None, "unknown: give --gpu-rate")
    devices = int(manifest.get("processes") or 1)
    hours = float(seconds) / 3600
    basis = f"{hours:.3f} h on {devices} x {manifest.get('device') or 'device'}"
    return _Cost(hours * devices * rates.gpu_hour, f"{basis} at ${rates.gpu_hour:g} an hour")


def _items(manifest: Mapping[str, Any], *kinds: str) -> dict[str, float | None]:
    """Return a manifest's costs of these kinds; a vote numbers the items of its members."""
    costs = manifest.get("cost_usd") or {}
    return {item: usd for item, usd in costs.items() if item.split(" ")[0] in kinds}


def _billed(manifest: Mapping[str, Any]) -> list[_Cost]:
    """Return the training costs that a provider billed, except the encoder's."""
    apart = _items(manifest, _ANSWERS, _PROBING, _ENCODER)
    costs = manifest.get("cost_usd") or {}
    return [_Cost(usd, f"{item}, as billed") for item, usd in costs.items() if item not in apart]


def _of_encoder(manifest: Mapping[str, Any], rates: Rates) -> list[_Cost]:
    """Return the training costs of the encoders and local fine-tuned LLMs in a run."""
    billed = _items(manifest, _ENCODER)
    known = [_Cost(usd, "its encoder, from its run") for usd in billed.values()]
    return known + [
        _of_part(name, own, rates)
        for name, own in _trained_parts(manifest).items()
        if not billed or (own or {}).get("kind") == "finetune"
    ]


def _of_part(name: str, manifest: Mapping[str, Any] | None, rates: Rates) -> _Cost:
    for key, amount in rates.training.items():
        if is_called(key, name, name):
            return _Cost(amount, f"{Path(name).name}, given by the user")
    measured = _measured(manifest, rates) if manifest else None
    if measured is None:
        return _Cost(None, f"unknown: the training cost of {name}")
    part = "its LLM" if manifest and manifest.get("kind") == "finetune" else "its encoder"
    return _Cost(measured.usd, f"{part}, {measured.basis}")


def _trained_parts(
    manifest: Mapping[str, Any], above: frozenset[str] = frozenset()
) -> dict[str, Mapping[str, Any] | None]:
    """Return the manifests of the runs that trained a run's members; None for other members.

    `above` are the runs that contain it: an overwritten folder may name itself.
    """
    found: dict[str, Mapping[str, Any] | None] = {}
    for name in _members(manifest.get("recipe") or {}):
        plain = name.removesuffix("#encoder")
        own = recorded_manifest(plain)
        if not own or own.get("kind") in _TRAINED:
            found[plain] = own or None
        elif plain not in above:
            found |= _trained_parts(own, above | {plain})
    return found


def _members(recipe: Mapping[str, Any]) -> list[str]:
    """Return the runs and models that a recipe combines."""
    strategy, cascade, vote = (recipe.get(key) or {} for key in ("strategy", "cascade", "vote"))
    named = [strategy.get("adviser"), strategy.get("encoder")]
    named += [cascade.get("encoder"), cascade.get("llm"), *(cascade.get("members") or [])]
    tuned, evaluated = (recipe.get("llm") or {}).get("model"), str(recipe.get("model") or "")
    named += [tuned] if _tuned_here(tuned) else []
    named += [evaluated] if evaluated and recorded_manifest(evaluated) else []
    return [name for name in [*named, *(vote.get("members") or [])] if isinstance(name, str)]


def _tuned_here(model: Any) -> bool:
    """Return whether a model is a fine-tuning run that no provider billed."""
    own = recorded_manifest(model) if isinstance(model, str) else {}
    return own.get("kind") == "finetune" and not own.get("cost_usd")


def _per_1000(run: RunTable, rates: Rates) -> _Cost:
    given = _given(run, rates.per_1000)
    if given is not None:
        return _Cost(given, "given by the user")
    kind = run.manifest.get("kind")
    answers = _items(run.manifest, _ANSWERS)
    rows = (run.manifest.get("dataset") or {}).get("examples")
    if answers and rows and None not in answers.values():
        total = sum(usd or 0.0 for usd in answers.values())
        return _Cost(total / rows * 1000, f"${usd_text(total)} for {rows:,} texts, from its run")
    # An ensemble's rows record costs only where an LLM answered.
    if kind not in _ENSEMBLES and run.cost is not None and np.isfinite(run.cost).any():
        known = int(np.isfinite(run.cost).sum())
        mean = float(np.nanmean(run.cost)) * 1000
        return _Cost(mean, f"mean of {known:,} recorded answers")
    if kind in ("train", "evaluate"):
        return _Cost(0.0, "own hardware; its time was not measured")
    return _Cost(None, "unknown: no costs are recorded")


def _given(run: RunTable, amounts: Mapping[str, float]) -> float | None:
    for key in (run.name, run.path):
        if key in amounts:
            return float(amounts[key])
    called = (usd for key, usd in amounts.items() if is_called(key, run.name, run.path))
    return next(map(float, called), None)


def pareto_front(findings: Sequence[RunFindings]) -> dict[str, bool | None]:
    """Return whether each run is on the front: no other is both cheaper and better, or tied in one.

    The cost is training plus inference of the compared texts; None if it is unknown.
    """
    known = [(run.name, run.cost.total, run.scores.macro_f1) for run in findings]
    priced = [(name, cost, f1) for name, cost, f1 in known if cost is not None]
    front: dict[str, bool | None] = {run.name: None for run in findings}
    for name, cost, f1 in priced:
        front[name] = not any(
            other <= cost and better >= f1 and (other < cost or better > f1)
            for _, other, better in priced
        )
    return front


def break_even(findings: Sequence[RunFindings]) -> tuple[BreakEven, ...]:
    """Return the number of texts from which cheaper answers outweigh a higher training cost."""
    found = []
    known = [
        (run.cost.training, run.cost.per_1000, run.name)
        for run in findings
        if run.cost.training is not None and run.cost.per_1000 is not None
    ]
    for pair in itertools.combinations(known, 2):
        (before, dearer, first), (after, cheaper, second) = sorted(pair, key=lambda one: one[0])
        if after > before and dearer > cheaper:
            texts = (after - before) / ((dearer - cheaper) / 1000)
            found.append(BreakEven(first, second, texts))
    return tuple(found)
