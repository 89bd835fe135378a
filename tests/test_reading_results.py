"""Results files of any usual layout become columns; an error is reported with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ensemble_runs import write_results

from sentikit import InputError, hookimpl, read_run
from sentikit.extension import ResultColumns, ResultFormat, RunTable
from sentikit.plugin_sources import PluginSource, installed_plugins
from sentikit.registry import Registry

TEXTS = ("Lovely.", "It exists.", "Awful, just awful.")


def write(path: str, text: str) -> Path:
    file = Path(path)
    file.write_text(text, encoding="utf-8")
    return file


def labels(table: RunTable) -> list[str | None]:
    names = [*table.classes, None]
    return [names[number] for number in table.answers.labels]


def test_the_studys_encoder_files_are_read() -> None:
    table = read_run(write("e1.csv", "X_test_sent,y_test,y_pred\nGood,positive,neutral\n"))
    assert table.classes == ("negative", "neutral", "positive")
    assert table.examples.texts == ["Good"]
    assert table.examples.labels == ["positive"]
    assert labels(table) == ["neutral"]
    assert table.adviser is None


def test_the_studys_llm_files_keep_the_encoders_prediction_separate() -> None:
    file = write(
        "e3.csv",
        "review,classification,prediction,match,classifier_decision,probabilities,source\n"
        'Good,positive,positive,True,neutral,"[0.1, 0.7, 0.2]",yelp\n'
        'Bad,negative,negative,True,negative,"[0.8, 0.1, 0.1]",yelp\n',
    )
    table = read_run(file)
    assert table.answers.probabilities is None
    assert table.adviser is not None
    np.testing.assert_allclose(table.adviser.probabilities, [[0.1, 0.7, 0.2], [0.8, 0.1, 0.1]])
    encoder = read_run(f"{file}#encoder")
    assert labels(encoder) == ["neutral", "negative"]
    assert encoder.adviser is None
    assert encoder.examples.sources == ["yelp", "yelp"]
    assert encoder.name.endswith("#encoder")


def test_recorded_answers_are_parsed_like_live_ones() -> None:
    rows = ["Good,positive,Positive.", "Bad,negative,**negative**", "So,neutral,(neutral)"]
    table = read_run(write("odd.csv", "text,label,prediction\n" + "\n".join(rows) + "\n"))
    assert labels(table) == ["positive", "negative", "neutral"]


def test_an_advisers_prediction_may_lack_probabilities() -> None:
    file = write(
        "e8.csv",
        "review,classification,prediction,match,classifier_decision,source\n"
        "Good,positive,positive,True,neutral,yelp\n",
    )
    table = read_run(f"{file}#encoder")
    assert labels(table) == ["neutral"]
    assert table.answers.probabilities is None


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_common_columns_are_found_in_every_format(suffix: str) -> None:
    rows = [("Lovely.", "pos", "positive"), ("So so.", "neutral", "mixed"), ("Bad.", "neg", "")]
    if suffix == "jsonl":
        keys = ("sentence", "gold", "prediction")
        lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    else:
        separator = "," if suffix == "csv" else "\t"
        lines = [separator.join(row) for row in [("sentence", "gold", "prediction"), *rows]]
    table = read_run(write(f"mine.{suffix}", "\n".join(lines)))
    assert table.examples.texts == ["Lovely.", "So so.", "Bad."]
    assert table.examples.labels == ["positive", "neutral", "negative"]
    assert labels(table) == ["positive", None, None]
    assert table.invalid == 2


def test_a_column_of_predictions_alone_gives_labels() -> None:
    table = read_run(write("out.jsonl", '{"text": "Lovely.", "label": "positive"}\n'))
    assert labels(table) == ["positive"]
    assert table.gold.tolist() == [-1]


@pytest.mark.parametrize(
    "value",
    [
        [0.1, 0.2, 0.7],
        "[0.1, 0.2, 0.7]",
        {"positive": 0.7, "negative": 0.1, "neutral": 0.2},
        '{"Positive": 0.7, "Negative": 0.1, "Neutral": 0.2}',
    ],
)
def test_probabilities_may_be_lists_or_mappings(value: object) -> None:
    first = {"text": "a", "prediction": "positive", "probabilities": value}
    second = {"text": "b", "prediction": "neutral", "probabilities": None}
    table = read_run(write("p.jsonl", f"{json.dumps(first)}\n{json.dumps(second)}\n"))
    assert table.answers.probabilities is not None
    np.testing.assert_allclose(table.answers.probabilities[0], [0.1, 0.2, 0.7])
    assert np.isnan(table.answers.probabilities[1]).all()


def test_probability_columns_by_class_and_costs_are_read() -> None:
    table = read_run(
        write(
            "p.csv",
            "text,label,prediction,prob_positive,prob_negative,prob_neutral,cost\n"
            "a,positive,positive,0.7,0.1,0.2,0.0004\nb,neutral,neutral,,,,\n",
        )
    )
    assert table.answers.probabilities is not None
    np.testing.assert_allclose(table.answers.probabilities[0], [0.1, 0.2, 0.7])
    assert table.cost is not None
    assert table.cost[0] == 0.0004
    assert np.isnan(table.cost[1])


def test_explicitly_named_columns_take_precedence() -> None:
    file = write(
        "both.csv",
        "sentence,label,small_prediction,small_probabilities,large_prediction\n"
        'a,positive,neutral,"[0.2, 0.5, 0.3]",positive\n',
    )
    table = read_run(
        file, label_column="small_prediction", probabilities_column="small_probabilities"
    )
    assert labels(table) == ["neutral"]
    assert table.examples.labels == ["positive"]
    assert table.answers.probabilities is not None
    with pytest.raises(InputError, match=r"no column 'tiny_prediction'.*Did you mean"):
        read_run(file, label_column="tiny_prediction")


def test_custom_labels_become_classes() -> None:
    table = read_run(write("own.csv", "text,gold,prediction\na,spam,spam\nb,ham,spam\n"))
    assert table.classes == ("ham", "spam")
    assert table.answers.labels.tolist() == [1, 1]


def test_a_plugins_layout_is_read_and_a_broken_plugin_skipped() -> None:
    class Acme(ResultFormat):
        def columns(self, columns: Sequence[str]) -> ResultColumns | None:
            return ResultColumns(label="verdict", gold="truth") if "verdict" in columns else None

    class Broken(ResultFormat):
        def columns(self, columns: Sequence[str]) -> ResultColumns | None:
            raise KeyError("oops")

    class Plugin:
        @hookimpl
        def register_result_formats(self, register: Any) -> None:
            register("acme", Acme)
            register("broken", Broken)

    sources = [*installed_plugins(), PluginSource("own", "own", "1", "own", Plugin)]
    registry = Registry(sources)
    file = write("acme.csv", "text,truth,verdict,label\na,positive,neutral,positive\n")
    assert labels(read_run(file, registry=registry)) == ["neutral"]
    (report,) = (report for report in registry.reports() if report.name == "own")
    assert any("'broken'" in problem for problem in report.problems)


def test_a_single_column_besides_those_of_predict_is_the_text() -> None:
    added = "predicted_label,probability_negative,probability_neutral,probability_positive"
    file = write("labelled.csv", f"opinion,label,{added}\nfine,positive,positive,0.1,0.2,0.7\n")
    table = read_run(file)
    assert table.examples.texts == ["fine"]
    assert table.answers.probabilities is not None
    assert table.answers.probabilities.tolist() == [[0.1, 0.2, 0.7]]
    file = write("labelled.csv", f"opinion,stars,{added}\nfine,5,positive,0.1,0.2,0.7\n")
    with pytest.raises(InputError, match=r"the right one of 'opinion', 'stars' to 'text' or 'id'"):
        read_run(file)


def test_results_separated_by_semicolons_are_read() -> None:
    classes = "probability_negative;probability_neutral;probability_positive"
    row = "fine, thanks;positive;0,1;0,2;0,7"
    table = read_run(write("a.csv", f"text;prediction;{classes}\n{row}\n"))
    assert table.examples.texts == ["fine, thanks"]
    assert table.answers.probabilities is not None
    assert table.answers.probabilities.tolist() == [[0.1, 0.2, 0.7]]


def test_results_with_ids_and_without_texts_are_read() -> None:
    table = read_run(write("ids.csv", "id,gold,prediction\nx1,positive,neutral\n"))
    assert table.examples.ids == ["x1"]
    assert not table.has_texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,score\na,1\n", "which column holds the predicted labels"),
        ("text,score\na,1\n", "Rename it to 'prediction'"),
        ("gold,prediction\npositive,positive\n", "which column holds the texts, or their ids"),
        ("a,prediction\nfine,positive\n", "Rename 'a' to 'text' or 'id'"),
        ("text,gold,prediction\na,positive,banana\n", r"no label in 'prediction' \('banana'"),
        (
            "text,gold,prediction\na,positive,neutral\nb,mixed,neutral\n",
            "line 3: the label 'mixed'",
        ),
        ("text,prediction\na,0\nb,2\n", "none of the labels in 'prediction' is a sentiment"),
        ("text,prediction\na,joy\nb,anger\n", "of your own, add a column 'gold' that names each"),
        (
            'text,prediction,probabilities\na,positive,"[0.1, 0.2]"\n',
            "needs one for each of negative, neutral, positive",
        ),
        (
            'text,prediction,probabilities\na,positive,"[0.1, 0.2, 0.7]"\nb,neutral,"[5, 1, 2]"\n',
            r"line 3: \[5.0, 1.0, 2.0\]",
        ),
        (
            "text,prediction,probabilities\na,positive,\"__import__('os').getcwd()\"\n",
            "line 2: .*not a list of numbers",
        ),
        (
            'text,prediction,probabilities\na,positive,"[NaN, 0.5, 0.5]"\n',
            "are not probabilities",
        ),
        ("text,prediction,cost\na,positive,much\n", "line 2: 'much' in 'cost' is not an amount"),
        ("text,prediction,cost\na,positive,inf\n", "line 2: 'inf' in 'cost' is not an amount"),
        ("text,prediction,cost\na,positive,-1\n", "line 2: '-1' in 'cost' is not an amount"),
        ("", "is empty"),
    ],
)
def test_errors_in_result_files_name_the_place(content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_run(write("bad.csv", content))


def test_a_file_without_adviser_prediction_has_no_encoder_part() -> None:
    file = write("plain.csv", "text,gold,prediction\na,positive,neutral\n")
    with pytest.raises(InputError, match="has no predictions of an encoder"):
        read_run(f"{file}#encoder")


def test_a_file_name_that_ends_in_the_encoder_suffix_is_that_file() -> None:
    write("plain.csv", "text,gold,prediction\na,positive,neutral\n")
    with pytest.raises(InputError, match=r"missing.csv does not exist"):
        read_run("missing.csv#encoder")
    with pytest.raises(InputError, match="does not exist"):
        read_run("runs/nothing")


def test_the_published_files_give_the_published_scores(shared_data: Path) -> None:
    recorded = shared_data / "recorded"
    table = read_run(recorded / "E3-G4OM-EBFT.csv")
    assert len(table) == 6530
    assert table.adviser is not None
    assert table.adviser.probabilities is not None
    assert table.adviser.probabilities.shape == (6530, 3)
    encoder = read_run(f"{recorded / 'E3-G4OM-EBFT.csv'}#encoder")
    electra = read_run(recorded / "E1-EBFT.csv")
    assert (encoder.answers.labels == electra.answers.labels).all()


def test_custom_classes_come_from_a_gold_column_that_names_all_of_them() -> None:
    Path("own.csv").write_text("text,gold,prediction\na,joy,joy\nb,anger,joy\nc,,anger\n")
    found = read_run("own.csv")
    assert found.classes == ("anger", "joy")
    assert found.answers.labels.tolist() == [1, 1, 0]
    assert found.gold.tolist() == [1, 0, -1]


def test_recorded_answers_are_predicted_and_compared_without_importing_pandas() -> None:
    rows = [(f"film {n}", ("negative", "positive")[n % 2], "positive") for n in range(20)]
    answers, others = (write_results(Path(f"{name}.jsonl"), rows) for name in ("one", "two"))
    program = (
        "import sys\nfrom sentikit.cli import sentikit\n"
        f"for words in (['predict', {answers!r}, {others!r}, '--output', 'labelled.csv'],\n"
        f"              ['compare', {answers!r}, {others!r}, '--resamples', '20']):\n"
        "    sentikit.main(words, standalone_mode=False)\n"
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
