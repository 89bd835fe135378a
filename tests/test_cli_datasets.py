"""``sentikit datasets``: the command as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sentikit.cli import sentikit
from sentikit.errors import SentikitError


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(sentikit, ["datasets", *arguments])
    # Whatever goes wrong is an error of ours, shown in words; anything else would be a traceback.
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    return result.stderr


@pytest.fixture
def reviews() -> str:
    Path("reviews.csv").write_text(
        "comment,label,shop\n[bold]fine[/bold],positive,north\nbad,negative,south\nBAD,neutral,south\n"
    )
    return "reviews.csv"


class TestList:
    def test_datasets_list_prints_names_and_sources(self) -> None:
        result = run("list")
        assert result.exit_code == 0
        assert result.stderr == ""
        for word in ("name", "plugin", "summary", "demo", "files", "CSV, TSV, JSON"):
            assert word in result.stdout

    def test_datasets_list_prints_json(self) -> None:
        entries = json.loads(run("list", "--json").stdout)
        assert {"demo", "files"} <= {entry["name"] for entry in entries}
        assert all(set(entry) == {"name", "plugin", "summary"} for entry in entries)


class TestShow:
    def test_datasets_show_prints_counts_and_lengths(self, reviews: str) -> None:
        result = run("show", "files", "--set", f"train={reviews}", "--set", "source=shop")
        assert result.exit_code == 0
        assert result.stderr == ""
        for word in ("train", "north", "south", "negative", "duplicates", "p95", "fingerprint"):
            assert word in result.stdout
        assert "train: 1 texts occur with more than one label." in result.stdout

    def test_a_single_source_is_shown_beside_its_split(self) -> None:
        Path("a.csv").write_text("text,label,source\nfine,positive,north\n")
        line = next(
            line
            for line in run("show", "files", "--set", "test=a.csv").stdout.splitlines()
            if "north" in line
        )
        assert line.split() == ["test", "north", "1", "0", "0", "1"]

    def test_datasets_show_prints_json(self, reviews: str) -> None:
        result = run("show", "files", "--set", f"dataset.test={reviews}", "--json")
        value = json.loads(result.stdout)
        assert value["classes"] == ["negative", "neutral", "positive"]
        assert [split["name"] for split in value["splits"]] == ["test"]
        assert value["splits"][0]["labels"] == {"negative": 1, "neutral": 1, "positive": 1}
        assert value["splits"][0]["duplicates"] == 1
        assert len(value["splits"][0]["fingerprint"]) == 64

    def test_datasets_show_applies_core_options(self, reviews: str) -> None:
        result = run(
            "show", "files", "--set", f"test={reviews}", "--set", "labels=bin_neg", "--json"
        )
        assert json.loads(result.stdout)["classes"] == ["non-negative", "negative"]

    def test_leaks_are_shown_with_an_example_as_it_is_written(self, reviews: str) -> None:
        result = run("show", "files", "--set", f"train={reviews}", "--set", f"test={reviews}")
        assert "train and test share 2 texts (in test: 3 of the examples)" in result.stdout
        assert "'[bold]fine[/bold]'" in result.stdout

    def test_datasets_show_describes_the_demo(self) -> None:
        value = json.loads(run("show", "demo", "--json").stdout)
        assert [split["name"] for split in value["splits"]] == ["train", "validation", "test"]
        assert value["leaks"] == []

    def test_datasets_show_describes_unlabelled_texts(self) -> None:
        Path("a.txt").write_text("fine\nbad\n")
        result = run("show", "files", "--set", "test=a.txt")
        assert result.exit_code == 0
        assert "no label" in result.stdout
        assert "test: 2 of 2 examples have no label." in result.stdout
        Path("a.txt").write_text("".join(f"text {n}\n" for n in range(2000)))
        result = run("show", "files", "--set", "test=a.txt")
        assert "test: 2,000 of 2,000 examples have no label." in result.stdout

    def test_many_sources_are_truncated_only_in_the_table(self) -> None:
        rows = "".join(f"text {n},neutral,source {n:02}\n" for n in range(25))
        Path("a.csv").write_text("text,label,source\n" + rows)
        assert "and 5 more (--json)" in run("show", "files", "--set", "test=a.csv").stdout
        value = json.loads(run("show", "files", "--set", "test=a.csv", "--json").stdout)
        assert len(value["splits"][0]["sources"]) == 25

    def test_path_is_passed_to_the_dataset(self, shared_data: Path) -> None:
        result = run("show", "sst", "--path", str(shared_data / "sst"), "--json")
        assert [s["examples"] for s in json.loads(result.stdout)["splits"]] == [8544, 1101, 2210]


class TestRefusals:
    def test_an_unknown_dataset_gets_a_suggestion(self) -> None:
        message = refused("show", "dmo")
        assert message == "Error: There is no dataset named 'dmo'. Did you mean 'demo'?\n"

    def test_a_missing_dataset_name_is_refused(self) -> None:
        assert "NAME" in refused("show")

    def test_all_invalid_settings_are_reported_at_once(self) -> None:
        message = refused("show", "files", "--set", "labels=fve", "--set", "tset=a.csv")
        assert "Did you mean 'five'" in message
        assert "tset: unknown key. Did you mean 'text' or 'test' or 'sheet'?" in message

    @pytest.mark.parametrize("setting", ["labels", "=x", "dataset=3", "name=demo"])
    def test_an_unknown_setting_gets_a_suggestion(self, setting: str) -> None:
        assert "--set" in refused("show", "demo", "--set", setting)

    def test_a_label_map_key_that_occurs_nowhere_is_reported(self) -> None:
        Path("a.csv").write_text("text,# Stars\nfine,5\n")
        words = ["show", "files", "--set", "test=a.csv", "--set", "label_map={5: positive}"]
        message = refused(*words)
        assert "has a label_map but no labels" in message
        assert "label_map" in refused(*words, "--set", "train=a.csv")
        assert run(*words, "--set", 'dataset.label="# Stars"').exit_code == 0

    def test_a_missing_required_setting_is_named(self) -> None:
        message = refused("show", "hub")
        assert "path: a value is missing: repository id, such as owner/name" in message
        assert message.rstrip().endswith("Add --set path=VALUE.")
        message = refused("show", "files")
        assert message.startswith("Error: name at least one file: --set dataset.train=FILE")
        assert "(it is" not in message

    def test_a_path_for_a_dataset_without_one_is_refused(self) -> None:
        assert "'demo' has no --path; leave it out." in refused("show", "demo", "--path", "x")
        assert "settings are train, validation" in refused("show", "files", "--path", "x")

    @pytest.mark.parametrize("name", ["A.XLS", "a.ods"])
    def test_an_unsupported_spreadsheet_format_is_refused(self, name: str) -> None:
        Path(name).write_bytes(b"PK")
        message = refused("show", "files", "--set", f"test={name}")
        assert "Save it as .xlsx or CSV UTF-8" in message

    def test_a_damaged_workbook_is_refused(self) -> None:
        Path("a.xlsx").write_bytes(b"PK")
        assert "is not an Excel workbook" in refused("show", "files", "--set", "test=a.xlsx")

    def test_a_missing_file_is_named(self) -> None:
        message = refused("show", "files", "--set", "test=gone.csv")
        assert message == "Error: gone.csv does not exist. Check the path.\n"

    def test_a_bad_row_is_named_by_file_and_line(self, reviews: str) -> None:
        with Path(reviews).open("a") as stream:
            stream.write("meh,meh,north\n")
        message = refused("show", "files", "--set", f"test={reviews}")
        assert "reviews.csv, line 5: the label 'meh' is not one of negative" in message

    def test_input_errors_are_click_errors(self) -> None:
        result = CliRunner().invoke(sentikit, ["datasets", "show", "dmo"], standalone_mode=False)
        assert isinstance(result.exception, SentikitError)
