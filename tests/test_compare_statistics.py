"""Intervals and tests agree with scipy, statsmodels and scikit-learn in any order of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import cohen_kappa_score, f1_score
from statsmodels.stats import contingency_tables, multitest

from sentikit.comparison import bootstrap, significance
from sentikit.comparison.bootstrap import (
    Resampling,
    estimate_pair,
    estimate_run,
    joint_samples,
    paired_estimates,
)
from sentikit.comparison.counts import Statistics, count_cells
from sentikit.comparison.results import Estimate
from sentikit.comparison.significance import (
    benjamini_hochberg,
    cochrans_q,
    cohens_kappa,
    contingency,
    holm,
    mcnemar,
    permutation_test,
    permutation_tests,
    texts_for_mcnemar,
    texts_for_mean,
)
from sentikit.components import ComponentSettings
from sentikit.metrics import Metric, NamedMetric
from sentikit.scoring import macro_f1

Labels = NDArray[np.int64]
CLASSES = 3


def answers(seed: int, rows: int = 400, right: float = 0.75) -> tuple[Labels, Labels, Labels]:
    """Make up gold labels and two runs that err together now and then."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, CLASSES, rows)
    runs = []
    shared = random.random(rows)
    for extra in (0.0, 0.05):
        wrong = (0.5 * shared + 0.5 * random.random(rows)) > right + extra
        runs.append(np.where(wrong, random.integers(0, CLASSES, rows), gold))
    return gold, runs[0], runs[1]


def difference(gold: Labels, first: Labels, second: Labels) -> float:
    labels = list(range(CLASSES))
    scores = [
        f1_score(gold, run, labels=labels, average="macro", zero_division=0)
        for run in (first, second)
    ]
    return float(scores[1] - scores[0])


def vectorised(gold: Labels, first: Labels, second: Labels, axis: int = -1) -> NDArray[np.float64]:
    def macro(run: Labels) -> NDArray[np.float64]:
        scores = []
        for label in range(CLASSES):
            both = (gold == label).sum(axis) + (run == label).sum(axis)
            right = ((gold == label) & (run == label)).sum(axis)
            scores.append(2 * right / np.maximum(both, 1))
        return np.asarray(np.mean(scores, 0))

    return macro(second) - macro(first)


@pytest.mark.parametrize(("method", "name"), [("percentile", "percentile"), ("BCa", "bca")])
def test_intervals_agree_with_scipy(method: str, name: str) -> None:
    gold, first, second = answers(1, right=0.85)
    found = estimate_pair(count_cells(gold, [first, second], CLASSES), Resampling())
    oracle = stats.bootstrap(
        (gold, first, second),
        vectorised,
        paired=True,
        vectorized=True,
        n_resamples=4000,
        batch=500,
        method=method,
        rng=np.random.default_rng(0),
    )
    own, width = (
        getattr(found.macro_f1, name),
        oracle.confidence_interval[1] - (oracle.confidence_interval[0]),
    )
    assert own.low == pytest.approx(oracle.confidence_interval.low, abs=0.06 * width)
    assert own.high == pytest.approx(oracle.confidence_interval.high, abs=0.06 * width)
    assert found.standard_error == pytest.approx(oracle.standard_error, rel=0.05)


def test_resampling_rows_and_resampling_counts_agree() -> None:
    gold, first, second = answers(2)
    cells = count_cells(gold, [first, second], CLASSES)
    counts = estimate_pair(cells, Resampling())
    drawn = joint_samples(gold, [first, second], Statistics(CLASSES), Resampling())
    rows = paired_estimates(cells, [own[1] - own[0] for own in drawn], Resampling())
    assert rows.macro_f1.value == counts.macro_f1.value
    assert rows.standard_error == pytest.approx(counts.standard_error, rel=0.03)
    assert rows.macro_f1.percentile.low == pytest.approx(counts.macro_f1.percentile.low, abs=0.003)


class PluginF1(Metric):
    """Macro-F1 once more, as a plugin would bring it."""

    def score(self, counts: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float64]:
        return macro_f1(counts)


def test_a_metric_of_a_plugin_gets_the_intervals_and_p_values_of_macro_f1() -> None:
    gold, first, second = answers(2)
    first[::50] = -1
    metrics = (NamedMetric("again", PluginF1(ComponentSettings()), "test"),)
    statistics = Statistics(CLASSES, metrics, ("a", "b", "c"))
    cells, resampling = count_cells(gold, [first, second], CLASSES), Resampling(500)
    pair = estimate_pair(cells, resampling, statistics)
    assert_equal(pair.metrics["again"], pair.macro_f1)
    single = estimate_run(count_cells(gold, [first], CLASSES), resampling, statistics)
    assert_equal(single.metrics["again"], single.macro_f1)
    p, _, other = permutation_tests(cells, resampling, statistics)
    assert other == p == permutation_test(cells, resampling)
    f1, _, again = joint_samples(gold, [first, second], statistics, resampling)
    assert again == pytest.approx(f1)


def assert_equal(found: Estimate, wanted: Estimate) -> None:
    for one, other in ((found.percentile, wanted.percentile), (found.bca, wanted.bca)):
        assert (one.low, one.high) == pytest.approx((other.low, other.high))
    assert found.value == pytest.approx(wanted.value)


def test_many_classes_are_resampled_in_pieces_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 28, 3000)
    first, second = (
        np.where(rng.random(3000) < 0.7, gold, rng.integers(0, 28, 3000)) for _ in "ab"
    )
    cells, resampling = count_cells(gold, [first, second], 28), Resampling(200)
    whole = estimate_pair(cells, resampling), permutation_test(cells, resampling)
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_A_TIME", 10_000)
    monkeypatch.setattr(significance, "_CELLS_AT_A_TIME", 7)
    assert (estimate_pair(cells, resampling), permutation_test(cells, resampling)) == whole


def test_the_permutation_test_agrees_with_scipy() -> None:
    gold, first, second = answers(3, rows=150)
    own = permutation_test(count_cells(gold, [first, second], CLASSES), Resampling())

    def statistic(one: Labels, other: Labels, axis: int) -> NDArray[np.float64]:
        return vectorised(np.broadcast_to(gold, one.shape), one, other, axis)

    oracle = stats.permutation_test(
        (first, second),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=4000,
        batch=500,
        rng=np.random.default_rng(0),
    )
    assert own == pytest.approx(oracle.pvalue, abs=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_and_kappa_agree_with_statsmodels_and_scikit_learn(seed: int) -> None:
    gold, first, second = answers(seed)
    cells = count_cells(gold, [first, second], CLASSES)
    table = contingency(cells)
    oracle = contingency_tables.mcnemar(np.array(table), exact=True)
    assert mcnemar(table) == pytest.approx(oracle.pvalue)
    kappa, agreement = cohens_kappa(cells)
    assert kappa == pytest.approx(cohen_kappa_score(first, second))
    assert agreement == pytest.approx((first == second).mean())


def test_cochrans_q_agrees_with_statsmodels() -> None:
    gold, first, second = answers(6)
    third = answers(7)[1]
    found = cochrans_q(gold, [first, second, third])
    right = np.stack([run == gold for run in (first, second, third)], 1).astype(int)
    oracle = contingency_tables.cochrans_q(right)
    assert found.statistic == pytest.approx(oracle.statistic)
    assert found.degrees_of_freedom == oracle.df
    assert found.p == pytest.approx(oracle.pvalue)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=30))
def test_corrections_agree_with_statsmodels(values: list[float]) -> None:
    for own, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        np.testing.assert_allclose(own(values), multitest.multipletests(values, method=method)[1])


def test_no_p_value_is_zero() -> None:
    gold = np.zeros(3000, np.int64)
    cells = count_cells(gold, [gold + 1, gold], CLASSES)
    assert mcnemar(contingency(cells)) > 0
    assert permutation_test(cells, Resampling(resamples=99)) == 1 / 100
    assert estimate_pair(cells, Resampling(resamples=99)).p == 2 / 100
    assert cochrans_q(gold, [gold, gold + 1, gold + 1]).p > 0


def test_equal_runs_show_no_difference() -> None:
    gold, first, _ = answers(8)
    cells = count_cells(gold, [first, first], CLASSES)
    found = estimate_pair(cells, Resampling(resamples=99))
    assert (found.macro_f1.value, found.macro_f1.percentile.low) == (0, 0)
    assert found.p == 1
    assert permutation_test(cells, Resampling()) == 1
    assert mcnemar(contingency(cells)) == 1
    assert cohens_kappa(cells) == (pytest.approx(1), 1)


def test_an_invalid_answer_is_wrong_and_counts_as_its_own_label() -> None:
    gold, first = np.array([0, 1, 2, 0]), np.array([0, 1, 2, -1])
    cells = count_cells(gold, [first, gold], CLASSES)
    assert contingency(cells) == ((3, 0), (1, 0))
    assert cohens_kappa(cells)[1] == 0.75
    assert estimate_run(count_cells(gold, [first], CLASSES), Resampling(99)).accuracy.value == 0.75


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_row_order_changes_nothing_and_swapping_runs_changes_only_signs(
    data: st.DataObject,
) -> None:
    rows = st.tuples(st.integers(0, 2), st.integers(-1, 2), st.integers(-1, 2))
    table = np.array(data.draw(st.lists(rows, min_size=1, max_size=40)))
    order = np.array(data.draw(st.permutations(range(len(table)))))
    resampling = Resampling(resamples=data.draw(st.integers(2, 60)))
    gold, first, second = table.T
    cells = count_cells(gold, [first, second], CLASSES)
    shuffled = count_cells(gold[order], [first[order], second[order]], CLASSES)
    swapped = count_cells(gold, [second, first], CLASSES)
    found, turned = estimate_pair(cells, resampling), estimate_pair(swapped, resampling)
    assert estimate_pair(shuffled, resampling) == found
    assert permutation_test(shuffled, resampling) == permutation_test(cells, resampling)
    assert permutation_test(swapped, resampling) == permutation_test(cells, resampling)
    assert turned.p == found.p
    assert mcnemar(contingency(swapped)) == mcnemar(contingency(cells))
    assert cohens_kappa(swapped) == pytest.approx(cohens_kappa(cells))
    for own, other in ((found.macro_f1, turned.macro_f1), (found.accuracy, turned.accuracy)):
        assert other.value == pytest.approx(-own.value, abs=1e-12)
        for bounds, mirrored in ((own.percentile, other.percentile), (own.bca, other.bca)):
            assert mirrored.low == pytest.approx(-bounds.high, abs=1e-9)
            assert mirrored.high == pytest.approx(-bounds.low, abs=1e-9)


def test_the_permutation_test_keeps_its_level() -> None:
    """Of runs that are equally good, about one in twenty is called different."""
    found = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        gold = random.integers(0, CLASSES, 120)
        runs = [
            np.where(random.random(120) < 0.3, random.integers(0, CLASSES, 120), gold)
            for _ in range(2)
        ]
        found.append(permutation_test(count_cells(gold, runs, CLASSES), Resampling(199)))
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.10


def test_the_sample_size_reaches_the_requested_power() -> None:
    # 80 % power, two-sided 5 %.
    assert texts_for_mcnemar(0.14, 0.03) == 1219  # (1.95996·√0.14 + 0.84162·√0.1391)² ÷ 0.03²
    assert texts_for_mean(1.0, 0.1) == 785
    random = np.random.default_rng(0)
    n, seen = texts_for_mcnemar(0.3, 0.1), 0
    for _ in range(300):
        first, second = random.multinomial(n, [0.1, 0.2, 0.7])[:2]
        seen += mcnemar(((0, int(first)), (int(second), 0))) < 0.05
    assert seen / 300 == pytest.approx(0.8, abs=0.07)
