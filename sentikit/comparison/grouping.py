"""Finds seeds and rounds of one set-up."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sentikit.comparison.aligned import AlignedRun
from sentikit.comparison.results import Group, RunFindings, Spread

#: What ends the name of a results file that is one of several: -seed42, _round2, -r3, .run1.
_ROUND = re.compile(r"[-_. ]+(?:seed|round|run|rep|r|s)[-_ ]?\d+$", re.IGNORECASE)


def group_runs(runs: Sequence[AlignedRun], findings: Sequence[RunFindings]) -> tuple[Group, ...]:
    """Group runs whose recipes differ in seeds alone, and files whose names differ in a round."""
    members: dict[tuple[str, str], list[RunFindings]] = {}
    for run, found in zip(runs, findings, strict=True):
        members.setdefault(_set_up(run), []).append(found)
    return tuple(_group(key[1], found) for key, found in members.items() if len(found) > 1)


def spread(values: Sequence[float]) -> Spread:
    """Return mean and sample standard deviation (n - 1) of two values or more."""
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)))


def _group(key: str, found: Sequence[RunFindings]) -> Group:
    names = tuple(run.name for run in found)
    name = shared_name(names) if key.startswith("{") else key
    return Group(
        name,
        names,
        spread([run.scores.macro_f1 for run in found]),
        spread([run.scores.accuracy for run in found]),
    )


def shared_name(names: Sequence[str]) -> str:
    """Return what the names of a group's runs begin with, or the first of them."""
    start = names[0]
    for name in names[1:]:
        while not name.startswith(start):
            start = start[:-1]
    trimmed = _ROUND.sub("", start).rstrip("-_. ")
    trimmed = re.sub(r"[-_. ]*(?:seed|round|run|rep)$", "", trimmed, flags=re.IGNORECASE)
    return trimmed or names[0]


def _set_up(run: AlignedRun) -> tuple[str, str]:
    """Return what runs of one set-up have in common."""
    suffix = "#encoder" if run.path.endswith("#encoder") else ""
    recipe = run.manifest.get("recipe")
    if recipe:
        return "recipe", json.dumps(_without_seeds(recipe), sort_keys=True)
    plain = run.name.removesuffix(suffix)
    return "name", (_ROUND.sub("", plain) or plain) + suffix


def _without_seeds(value: Any) -> Any:
    if isinstance(value, Mapping):
        left_out = ("seed", "description")
        return {key: _without_seeds(own) for key, own in value.items() if key not in left_out}
    if isinstance(value, list):
        return [_without_seeds(item) for item in value]
    return value
