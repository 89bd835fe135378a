"""The study's recorded answers give the study's published figures."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sentikit
from sentikit import Comparison, read_run
from sentikit.comparison.alignment import align_runs
from sentikit.comparison.bootstrap import Resampling, estimate_pair
from sentikit.comparison.counts import count_cells
from sentikit.comparison.judgement import CompareOptions, compare_aligned

SOURCES = {"dyn1": "dynasent_r1", "dyn2": "dynasent_r2", "sst": "sst_local"}


def recorded(folder: Path) -> list[Path]:
    return sorted((folder / "recorded").glob("[BE][0-9]*.csv"))


def published(folder: Path) -> Iterator[dict[str, str]]:
    with (folder / "recorded" / "published-round1.csv").open(encoding="utf-8") as stream:
        yield from csv.DictReader(stream)


@pytest.fixture
def zero_shot_and_augmented(shared_data: Path) -> list[str]:
    return [str(shared_data / "recorded" / name) for name in ("B3-G4OM.csv", "E3-G4OM-EBFT.csv")]


@functools.cache
def judge(*paths: str) -> Comparison:
    return sentikit.compare(paths)


@pytest.fixture
def judged(zero_shot_and_augmented: list[str]) -> Comparison:
    return judge(*zero_shot_and_augmented)


def test_every_recorded_run_scores_as_published(shared_data: Path) -> None:
    files = recorded(shared_data)
    assert len(files) == 13
    aligned = align_runs([read_run(file) for file in files])
    comparison = compare_aligned(
        aligned, CompareOptions(baseline="B3-G4OM", resampling=Resampling(resamples=20))
    )
    rows = {row["legacy_id"]: row for row in published(shared_data)}
    for run in comparison.runs:
        wanted = rows[run.name]
        found = {"merged": run.scores} | {own: run.by_source[s] for own, s in SOURCES.items()}
        for name, scores in found.items():
            expected = (float(wanted[f"{name}_f1"]), float(wanted[f"{name}_accuracy"]))
            actual = (round(100 * scores.macro_f1, 2), round(100 * scores.accuracy, 2))
            assert actual == expected, (run.name, name)


def test_the_studys_central_pair_is_reproduced(judged: Comparison) -> None:
    found = judged.difference("B3-G4OM", "E3-G4OM-EBFT")
    assert found.contingency == ((4887, 359), (556, 728))
    assert found.mcnemar.p == pytest.approx(7.813e-11, rel=1e-3)
    assert found.macro_f1.value == pytest.approx(0.032221, abs=5e-7)
    for bounds in (found.macro_f1.percentile, found.macro_f1.bca):
        assert bounds.low == pytest.approx(0.0230, abs=0.0005)
        assert bounds.high == pytest.approx(0.0417, abs=0.0005)
    assert found.permutation.p == pytest.approx(1 / 10_001)
    assert found.bootstrap.p == pytest.approx(2 / 10_001)
    assert "E3-G4OM-EBFT" in judged.advice.sentence


def test_the_studys_augmentation_figures_are_reproduced(judged: Comparison) -> None:
    partner = judged.run("E3-G4OM-EBFT").partnership
    assert partner is not None
    (changed,) = partner.changed
    assert (changed.against, changed.right, changed.wrong) == ("B3-G4OM", 548, 412)
    assert judged.run("B3-G4OM").partnership is None


def test_resampling_rows_once_for_all_runs_gives_the_same_intervals(shared_data: Path) -> None:
    files = [file for file in recorded(shared_data) if file.stem[:2] in ("B3", "B4", "E3", "E7")]
    comparison = sentikit.compare(files)
    assert len(comparison.differences) == 6
    found = comparison.difference("B3-G4OM", "E3-G4OM-EBFT")
    assert found.macro_f1.percentile.low == pytest.approx(0.0230, abs=0.0005)
    assert found.macro_f1.percentile.high == pytest.approx(0.0417, abs=0.0005)


def test_cost_per_f1_point_is_as_published(shared_data: Path) -> None:
    rows = {row["legacy_id"]: row for row in published(shared_data)}
    files = [file for file in recorded(shared_data) if file.stem in rows][:4]
    costs = {file.stem: float(rows[file.stem]["ft_cost"].strip("$")) for file in files}
    comparison = sentikit.compare(files, training_cost=costs, resamples=20)
    for run in comparison.runs:
        wanted = float(rows[run.name]["cost_per_f1"].strip("$"))
        assert run.cost.per_f1_point == pytest.approx(wanted, abs=6e-5), run.name


def test_gold_labels_and_sources_come_from_the_dataset(
    shared_data: Path, zero_shot_and_augmented: list[str]
) -> None:
    bare = Path("bare.csv")
    with (
        Path(zero_shot_and_augmented[0]).open(encoding="utf-8", newline="") as source,
        bare.open("w", encoding="utf-8", newline="") as target,
    ):
        writer = csv.writer(target)
        writer.writerow(["text", "prediction"])
        for row in csv.DictReader(source):
            writer.writerow([row["review"], row["prediction"]])
    path = str(shared_data / "merged")
    comparison = sentikit.compare([bare], dataset="merged", path=path, resamples=20)
    (run,) = comparison.runs
    assert round(100 * run.scores.macro_f1, 2) == 79.52
    assert round(100 * run.by_source["sst_local"].macro_f1, 2) == 70.67
    assert comparison.dataset == "merged test"


def test_the_encoder_inside_an_augmented_run_is_a_run(zero_shot_and_augmented: list[str]) -> None:
    comparison = sentikit.compare([f"{zero_shot_and_augmented[1]}#encoder"], resamples=20)
    (run,) = comparison.runs
    assert (run.name, run.kind) == ("E3-G4OM-EBFT#encoder", "encoder")
    assert run.scores.macro_f1 == pytest.approx(0.7929, abs=5e-5)
    assert run.scores.calibration is not None


def test_shuffled_files_in_another_format_give_the_same_results(
    zero_shot_and_augmented: list[str], judged: Comparison
) -> None:
    with Path(zero_shot_and_augmented[1]).open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    order = np.random.default_rng(1).permutation(len(rows))
    with Path("e3.tsv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t").writerows([header, *(rows[i] for i in order)])
    again = sentikit.compare([zero_shot_and_augmented[0], "e3.tsv"])
    assert again.differences[0].macro_f1 == judged.differences[0].macro_f1
    assert again.differences[0].permutation == judged.differences[0].permutation


def test_ten_thousand_paired_resamples_take_less_than_a_second(
    zero_shot_and_augmented: list[str],
) -> None:
    import time

    aligned = align_runs([read_run(path) for path in zero_shot_and_augmented])
    labels = [run.answers.labels for run in aligned.runs]
    started = time.process_time()
    estimate_pair(count_cells(aligned.gold, labels, 3), Resampling())
    assert time.process_time() - started < 0.5  # benchmarks/comparing.py measures it properly
