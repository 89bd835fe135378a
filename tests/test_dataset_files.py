"""The ``files`` dataset: the user's own files, as a recipe's dataset section opens them."""

from __future__ import annotations

import csv
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sentikit
from sentikit.errors import InputError


def section(**settings: Any) -> dict[str, Any]:
    return {"name": "files", **settings}


def refusal(settings: Mapping[str, Any], split: str = "train", labelled: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        sentikit.open_dataset(settings).split(split, labelled)
    assert caught.value.exit_code == 2
    return caught.value.message


def write(name: str, content: str) -> str:
    Path(name).write_text(content, encoding="utf-8", newline="")
    return name


class TestSplits:
    def test_a_single_file_becomes_a_single_split(self) -> None:
        path = write("reviews.csv", "text,label\nI love it,positive\nI hate it,negative\n")
        dataset = sentikit.open_dataset(section(test=path))
        assert dataset.splits == ("test",)
        examples = dataset.split("test")
        assert examples.texts == ["I love it", "I hate it"]
        assert examples.labels == ["positive", "negative"]
        assert examples.sources == [None, None]
        assert len(set(examples.ids)) == 2

    def test_splits_may_have_different_formats(self) -> None:
        pq.write_table(pa.table({"Text": ["fine"], "Label": ["pos"]}), "test.parquet")
        dataset = sentikit.open_dataset(
            section(
                train=write("train.tsv", "sentence\tgold\nbad\tneg\n"),
                validation=write("validation.jsonl", '{"body": "hm", "sentiment": "neu"}\n'),
                test="test.parquet",
            )
        )
        assert dataset.splits == ("train", "validation", "test")
        found = {split: dataset.split(split) for split in dataset.splits}
        assert {split: e.texts for split, e in found.items()} == {
            "train": ["bad"],
            "validation": ["hm"],
            "test": ["fine"],
        }
        assert [e.labels for e in found.values()] == [["negative"], ["neutral"], ["positive"]]

    def test_validation_may_be_held_out_of_the_training_file(self) -> None:
        rows = "".join(f"sentence {n},positive\n" for n in range(10))
        settings = section(
            train=write("train.csv", "text,label\n" + rows), validation_holdout="20%"
        )
        dataset = sentikit.open_dataset(settings)
        assert [len(dataset.split(split)) for split in dataset.splits] == [8, 2]

    def test_a_dataset_without_any_file_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"at least one file: --set dataset\.train=FILE"):
            sentikit.open_dataset(section(text="review"))

    def test_a_misspelt_key_gets_a_suggestion(self) -> None:
        with pytest.raises(InputError, match="Did you mean 'validation'"):
            sentikit.open_dataset(section(train="a.csv", validaton="b.csv"))

    def test_a_missing_file_is_noticed_before_anything_is_read(self) -> None:
        dataset = sentikit.open_dataset(section(train="gone.csv"))
        with pytest.raises(InputError, match=r"^gone.csv does not exist"):
            _ = dataset.splits

    def test_a_folder_without_text_files_is_refused(self) -> None:
        Path("reviews").mkdir()
        message = refusal(section(train="reviews"))
        assert message == "reviews is a folder without .txt or .parquet files. Give a file."

    @pytest.mark.posix
    def test_a_pipe_is_read_once(self) -> None:
        os.mkfifo("pipe.csv")
        content = ("text,label\nfine,positive\n",)
        writer = threading.Thread(target=Path("pipe.csv").write_text, args=content)
        writer.start()
        assert sentikit.open_dataset(section(test="pipe.csv")).split("test").texts == ["fine"]
        writer.join()


class TestColumns:
    def test_columns_are_chosen_by_name(self) -> None:
        path = write("a.csv", "text,title,stars,shop,key\nlong,short,positive,north,k1\n")
        settings = section(train=path, text="title", label="stars", source="shop", id="key")
        examples = sentikit.open_dataset(settings).split("train")
        assert examples.table.to_pylist() == [
            {"id": "k1", "text": "short", "label": "positive", "source": "north"}
        ]

    def test_columns_with_common_names_are_found(self) -> None:
        path = write("a.csv", "text_id,Review,Gold_Label,domain\nr1,fine,positive,books\n")
        assert sentikit.open_dataset(section(train=path)).split("train").table.to_pylist() == [
            {"id": "r1", "text": "fine", "label": "positive", "source": "books"}
        ]

    def test_an_unknown_column_gets_a_suggestion(self) -> None:
        path = write("a.csv", "text,label\nfine,positive\n")
        message = refusal(section(train=path, label="lable"))
        assert message == "a.csv has no column 'lable' for the label. Did you mean 'label'?"

    def test_a_file_without_a_recognisable_text_column_is_refused(self) -> None:
        message = refusal(section(train=write("a.csv", "headline,label\nfine,positive\n")))
        assert "It has 'headline', 'label'." in message
        assert "dataset.text=COLUMN" in message

    def test_a_file_of_texts_works_where_labels_are_not_needed(self) -> None:
        dataset = sentikit.open_dataset(section(test=write("a.txt", "fine\nbad\n")))
        assert dataset.split("test", labelled=False).labels == [None, None]
        assert "the label is missing (2 of 2 in split 'test')" in refusal(
            section(test="a.txt"), "test"
        )

    def test_the_format_can_be_given(self) -> None:
        path = write("a.json", '{"text": "fine", "label": "positive"}\n')
        assert len(sentikit.open_dataset(section(train=path, format="jsonl")).split("train")) == 1
        with pytest.raises(InputError, match=r"no format 'jsno'\. Did you mean 'json'"):
            sentikit.open_dataset(section(train=path, format="jsno"))


class TestLabels:
    def test_numbers_keep_their_shortest_spelling(self) -> None:
        pq.write_table(pa.table({"text": ["a", "b"], "label": [0.0, 1.0]}), "train.parquet")
        validation = write(
            "validation.jsonl", '{"text": "a", "label": 0}\n{"text": "b", "label": 1.0}\n'
        )
        dataset = sentikit.open_dataset(
            section(
                train="train.parquet",
                validation=validation,
                label_map={0: "negative", 1: "positive"},
            )
        )
        for split in dataset.splits:
            assert dataset.split(split).labels == ["negative", "positive"]

    def test_blank_labels_sources_and_ids_are_unknown(self) -> None:
        content = "id,text,label,source\n,fine,,\nx, ok , positive ,  \n"
        dataset = sentikit.open_dataset(section(test=write("a.csv", content)))
        rows = dataset.split("test", labelled=False).table.to_pylist()
        assert [row["label"] for row in rows] == [None, "positive"]
        assert [row["source"] for row in rows] == [None, None]
        assert rows[1]["id"] == "x"
        assert rows[1]["text"] == " ok "

    def test_an_unknown_label_names_the_line_its_record_starts_on(self) -> None:
        content = 'text,label\n"one\ntwo",positive\n\n"three\nfour",postive\n'
        message = refusal(section(train=write("train.csv", content)))
        assert message.startswith("train.csv, line 5: the label 'postive' is not one of negative")

    def test_an_unknown_label_in_parquet_names_the_row(self) -> None:
        pq.write_table(pa.table({"text": ["a", "b"], "label": ["neg", "x"]}), "a.parquet")
        assert refusal(section(train="a.parquet")).startswith("a.parquet, row 2: the label 'x'")


class TestRefusals:
    def test_an_empty_text_is_refused_with_its_line_unless_it_may_stay(self) -> None:
        content = "text,label\nfine,positive\n  ,negative\n"
        assert refusal(section(train=write("train.csv", content))).startswith(
            "train.csv, line 3: the text is empty (1 in split 'train')"
        )
        dataset = sentikit.open_dataset(section(train="train.csv"))
        assert len(dataset.split("train", empty_texts=True)) == 2

    def test_a_null_text_is_refused_with_its_row(self) -> None:
        content = '{"text": "a", "label": "neg"}\n{"text": null, "label": "neg"}\n'
        message = refusal(section(train=write("a.jsonl", content)))
        assert message.startswith("a.jsonl, line 2: the text is empty")

    def test_rows_with_a_repeated_id_are_kept(self) -> None:
        content = "id,text,label\n7,a,neg\n8,c,neg\n7,d,pos\n"
        examples = sentikit.open_dataset(section(train=write("train.csv", content))).split("train")
        assert (examples.ids, examples.texts) == (["7", "8", "7"], ["a", "c", "d"])

    def test_the_same_text_twice_gets_two_ids(self) -> None:
        content = "text,label\nfine,positive\nfine,positive\n"
        ids = sentikit.open_dataset(section(test=write("a.csv", content))).split("test").ids
        assert len(set(ids)) == 2

    def test_a_list_as_text_is_refused(self) -> None:
        message = refusal(section(train=write("a.jsonl", '{"text": ["a"], "label": "neg"}\n')))
        assert message == "a.jsonl, line 1: the column 'text' holds a list instead of text."

    def test_a_malformed_file_is_refused(self) -> None:
        message = refusal(section(train=write("train.csv", 'text,label\nfine,pos\n"open,neg\n')))
        assert message.startswith("train.csv, line 3: a quote opens here")


class TestRealData:
    def test_the_studys_merged_test_split_loads(self, shared_data: Path) -> None:
        path = shared_data / "merged" / "test.csv"
        examples = sentikit.open_dataset(section(test=str(path))).split("test")
        with path.open(encoding="utf-8", newline="") as stream:
            expected = list(csv.DictReader(stream))
        assert examples.texts == [row["sentence"] for row in expected]
        assert examples.labels == [row["label"] for row in expected]
        assert examples.sources == [row["source"] for row in expected]

    def test_the_dynasent_files_load_as_json_lines(self, shared_data: Path) -> None:
        path = shared_data / "dynasent-v1.1" / "dynasent-v1.1-round02-dynabench-test.jsonl"
        examples = sentikit.open_dataset(section(test=str(path))).split("test")
        expected = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert examples.ids == [row["text_id"] for row in expected]
        assert examples.labels == [row["gold_label"] for row in expected]

    def test_the_same_rows_have_the_same_fingerprint_in_every_format(
        self, shared_data: Path
    ) -> None:
        with sentikit.extension.read_rows(shared_data / "merged" / "test.csv") as rows:
            table = pa.Table.from_pylist([dict(row) for _, row in rows])
        pq.write_table(table, "test.parquet")
        lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
        paths = [str(shared_data / "merged" / "test.csv"), "test.parquet", write("t.jsonl", lines)]
        opened = [sentikit.open_dataset(section(test=path)).split("test") for path in paths]
        assert len({examples.fingerprint() for examples in opened}) == 1


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_a_second_or_two() -> None:
    with Path("big.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "source"])
        words = "A sentence of about a dozen words, with a comma, numbered"
        writer.writerows([f"{words} {row}.", "neg", "made"] for row in range(100_000))
    start = time.perf_counter()
    examples = sentikit.open_dataset(section(train="big.csv")).loader.load("train")
    taken = time.perf_counter() - start
    assert len(examples) == 100_000
    # Measured at 0.8 s on two shared cores; the bound leaves room for a busy machine.
    assert taken < 5
