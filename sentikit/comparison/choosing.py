"""Finds what to compare: the runs a user names, or all finished ones on the same data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sentikit.comparison.truth import Truth
from sentikit.errors import InputError
from sentikit.files import read_json
from sentikit.registry import Registry, default_registry
from sentikit.runs.folder import FINISHED, MANIFEST, PREDICTIONS
from sentikit.runs.listing import find_runs
from sentikit.runs.reading import read_run, split_suffix
from sentikit.runs.table import RunTable

#: Where runs are looked for when none is named.
RUNS = Path("runs")


def read_finished(path: str | Path, registry: Registry | None = None) -> RunTable:
    """Read a run or a results file.

    Raises:
        InputError: it cannot be read, or is a run that is not finished.
    """
    table = read_run(path, registry=registry)
    manifest = table.manifest or _manifest_beside(str(path))
    status = str(manifest.get("status") or FINISHED)
    if status != FINISHED:
        raise InputError(
            f"{path} is not finished: it is {status}. Go on with it by --resume, or leave it out."
        )
    return table


def finished_runs(
    folder: Path = RUNS, dataset: str | None = None, split: str | None = None
) -> list[str]:
    """Return all finished runs under a folder, oldest first.

    Args:
        folder: where to look.
        dataset: take runs on this dataset alone.
        split: take runs on this split alone.

    Raises:
        InputError: there is none, or they are on different data.
    """
    found = [run for run in find_runs(folder) if run.status == FINISHED]
    by_data: dict[tuple[str, str, str], list[str]] = {}
    for run in found:
        if not (Path(run.path) / PREDICTIONS).is_file():
            continue
        data = read_json(Path(run.path) / MANIFEST).get("dataset") or {}
        name, own_split = str(data.get("dataset", "")), str(data.get("split", ""))
        if dataset in (None, name) and split in (None, own_split):
            key = (name, own_split, str(data.get("fingerprint", "")))
            by_data.setdefault(key, []).append(run.path)
    if not by_data:
        where = f" on {' '.join(part for part in (dataset, split) if part)}" if dataset else ""
        raise InputError(
            f"There are no finished runs{where} under {folder}/. Name runs or results files, or "
            "make a run: sentikit train --recipe quickstart"
        )
    if len(by_data) > 1:
        raise InputError(_on_different_data(folder, by_data))
    return next(iter(by_data.values()))


def load_truth(
    dataset: str, split: str, path: str | None = None, registry: Registry | None = None
) -> Truth:
    """Load a dataset's split with its gold labels.

    Raises:
        InputError: no such dataset or split, or it is malformed.
    """
    from sentikit.datasets.opening import open_dataset, with_path

    section = with_path({"name": dataset}, path, registry)
    opened = open_dataset(section, registry=registry or default_registry())
    return Truth(f"{dataset} {split}", opened.split(split), opened.scheme.classes)


def _manifest_beside(name: str) -> dict[str, object]:
    """Return the manifest of the run whose encoder is meant."""
    path = Path(split_suffix(name)[0]).expanduser() / MANIFEST
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _on_different_data(folder: Path, by_data: dict[tuple[str, str, str], list[str]]) -> str:
    listed = "; ".join(
        f"{len(paths)} on {name} {split} ({_some(paths)})"
        for (name, split, _), paths in by_data.items()
    )
    return (
        f"The finished runs under {folder}/ are on different data: {listed}. Choose with "
        "--dataset NAME --split SPLIT, or name the runs."
    )


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:2]) + (", …" if len(paths) > 2 else "")
