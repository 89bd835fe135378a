"""``sentikit cascade``: the encoder answers where it is sure, the LLM elsewhere."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from ensemble_runs import LABELS, encoder_and_llm, sure, write_results
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

import sentikit
from sentikit import read_run
from sentikit.cli.cascade import cascade
from sentikit.comparison.bootstrap import Resampling
from sentikit.ensembles.cascade import curve
from sentikit.ensembles.thresholds import (
    EVERYTHING,
    UNSURE,
    Aim,
    OperatingPoint,
    Routed,
    all_cuts,
    choose,
    cross_fit,
)
from sentikit.errors import InputError
from sentikit.scoring import confusion_counts, macro_f1


def routed(rows: int, seed: int = 0, cost: bool = False) -> Routed:
    """An encoder right as often as it says, and an LLM right three times in four."""
    random_ = np.random.default_rng(seed)
    gold = random_.integers(0, 3, rows)
    confidence = np.round(random_.uniform(0.34, 1, rows), 2)

    def right_by(chance: Any) -> Any:
        return np.where(random_.random(rows) < chance, gold, (gold + 1) % 3)

    costs = random_.uniform(0.001, 0.01, rows) if cost else None
    return Routed(gold, right_by(confidence), confidence, right_by(0.75), 3, costs)


def operations(rows: Routed) -> list[OperatingPoint]:
    cuts = all_cuts(rows)
    return [cuts.at(place) for place in range(len(cuts.calls))]


def cascade_labels(rows: Routed, threshold: float) -> Any:
    return np.where(rows.confidence < threshold, rows.llm, rows.encoder)


def run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(cascade, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def interrupt(path: Path) -> None:
    """Make a finished run one that was killed before its last step."""
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}))
    (path / "predictions.jsonl").unlink()


def refused(*arguments: str) -> str:
    with pytest.raises(InputError) as caught:
        CliRunner().invoke(cascade, arguments, catch_exceptions=False, standalone_mode=False)
    return caught.value.message


class TestRecordedStudy:
    """Section 7 of the study's findings, none of which its authors ran."""

    @pytest.mark.parametrize(
        ("encoder", "llm", "threshold", "share", "f1"),
        [
            ("E3-G4OM-EBFT.csv#encoder", "B3-G4OM.csv", 0.80, 21.9, 82.34),
            ("E13-G4OM-ELFT.csv#encoder", "E4-G4OMFT.csv", 0.95, 40.7, 86.73),
        ],
    )
    def test_recorded_cascades_reach_the_documented_share_of_calls_and_macro_f1(
        self, shared_data: Path, encoder: str, llm: str, threshold: float, share: float, f1: float
    ) -> None:
        recorded = shared_data / "recorded"
        found = run(str(recorded / encoder), str(recorded / llm), "--threshold", str(threshold))
        assert round(100 * found["share_of_calls"], 1) == share
        assert round(100 * found["overall"]["macro_f1"], 2) == f1
        bounds = found["macro_f1"]["percentile"]
        assert bounds["low"] < found["macro_f1"]["value"] < bounds["high"]

    def test_a_cross_fitted_threshold_scores_below_the_best_in_hindsight(
        self, shared_data: Path
    ) -> None:
        recorded = shared_data / "recorded"
        found = run(str(recorded / "E3-G4OM-EBFT.csv#encoder"), str(recorded / "B3-G4OM.csv"))
        best = found["best_in_hindsight"]["macro_f1"]
        assert 0.815 < found["overall"]["macro_f1"] < best
        assert found["gains"]["B3-G4OM"]["percentile"]["low"] > 0


class TestOperations:
    @settings(max_examples=8, deadline=None)
    @given(rows=st.integers(1, 40), seed=st.integers(0, 1000))
    def test_each_operating_point_equals_routing_at_its_threshold(
        self, rows: int, seed: int
    ) -> None:
        made = routed(rows, seed, cost=True)
        for point in operations(made):
            asked = made.confidence < point.threshold
            assert point.calls == asked.sum()
            assert made.cost is not None
            assert point.cost == pytest.approx(made.cost[asked].sum() / rows * 1000)
            labels = cascade_labels(made, point.threshold)
            expected = f1_score(
                made.gold, labels, labels=[0, 1, 2], average="macro", zero_division=0
            )
            assert point.macro_f1 == pytest.approx(expected)

    def test_operating_points_range_from_encoder_only_to_llm_only(self) -> None:
        made = routed(100)
        points = operations(made)
        assert (points[0].calls, points[0].threshold) == (0, 0.0)
        assert (points[-1].calls, points[-1].threshold) == (100, EVERYTHING)
        np.testing.assert_array_equal(cascade_labels(made, 0.0), made.encoder)
        np.testing.assert_array_equal(cascade_labels(made, EVERYTHING), made.llm)

    def test_texts_of_equal_confidence_are_routed_together(self) -> None:
        made = routed(200)
        assert len(operations(made)) == len(set(made.confidence)) + 1

    def test_the_encoder_answers_at_the_threshold_itself(self) -> None:
        one = np.array([0])
        assert cascade_labels(Routed(one, one, np.array([0.8]), one + 1, 3), 0.8) == [0]

    def test_texts_without_an_encoder_prediction_go_to_the_llm(self) -> None:
        gold = np.array([0, 1, 2])
        made = Routed(gold, np.array([-1, 1, 2]), np.array([UNSURE, 0.9, 0.9]), gold, 3)
        assert [point.calls for point in operations(made)] == [1, 3]
        assert operations(made)[0].threshold == 0.0

    def test_an_invalid_answer_of_the_llm_counts_as_wrong(self) -> None:
        gold = np.array([0, 0, 1, 1, 2, 2])
        made = Routed(gold, gold, np.full(6, 0.5), np.full(6, -1), 3)
        assert [point.macro_f1 for point in operations(made)] == [1.0, 0.0]


class TestChoosing:
    def test_the_threshold_of_the_best_macro_f1_is_chosen(self) -> None:
        made = routed(500)
        assert choose(made, Aim()).macro_f1 == max(p.macro_f1 for p in operations(made))

    def test_the_best_threshold_within_a_share_of_calls_is_chosen(self) -> None:
        made = routed(500)
        chosen = choose(made, Aim("calls", 0.2))
        within = [p.macro_f1 for p in operations(made) if p.share <= 0.2]
        assert chosen.share <= 0.2
        assert chosen.macro_f1 == max(within)

    def test_the_best_threshold_within_a_cost_is_chosen(self) -> None:
        made = routed(500, cost=True)
        chosen = choose(made, Aim("cost", 1.5))
        assert chosen.cost is not None
        assert chosen.cost <= 1.5

    def test_a_cost_goal_without_known_costs_is_refused(self) -> None:
        with pytest.raises(InputError, match="--llm-cost"):
            choose(routed(500), Aim("cost", 1.5))

    def test_a_target_that_no_threshold_meets_is_reported(self) -> None:
        gold = np.arange(20) % 3
        made = Routed(gold, gold, np.full(20, UNSURE), gold, 3)
        with pytest.raises(InputError, match=r"No threshold keeps the calls within 0\.5"):
            choose(made, Aim("calls", 0.5))

    def test_cross_fitting_does_not_depend_on_the_order_of_rows(self) -> None:
        made, keys = routed(300), [f"text {i}" for i in range(300)]
        order = np.array(random.Random(1).sample(range(300), 300))
        thresholds = cross_fit(made, keys, Aim())
        turned = cross_fit(made.select(order), [keys[i] for i in order], Aim())
        assert len(set(thresholds)) > 1
        np.testing.assert_array_equal(thresholds[order], turned)

    def test_cross_fitting_keeps_equal_texts_together(self) -> None:
        keys = [f"text {i // 10}" for i in range(300)]
        thresholds = cross_fit(routed(300), keys, Aim())
        assert all(len(set(thresholds[i : i + 10])) == 1 for i in range(0, 300, 10))

    def test_choosing_a_threshold_needs_at_least_ten_texts(self) -> None:
        with pytest.raises(InputError, match="9 labelled texts are too few"):
            cross_fit(routed(9), list("abcdefghi"), Aim())


class TestCurve:
    def test_the_curves_intervals_agree_with_resampled_rows(self) -> None:
        made = routed(400)
        points = curve(made, Resampling(4000), steps=4)
        middle = points[len(points) // 2]
        random_ = np.random.default_rng(5)
        labels = cascade_labels(made, middle.threshold)
        drawn = []
        for _ in range(2000):
            rows = random_.integers(0, 400, 400)
            drawn.append(macro_f1(confusion_counts(made.gold[rows], labels[rows], 3)))
        expected = np.quantile(drawn, [0.025, 0.975])
        np.testing.assert_allclose([middle.low, middle.high], expected, atol=0.006)

    def test_the_curve_covers_all_shares_of_calls(self) -> None:
        shares = [point.share for point in curve(routed(2000), Resampling(50))]
        assert shares[0] == 0
        assert shares[-1] == 1
        assert shares == sorted(shares)
        assert max(np.diff(shares)) < 0.05


class TestCommand:
    @pytest.fixture
    def runs(self, tmp_path: Path) -> tuple[str, str]:
        return encoder_and_llm(tmp_path)

    def test_the_command_uses_a_given_threshold(self, runs: tuple[str, str]) -> None:
        found = run(*runs, "--threshold", "0.55")
        assert (found["how"], found["calls"], found["overall"]["macro_f1"]) == ("given", 20, 1.0)
        assert found["cost_per_1000"] == pytest.approx(20 * 0.01 / 60 * 1000)
        assert found["llm_cost_per_1000"] == pytest.approx(10)

    def test_the_command_tunes_the_threshold_on_other_runs(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "validation").mkdir()
        other = encoder_and_llm(tmp_path / "validation", rows=30)
        found = run(*runs, "--tune", *other)
        assert found["how"] == "tuned"
        assert found["threshold"] == pytest.approx(0.55)
        assert "The threshold was chosen on 30 of the scored texts" in found["notes"][0]

    def test_tuning_on_the_evaluated_texts_is_noted(self, tmp_path: Path) -> None:
        """Also where the files hold ids alone."""
        lines = ["id,gold,label,probabilities"]
        for i in range(30):
            probabilities = json.dumps(sure(LABELS[i % 3], 0.7)).replace('"', '""')
            lines.append(f'r{i},{LABELS[i % 3]},{LABELS[i % 3]},"{probabilities}"')
        for name in ("encoder", "llm"):
            (tmp_path / f"{name}.csv").write_text("\n".join(lines))
        runs = [str(tmp_path / f"{name}.csv") for name in ("encoder", "llm")]
        found = run(*runs, "--tune", *runs)
        assert "The threshold was chosen on 30 of the scored texts" in found["notes"][0]
        assert "30 texts of the runs to tune on" in found["explanation"]

    def test_the_threshold_is_cross_fitted_when_there_is_only_one_split(
        self, runs: tuple[str, str]
    ) -> None:
        found = run(*runs)
        assert found["how"] == "cross-fitted"
        assert "there is only one split" in found["explanation"]
        assert found["overall"]["macro_f1"] == 1.0

    def test_a_target_share_of_calls_is_kept(self, runs: tuple[str, str]) -> None:
        assert run(*runs, "--goal", "calls", "--target", "0.1")["share_of_calls"] <= 0.1

    def test_the_command_prints_a_table(self, runs: tuple[str, str]) -> None:
        result = CliRunner().invoke(cascade, [*runs, "--threshold", "0.55"])
        assert result.exit_code == 0
        assert "33.3%" in result.stdout
        assert "1.0000" in result.stdout

    def test_a_gain_of_zero_has_no_sign(self) -> None:
        from sentikit.comparison.results import Estimate, Interval

        nothing = Interval(-0.00001, 0.00001)
        assert Estimate(-0.0, nothing, nothing).gain_cell() == "+0.0000 [+0.0000, +0.0000]"

    def test_a_cascade_writes_a_run_like_every_other(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        run(*runs, "--threshold", "0.55", "--output", str(tmp_path / "run"))
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert manifest["status"] == "finished"
        assert manifest["kind"] == "cascade"
        assert manifest["cost_usd"] == {"llm": pytest.approx(0.2)}
        assert metrics["overall"]["macro_f1"] == 1.0
        assert metrics["overall"]["metrics"] == {"quadratic_weighted_kappa": 1.0}
        assert 0 <= metrics["overall"]["ranking"]["auc"] <= 1
        assert set(metrics["by_source"]) == {"s0", "s1"}
        table = read_run(tmp_path / "run")
        assert (table.answers.labels == table.gold).all()
        assert table.cost is not None
        assert np.isnan(table.cost).sum() == 40
        encoder = read_run(f"{tmp_path / 'run'}#encoder")
        assert (encoder.answers.labels == read_run(runs[0]).answers.labels).all()
        recorded = json.loads((tmp_path / "run" / "cascade.json").read_text())
        assert recorded["curve"][-1]["share"] == 1.0

    @pytest.mark.parametrize(
        "how", [["--threshold", "0.55"], [], ["--goal", "calls", "--target", "0.5"]]
    )
    def test_the_recipe_saved_with_a_cascade_runs_again(
        self, runs: tuple[str, str], tmp_path: Path, how: list[str]
    ) -> None:
        first = run(*runs, *how, "--output", str(tmp_path / "run"))
        again = run("--recipe", str(tmp_path / "run" / "recipe.yaml"), "--output", "again")
        assert again == first

    def test_the_recipe_of_a_tuned_cascade_names_the_tuning_runs(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "validation").mkdir()
        other = encoder_and_llm(tmp_path / "validation", rows=30)
        first = run(*runs, "--tune", *other, "--output", str(tmp_path / "run"))
        again = run("--recipe", str(tmp_path / "run" / "recipe.yaml"), "--output", "again")
        assert again == first

    def test_the_recipe_saved_with_a_given_llm_cost_runs_again(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        lines = [json.loads(line) for line in Path(runs[1]).read_text().splitlines()]
        Path(runs[1]).write_text("\n".join(json.dumps(r | {"cost": None}) for r in lines))
        aim = ["--goal", "cost", "--target", "1", "--llm-cost", "3"]
        first = run(*runs, *aim, "--output", str(tmp_path / "run"))
        assert first["share_of_calls"] <= 1 / 3
        again = run("--recipe", str(tmp_path / "run" / "recipe.yaml"), "--output", "again")
        assert again == first
        (own,) = sentikit.compare([tmp_path / "run"]).runs
        assert own.cost.per_1000 == pytest.approx(first["cost_per_1000"])

    def test_rows_without_text_are_no_calls_of_a_recorded_cascade(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        for path in runs:
            rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
            empty = rows[0] | {"text": " ", "gold": None}
            Path(path).write_text("\n".join(json.dumps(row) for row in [empty, *rows]) + "\n")
        found = run(*runs, "--threshold", "0.55", "--output", str(tmp_path / "run"))
        assert (found["rows"], found["calls"], found["overall"]["macro_f1"]) == (61, 20, 1.0)
        assert found["llm_cost_per_1000"] == pytest.approx(60 * 0.01 / 61 * 1000)
        assert found["curve"][-1]["calls"] == 60
        first = json.loads((tmp_path / "run" / "predictions.jsonl").read_text().splitlines()[0])
        assert (first["text"], first["label"], "answered_by" in first) == (" ", None, False)

    def test_the_rows_of_a_recorded_cascade_are_labelled_as_it_was_judged(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        """Cross-fitted thresholds differ by row, and equal texts may have different answers."""
        for path in runs:
            rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
            twice = [rows[0] | {"label": "neutral", "gold": "neutral"}, rows[30]]
            Path(path).write_text("\n".join(json.dumps(row) for row in [*rows, *twice]) + "\n")
        run(*runs, "--output", str(tmp_path / "run"))
        judged = sentikit.cascade(*runs)
        table = read_run(tmp_path / "run")
        np.testing.assert_array_equal(table.answers.labels, judged.labels)
        lines = (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()
        by = [json.loads(line)["answered_by"] for line in lines]
        assert by == ["llm" if asked else "encoder" for asked in judged.asked]

    def test_rows_with_the_same_id_are_labelled_as_each_was_judged(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        for path in runs:
            rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
            rows[0]["id"] = rows[59]["id"] = "the same"
            Path(path).write_text("\n".join(map(json.dumps, rows)) + "\n")
        run(*runs, "--threshold", "0.55", "--output", str(tmp_path / "run"))
        lines = (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()
        by = [json.loads(line)["answered_by"] for line in lines]
        assert (by[0], by[59], by.count("llm")) == ("llm", "encoder", 20)

    def test_results_files_with_ids_alone_become_a_run(self, tmp_path: Path) -> None:
        for name, shift in (("encoder", 0), ("llm", 1)):
            lines = ["id,gold,label,probabilities"]
            for i in range(30):
                predicted = LABELS[(i + shift) % 3]
                shares = json.dumps(sure(predicted, 0.5 if i < 10 else 0.9)).replace('"', '""')
                lines.append(f'r{i},{LABELS[i % 3]},{predicted},"{shares}"')
            (tmp_path / f"{name}.csv").write_text("\n".join(lines))
        members = [str(tmp_path / f"{name}.csv") for name in ("encoder", "llm")]
        found = run(*members, "--threshold", "0.7", "--output", str(tmp_path / "run"))
        table = read_run(tmp_path / "run")
        assert found["calls"] == 10
        assert (table.answers.labels == table.gold).sum() == 20
        assert table.invalid == 0

    def test_a_cascade_that_sends_no_text_to_the_llm_costs_nothing(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        lines = [json.loads(line) for line in Path(runs[1]).read_text().splitlines()]
        Path(runs[1]).write_text("\n".join(json.dumps(r | {"cost": None}) for r in lines))
        found = run(*runs, "--threshold", "0", "--output", str(tmp_path / "run"))
        assert (found["calls"], found["cost_per_1000"]) == (0, 0)
        (own,) = sentikit.compare([tmp_path / "run"]).runs
        assert own.cost.per_1000 == 0

    def test_the_report_shows_the_cascades_own_cost(self, runs: tuple[str, str]) -> None:
        judged = sentikit.cascade(*runs, threshold=0.55)
        own = sentikit.compare_cascade(judged).runs[0]
        assert own.name == "cascade"
        assert own.cost.per_1000 == pytest.approx(judged.cost)

    def test_a_cascade_labels_texts_without_gold_labels(self, tmp_path: Path) -> None:
        rows = [(f"text {i}", None, LABELS[i % 3]) for i in range(12)]
        encoder = write_results(tmp_path / "e.jsonl", rows, [sure(r[2], 0.7) for r in rows])
        llm = write_results(tmp_path / "l.jsonl", rows)
        found = run(encoder, llm, "--threshold", "0.8", "--output", str(tmp_path / "run"))
        assert found["calls"] == 12
        assert found["overall"] is None
        assert not (tmp_path / "run" / "metrics.json").exists()

    def test_missing_encoder_predictions_are_noted(self, tmp_path: Path) -> None:
        rows = [(f"text {i}", LABELS[i % 3], LABELS[i % 3]) for i in range(12)]
        given = [None, *(sure(r[2], 0.9) for r in rows[1:])]
        found = run(
            write_results(tmp_path / "e.jsonl", rows, given),
            write_results(tmp_path / "l.jsonl", rows),
            "--threshold",
            "0",
        )
        assert found["calls"] == 1
        assert "for 1 texts" in found["notes"][0]


class TestBadInput:
    @pytest.fixture
    def runs(self, tmp_path: Path) -> tuple[str, str]:
        return encoder_and_llm(tmp_path)

    def test_an_encoder_without_probabilities_is_refused(self, runs: tuple[str, str]) -> None:
        assert "has no probabilities" in refused(runs[1], runs[0], "--threshold", "0.5")

    def test_runs_over_different_texts_are_refused(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        rows = [(f"another {i}", "neutral", "neutral") for i in range(60)]
        message = refused(runs[0], write_results(tmp_path / "other.jsonl", rows))
        assert "60 of 60 examples" in message

    def test_an_llm_run_with_fewer_texts_is_refused(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        rows = [(f"text number {i}", LABELS[i % 3], "neutral") for i in range(50)]
        message = refused(runs[0], write_results(tmp_path / "other.jsonl", rows))
        assert "10 of 60 examples" in message

    def test_an_llm_run_with_more_texts_is_refused(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        rows = [(f"text number {i}", LABELS[i % 3], "neutral") for i in range(61)]
        message = refused(runs[0], write_results(tmp_path / "other.jsonl", rows))
        assert "1 of 61 examples" in message

    def test_runs_with_different_gold_labels_are_refused(
        self, runs: tuple[str, str], tmp_path: Path
    ) -> None:
        rows = [(f"text number {i}", LABELS[(i + (i == 7)) % 3], "neutral") for i in range(60)]
        message = refused(runs[0], write_results(tmp_path / "other.jsonl", rows))
        assert "different gold labels for 1 of 60 texts" in message
        assert "row 8" in message

    def test_a_threshold_together_with_tuning_is_refused(self, runs: tuple[str, str]) -> None:
        assert "either" in refused(*runs, "--threshold", "0.5", "--tune", *runs)

    def test_a_goal_without_a_target_is_refused(self, runs: tuple[str, str]) -> None:
        assert "--target" in refused(*runs, "--goal", "calls")

    def test_choosing_a_threshold_without_gold_labels_is_refused(self, tmp_path: Path) -> None:
        rows = [(f"text {i}", None, LABELS[i % 3]) for i in range(12)]
        encoder = write_results(tmp_path / "e.jsonl", rows, [sure(r[2], 0.7) for r in rows])
        llm = write_results(tmp_path / "l.jsonl", rows)
        assert "No text has a gold label" in refused(encoder, llm)

    def test_the_same_run_given_twice_is_refused(self, runs: tuple[str, str]) -> None:
        assert "is given twice" in refused(runs[0], runs[0], "--threshold", "0.5")


def test_a_cascade_can_be_computed_from_python(tmp_path: Path) -> None:
    encoder, llm = encoder_and_llm(tmp_path)
    judged = sentikit.cascade(encoder, llm, threshold=0.55)
    assert judged.share == pytest.approx(1 / 3)
    assert judged.scores.scores is not None
    assert judged.scores.scores.macro_f1 == 1.0


@pytest.mark.parametrize(
    ("aim", "message"),
    [
        ({"goal": "calls"}, "needs a target: a share"),
        ({"goal": "cost"}, "needs a target: USD"),
        ({"goal": "call", "target": 0.2}, "Unknown goal 'call'. Did you mean 'calls'"),
        ({"target": 0.2}, "has no target"),
        ({"goal": "calls", "target": 20}, "at most 1"),
        ({"goal": "cost", "target": -1}, "above 0"),
    ],
)
def test_an_invalid_goal_from_python_is_refused(
    tmp_path: Path, aim: dict[str, Any], message: str
) -> None:
    encoder, llm = encoder_and_llm(tmp_path)
    with pytest.raises(InputError, match=message):
        sentikit.cascade(encoder, llm, **aim)


class TestRecipe:
    """A recipe of kind cascade asks the LLM now, about the texts that need it and no others."""

    @pytest.fixture
    def recipe(self, tmp_path: Path) -> Path:
        """An encoder recorded on both splits, and an LLM that replays recorded answers."""
        encoder, llm = encoder_and_llm(tmp_path)
        (tmp_path / "other").mkdir()
        rows = [(f"other {i}", LABELS[i % 3], LABELS[(i + (i < 10)) % 3]) for i in range(30)]
        sureness = [sure(row[2], 0.4 if i < 10 else 0.7) for i, row in enumerate(rows)]
        both = [json.loads(line) for line in Path(encoder).read_text().splitlines()]
        both += [
            {
                "text": text,
                "gold": gold,
                "label": predicted,
                "probabilities": dict(zip(LABELS, p, strict=True)),
            }
            for (text, gold, predicted), p in zip(rows, sureness, strict=True)
        ]
        answers = [json.loads(line) for line in Path(llm).read_text().splitlines()]
        answers += [{"text": text, "gold": gold, "label": gold} for text, gold, _ in rows]
        for name, records in (("both", both), ("answers", answers)):
            lines = [
                json.dumps({key: record.get(key) for key in records[-1]}) for record in records
            ]
            (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        for name, records in (("test", both[:60]), ("validation", both[60:])):
            lines = ["text,label", *(f"{r['text']},{r['gold']}" for r in records)]
            (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / "replayed.yaml").write_text(
            f"kind: prompt\ndataset: {{name: files, test: {tmp_path}/test.csv, "
            f"validation: {tmp_path}/validation.csv}}\n"
            f"llm: {{backend: replay, run: {tmp_path}/answers.jsonl}}\n"
        )
        path = tmp_path / "cascade.yaml"
        path.write_text(
            f"kind: cascade\ncascade:\n  encoder: {tmp_path}/both.jsonl\n"
            "  llm: replayed.yaml\n  threshold: 0.55\n"
        )
        return path

    def test_the_llm_is_asked_only_about_unsure_texts(self, recipe: Path, tmp_path: Path) -> None:
        found = run("--recipe", str(recipe), "--output", str(tmp_path / "run"))
        assert (found["calls"], found["how"]) == (20, "given")
        assert found["overall"]["macro_f1"] == 1.0
        lines = (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()
        answered = [json.loads(line)["answered_by"] for line in lines]
        assert (answered.count("replayed"), answered.count("both")) == (20, 40)
        recorded = json.loads((tmp_path / "run" / "manifest.json").read_text())
        assert (recorded["rows"], recorded["failed"]) == (60, 0)
        table = read_run(tmp_path / "run")
        assert len(table) == 60
        assert (table.answers.labels == table.gold).all()

    def test_the_threshold_is_tuned_on_the_validation_split(
        self, recipe: Path, tmp_path: Path
    ) -> None:
        recipe.write_text(recipe.read_text().replace("threshold: 0.55", "tune: {goal: f1}"))
        found = run("--recipe", str(recipe), "--output", str(tmp_path / "run"))
        assert found["how"] == "tuned"
        assert found["threshold"] == pytest.approx(0.55)
        assert "30 validation texts" in found["explanation"]

    def test_members_of_a_cascade_are_not_listed_as_runs(
        self, recipe: Path, tmp_path: Path
    ) -> None:
        from sentikit.runs.listing import find_runs

        run("--recipe", str(recipe), "--output", str(tmp_path / "runs" / "cascade"))
        (only,) = find_runs(tmp_path / "runs")
        assert (only.kind, only.status) == ("cascade", "finished")

    def test_a_recipe_of_another_kind_is_refused(self, tmp_path: Path, recipe: Path) -> None:
        assert "kind cascade" in refused("--recipe", str(tmp_path / "replayed.yaml"))

    def test_an_encoder_that_is_not_trained_yet_is_refused(self) -> None:
        message = refused("--recipe", "cascade-electra-base-gpt-4o-mini")
        assert "sentikit train --recipe electra-base --output runs/electra-base" in message

    def test_a_stopped_cascade_resumes_where_it_stopped(self, recipe: Path, tmp_path: Path) -> None:
        arguments = ["--recipe", str(recipe), "--output", str(tmp_path / "run")]
        run(*arguments)
        names = ("predictions.jsonl", "metrics.json", "cascade.json")
        before = [(tmp_path / "run" / name).read_text() for name in names]
        interrupt(tmp_path / "run")
        run(*arguments, "--resume")
        assert [(tmp_path / "run" / name).read_text() for name in names] == before
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        assert manifest["status"] == "finished"

    @pytest.mark.parametrize("threshold", ["0.3", "0.9"])
    def test_resuming_with_another_threshold_is_refused(
        self, recipe: Path, tmp_path: Path, threshold: str
    ) -> None:
        arguments = ["--recipe", str(recipe), "--output", str(tmp_path / "run")]
        run(*arguments)
        interrupt(tmp_path / "run")
        message = refused(*arguments, "--resume", "--set", f"cascade.threshold={threshold}")
        assert "started with other settings: cascade.thresholds" in message

    def test_answers_of_another_llm_are_not_reused(self, recipe: Path, tmp_path: Path) -> None:
        recipe.write_text(recipe.read_text().replace("threshold: 0.55", "tune: {goal: f1}"))
        arguments = ["--recipe", str(recipe), "--output", str(tmp_path / "run")]
        run(*arguments)
        interrupt(tmp_path / "run")
        llm = tmp_path / "replayed.yaml"
        llm.write_text(llm.read_text() + "strategy: {name: minimal}\n")
        message = refused(*arguments, "--resume")
        assert f"{tmp_path}/run was started with other settings: replayed: strategy.name" in message

    def test_a_refused_cascade_writes_nothing(self, recipe: Path, tmp_path: Path) -> None:
        rows = [("another text", "neutral", "neutral")]
        write_results(tmp_path / "both.jsonl", rows, [sure("neutral", 0.7)])
        refused("--recipe", str(recipe), "--output", str(tmp_path / "run"))
        assert not (tmp_path / "run").exists()

    def test_a_recorded_llm_can_be_a_member(self, recipe: Path, tmp_path: Path) -> None:
        encoder, llm = (str(tmp_path / f"{name}.jsonl") for name in ("both", "answers"))
        recipe.write_text(recipe.read_text().replace("replayed.yaml", llm))
        found = run("--recipe", str(recipe), "--output", str(tmp_path / "run"))
        assert found == run(encoder, llm, "--threshold", "0.55")
        assert "--limit" in refused("--recipe", str(recipe), "--limit", "3")

    def test_three_recorded_members_can_be_stages(self, recipe: Path, tmp_path: Path) -> None:
        encoder, llm = encoder_and_llm(tmp_path)
        rows = [(f"text number {i}", LABELS[i % 3], LABELS[i % 3]) for i in range(60)]
        middle = write_results(tmp_path / "middle.jsonl", rows, [sure(r[2], 0.52) for r in rows])
        stages = [encoder, middle, llm]
        recipe.write_text(
            json.dumps(
                {"kind": "cascade", "cascade": {"members": stages, "thresholds": [0.55, 0.5]}}
            )
        )
        found = run("--recipe", str(recipe), "--output", str(tmp_path / "run"))
        assert (found["calls"], found["overall"]["macro_f1"]) == (20, 1.0)
        lines = (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()
        answered = [json.loads(line)["answered_by"] for line in lines]
        assert (answered.count("encoder"), answered.count("middle")) == (40, 20)

    def test_a_member_that_labelled_nothing_is_refused(self, recipe: Path, tmp_path: Path) -> None:
        encoder, _ = encoder_and_llm(tmp_path)
        recipe.write_text(
            json.dumps(
                {"kind": "cascade", "cascade": {"members": [encoder, "tfidf"], "thresholds": [0.5]}}
            )
        )
        for more in ([], ["--set", "dataset.name=demo"], ["--limit", "5"]):
            message = refused("--recipe", str(recipe), *more)
            assert message.startswith("tfidf has labelled no texts, and no member is a prompt")
            assert "sentikit evaluate RECIPE --dataset NAME" in message

    def test_deprecated_keys_work_with_a_warning(self, recipe: Path) -> None:
        old = CliRunner().invoke(cascade, ["--recipe", str(recipe), "--output", "old"])
        for key, new in (("encoder", "members"), ("llm", "members"), ("threshold", "thresholds")):
            assert f"cascade.{key} is the old name of cascade.{new}. It works" in old.stderr
        text = recipe.read_text().replace("encoder: ", "members: [").replace("\n  llm: ", ", ")
        recipe.write_text(text.replace("\n  threshold: 0.55", "]\n  thresholds: [0.55]"))
        new = CliRunner().invoke(cascade, ["--recipe", str(recipe), "--output", "new"])
        assert new.exit_code == 0, new.output
        assert "old name" not in new.stderr
        first, second = (read_run(name).answers.labels.tolist() for name in ("old", "new"))
        assert first == second

    def test_a_recipe_together_with_recorded_runs_is_refused(self, recipe: Path) -> None:
        assert "--set cascade.threshold" in refused("--recipe", str(recipe), "--threshold", "0.5")
        assert "--recipe alone" in refused("a.csv", "b.csv", "--max-cost", "1")
        assert "two runs" in refused("a.csv")
