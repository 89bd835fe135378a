"""Certificates keep their promise, are exact, and refuse what they cannot answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sentikit.plugins.checked_labels.certification import least_abstention
from statsmodels.stats.proportion import proportion_confint

import sentikit
from sentikit.assurance import certificates
from sentikit.assurance.certificates import (
    certify,
    certify_agreement,
    lower_bound,
    upper_bound,
)
from sentikit.errors import InputError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def pile(rows: int = 2000, error: float = 0.17, seed: int = 0) -> tuple[Floats, Bools]:
    """Make up confidences and correctness; errors are likelier where confidence is low."""
    random = np.random.default_rng(seed)
    confidence = random.random(rows)
    chance = np.minimum(1, 3 * error * (1 - confidence) ** 2)
    return confidence, random.random(rows) > chance


class TestPromises:
    def test_promises_are_broken_no_more_often_than_the_level_allows(self) -> None:
        confidence, correct = pile()
        broken, shares = 0, []
        for seed in range(400):
            drawn = np.random.default_rng(seed).choice(len(correct), 200, replace=False)
            found = certify(confidence, confidence[drawn], correct[drawn], accuracy=0.9)
            accepted = confidence >= found.threshold
            broken += (~correct[accepted]).sum() > 0.1 * accepted.sum()
            shares.append(found.share)
        assert stats.binomtest(int(broken), 400, 0.1, alternative="greater").pvalue > 0.01
        assert np.mean(shares) > 0.5

    def test_promises_hold_if_every_threshold_is_just_above_the_target(self) -> None:
        # The hardest pile: one more error than allowed, evenly spread.
        rows, broken = 1000, 0
        correct = np.ones(rows, bool)
        correct[np.random.default_rng(1).choice(rows, 112, replace=False)] = False
        confidence = np.linspace(1, 0, rows)
        for seed in range(1000):
            drawn = np.random.default_rng(seed).choice(rows, 150, replace=False)
            found = certify(confidence, confidence[drawn], correct[drawn], accuracy=0.9)
            accepted = confidence >= found.threshold
            broken += (~correct[accepted]).sum() > 0.1 * accepted.sum()
        assert stats.binomtest(int(broken), 1000, 0.1, alternative="greater").pvalue > 0.01

    def test_declared_looks_share_the_risk(self) -> None:
        confidence, correct = pile()
        broken = 0
        for seed in range(200):
            drawn = np.random.default_rng(seed).choice(len(correct), 240, replace=False)
            bad = False
            for size in (80, 160, 240):
                seen = drawn[:size]
                found = certify(confidence, confidence[seen], correct[seen], accuracy=0.9, looks=3)
                accepted = confidence >= found.threshold
                bad |= bool((~correct[accepted]).sum() > 0.1 * accepted.sum())
            broken += bad
        assert stats.binomtest(broken, 200, 0.1, alternative="greater").pvalue > 0.01

    def test_agreement_holds_with_equal_confidences(self) -> None:
        # Three values of confidence alone, as of votes.
        random = np.random.default_rng(0)
        confidence = random.choice([1 / 3, 2 / 3, 1.0], 1500, p=[0.2, 0.3, 0.5])
        agrees = (
            random.random(1500)
            < np.array([0.6, 0.85, 0.97])[np.rint(confidence * 3).astype(int) - 1]
        )
        broken = 0
        for seed in range(400):
            drawn = np.random.default_rng(seed).choice(1500, 200, replace=False)
            found = certify_agreement(confidence, confidence[drawn], agrees[drawn], agreement=0.95)
            kept = confidence >= found.threshold
            kept[drawn] = False
            assert found.share == pytest.approx(kept.mean())
            broken += (~agrees[kept]).sum() > 0.05 * 1500
        assert stats.binomtest(int(broken), 400, 0.1, alternative="greater").pvalue > 0.01

    @pytest.mark.parametrize(("accepted", "drawn", "risk"), [(900, 300, 0.1), (500, 60, 0.05)])
    def test_the_threshold_test_is_exact_and_more_powerful_than_the_conditional_one(
        self, accepted: int, drawn: int, risk: float
    ) -> None:
        rows, limit = 1200, int(0.1 * accepted) + 1
        counts, _ = certificates._critical(rows, accepted, limit, drawn, risk)
        sizes = np.arange(drawn + 1)
        weights = stats.hypergeom.pmf(sizes, rows, accepted, drawn)
        passed = weights @ stats.hypergeom.cdf(counts, accepted, limit, sizes)
        plain = [
            int((stats.hypergeom.cdf(np.arange(n + 1), accepted, limit, n) <= risk).sum()) - 1
            for n in sizes
        ]
        assert weights @ stats.hypergeom.cdf(plain, accepted, limit, sizes) < passed <= risk
        likely = weights > 1e-9
        assert (counts >= plain)[likely].all()


class TestAgainstBargain:
    """PyPI's `bargain` 0.1.3 (arXiv 2509.02896), which promises agreement with an LLM."""

    def test_the_exact_bound_is_tighter_on_average_than_its_betting_test(self) -> None:
        betting = pytest.importorskip("BARGAIN.bounds.betting_bounds")
        rows, drawn, risk = 5000, 300, 0.1
        ours, theirs = [], []
        for seed, true in enumerate(np.linspace(0.01, 0.3, 12)):
            random = np.random.default_rng(seed)
            right = random.random(drawn) >= true
            ours.append(upper_bound(int((~right).sum()), drawn, rows, risk))
            # The largest accuracy that it proves; it says False where the mean is surely above.
            proved = (
                accuracy
                for accuracy in np.linspace(1, 0.5, 201)
                if not betting.test_if_true_mean_is_above_m(
                    right.astype(float), accuracy, risk, True, True, rows
                )
            )
            theirs.append(1 - next(proved, 0.0))
        # The bet depends on the order of the checks: a lucky order may prove a little more.
        differences = np.array(theirs) - ours
        assert (differences > 0).mean() > 0.75
        assert differences.mean() > 0.003

    def test_as_many_llm_labels_keep_at_least_as_many_rows_and_both_promises_hold(self) -> None:
        bargain = pytest.importorskip("BARGAIN.process.BARGAIN_A")
        models = pytest.importorskip("BARGAIN.models.AbstractModels")
        confidence, agrees = pile(1500)

        class Proxy(models.Proxy):  # type: ignore[misc,name-defined]
            def proxy_func(self, record: str) -> tuple[bool, float]:
                return True, float(confidence[int(record)])

        class Oracle(models.Oracle):  # type: ignore[misc,name-defined]
            def oracle_func(self, record: str, label: bool) -> tuple[bool, bool]:
                return bool(agrees[int(record)]) == bool(label), bool(agrees[int(record)])

        kept, theirs, broken = [], [], 0
        for seed in range(6):
            run = bargain.BARGAIN_A(
                Proxy(False, 1), Oracle(False, 1), target=0.9, delta=0.1, verbose=False, seed=seed
            )
            labels, asked = run.process([str(n) for n in range(1500)], return_oracle_usage=True)
            asked_of = np.array(asked)
            assert np.mean(np.array(labels) == agrees) >= 0.9
            theirs.append(1 - asked_of.mean())
            # It does not tell its sample from the rest: as many labels as it may have sampled.
            drawn = np.random.default_rng(seed).choice(1500, 300, replace=False)
            found = certify_agreement(confidence, confidence[drawn], agrees[drawn], agreement=0.9)
            stands = confidence >= found.threshold
            stands[drawn] = False
            broken += (~agrees[stands]).sum() > 150
            kept.append(found.share)
        assert broken <= 2
        assert np.mean(kept) > np.mean(theirs)


class TestBounds:
    @given(st.integers(1, 60), st.data())
    @settings(max_examples=60, deadline=None)
    def test_the_error_bound_is_the_largest_share_that_is_not_rejected(
        self, checked: int, data: st.DataObject
    ) -> None:
        rows = data.draw(st.integers(checked, 400))
        wrong = data.draw(st.integers(0, checked))
        bound = round(upper_bound(wrong, checked, rows, 0.1) * rows)
        assert stats.hypergeom.cdf(wrong, rows, bound, checked) > 0.1
        if bound < rows - (checked - wrong):
            assert stats.hypergeom.cdf(wrong, rows, bound + 1, checked) <= 0.1
        assert (
            lower_bound(wrong, checked, rows, 0.1) - 1e-12
            <= wrong / checked
            <= bound / rows + 1e-12
        )

    def test_the_bound_approaches_clopper_pearson_for_large_piles(self) -> None:
        _, high = proportion_confint(7, 120, alpha=0.2, method="beta")
        assert upper_bound(7, 120, 4_000_000, 0.1) == pytest.approx(high, abs=1e-5)
        assert upper_bound(7, 120, 300, 0.1) < high

    def test_checking_every_row_leaves_no_uncertainty(self) -> None:
        assert upper_bound(13, 200, 200, 0.1) == 13 / 200
        assert lower_bound(13, 200, 200, 0.1) == pytest.approx(13 / 200)

    def test_the_least_abstention_is_what_a_perfect_confidence_needs(self) -> None:
        share = least_abstention(0.2, 0.05)
        assert (0.2 - share) / (1 - share) == pytest.approx(0.05)
        assert least_abstention(0.04, 0.05) == 0

    @given(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=1, max_size=40))
    @settings(max_examples=50, deadline=None)
    def test_equal_confidences_are_accepted_together(self, values: list[float]) -> None:
        confidence = np.array(values)
        thresholds, accepted = certificates.tested_thresholds(confidence, 0.3, 0.01)
        assert [int((confidence >= t).sum()) for t in thresholds] == accepted.tolist()
        assert accepted[-1] == len(values)


class TestCertificate:
    def test_share_threshold_and_bound_describe_the_same_rows(self) -> None:
        confidence, correct = pile()
        drawn = np.random.default_rng(3).choice(len(correct), 300, replace=False)
        found = sentikit.certify(confidence, confidence[drawn], correct[drawn], accuracy=0.9)
        accepted = confidence >= found.threshold
        assert found.share == accepted.mean() == found.accepted / found.rows
        above = accepted[drawn]
        assert (found.checked_accepted, found.wrong) == (
            above.sum(),
            (~correct[drawn][above]).sum(),
        )
        assert found.wrong / found.checked_accepted < found.error_bound <= 0.1

    def test_rows_above_a_block_of_equal_confidences_are_certified_where_the_block_fails(
        self,
    ) -> None:
        random = np.random.default_rng(0)
        confidence = np.concatenate([np.linspace(0.81, 0.99, 920), np.full(1080, 0.8)])
        broken, shares = 0, []
        for seed in range(200):
            wrong = random.random(2000) < np.where(confidence > 0.8, 0.12, 0.4)
            drawn = np.random.default_rng(seed).choice(2000, 300, replace=False)
            found = certify(confidence, confidence[drawn], ~wrong[drawn], accuracy=0.75)
            accepted = confidence >= found.threshold
            broken += wrong[accepted].sum() > 0.25 * accepted.sum()
            shares.append(found.share)
        assert np.mean(np.isclose(shares, 0.46)) > 0.8
        assert stats.binomtest(int(broken), 200, 0.1, alternative="greater").pvalue > 0.01

    def test_only_the_order_of_confidences_counts(self) -> None:
        confidence, correct = pile()
        drawn = np.arange(0, len(correct), 7)
        one = certify(confidence, confidence[drawn], correct[drawn], accuracy=0.9)
        logs = np.log(confidence)
        other = certify(logs, logs[drawn], correct[drawn], accuracy=0.9)
        assert (one.share, one.error_bound) == (other.share, other.error_bound)

    def test_rows_without_a_label_are_never_accepted(self) -> None:
        confidence = np.concatenate([np.linspace(0.9, 1, 500), np.full(500, np.nan)])
        drawn = np.arange(0, 1000, 4)
        found = certify(confidence, confidence[drawn], drawn < 500, accuracy=0.9)
        assert found.share == pytest.approx(0.5)

    def test_an_impossible_target_certifies_nothing(self) -> None:
        confidence, _ = pile()
        drawn = np.arange(200)
        found = certify(confidence, confidence[drawn], np.zeros(200, bool), accuracy=0.9)
        assert (found.share, found.error_bound, found.accepted) == (0.0, 1.0, 0)
        assert found.threshold == math.inf

    def test_an_easy_target_certifies_the_whole_pile(self) -> None:
        confidence, _ = pile()
        drawn = np.arange(200)
        assert certify(confidence, confidence[drawn], np.ones(200, bool), accuracy=0.9).share == 1.0

    def test_agreement_counts_rows_kept_net_of_the_sample(self) -> None:
        confidence, agrees = pile(error=0.1)
        drawn = np.random.default_rng(5).choice(len(agrees), 300, replace=False)
        found = sentikit.certify_agreement(
            confidence, confidence[drawn], agrees[drawn], agreement=0.95
        )
        kept = confidence >= found.threshold
        kept[drawn] = False
        assert found.share == kept.mean() > 0
        assert found.error_bound <= 0.05

    def test_certifying_a_million_rows_takes_seconds(self) -> None:
        random = np.random.default_rng(0)
        confidence = random.random(1_000_000)
        drawn = random.choice(1_000_000, 500, replace=False)
        found = certify(confidence, confidence[drawn], random.random(500) < 0.97, accuracy=0.9)
        assert found.share == 1.0

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"accuracy": 1.0}, "accuracy must be between 0 and 1, such as 0.9, not 1"),
            ({"accuracy": 90}, "accuracy .* not 90"),
            ({"level": 0.0}, "level .* not 0"),
            ({"looks": 0}, "it is 0"),
            ({"start": 1.2}, "start .* not 1.2"),
        ],
    )
    def test_meaningless_arguments_are_refused(
        self, changed: dict[str, float], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            certify([0.5, 0.6], [0.5], [True], **{"accuracy": 0.9, **changed})  # type: ignore[arg-type]

    def test_checks_that_do_not_fit_the_pile_are_refused(self) -> None:
        with pytest.raises(InputError, match="2 checked confidences and 1 answers"):
            certify([0.5, 0.6], [0.5, 0.6], [True], accuracy=0.9)
        with pytest.raises(InputError, match="3 texts are checked of a pile of 2"):
            certify([0.5, 0.6], [0.5, 0.6, 0.7], [True] * 3, accuracy=0.9)
        with pytest.raises(InputError, match="Check at least one"):
            certify([0.5, 0.6], [], [], accuracy=0.9)
