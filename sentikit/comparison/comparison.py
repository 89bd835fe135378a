"""`sentikit.compare`: reads runs by path and compares them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from sentikit.comparison.alignment import (
    AlignedRuns,
    Truth,
    align_runs,
    is_called,
    reference_run,
    short_name,
)
from sentikit.comparison.bootstrap import Resampling
from sentikit.comparison.judgement import CompareOptions, Comparison, Progress, compare_aligned
from sentikit.comparison.money import Rates
from sentikit.datasets.labels import OWN, scheme_for_classes
from sentikit.errors import InputError
from sentikit.metrics import metrics_for
from sentikit.registry import Registry, default_registry
from sentikit.runs.folder import FINISHED, PREDICTIONS, RUNS, recorded_manifest
from sentikit.runs.listing import find_runs
from sentikit.runs.reading import read_run, split_suffix
from sentikit.runs.table import RunTable

#: What can be compared: a run's folder, a results file, PATH#encoder, or a table of rows.
Comparable: TypeAlias = str | Path | RunTable


def compare(
    runs: Sequence[Comparable] = (),
    *,
    baseline: str | Path | None = None,
    dataset: str | None = None,
    split: str | None = None,
    path: str | None = None,
    intersect: bool = False,
    sample_size: float | None = None,
    resamples: int = 10_000,
    seed: int = 42,
    confidence: float = 0.95,
    gpu_rate: float | None = None,
    training_cost: Mapping[str, float] | None = None,
    inference_cost: Mapping[str, float] | None = None,
    registry: Registry | None = None,
    progress: Progress | bool = False,
) -> Comparison:
    """Compare runs and results files on the same examples.

    Args:
        runs: runs and results files; by default all finished runs under ``runs/``.
        baseline: the run to compare all others with; by default all pairs are compared.
        dataset: the dataset that supplies gold labels and sources; without `runs`, the dataset
            whose runs are compared.
        split: the split of `dataset`; default ``test``.
        path: the folder of the dataset's files.
        intersect: compare the texts that all runs share instead of refusing different texts.
        sample_size: a difference, as a fraction; computes how many test texts can show it.
        resamples: number of resamples of each bootstrap and permutation test.
        seed: seed of the random numbers; the same seed gives the same figures.
        confidence: confidence of the intervals, as a fraction.
        gpu_rate: USD per hour for each device that a run was trained on.
        training_cost: run to its training cost in USD, if its manifest has none.
        inference_cost: run to the cost of 1,000 answers in USD, if its manifest has none.
        registry: the registry of formats and datasets.
        progress: True shows a bar on a terminal or in a notebook; a function is called with the
            step, the number done and the total.

    Raises:
        InputError: a run cannot be read or is not finished; the runs differ in texts, gold labels
            or classes; an option is out of range.
    """
    _check(resamples, seed, confidence)
    if dataset is None and (path is not None or (runs and split is not None)):
        raise InputError("--path and --split need a dataset. Name it with --dataset NAME.")
    chosen = list(runs) or _all_runs(dataset, split)
    if baseline is not None and not _is_among(str(baseline), chosen):
        chosen = [baseline, *chosen]
    with _reporting(progress) as report:
        tables = _read(chosen, registry, report)
        wanted = dataset is not None and (bool(runs) or path is not None)
        truth = None
        if wanted:
            classes = reference_run(tables).classes
            truth = load_truth(str(dataset), split or "test", classes, path, registry)
        aligned = align_runs(tables, truth, intersect)
        scheme = scheme_for_classes(aligned.classes, ordered=_is_ordered(tables, aligned))
        options = CompareOptions(
            None if baseline is None else str(baseline),
            Resampling(resamples, seed, confidence),
            Rates(gpu_rate, training_cost or {}, inference_cost or {}),
            sample_size,
            metrics_for(scheme, registry or default_registry()),
        )
        return compare_aligned(aligned, options, report)


def _is_ordered(tables: Sequence[RunTable], aligned: AlignedRuns) -> bool:
    reference = reference_run(tables)
    return reference.ordered and aligned.classes == reference.classes


def _read(
    chosen: Sequence[Comparable], registry: Registry | None, report: Progress
) -> list[RunTable]:
    tables = []
    for number, item in enumerate(chosen):
        report("reading", number, len(chosen))
        tables.append(item if isinstance(item, RunTable) else read_finished(item, registry))
    return tables


def _all_runs(dataset: str | None, split: str | None) -> list[Comparable]:
    wanted = split or ("test" if dataset else None)
    return [*finished_runs(dataset=dataset, split=wanted)]


def _is_among(baseline: str, chosen: Sequence[Comparable]) -> bool:
    for item in chosen:
        name = item.name if isinstance(item, RunTable) else str(item)
        if is_called(baseline, short_name(name), name):
            return True
    # An existing path is a run to add; anything else must be the name of a run.
    return not Path(baseline.removesuffix("#encoder")).exists()


def _check(resamples: int, seed: int, confidence: float) -> None:
    if not 1 <= resamples <= MOST_RESAMPLES:
        raise InputError(f"resamples must be from 1 to {MOST_RESAMPLES:,}, not {resamples}.")
    if seed < 0:
        raise InputError(f"seed must be 0 or more, not {seed}.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, not {confidence:g}.")


@contextlib.contextmanager
def _reporting(progress: Progress | bool) -> Iterator[Progress]:
    """Yield the function that reports progress; a bar is shown until the context ends."""
    if not isinstance(progress, bool):
        yield progress
        return
    from sentikit.terminal import LiveBar

    with LiveBar(shown=progress) as bar:
        yield lambda what, done, of: bar.update(done, of, _STEPS[what])


#: More would not fit in memory and would not change the printed digits.
MOST_RESAMPLES = 1_000_000
_STEPS = {"reading": "reading runs", "runs": "scoring runs", "pairs": "comparing pairs"}


def read_finished(path: str | Path, registry: Registry | None = None) -> RunTable:
    """Read a results file or a finished run."""
    table = read_run(path, registry=registry)
    manifest = table.manifest or recorded_manifest(split_suffix(str(path))[0])
    status = str(manifest.get("status") or FINISHED)
    if status != FINISHED:
        raise InputError(
            f"{path} is not finished: its status is {status}. Finish it with --resume, or leave it "
            "out."
        )
    return table


def finished_runs(
    folder: Path = RUNS, dataset: str | None = None, split: str | None = None
) -> list[str]:
    """Return all finished runs under a folder, oldest first; refuse runs on different data."""
    found = [run for run in find_runs(folder) if run.status == FINISHED]
    by_data: dict[tuple[str, str, str], list[str]] = {}
    for run in found:
        if not (Path(run.path) / PREDICTIONS).is_file():
            continue
        data = recorded_manifest(run.path).get("dataset") or {}
        name, own_split = str(data.get("dataset", "")), str(data.get("split", ""))
        if dataset in (None, name) and split in (None, own_split):
            key = (name, own_split, str(data.get("fingerprint", "")))
            by_data.setdefault(key, []).append(run.path)
    if not by_data:
        where = f" on {' '.join(part for part in (dataset, split) if part)}" if dataset else ""
        raise InputError(
            f"There are no finished runs{where} under {folder}/. Name runs or results files, or "
            "train a model: sentikit train --recipe quickstart"
        )
    if len(by_data) > 1:
        raise InputError(_on_different_data(folder, by_data))
    return next(iter(by_data.values()))


def load_truth(
    dataset: str,
    split: str,
    classes: tuple[str, ...],
    path: str | None = None,
    registry: Registry | None = None,
) -> Truth:
    """Load a dataset's split with its gold labels in the classes of the runs."""
    from sentikit.datasets.opening import open_dataset, with_path

    scheme = scheme_for_classes(classes)
    labels = list(classes) if scheme.name == OWN else scheme.name
    section = with_path({"name": dataset, "labels": labels}, path, registry)
    opened = open_dataset(section, registry=registry or default_registry())
    return Truth(f"{dataset} {split}", opened.split(split, empty_texts=True), opened.scheme.classes)


def _on_different_data(folder: Path, by_data: dict[tuple[str, str, str], list[str]]) -> str:
    listed = "; ".join(
        f"{len(paths)} on {name} {split} ({', '.join(paths[:2])}{', …' if paths[2:] else ''})"
        for (name, split, _), paths in by_data.items()
    )
    return (
        f"The finished runs under {folder}/ are on different data: {listed}. Choose with "
        "--dataset NAME --split SPLIT, or name the runs."
    )
