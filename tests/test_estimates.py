"""Intervals of class shares, accuracy and macro-F1 hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sentikit.plugins.checked_labels.combination import FittedCombination, combine
from sentikit.plugins.checked_labels.draws import group_draw, stratified_draw, uniform_draw
from sklearn.metrics import f1_score

import sentikit
from sentikit.assurance.estimates import estimate_accuracy, estimate_shares
from sentikit.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def pile(rows: int = 3000, seed: int = 0, sharpness: float = 2.0) -> tuple[Floats, Integers]:
    """Make up probabilities of three classes and true classes that follow them loosely."""
    random = np.random.default_rng(seed)
    gold = random.choice(3, rows, p=[0.5, 0.2, 0.3])
    logits = random.normal(size=(rows, 3)) + sharpness * np.eye(3)[gold] + [0.4, -0.3, 0]
    exponents = np.exp(1.5 * logits)
    return exponents / exponents.sum(axis=1, keepdims=True), gold


def share_results(table: Floats, gold: Integers, size: int, draws: int) -> tuple[float, float]:
    """Return mean width and coverage of uniform draws."""
    truth = np.bincount(gold, minlength=3) / len(gold)
    widths, held = [], []
    for seed in range(draws):
        rows = uniform_draw(len(gold), size, seed).rows
        for found, true in zip(estimate_shares(table, table[rows], gold[rows]), truth, strict=True):
            widths.append(found.high - found.low)
            held.append(found.low <= true <= found.high)
    return float(np.mean(widths)), float(np.mean(held))


class TestShares:
    def test_intervals_of_shares_cover_the_truth_and_are_narrower_than_without_predictions(
        self,
    ) -> None:
        table, gold = pile()
        width, coverage = share_results(table, gold, 200, 150)
        blind, _ = share_results(np.full((len(gold), 3), 1 / 3), gold, 200, 30)
        assert coverage > 0.925
        assert width < 0.75 * blind

    def test_intervals_of_shares_cover_the_truth_with_few_checks(self) -> None:
        table, gold = pile()
        _, coverage = share_results(table, gold, 35, 150)
        assert coverage > 0.92

    def test_the_estimate_equals_ppi_python_at_the_same_weight(self) -> None:
        ppi = pytest.importorskip("ppi_py")
        table, gold = pile()
        two = np.stack([1 - table[:, 1], table[:, 1]], axis=1)
        is_class = (gold == 1).astype(float)
        rows = uniform_draw(len(gold), 250, 1).rows
        y, f = is_class[rows], two[rows, 1]
        weight = np.cov(y, f)[0, 1] / f.var(ddof=1)
        expected = ppi.ppi_mean_pointestimate(y, f, two[:, 1], lam=weight)
        found = estimate_shares(two, two[rows], y.astype(int))[1]
        assert found.value == pytest.approx(float(np.squeeze(expected)), abs=1e-9)
        residuals = y - weight * f
        spread = residuals.std(ddof=2) / np.sqrt(250) * np.sqrt(1 - 250 / len(gold))
        assert found.standard_error == pytest.approx(spread, abs=1e-9)
        assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 248) * spread, abs=1e-9)

    def test_uninformative_predictions_give_the_classical_interval(self) -> None:
        gold = np.repeat([0, 1], 500)
        table = np.full((1000, 2), 0.5)
        rows = uniform_draw(1000, 100, 0).rows
        found = estimate_shares(table, table[rows], gold[rows])[1]
        share = gold[rows].mean()
        spread = np.sqrt(share * (1 - share) / 99 * (1 - 100 / 1000))
        assert found.value == pytest.approx(share)
        assert found.standard_error == pytest.approx(spread)

    @pytest.mark.parametrize("positives", [0, 1, 3])
    def test_few_positives_give_an_exact_interval_that_is_never_empty(self, positives: int) -> None:
        table, _ = pile(1000)
        labels = np.zeros(100, int)
        labels[:positives] = 2
        found = estimate_shares(table, table[:100], labels)[2]
        assert found.low <= positives / 100 <= found.high
        assert found.high - found.low > 0.02
        assert found.standard_error is None

    def test_a_classifier_without_a_mistake_among_the_checks_is_not_trusted_blindly(self) -> None:
        gold = np.random.default_rng(0).integers(0, 3, 5000)
        table = np.eye(3)[gold]
        found = estimate_shares(table, table[:100], gold[:100])
        assert all(e.high - e.low > 0.02 for e in found)

    def test_weights_correct_for_a_non_uniform_draw(self) -> None:
        table, gold = pile()
        truth = np.bincount(gold, minlength=3) / len(gold)
        blind = np.full_like(table, 1 / 3)
        values, held = [], []
        for seed in range(120):
            draw = stratified_draw(table.max(axis=1), 200, seed)
            found = estimate_shares(
                blind, blind[draw.rows], gold[draw.rows], checked_weights=1 / draw.inclusion
            )
            values.append([e.value for e in found])
            held += [e.low <= t <= e.high for e, t in zip(found, truth, strict=True)]
        assert np.abs(np.mean(values, axis=0) - truth).max() < 0.01
        assert np.mean(held) > 0.92

    def test_checking_every_row_gives_the_exact_shares(self) -> None:
        table, gold = pile(2000)
        for number, found in enumerate(estimate_shares(table, table, gold)):
            assert found.low == found.value == found.high == (gold == number).sum() / 2000

    def test_groups_are_estimated_separately_in_their_order(self) -> None:
        table, gold = pile()
        groups = np.where(np.arange(len(gold)) % 3 == 0, "b", "a").tolist()
        draw = group_draw(groups, 300, 0)
        own = [groups[row] for row in draw.rows]
        found = estimate_shares(
            table, table[draw.rows], gold[draw.rows], groups=groups, checked_groups=own
        )
        assert [(e.group, e.name) for e in found] == [(g, k) for g in "ba" for k in range(3)]
        inside = np.array(groups) == "a"
        mine = np.array(own) == "a"
        alone = estimate_shares(table[inside], table[draw.rows][mine], gold[draw.rows][mine])
        assert [e.value for e in found[3:]] == [e.value for e in alone]

    def test_every_estimate_includes_the_uncorrected_share(self) -> None:
        table, gold = pile()
        found = estimate_shares(table, table[:100], gold[:100])
        assert [e.raw for e in found] == pytest.approx(table.mean(axis=0).tolist())

    def test_mismatched_arguments_of_estimates_are_refused(self) -> None:
        table, gold = pile(50)
        with pytest.raises(InputError, match="checked_probabilities has"):
            estimate_shares(table, table[:10, :2], gold[:10])
        with pytest.raises(InputError, match="must be from 0 to 2"):
            estimate_shares(table, table[:10], np.full(10, 3))
        with pytest.raises(InputError, match="group 'b' has no checked text"):
            estimate_shares(
                table, table[:5], gold[:5], groups=["a"] * 49 + ["b"], checked_groups=["a"] * 5
            )
        with pytest.raises(InputError, match="one positive number"):
            estimate_shares(table, table[:5], gold[:5], checked_weights=[1, 1, 0, 1, 1])


class TestAccuracy:
    def test_stratified_intervals_of_accuracy_cover_the_truth_and_are_narrower(self) -> None:
        table, gold = pile(4000)
        predicted, confidence = table.argmax(axis=1), table.max(axis=1)
        truth = (predicted == gold).mean()
        macro = f1_score(gold, predicted, average="macro")
        widths, held, f1_held = [], [], []
        for seed in range(40):
            draw = stratified_draw(confidence, 250, seed)
            accuracy, f1 = sentikit.estimate_accuracy(
                predicted,
                confidence,
                draw.rows,
                gold[draw.rows],
                checked_weights=1 / draw.inclusion,
            )
            widths.append(accuracy.high - accuracy.low)
            held.append(accuracy.low <= truth <= accuracy.high)
            f1_held.append(f1.low <= macro <= f1.high)
        classical = 2 * 1.96 * np.sqrt(truth * (1 - truth) / 250)
        assert np.mean(held) > 0.91
        assert np.mean(f1_held) > 0.9
        assert np.mean(widths) < 0.93 * classical

    def test_checking_every_row_gives_the_exact_accuracy(self) -> None:
        table, gold = pile(400)
        predicted = table.argmax(axis=1)
        accuracy, f1 = estimate_accuracy(predicted, table.max(axis=1), np.arange(400), gold)
        truth, macro = (predicted == gold).mean(), f1_score(gold, predicted, average="macro")
        assert (accuracy.low, accuracy.high) == pytest.approx((truth, truth))
        assert (f1.value, f1.low, f1.high) == pytest.approx((macro, macro, macro))

    def test_accuracy_without_observed_mistakes_still_has_an_interval(self) -> None:
        table, gold = pile(4000)
        accuracy, _ = estimate_accuracy(gold, table.max(axis=1), np.arange(100), gold[:100])
        assert accuracy.value == pytest.approx(1)
        assert accuracy.low < 0.975

    def test_rows_without_a_label_count_as_wrong(self) -> None:
        gold = np.zeros(200, int)
        predicted = np.where(np.arange(200) % 2 == 0, 0, -1)
        accuracy, _ = estimate_accuracy(predicted, np.linspace(0, 1, 200), np.arange(200), gold)
        assert accuracy.value == pytest.approx(0.5)

    def test_accuracy_agrees_with_glide_py(self) -> None:
        estimators = pytest.importorskip("glide.estimators", reason="glide-py needs Python 3.12")
        from sentikit.plugins.checked_labels.draws import confidence_strata

        table, gold = pile(4000)
        predicted, confidence = table.argmax(axis=1), table.max(axis=1)
        draw = stratified_draw(confidence, 300, 0)
        strata = confidence_strata(confidence)
        expected = estimators.StratifiedClassicalMeanEstimator().estimate(
            (predicted == gold)[draw.rows].astype(float),
            strata[draw.rows],
            stratum_weights=np.bincount(strata) / len(strata),
        )
        accuracy, _ = estimate_accuracy(predicted, confidence, draw.rows, gold[draw.rows])
        assert accuracy.value == pytest.approx(expected.mean, abs=1e-9)

    @pytest.mark.parametrize("seed", [1041, 1085])
    def test_few_checks_give_an_interval_of_macro_f1_from_0_to_1(self, seed: int) -> None:
        random, rows = np.random.default_rng(seed), 2000
        gold = random.choice(3, rows, p=[0.62, 0.3, 0.08])
        confidence = random.uniform(0.4, 1, rows)
        predicted = np.where(random.random(rows) < confidence, gold, random.integers(0, 3, rows))
        drawn = random.permutation(rows)[:34]
        _, f1 = estimate_accuracy(predicted, confidence, drawn, gold[drawn])
        assert 0 <= f1.low < f1.value < f1.high <= 1

    def test_a_row_checked_twice_is_refused(self) -> None:
        with pytest.raises(InputError, match="different rows"):
            estimate_accuracy([0, 1], [0.5, 0.6], [1, 1], [0, 1])


class TestDraws:
    def test_inclusion_probabilities_are_those_of_the_draws(self) -> None:
        confidence = np.linspace(0, 1, 400)
        counted, expected = np.zeros(400), np.zeros(400)
        for seed in range(800):
            draw = stratified_draw(confidence, 80, seed)
            counted[draw.rows] += 1 / 800
            expected[draw.rows] = draw.inclusion
        assert len(draw.rows) == len(set(draw.rows.tolist())) == 80
        seen = expected > 0
        assert np.abs(counted - expected)[seen].max() < 0.09
        assert counted[:50].mean() > 2 * counted[-50:].mean()

    def test_a_draw_is_reproducible_by_its_seed(self) -> None:
        assert uniform_draw(1000, 50, 7).rows.tolist() == uniform_draw(1000, 50, 7).rows.tolist()
        assert uniform_draw(1000, 50, 7).rows.tolist() != uniform_draw(1000, 50, 8).rows.tolist()

    def test_each_group_gets_its_share_and_a_small_one_all_it_has(self) -> None:
        groups = ["big"] * 500 + ["small"] * 10 + ["middle"] * 90
        draw = group_draw(groups, 90, 0)
        counts = [sum(groups[r] == name for r in draw.rows) for name in ("big", "small", "middle")]
        assert counts == [40, 10, 40]

    def test_drawing_more_rows_than_exist_is_refused(self) -> None:
        with pytest.raises(InputError, match="11 texts cannot be drawn from 10 rows"):
            uniform_draw(10, 11, 0)


class TestCombination:
    def test_labels_without_probabilities_count_as_80_percent_sure(self) -> None:
        encoder = np.array([[0.6, 0.3, 0.1]])
        llm = np.array([[0.0, 1.0, 0.0]])
        expected = np.array([0.6 * 0.1, 0.3 * 0.8, 0.1 * 0.1])
        assert combine([encoder, llm])[0] == pytest.approx(expected / expected.sum())

    def test_a_member_without_an_answer_is_ignored(self) -> None:
        encoder = np.array([[0.6, 0.3, 0.1]])
        assert combine([encoder, np.full((1, 3), np.nan)])[0] == pytest.approx(encoder[0])

    def test_contradicting_certainties_stay_finite(self) -> None:
        sure = np.array([[1 - 2e-16, 1e-16, 1e-16]])
        assert np.isfinite(combine([sure, sure[:, ::-1]])).all()

    def test_a_fitted_combination_is_better_than_its_members(self) -> None:
        first, gold = pile(3000, 0, 1.2)
        random = np.random.default_rng(1)
        second = np.eye(3)[np.where(random.random(3000) < 0.7, gold, random.integers(0, 3, 3000))]
        fitted = FittedCombination([first[:1500], second[:1500]], gold[:1500])
        both = fitted([first[1500:], second[1500:]])
        right = [
            (t.argmax(axis=1) == gold[1500:]).mean() for t in (both, first[1500:], second[1500:])
        ]
        assert right[0] > max(right[1:])
        assert fitted.labels_used == 1500
        assert both.sum(axis=1) == pytest.approx(np.ones(1500))
