"""`sentikit compare`: inputs, refusals, output and advice."""

from __future__ import annotations

import csv
import io
import json
import re
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result

import sentikit
from sentikit import InputError
from sentikit.cli import sentikit as command

CLASSES = ("negative", "neutral", "positive")
SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "compare.schema.json"


def gold_labels(rows: int = 120) -> list[str]:
    return [CLASSES[i % 3] for i in range(rows)]


def spoil(gold: Sequence[str], share: float, seed: int = 0) -> list[str]:
    """Return labels of which about `share` are wrong."""
    random = np.random.default_rng(seed)
    wrong = random.random(len(gold)) < share
    return [
        CLASSES[(CLASSES.index(own) + 1) % 3] if odd else own
        for own, odd in zip(gold, wrong, strict=True)
    ]


def write(
    path: str,
    labels: Sequence[str],
    gold: Sequence[str] | None,
    texts: Sequence[str] | None = None,
    **columns: Sequence[Any],
) -> str:
    """Write a results file."""
    held: dict[str, Sequence[Any]] = {"text": texts or [f"text {i}" for i in range(len(labels))]}
    held |= ({"gold": gold} if gold else {}) | {"prediction": labels} | columns
    with Path(path).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(held)
        writer.writerows(zip(*held.values(), strict=True))
    return path


def write_run(
    path: str,
    labels: Sequence[str | None],
    gold: Sequence[str],
    encoder: Sequence[str] | None = None,
    cost: float | None = None,
    **manifest: Any,
) -> str:
    """Write a run's folder."""
    folder = Path(path)
    folder.mkdir(parents=True)
    described = {"dataset": "demo", "split": "test", "examples": len(gold), "fingerprint": "f"}
    values = {"kind": "train", "status": "finished", "dataset": described, "started": path}
    (folder / "manifest.json").write_text(
        json.dumps(values | {"classes": list(CLASSES)} | manifest)
    )
    rows = []
    for i, (label, right) in enumerate(zip(labels, gold, strict=True)):
        row: dict[str, Any] = {"id": str(i), "text": f"text {i}", "gold": right, "label": label}
        row |= {"probabilities": None, "source": "ab"[i % 2], "cost": cost}
        row["encoder"] = {"label": encoder[i], "probabilities": None} if encoder else None
        rows.append(json.dumps(row))
    (folder / "predictions.jsonl").write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def files() -> list[str]:
    gold = gold_labels()
    return [
        write("good.csv", spoil(gold, 0.1, 1), gold),
        write("fair.csv", spoil(gold, 0.3, 2), gold),
        write("poor.csv", spoil(gold, 0.6, 3), gold),
    ]


def invoke(*words: str) -> Result:
    return CliRunner().invoke(command, ["compare", "--resamples", "50", *words])


def judged(*words: str) -> dict[str, Any]:
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(*words: str) -> str:
    result = invoke(*words)
    assert result.exit_code == 2, result.output
    return result.stderr


def test_compare_prints_scores_differences_and_advice(files: list[str]) -> None:
    result = invoke(*files)
    assert result.exit_code == 0, result.output
    for word in ("macro-F1", "BCa", "McNemar", "Holm", "kappa", "Cochran's Q", "Use good"):
        assert word in result.stdout


def test_json_output_matches_the_published_schema(files: list[str]) -> None:
    probabilities = [json.dumps([0.7, 0.2, 0.1])] * 120
    write("sure.csv", ["negative"] * 120, gold_labels(), probabilities=probabilities)
    write_run("runs/a", spoil(gold_labels(), 0.2), gold_labels(), gold_labels(), 0.001)
    found = judged(*files, "sure.csv", "runs/a", "--sample-size", "0.05", "--gpu-rate", "1")
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    assert found["examples"] == 120
    assert found["sample_sizes"]["delta"] == 0.05
    assert found["runs"][3]["scores"]["calibration"]["ece"] > 0
    assert 0 <= found["runs"][3]["scores"]["ranking"]["auc"] <= 1
    assert found["runs"][0]["scores"]["ranking"] is None


def test_the_published_schema_matches_the_result_types() -> None:
    import runpy

    made = runpy.run_path(str(SCHEMA.parent / "generate_compare_schema.py"))["text"]()
    assert SCHEMA.read_text() == made, "run: make docs"


def test_intervals_are_labelled_with_their_level(files: list[str]) -> None:
    assert "99.5% percentile" in invoke(*files, "--confidence", "0.995").stdout
    invoke(*files, "--confidence", "0.9", "--report", "report.html")
    page = Path("report.html").read_text(encoding="utf-8")
    assert "90% interval" in page
    assert "Intervals: 90% percentile" in page
    assert not re.search("95 ?% (interval|percentile)", page)


def test_compare_prints_csv_markdown_and_latex(files: list[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(invoke(*files, "--format", "csv").stdout)))
    assert [row["run"] for row in rows] == ["good", "fair", "poor"]
    assert float(rows[0]["macro_f1_low"]) < float(rows[0]["macro_f1"]) < 1
    pairs = invoke(*files, "--format", "csv", "--rows", "pairs").stdout
    assert len(list(csv.DictReader(io.StringIO(pairs)))) == 3
    assert "| good | " in invoke(*files, "--format", "markdown").stdout
    latex = invoke(*files, "--format", "latex").stdout
    assert r"\toprule" in latex
    assert r"{95\% BCa}" in latex


def test_no_name_in_the_csv_is_a_formula_in_a_spreadsheet() -> None:
    gold = ["=1+1", "@cmd", "-2", "plain"] * 5
    name = write("=HYPERLINK(1).csv", gold, gold)
    text = invoke(name, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["run"] == "'=HYPERLINK(1)"
    assert all(
        cell[:1] not in ("=", "+", "@") for row in csv.reader(io.StringIO(text)) for cell in row
    )


def test_auc_and_average_precision_are_shown_where_probabilities_are_known() -> None:
    gold = gold_labels()
    sure = [json.dumps(dict.fromkeys(CLASSES, 0.2) | {label: 0.6}) for label in gold]
    files = [write("a.csv", gold, gold, probabilities=sure), write("b.csv", gold, gold)]
    text = invoke(*files).stdout
    assert "ranking by probability" in text
    rows = list(csv.DictReader(io.StringIO(invoke(*files, "--format", "csv").stdout)))
    shown = {(row["run"], row["auc"], row["average_precision"]) for row in rows}
    assert shown == {("a", "1.0", "1.0"), ("b", "", "")}
    assert "ranking by probability" not in invoke(files[1]).stdout


def test_a_plugins_metric_has_intervals_and_tests_everywhere(files: list[str]) -> None:
    found = judged(*files)
    assert [own["title"] for own in found["metrics"]] == ["QWK"]
    first = found["runs"][0]
    own = first["estimates"]["metrics"]["quadratic_weighted_kappa"]
    assert own["value"] == first["scores"]["metrics"]["quadratic_weighted_kappa"]
    assert own["percentile"]["low"] < own["value"] < own["percentile"]["high"]
    difference = found["differences"][0]["metrics"]["quadratic_weighted_kappa"]
    assert difference["permutation"]["p"] <= difference["permutation"]["holm"]
    text = invoke(*files).stdout
    assert "QWK" in text
    assert "differences in other metrics" in text
    rows = list(csv.DictReader(io.StringIO(invoke(*files, "--format", "csv").stdout)))
    assert float(rows[0]["quadratic_weighted_kappa"]) == own["value"]
    pairs = invoke(*files, "--format", "csv", "--rows", "pairs").stdout
    assert "quadratic_weighted_kappa_permutation_p" in pairs.splitlines()[0]


@pytest.mark.parametrize("resamples", ["0", "1000001", "1000000000000", "1e12"])
def test_more_resamples_than_fit_are_refused_at_once(files: list[str], resamples: str) -> None:
    assert "resamples" in refused(*files, "--resamples", resamples)


def test_names_are_escaped_in_markdown_and_latex() -> None:
    name = write("a_b|c&d.csv", gold_labels(), gold_labels())
    assert r"a\_b\|c&d" in invoke(name, "--format", "markdown").stdout
    assert r"a\_b|c\&d" in invoke(name, "--format", "latex").stdout


def test_a_baseline_is_compared_to_each_other_run(files: list[str]) -> None:
    found = judged(*files, "--baseline", "fair")
    assert [(d["first"], d["second"]) for d in found["differences"]] == [
        ("fair", "good"),
        ("fair", "poor"),
    ]
    added = judged(files[0], "--baseline", files[2])
    assert [run["name"] for run in added["runs"]] == ["poor", "good"]
    assert "Did you mean 'fair'" in refused(*files, "--baseline", "fare")


@pytest.mark.parametrize(
    "baseline", ["runs/a/", "./runs/a", "runs/a", "a", "good.csv", "./good.csv"]
)
def test_a_baseline_may_be_given_by_any_spelling_of_its_path(
    files: list[str], baseline: str
) -> None:
    write_run("runs/a", gold_labels(), gold_labels())
    found = judged("runs/a", files[0], files[1], "--baseline", baseline)
    assert found["baseline"] == ("good" if "good" in baseline else "a")
    assert len(found["runs"]) == 3


def test_an_ambiguous_file_name_is_refused_as_baseline() -> None:
    for folder in ("x", "y"):
        Path(folder).mkdir()
        write(f"{folder}/a.csv", gold_labels(), gold_labels())
    assert "matches x/a, y/a" in refused("x/a.csv", "y/a.csv", "--baseline", "a.csv")
    assert judged("x/a.csv", "y/a.csv", "--baseline", "./y/a.csv")["baseline"] == "y/a"


def test_renaming_and_reordering_runs_changes_only_signs(files: list[str]) -> None:
    before = judged(*files[:2])["differences"][0]
    Path(files[0]).rename("zzz.csv")
    after = judged(files[1], "zzz.csv")["differences"][0]
    assert (after["first"], after["second"]) == ("fair", "zzz")
    assert after["macro_f1"]["percentile"]["low"] == pytest.approx(
        -before["macro_f1"]["percentile"]["high"]
    )
    assert after["mcnemar"] == before["mcnemar"]
    assert after["permutation"] == before["permutation"]


def test_the_order_of_many_runs_changes_only_signs() -> None:
    gold = gold_labels()
    names = [write(f"m{i}.csv", spoil(gold, 0.1 + i / 20, i), gold) for i in range(7)]
    before, after = judged(*names), judged(*reversed(names))
    turned = {(d["second"], d["first"]): d for d in after["differences"]}
    assert len(turned) == 21
    for found in before["differences"]:
        other = turned[found["first"], found["second"]]
        assert other["macro_f1"]["percentile"]["low"] == pytest.approx(
            -found["macro_f1"]["percentile"]["high"]
        )
        assert other["bootstrap"]["p"] == found["bootstrap"]["p"]
        assert other["permutation"]["p"] == found["permutation"]["p"]
    for run in before["runs"]:
        assert run in after["runs"]


def test_without_runs_all_finished_ones_are_compared() -> None:
    gold = gold_labels()
    write_run("runs/one", spoil(gold, 0.1), gold)
    write_run("runs/two", spoil(gold, 0.2), gold)
    write_run("runs/open", spoil(gold, 0.2), gold, status="interrupted")
    assert [run["name"] for run in judged()["runs"]] == ["one", "two"]
    other = {"dataset": "sst", "split": "test", "fingerprint": "g"}
    write_run("runs/three", spoil(gold, 0.2), gold, dataset=other)
    message = refused()
    assert "different data: 2 on demo test" in message
    assert "1 on sst test" in message
    assert [run["name"] for run in judged("--dataset", "demo")["runs"]] == ["one", "two"]


def test_comparing_without_any_run_is_refused() -> None:
    assert "There are no finished runs under runs/" in refused()


def test_an_unfinished_run_is_refused() -> None:
    write_run("runs/open", gold_labels(), gold_labels(), status="interrupted")
    assert "not finished: its status is interrupted" in refused("runs/open")
    Path("runs/open/predictions.jsonl").unlink()
    assert "--resume" in refused("runs/open")


def test_a_file_without_recognisable_columns_is_refused() -> None:
    Path("odd.csv").write_text("a,b\n1,2\n")
    assert "which column holds the predicted labels? It has 'a', 'b'" in refused("odd.csv")


def test_different_texts_are_refused_or_intersected(files: list[str]) -> None:
    texts = [f"text {i}" for i in range(2, 122)]
    moved = write("moved.csv", gold_labels(), None, texts)
    message = refused(files[0], moved)
    assert "2 of 120 texts of good.csv are not in moved.csv, and 2 of 120 the other way" in message
    assert "row 1 of good.csv, 'text 0'" in message
    assert "--intersect" in message
    found = judged(files[0], moved, "--intersect")
    assert found["examples"] == 118
    assert "The runs share 118 of 120 texts; only those are compared." in found["notes"]
    alien = write("alien.csv", ["neutral"], ["neutral"], ["another"])
    assert "no text in common" in refused(files[0], alien, "--intersect")


def test_different_gold_labels_are_refused(files: list[str]) -> None:
    other = write("other.csv", gold_labels(), ["positive", *gold_labels()[1:]])
    message = refused(files[0], other)
    assert "different gold labels for 1 of 120 texts" in message
    assert "row 1, 'text 0': negative and positive" in message


def test_missing_gold_labels_are_left_out_and_counted() -> None:
    gold = ["", "", *gold_labels()[2:]]
    found = judged(write("gaps.csv", gold_labels(), gold))
    assert found["examples"] == 118
    assert any("2 of 120 texts have no gold label" in note for note in found["notes"])
    assert "--dataset" in refused(write("none.csv", gold_labels(), None))
    sources = ["c", "c", *["a", "b"] * 59]
    assert judged(write("gone.csv", gold_labels(), gold, source=sources))["sources"] == {
        "a": 59,
        "b": 59,
    }


def test_gold_labels_come_from_any_run_that_has_them(files: list[str]) -> None:
    bare = write("bare.csv", gold_labels(), None)
    found = judged(bare, files[0])
    assert found["runs"][0]["scores"]["accuracy"] == 1
    run = write_run("runs/with-sources", gold_labels(), gold_labels())
    assert judged(bare, run)["sources"] == {"a": 60, "b": 60}


def test_a_gold_label_outside_the_classes_is_refused() -> None:
    message = refused(write("odd.csv", ["positive"] * 3, ["positive", "negative", "banana"]))
    assert "line 4" in message
    assert "banana" in message


def test_invalid_answers_are_counted_as_wrong() -> None:
    labels = ["banana", "", *gold_labels()[2:]]
    found = judged(write("odd.csv", labels, gold_labels()))
    assert found["runs"][0]["scores"]["invalid"] == 2
    assert found["runs"][0]["scores"]["accuracy"] == pytest.approx(118 / 120)
    assert any("2 invalid answers" in note for note in found["notes"])


def test_duplicate_texts_are_matched_by_occurrence_and_reported() -> None:
    gold = gold_labels(6)
    texts = ["same", "same", "a", "b", "c", "d"]
    found = judged(write("x.csv", gold, gold, texts), write("y.csv", gold, gold, texts))
    assert found["differences"][0]["agreement"] == 1
    assert any("1 text repeats an earlier one" in note for note in found["notes"])


def test_runs_are_aligned_by_id_where_there_are_no_texts() -> None:
    gold = gold_labels(9)
    for name, order in (("x.csv", range(9)), ("y.csv", range(8, -1, -1))):
        lines = [f"{i},{gold[i]},{gold[i]}" for i in order]
        Path(name).write_text("\n".join(["id,gold,prediction", *lines]) + "\n")
    assert judged("x.csv", "y.csv")["differences"][0]["agreement"] == 1


def test_a_single_run_ten_rows_and_a_single_class_are_scored(files: list[str]) -> None:
    found = judged(files[0])
    assert found["differences"] == []
    assert any("only one run" in note for note in found["notes"])
    few = judged(write("few.csv", gold_labels(10), gold_labels(10)))
    assert any("10 texts are few" in note for note in few["notes"])
    one = judged(write("one.csv", ["positive"] * 200, ["positive"] * 200))
    assert one["runs"][0]["scores"]["accuracy"] == 1
    assert any("No text is negative or neutral" in note for note in one["notes"])


def test_a_hundred_runs_are_compared_with_the_best(files: list[str]) -> None:
    gold = gold_labels(30)
    names = [write(f"n{i}.csv", spoil(gold, 0.2 + i / 200, i), gold) for i in range(100)]
    found = judged(*names)
    assert len(found["differences"]) == 99
    assert any("100 runs make 4,950 pairs" in note for note in found["notes"])


def test_too_few_resamples_for_many_differences_are_reported(files: list[str]) -> None:
    notes = judged(*files)["notes"]
    assert any("50 resamples are too few for 3 differences" in note for note in notes)
    assert not any("too few" in note for note in judged(*files[:2])["notes"])


@pytest.mark.parametrize("words", [["--split", "test"], ["--path", "nowhere"]])
def test_a_split_or_a_path_without_a_dataset_is_refused(files: list[str], words: list[str]) -> None:
    assert "Name it with --dataset NAME" in refused(*files, *words)


def test_runs_with_different_classes_are_refused(files: list[str]) -> None:
    other = write("cats.csv", ["cat", "dog"] * 60, ["cat", "dog"] * 60)
    assert "has the classes cat, dog" in refused(files[0], other)


def test_follow_rate_and_discrimination_gap_of_augmented_runs_are_shown() -> None:
    gold = ["positive"] * 4
    encoder = ["positive", "positive", "negative", "negative"]
    alone = write_run("runs/alone", ["neutral"] * 4, gold, kind="prompt", model="m")
    labels = ["positive", "neutral", "negative", "positive"]
    shown = write_run("runs/shown", labels, gold, encoder, kind="prompt", model="m")
    partner = judged(alone, shown)["runs"][1]["partnership"]
    assert partner["follow_rate"] == 0.5
    assert partner["follow_rate_right"] == 0.5
    assert partner["discrimination_gap"] == 0
    assert partner["changed"] == [{"against": "alone", "right": 1, "wrong": 1}]


def test_costs_come_from_manifests_rates_and_options() -> None:
    gold = gold_labels()
    encoder = write_run(
        "runs/encoder", spoil(gold, 0.2, 1), gold, training_seconds=7200.0, processes=2
    )
    llm = write_run(
        "runs/llm",
        spoil(gold, 0.05, 2),
        gold,
        spoil(gold, 0.2, 1),
        cost=0.0005,
        kind="prompt",
        cost_usd={"llm": 0.06},
        recipe={"strategy": {"name": "label", "encoder": "runs/encoder"}},
    )
    zero_shot = write_run(
        "runs/zero", spoil(gold, 0.3, 3), gold, cost=0.002, kind="prompt", cost_usd={"llm": 0.24}
    )
    found = judged(encoder, llm, zero_shot, "--gpu-rate", "1.5")
    costs = {run["name"]: run["cost"] for run in found["runs"]}
    assert costs["encoder"]["training"] == pytest.approx(6)
    assert costs["encoder"]["per_1000"] == 0
    assert costs["llm"]["training"] == pytest.approx(6)
    assert costs["llm"]["per_1000"] == pytest.approx(0.5)
    assert costs["llm"]["total"] == pytest.approx(6.06)
    assert costs["zero"]["training"] == 0
    points = 100 * found["runs"][1]["scores"]["macro_f1"]
    assert costs["llm"]["per_f1_point"] == pytest.approx(6 / points)
    assert costs["llm"]["per_f1_point_with_inference"] == pytest.approx(6.06 / points)
    overtaken = [(b["cheaper_before"], b["cheaper_after"], b["texts"]) for b in found["break_even"]]
    assert ("zero", "llm", pytest.approx(4000)) in overtaken
    assert ("zero", "encoder", pytest.approx(3000)) in overtaken
    front = {run["name"]: run["on_front"] for run in found["runs"]}
    assert front == {"encoder": True, "llm": True, "zero": True}
    unknown = judged(encoder)["runs"][0]["cost"]
    assert unknown["training"] is None
    assert "--gpu-rate" in unknown["training_basis"]
    given = judged(encoder, "--training-cost", "encoder=9.73")["runs"][0]["cost"]
    assert given["training"] == 9.73


@pytest.mark.parametrize(
    ("adviser", "members"),
    [
        ("adviser", {"members": ["runs/encoder", "runs/llm"]}),
        ("encoder", {"encoder": "runs/encoder", "llm": "runs/llm"}),
    ],
)
def test_costs_of_cascades_and_votes_count_each_member_once(
    adviser: str, members: dict[str, Any]
) -> None:
    gold = gold_labels()
    write_run("runs/encoder", gold, gold, training_seconds=3600.0)
    write_run(
        "runs/llm",
        gold,
        gold,
        gold,
        cost=0.001,
        kind="prompt",
        cost_usd={"llm": 0.12},
        recipe={"strategy": {adviser: "runs/encoder"}},
    )
    cascade = write_run(
        "runs/cascade",
        gold,
        gold,
        kind="cascade",
        cost_usd={"llm": 0.03},
        recipe={"cascade": members},
    )
    vote = write_run(
        "runs/vote",
        gold,
        gold,
        kind="vote",
        cost_usd={"llm 1": 0.12, "training 1": 5.0, "llm 3": 0.06},
        recipe={"vote": {"members": ["runs/llm", "runs/encoder", "runs/llm"]}},
    )
    costs = [run["cost"] for run in judged(cascade, vote, "--gpu-rate", "2")["runs"]]
    assert [own["training"] for own in costs] == [pytest.approx(2), pytest.approx(7)]
    assert [own["per_1000"] for own in costs] == [pytest.approx(0.25), pytest.approx(1.5)]


def test_costs_of_fine_tuned_llms_include_local_and_billed_training() -> None:
    gold = gold_labels()
    write_run("runs/encoder", gold, gold, training_seconds=3600.0)
    own = {"kind": "finetune", "status": "finished", "training_seconds": 1800.0, "cost_usd": {}}
    Path("runs/tuned").mkdir()
    Path("runs/tuned/manifest.json").write_text(json.dumps(own))
    shown = {"strategy": {"encoder": "runs/encoder"}}
    here = write_run(
        "runs/here",
        gold,
        gold,
        gold,
        kind="prompt",
        cost_usd={"llm": 0.0},
        recipe={"llm": {"model": "runs/tuned"}, **shown},
    )
    there = write_run(
        "runs/there",
        gold,
        gold,
        gold,
        kind="prompt",
        cost_usd={"llm": 0.0, "fine_tuning": 33.15},
        recipe={"llm": {"model": "ft:gpt-4o-mini:us::1"}, **shown},
    )
    found = judged(here, there, "--gpu-rate", "2")["runs"]
    assert [run["cost"]["training"] for run in found] == [pytest.approx(3), pytest.approx(35.15)]
    assert "its LLM, 0.500 h" in found[0]["cost"]["training_basis"]


def test_the_cost_of_an_evaluation_includes_the_training_of_the_evaluated_run() -> None:
    gold = gold_labels()
    write_run("runs/encoder", gold, gold, training_seconds=3600.0)
    evaluated = {"kind": "evaluate", "model": "runs/encoder"}
    own = write_run("runs/own", gold, gold, kind="evaluate", recipe=evaluated)
    elsewhere = {"kind": "evaluate", "model": "owner/name"}
    unknown = write_run("runs/hub", spoil(gold, 0.1), gold, kind="evaluate", recipe=elsewhere)
    costs = [run["cost"] for run in judged(own, unknown, "--gpu-rate", "2")["runs"]]
    assert [own["training"] for own in costs] == [pytest.approx(2), 0.0]
    assert "its encoder, 1.000 h" in costs[0]["training_basis"]


def test_the_advice_lists_every_run_that_does_not_differ_significantly_from_the_best() -> None:
    gold = gold_labels()
    runs = [write_run(f"runs/{name}", spoil(gold, 0.2, n), gold) for n, name in enumerate("abcde")]
    sentence = judged(*runs)["advice"]["sentence"]
    assert re.search(r"its differences from \w, \w, \w and 1 more are not significant", sentence)


def test_costs_for_runs_that_are_not_compared_are_refused(files: list[str]) -> None:
    for option in ("--training-cost", "--inference-cost"):
        assert f"{option}: 'god' is not among the runs" in refused(*files, option, "god=5")
        assert "Did you mean 'good'" in refused(*files, option, "god=5")
    found = judged(*files, "--training-cost", "./good.csv=5")
    assert found["runs"][0]["cost"]["training"] == 5
    vote = {"vote": {"members": ["runs/member"]}}
    write_run("runs/member", gold_labels(), gold_labels())
    write_run("runs/both", gold_labels(), gold_labels(), kind="vote", recipe=vote)
    for name in ("member", "runs/member/"):
        cost = judged("runs/both", "--training-cost", f"{name}=7")["runs"][0]["cost"]
        assert cost["training"] == 7


def test_advice_names_the_cheapest_of_indistinguishable_runs(files: list[str]) -> None:
    gold = gold_labels()
    near = write("near.csv", spoil(gold, 0.12, 1), gold)
    prices = ["--training-cost", "good=50", "--training-cost", "near=1"]
    prices += ["--inference-cost", "good=0", "--inference-cost", "near=0"]
    advice = judged(files[0], near, *prices)["advice"]
    assert advice["run"] == "near"
    assert "$49.00 more" in advice["sentence"]


def test_seeds_and_rounds_are_grouped() -> None:
    gold = gold_labels()
    for seed in (1, 2, 3):
        recipe = {"kind": "train", "training": {"lr": 1, "seed": seed}}
        write_run(f"runs/e1-{seed}", spoil(gold, 0.2, seed), gold, recipe=recipe)
    rounds = [write(f"llm-round{i}.csv", spoil(gold, 0.1, i), gold) for i in (1, 2)]
    found = judged("runs/e1-1", "runs/e1-2", "runs/e1-3", *rounds)
    groups = {tuple(group["runs"]): group for group in found["groups"]}
    assert set(groups) == {("e1-1", "e1-2", "e1-3"), ("llm-round1", "llm-round2")}
    scores = [run["scores"]["macro_f1"] for run in found["runs"][:3]]
    seeds = groups["e1-1", "e1-2", "e1-3"]
    assert seeds["macro_f1"]["mean"] == pytest.approx(np.mean(scores))
    assert seeds["macro_f1"]["sd"] == pytest.approx(np.std(scores, ddof=1))
    assert groups["llm-round1", "llm-round2"]["name"] == "llm"


def test_runs_of_equal_name_are_distinguished_by_folder() -> None:
    for folder in ("x", "y"):
        Path(folder).mkdir()
        write(f"{folder}/a.csv", gold_labels(), gold_labels())
    assert [run["name"] for run in judged("x/a.csv", "y/a.csv")["runs"]] == ["x/a", "y/a"]
    assert [r["name"] for r in judged("x/a.csv", "x/a.csv")["runs"]] == ["x/a", "x/a (2)"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sample-size", "5"], "0<x<1"),
        (["--seed", "-1"], "x>=0"),
        (["--training-cost", "good"], "RUN=USD"),
        (["--inference-cost", "good=-1"], "RUN=USD"),
        (["--dataset", "nowhere"], "nowhere"),
        (["--dataset", "demo", "--path", "x"], "'demo' has no --path"),
        (["--json", "--format", "csv"], "--json and --format csv are mutually exclusive"),
        (["--rows", "pairs"], "Add --format csv"),
        (["--rows", "pairs", "--json"], "Add --format csv"),
    ],
)
def test_contradictory_options_are_explained(
    files: list[str], words: list[str], message: str
) -> None:
    assert message in refused(*files, *words)


def test_the_python_api_gives_the_same_results_as_the_command(files: list[str]) -> None:
    comparison = sentikit.compare(files, resamples=50)
    assert isinstance(comparison, sentikit.Comparison)
    assert json.loads(json.dumps(comparison.to_json())) == judged(*files)
    assert len(comparison.aligned.examples) == 120
    with pytest.raises(InputError, match="resamples"):
        sentikit.compare(files, resamples=0)
    with pytest.raises(InputError, match="difference between 0 and 1"):
        sentikit.compare(files, sample_size=5)
    with pytest.raises(InputError, match="seed must be 0 or more"):
        sentikit.compare(files, seed=-1)


@pytest.mark.parametrize(
    "manifest",
    [
        {"cost_usd": {"llm": -5}},
        {"cost_usd": {"training": 1e308}},
        {"cost_usd": {"llm": "x"}},
        {"cost_usd": {"llm": float("inf")}},
        {"cost_usd": {"llm": float("nan")}},
        {"cost_usd": [1, 2]},
        {"training_seconds": -1.0},
        {"training_seconds": 10**400},
        {"processes": float("inf")},
    ],
)
def test_a_manifest_with_impossible_amounts_is_refused(manifest: dict[str, Any]) -> None:
    run = write_run("runs/odd", gold_labels(), gold_labels(), **manifest)
    message = refused(run)
    assert "runs/odd" in message
    assert len(message) < 300


@pytest.mark.parametrize("cost", [-5.0, 1e308])
def test_a_row_with_an_impossible_cost_is_refused(cost: float) -> None:
    run = write_run("runs/odd", gold_labels(), gold_labels(), cost=cost)
    assert "has a cost of" in refused(run)


@pytest.mark.parametrize(
    "words", [["--gpu-rate", "1e308"], ["--training-cost", "good=1e300"]], ids=["rate", "cost"]
)
def test_impossible_cost_options_are_refused(files: list[str], words: list[str]) -> None:
    assert words[0] in refused(*files, *words)


EMOTIONS = [*(f"emotion {number}" for number in range(27)), "neutral"]


def emotions(path: str, seed: int, share: float) -> str:
    gold = [EMOTIONS[i % 28] for i in range(840)]
    rng = np.random.default_rng(seed)
    odd = rng.random(len(gold)) < share
    labels = [
        EMOTIONS[rng.integers(28)] if wrong else own for own, wrong in zip(gold, odd, strict=True)
    ]
    return write(path, labels, gold)


def test_many_unordered_classes_are_shown_as_rows(tmp_path: Path) -> None:
    files = [emotions("a.csv", 1, 0.2), emotions("b.csv", 2, 0.3)]
    report = tmp_path / "report.html"
    result = invoke(*files, "--resamples", "200", "--report", str(report))
    assert result.exit_code == 0, result.output
    assert "F1 by class" in result.stdout
    assert "F1 emotion 3" not in result.stdout
    # A metric for ordered classes does not suit these.
    assert "QWK" not in result.stdout
    found = judged(*files, "--resamples", "200")
    assert len(found["runs"][0]["scores"]["per_class"]) == 28
    text = report.read_text(encoding="utf-8")
    assert "F1 of each of the 28 classes" in text
    for words in ("csv", "markdown", "latex"):
        assert "emotion 26" in invoke(*files, "--resamples", "200", "--format", words).stdout


def test_stars_are_ordered_classes_with_weighted_kappa() -> None:
    stars = [f"{n} stars" if n > 1 else "1 star" for n in range(1, 6)]
    gold = [stars[i % 5] for i in range(200)]
    near = [stars[min(4, i % 5 + (i % 3 == 0))] for i in range(200)]
    far = [stars[(i % 5 + 2 * (i % 3 == 0)) % 5] for i in range(200)]
    found = judged(write("near.csv", near, gold), write("far.csv", far, gold))
    values = [run["scores"]["metrics"]["quadratic_weighted_kappa"] for run in found["runs"]]
    assert values[0] > values[1] + 0.1
    assert found["classes"] == stars


def test_a_dataset_with_different_classes_is_refused() -> None:
    labels = ["joy", "anger"] * 60
    message = refused(write("moods.csv", labels, None), "--dataset", "demo")
    assert "joy" in message


@pytest.mark.posix
def test_open_shows_the_report_in_the_browser(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, browser = tmp_path / "seen", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    monkeypatch.setattr(webbrowser, "_tryorder", None)
    words = ["--report", str(tmp_path / "report.html"), "--open"]
    result = invoke(*files, "--resamples", "50", *words)
    assert result.exit_code == 0, result.output
    assert seen.read_text().strip() == (tmp_path / "report.html").as_uri()


def test_the_open_option_without_a_report_is_refused(files: list[str]) -> None:
    assert "--report" in refused(*files, "--open")
