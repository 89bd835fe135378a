"""`sentikit.compare`: from paths to a judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sentikit.comparison.aligned import is_called
from sentikit.comparison.aligning import align_runs, short_name
from sentikit.comparison.choosing import finished_runs, load_truth, read_finished
from sentikit.comparison.comparison import CompareOptions, Progress, compare_aligned
from sentikit.comparison.money import Rates
from sentikit.comparison.resampling import Resampling
from sentikit.comparison.results import Comparison
from sentikit.errors import InputError
from sentikit.registry import Registry
from sentikit.runs.table import RunTable

#: What may be compared: a run's folder, a results file, PATH#encoder, or rows read already.
Comparable = str | Path | RunTable


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
    progress: Progress | None = None,
) -> Comparison:
    """Judge runs and results files on the same examples.

    Args:
        runs: what to compare; none means all finished runs under ``runs/``.
        baseline: the run that all others are compared to; without one, all pairs are.
        dataset: a dataset whose gold labels and sources count, or, without `runs`, the data of the
            runs to compare.
        split: of `dataset`; ``test`` if left out.
        path: the folder of the dataset's files.
        intersect: compare what all runs share instead of refusing runs over different texts.
        sample_size: a difference, as a fraction, for which needed test texts are computed.
        resamples: of each bootstrap and permutation test.
        seed: of the random numbers; the same seed gives the same figures.
        confidence: of the intervals, a fraction.
        gpu_rate: USD an hour for each device that a run trained on.
        training_cost: run to USD that training it cost, where no manifest says so.
        inference_cost: run to USD that 1,000 of its answers cost, where no manifest says so.
        registry: where to look for formats and datasets.
        progress: told what is being done, how many of it are done, and of how many.

    Raises:
        InputError: a run cannot be read or is not finished; the runs are over different texts, gold
            labels or classes; an option is out of range.
    """
    told = progress or _untold
    _check(resamples, seed, confidence)
    if dataset is None and (path is not None or (runs and split is not None)):
        raise InputError("A path or a split says more of a dataset: name it (--dataset NAME).")
    chosen = list(runs) or _all_runs(dataset, split)
    if baseline is not None and not _is_among(str(baseline), chosen):
        chosen = [baseline, *chosen]
    tables = _read(chosen, registry, told)
    wanted = dataset is not None and (bool(runs) or path is not None)
    truth = load_truth(str(dataset), split or "test", path, registry) if wanted else None
    options = CompareOptions(
        None if baseline is None else str(baseline),
        Resampling(resamples, seed, confidence),
        Rates(gpu_rate, training_cost or {}, inference_cost or {}),
        sample_size,
    )
    return compare_aligned(align_runs(tables, truth, intersect), options, told)


def _read(
    chosen: Sequence[Comparable], registry: Registry | None, told: Progress
) -> list[RunTable]:
    tables = []
    for number, item in enumerate(chosen):
        told("reading", number, len(chosen))
        tables.append(item if isinstance(item, RunTable) else read_finished(item, registry))
    return tables


def _all_runs(dataset: str | None, split: str | None) -> list[Comparable]:
    wanted = split or ("test" if dataset else None)
    return [*finished_runs(dataset=dataset, split=wanted)]


def _is_among(baseline: str, chosen: Sequence[Comparable]) -> bool:
    """Say whether the baseline is named by its path or by its file's or folder's name."""
    for item in chosen:
        name = item.name if isinstance(item, RunTable) else str(item)
        if is_called(baseline, short_name(name), name):
            return True
    # A path that is there is a run to add; anything else is looked up among the runs' names.
    return not Path(baseline.removesuffix("#encoder")).exists()


def _check(resamples: int, seed: int, confidence: float) -> None:
    if resamples < 1:
        raise InputError(f"resamples must be 1 or more, not {resamples}.")
    if seed < 0:
        raise InputError(f"seed must be 0 or more, not {seed}.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence is a fraction between 0 and 1, not {confidence:g}.")


def _untold(_what: str, _done: int, _of: int) -> None:
    """Tell nobody."""
