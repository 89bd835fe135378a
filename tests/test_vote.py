"""``sentikit vote``: the label most runs give, ties to the first."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from ensemble_runs import LABELS, sure, write_results
from hypothesis import given, settings
from hypothesis import strategies as st

from sentikit import read_run
from sentikit.cli.vote import vote as vote_command
from sentikit.ensembles.vote import count_votes
from sentikit.errors import InputError
from sentikit.extension import Labelling

NEGATIVE, NEUTRAL, POSITIVE = range(3)


def run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(vote_command, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def refused(*arguments: str) -> str:
    with pytest.raises(InputError) as caught:
        CliRunner().invoke(vote_command, arguments, catch_exceptions=False, standalone_mode=False)
    return caught.value.message


def voted(*ballots: list[int], **options: Any) -> list[int]:
    winners = count_votes([Labelling(np.array(ballot)) for ballot in ballots], **options)
    return [winner.number for winner in winners]


def test_a_vote_reproduces_the_documented_score_of_the_recorded_study(shared_data: Path) -> None:
    names = ("E12-G4OFT-M", "E11-G4OMFT-M", "E2-ELFT")
    found = run(*(str(shared_data / "recorded" / f"{name}.csv") for name in names))
    assert round(100 * found["overall"]["macro_f1"], 2) == 87.07
    assert found["tied"] == 27
    # The ELECTRA file has no sources; those of the others are taken.
    assert set(found["by_source"]) == {"dynasent_r1", "dynasent_r2", "sst_local"}


class TestRule:
    def test_the_majority_wins_a_vote(self) -> None:
        assert voted([NEGATIVE], [POSITIVE], [POSITIVE]) == [POSITIVE]

    def test_ties_of_a_vote_go_to_the_first_named_run(self) -> None:
        assert voted([NEUTRAL], [POSITIVE], [NEGATIVE]) == [NEUTRAL]
        assert voted([POSITIVE], [NEUTRAL]) == [POSITIVE]

    def test_only_the_leading_labels_take_part_in_a_tie(self) -> None:
        ballots = [NEGATIVE], [POSITIVE], [NEUTRAL], [NEUTRAL], [POSITIVE]
        assert voted(*ballots) == [POSITIVE]

    def test_an_invalid_answer_is_no_vote(self) -> None:
        assert voted([-1], [NEUTRAL], [POSITIVE]) == [NEUTRAL]
        assert voted([-1], [-1], [POSITIVE]) == [POSITIVE]

    def test_a_vote_without_any_valid_answer_is_invalid(self) -> None:
        assert voted([-1], [-1]) == [-1]

    def test_ties_can_be_broken_by_probability(self) -> None:
        members = [
            Labelling(np.array([NEGATIVE]), np.array([[0.5, 0.4, 0.1]])),
            Labelling(np.array([NEUTRAL]), np.array([[0.1, 0.9, 0.0]])),
            Labelling(np.array([POSITIVE])),
        ]
        assert [w.number for w in count_votes(members, "probability")] == [NEUTRAL]
        assert [w.number for w in count_votes(members, "first")] == [NEGATIVE]

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.lists(st.integers(-1, 2), min_size=4, max_size=4), min_size=2, max_size=6))
    def test_votes_agree_with_counting_by_hand(self, ballots: list[list[int]]) -> None:
        expected = []
        for row in zip(*ballots, strict=True):
            counts = Counter(label for label in row if label >= 0)
            most = max(counts.values(), default=0)
            expected.append(next((n for n in row if n >= 0 and counts[n] == most), -1))
        assert voted(*ballots) == expected


class TestCommand:
    @pytest.fixture
    def runs(self, tmp_path: Path) -> list[str]:
        paths = []
        for wrong in range(3):
            rows = [
                (f"text {i}", LABELS[i % 3], LABELS[(i + (i % 3 == wrong)) % 3]) for i in range(30)
            ]
            path = tmp_path / f"run{wrong}.jsonl"
            paths.append(write_results(path, rows, [sure(r[2], 0.8) for r in rows], [0.001] * 30))
        return paths

    def test_three_runs_with_different_errors_are_right_together(self, runs: list[str]) -> None:
        found = run(*runs)
        assert found["overall"]["macro_f1"] == 1.0
        assert found["unanimous"] == 0
        assert found["cost_per_1000"] == pytest.approx(3)
        assert all(gain["percentile"]["low"] > 0 for gain in found["gains"].values())

    def test_the_cost_of_a_vote_is_unknown_if_a_members_is(self, runs: list[str]) -> None:
        lines = [json.loads(line) for line in Path(runs[2]).read_text().splitlines()]
        Path(runs[2]).write_text("\n".join(json.dumps(r | {"cost": None}) for r in lines))
        assert run(*runs)["cost_per_1000"] is None

    def test_a_vote_writes_a_run_like_every_other(self, runs: list[str], tmp_path: Path) -> None:
        run(*runs, "--output", str(tmp_path / "run"))
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        assert (manifest["kind"], manifest["status"]) == ("vote", "finished")
        assert manifest["recipe"]["vote"]["members"] == runs
        table = read_run(tmp_path / "run")
        assert (table.answers.labels == table.gold).all()
        first = json.loads((tmp_path / "run" / "predictions.jsonl").read_text().splitlines()[0])
        assert first["votes"] == ["neutral", "negative", "negative"]
        again = run("--recipe", str(tmp_path / "run" / "recipe.yaml"))
        assert (
            again["overall"] == json.loads((tmp_path / "run/metrics.json").read_text())["overall"]
        )

    def test_the_rows_of_a_recorded_vote_say_who_answered_at_what_cost(
        self, runs: list[str], tmp_path: Path
    ) -> None:
        run(*runs, "--output", str(tmp_path / "run"))
        first = json.loads((tmp_path / "run" / "predictions.jsonl").read_text().splitlines()[0])
        assert (first["answered_by"], first["cost"]) == ("run1", pytest.approx(0.003))
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        assert manifest["cost_usd"] == {"llm": pytest.approx(0.09)}
        assert manifest["paid_usd"] == 0

    def test_rows_without_text_are_neither_unanimous_nor_tied(self, runs: list[str]) -> None:
        for path in runs:
            rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
            empty = rows[0] | {"text": "", "gold": None, "label": "neutral"}
            Path(path).write_text("\n".join(json.dumps(row) for row in [empty, *rows]) + "\n")
        found = run(*runs)
        assert (found["rows"], found["unanimous"], found["tied"]) == (31, 0, 0)

    def test_vote_prints_a_table(self, runs: list[str]) -> None:
        result = CliRunner().invoke(vote_command, runs)
        assert result.exit_code == 0
        assert "1.0000" in result.stdout

    def test_a_vote_of_one_run_is_refused(self, runs: list[str]) -> None:
        assert "at least two runs" in refused(runs[0])

    def test_a_vote_with_a_missing_run_is_refused(self, runs: list[str]) -> None:
        assert "does not exist" in refused(runs[0], "nowhere.csv")

    def test_a_vote_runs_from_a_recipe(self, runs: list[str], tmp_path: Path) -> None:
        members = "".join(f"\n    - {name}" for name in runs)
        recipe = tmp_path / "vote.yaml"
        recipe.write_text(f"kind: vote\nvote:\n  members: {members}\n  ties: probability\n")
        found = run("--recipe", str(recipe))
        assert found["overall"]["macro_f1"] == 1.0
        assert found["ties"] == "probability"

    def test_the_ties_option_is_refused_with_a_recipe(self) -> None:
        message = refused("--recipe", "any", "--ties", "probability")
        assert message == ("--ties is for runs. With a recipe, use --set vote.ties=probability.")

    def test_ties_by_probability_without_probabilities_are_refused(self, tmp_path: Path) -> None:
        rows = [(f"text {i}", LABELS[i % 3], LABELS[i % 3]) for i in range(30)]
        files = [write_results(tmp_path / f"{name}.jsonl", rows) for name in "abc"]
        assert "has probabilities" in refused(*files, "--ties", "probability")

    def test_a_vote_stores_its_recipe_in_the_run(self, runs: list[str], tmp_path: Path) -> None:
        members = "".join(f"\n    - {name}" for name in runs)
        recipe = tmp_path / "vote.yaml"
        recipe.write_text(f"kind: vote\ndescription: three\nvote:\n  members: {members}\n")
        run("--recipe", str(recipe), "--output", str(tmp_path / "run"))
        assert "description: three" in (tmp_path / "run" / "recipe.yaml").read_text()

    def test_a_split_in_a_vote_recipe_is_refused(self, runs: list[str], tmp_path: Path) -> None:
        recipe = tmp_path / "vote.yaml"
        recipe.write_text(f"kind: vote\nsplit: test\nvote:\n  members: [{', '.join(runs)}]\n")
        assert "split: unknown key" in refused("--recipe", str(recipe))

    def test_a_vote_recipe_with_members_without_runs_is_refused(self) -> None:
        message = refused("--recipe", "vote-electra-large-gpt-4o-mini-gpt-4o")
        assert "sentikit train --recipe electra-large --output runs/electra-large" in message
