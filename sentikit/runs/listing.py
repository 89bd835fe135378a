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
    folders = {path.parent for path in folder.rglob(MANIFEST)}
    # What lies inside a run is a part of it, as the LLM's answers in a cascade.
    own = [path for path in folders if not folders & set(path.parents)]
    # Other programs have files of that name, too.
    runs = [path for path in sorted(own) if isinstance(read_json(path / MANIFEST), dict)]
    found = [read_summary(path)[0] for path in runs]
    return sorted(found, key=lambda run: (run.started, run.path))


def read_summary(path: Path) -> tuple[RunSummary, dict[str, Any], dict[str, Any] | None]:
    """Return a run's summary, manifest and metrics.

    Raises:
        InputError: there is no run.
    """
    if not (path / MANIFEST).is_file():
        raise InputError(f"{path} is not a run: it has no {MANIFEST}. See: sentikit runs list")
    manifest = RunFolder(path).manifest
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
