"""Summaries of runs, read from their manifests and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sentikit.components import refuse, validate
from sentikit.errors import InputError
from sentikit.files import read_json
from sentikit.runs.folder import (
    LOG,
    MANIFEST,
    METRICS,
    PREDICTIONS,
    RECIPE,
    RUNS,
    RunFolder,
    near_runs,
)

DAMAGED = "damaged"


class _Foreign(BaseModel):
    """Base of schemas for files that other programs may have written or damaged."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class _ClassScores(_Foreign):
    precision: float = Field(ge=0, le=1)
    recall: float = Field(ge=0, le=1)
    f1: float = Field(ge=0, le=1)
    support: int = Field(ge=0)


class _Scores(_Foreign):
    examples: int = Field(ge=0)
    macro_f1: float = Field(ge=0, le=1)
    accuracy: float = Field(ge=0, le=1)
    per_class: dict[str, _ClassScores]


class _Metrics(_Foreign):
    """``metrics.json``; ``overall`` is missing if no text has a gold label."""

    split: str = ""
    overall: _Scores | None = None
    by_source: dict[str, _Scores] = Field(default_factory=dict)

    @field_validator("overall")
    @classmethod
    def _is_given(cls, scores: _Scores | None) -> _Scores:
        if scores is None:
            raise ValueError("has no scores")
        return scores


class _Manifest(_Foreign):
    """The keys of ``manifest.json`` that lists show."""

    status: str
    kind: str = ""
    started: str = ""
    dataset: dict[str, Any] = Field(default_factory=dict)
    fine_tuned: dict[str, Any] | None = None


@dataclass(frozen=True)
class RunSummary:
    """The summary of one run; scores are fractions, or None.

    `problem` describes a file that cannot be read; without a manifest, the status is ``damaged``.
    """

    path: str
    kind: str
    status: str
    dataset: str
    macro_f1: float | None
    accuracy: float | None
    started: str
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_runs(folder: Path) -> list[RunSummary]:
    """Return the runs under `folder`, at any depth but not inside another run, by start."""
    if not folder.is_dir():
        if folder == RUNS:
            return []
        raise InputError(f"{folder} is not a folder. Give the folder of your runs.")
    # Other programs also write files of that name.
    folders = {path.parent for path in folder.rglob(MANIFEST) if _is_run(path.parent)}
    # A run inside another one, such as the LLM's in a cascade, belongs to it.
    own = [path for path in folders if not folders & set(path.parents)]
    found = [_summary_or_damage(path) for path in sorted(own)]
    return sorted(found, key=lambda run: (run.started, run.path))


def _is_run(folder: Path) -> bool:
    """Return whether a folder with a manifest is a run, by the manifest or its other files."""
    try:
        manifest = read_json(folder / MANIFEST)
    except InputError:
        manifest = None
    if isinstance(manifest, dict) and "status" in manifest:
        return isinstance(manifest.get("dataset", {}), dict)
    return any((folder / name).is_file() for name in (PREDICTIONS, RECIPE, LOG))


def _summary_or_damage(path: Path) -> RunSummary:
    try:
        return read_summary(path)[0]
    except InputError as error:
        problem = error.message
    try:
        manifest = read_manifest(path)
    except InputError:
        manifest = {"status": DAMAGED}
    return _summary(path, manifest, {}, problem)


def read_summary(path: Path) -> tuple[RunSummary, dict[str, Any], dict[str, Any] | None]:
    """Return a run's summary, manifest and metrics; None for metrics that it does not have."""
    if not path.exists():
        advice = f"{near_runs(path)} See: sentikit runs list".lstrip()
        raise InputError(f"{path} does not exist. {advice}")
    manifest = read_manifest(path)
    metrics = read_json(path / METRICS) if (path / METRICS).is_file() else None
    if metrics is not None:
        _refuse_misfit(_Metrics, metrics, path / METRICS)
    overall = (metrics or {}).get("overall") or {}
    return _summary(path, manifest, overall), manifest, metrics


def _refuse_misfit(schema: type[_Foreign], values: Any, path: Path) -> None:
    _, problems = validate(schema, values)
    refuse(problems, lambda problem: f"{path} looks damaged: {problem}")


def read_manifest(path: Path) -> dict[str, Any]:
    if not (path / MANIFEST).is_file():
        raise InputError(f"{path} is not a run: it has no {MANIFEST}. See: sentikit runs list")
    manifest = RunFolder(path).manifest
    if "status" not in manifest or not isinstance(manifest.get("dataset", {}), dict):
        raise InputError(f"{path / MANIFEST} is not the manifest of a run.")
    _refuse_misfit(_Manifest, manifest, path / MANIFEST)
    return manifest


def _summary(
    path: Path, manifest: Mapping[str, Any], overall: Mapping[str, Any], problem: str = ""
) -> RunSummary:
    kind, status, started = (str(manifest.get(key, "")) for key in ("kind", "status", "started"))
    dataset = str(manifest.get("dataset", {}).get("dataset", ""))
    scores = overall.get("macro_f1"), overall.get("accuracy")
    return RunSummary(str(path), kind, status, dataset, *scores, started, problem)
