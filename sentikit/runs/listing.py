"""Finds runs and sums each up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sentikit.errors import InputError
from sentikit.files import read_json
from sentikit.runs.folder import MANIFEST, METRICS, RunFolder


@dataclass(frozen=True)
class RunSummary:
    """One run in a line; scores are fractions, None where there are none yet."""

    path: str
    kind: str
    status: str
    dataset: str
    macro_f1: float | None
    accuracy: float | None
    started: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def find_runs(folder: Path) -> list[RunSummary]:
    """Return the runs under `folder`, at any depth but inside each other, by their start.

    Raises:
        InputError: `folder` is not there.
    """
    if not folder.is_dir():
        if folder == Path("runs"):
            return []
        raise InputError(f"{folder} is not a folder. Give the folder that holds your runs.")
    # Other programs have files of that name, too; none of them may hide a run.
    folders = {path.parent for path in folder.rglob(MANIFEST) if _is_of_a_run(path)}
    # What lies inside a run is a part of it, as the LLM's answers in a cascade.
    own = [path for path in folders if not folders & set(path.parents)]
    found = [read_summary(path)[0] for path in sorted(own)]
    return sorted(found, key=lambda run: (run.started, run.path))


def _is_of_a_run(path: Path) -> bool:
    try:
        manifest = read_json(path)
    except InputError:
        return False
    return isinstance(manifest, dict) and isinstance(manifest.get("dataset", {}), dict)


def read_summary(path: Path) -> tuple[RunSummary, dict[str, Any], dict[str, Any] | None]:
    """Return a run's summary, manifest and metrics.

    Raises:
        InputError: there is no run, or its manifest is another program's.
    """
    if not (path / MANIFEST).is_file():
        raise InputError(f"{path} is not a run: it has no {MANIFEST}. See: sentikit runs list")
    manifest = RunFolder(path).manifest
    if not isinstance(manifest.get("dataset", {}), dict):
        raise InputError(f"{path / MANIFEST} is not the manifest of a run.")
    metrics = read_json(path / METRICS) if (path / METRICS).is_file() else None
    overall = metrics.get("overall", {}) if metrics else {}
    summary = RunSummary(
        path=str(path),
        kind=str(manifest.get("kind", "")),
        status=str(manifest.get("status", "")),
        dataset=str(manifest.get("dataset", {}).get("dataset", "")),
        macro_f1=overall.get("macro_f1"),
        accuracy=overall.get("accuracy"),
        started=str(manifest.get("started", "")),
    )
    return summary, manifest, metrics
