"""Local folders in the layout of the Hugging Face hub; test_load_from_hub.py tries the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sentikit
from sentikit.errors import InputError
from sentikit.extension import OpenedDataset

CARD = """---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': negative
          '1': neutral
          '2': positive
---
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what ``datasets`` caches inside the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "reviews"
    place.mkdir()
    return place


def write_parquet(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def opened(path: Path, **section: Any) -> OpenedDataset:
    return sentikit.open_dataset({"name": "hub", "path": str(path), **section})


def refusal(path: Path | str, split: str = "train", **section: Any) -> str:
    with pytest.raises(InputError) as caught:
        sentikit.open_dataset({"name": "hub", "path": str(path), **section}).split(split)
    return caught.value.message


class TestLayouts:
    def test_json_lines_with_a_dev_split_are_read(self, folder: Path) -> None:
        row = '{{"text": "{0}", "label": 1, "label_text": "positive"}}\n'
        for name in ("train", "dev", "test"):
            (folder / f"{name}.jsonl").write_text(row.format(name))
        dataset = opened(folder)
        assert dataset.splits == ("train", "validation", "test")
        assert dataset.split("validation").texts == ["dev"]
        assert dataset.split("validation").labels == ["positive"]

    def test_label_names_come_from_the_card_of_parquet_data(self, folder: Path) -> None:
        (folder / "README.md").write_text(CARD)
        write_parquet(
            folder / "data" / "train-00000-of-00001.parquet",
            text=["good", "so so", "bad"],
            label=pa.array([2, 1, 0], pa.int64()),
        )
        train = opened(folder).split("train")
        assert train.labels == ["positive", "neutral", "negative"]
        assert train.sources == [None, None, None]

    def test_the_hubs_converted_parquet_files_are_read(self, folder: Path) -> None:
        for config in ("r1", "r2"):
            for split in ("train", "test"):
                write_parquet(
                    folder / config / split / "0000.parquet",
                    sentence=[f"{config} {split}"],
                    gold_label=["neutral"],
                )
        dataset = opened(folder, config="r2")
        assert dataset.splits == ("train", "test")
        assert dataset.split("test").texts == ["r2 test"]
        assert dataset.split("test").labels == ["neutral"]

    def test_a_numbered_label_is_mapped_by_the_recipe(self, folder: Path) -> None:
        (folder / "train.csv").write_text("review,label\nfine,1\npoor,0\n")
        train = opened(folder, label_map={"0": "negative", "1": "positive"}).split("train")
        assert train.labels == ["positive", "negative"]

    def test_columns_and_splits_can_be_named(self, folder: Path) -> None:
        (folder / "train.csv").write_text("a,b,c\nfine,pos,shop\n")
        (folder / "test.csv").write_text("a,b,c\npoor,neg,bar\n")
        dataset = opened(folder, text="a", label="b", source="c", splits={"validation": "test"})
        assert dataset.split("validation").sources == ["bar"]
        assert dataset.split("train").labels == ["positive"]

    def test_unknown_split_names_are_kept(self, folder: Path) -> None:
        card = "---\nconfigs:\n- config_name: default\n  data_files:\n"
        card += "  - {split: train, path: a.csv}\n  - {split: hard, path: b.csv}\n---\n"
        (folder / "README.md").write_text(card)
        (folder / "a.csv").write_text("text,label\neasy,pos\n")
        (folder / "b.csv").write_text("text,label\nhard,neg\n")
        assert opened(folder).splits == ("train", "hard")
        assert opened(folder, splits={"test": "hard"}).split("test").texts == ["hard"]

    def test_examples_without_a_source_have_an_unknown_source(self, folder: Path) -> None:
        rows = [{"text": "fine", "source": None}, {"text": "good", "source": "x"}]
        (folder / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        assert opened(folder).split("train", labelled=False).sources == [None, "x"]

    def test_unlabelled_rows_can_be_read(self, folder: Path) -> None:
        (folder / "test.csv").write_text("text\nwho knows\n")
        test = opened(folder).split("test", labelled=False)
        assert test.labels == [None]

    def test_the_tweet_dataset_is_read_from_a_folder(self, folder: Path) -> None:
        rows = '{"text": "so happy", "label_text": "positive"}\n{"text": null, "label_text": "x"}\n'
        (folder / "train.jsonl").write_text(rows)
        tweets = sentikit.open_dataset({"name": "tweet", "path": folder})
        assert tweets.split("train").texts == ["so happy"]
        assert tweets.split("train").sources == ["tweet"]


class TestRefusals:
    def test_missing_columns_are_named(self, folder: Path) -> None:
        (folder / "train.csv").write_text("alpha,beta\n1,2\n")
        assert f"No text column in {folder}. Name one with text: alpha, beta" in refusal(folder)
        assert "does not hold texts" in refusal(folder, text="alpha")
        message = refusal(folder, text="alhpa")
        assert "has no column 'alhpa' (text). Did you mean 'alpha'?" in message

    def test_an_unknown_config_or_split_is_refused(self, folder: Path) -> None:
        (folder / "train.csv").write_text("text,label\nfine,pos\n")
        assert "no config 'french'. Known: default." in refusal(folder, config="french")
        assert "no split 'test'" in refusal(folder, "test")
        loader = sentikit.open_dataset({"name": "hub", "path": str(folder)}).loader
        with pytest.raises(InputError, match=r"has no split 'tain'\. Did you mean 'train'\?"):
            loader.rows("tain")

    def test_the_rows_of_a_split_have_all_columns_and_unknown_ones_are_named(
        self, folder: Path
    ) -> None:
        (folder / "train.csv").write_text("text,label,stars\nfine,pos,4\n")
        loader = sentikit.open_dataset({"name": "hub", "path": str(folder)}).loader
        assert list(loader.rows("train")) == [(1, {"text": "fine", "label": "pos", "stars": 4})]
        with pytest.raises(InputError, match="no column 'sentence'"):
            next(loader.rows("train").cells("sentence", "label"))

    def test_scripts_are_never_run(self, folder: Path) -> None:
        (folder / "reviews.py").write_text("raise SystemExit('ran')\n")
        message = refusal(folder)
        assert "scripts are never run" in message
        assert "refs/convert/parquet" in message

    def test_broken_files_are_refused(self, folder: Path) -> None:
        (folder / "train.jsonl").write_text('{"text": "a"}\n{"text": \n')
        assert f"A file of the dataset '{folder}' is malformed" in refusal(folder)

    def test_an_empty_text_is_named_by_row(self, folder: Path) -> None:
        (folder / "train.jsonl").write_text(
            '{"text": "a", "label": "pos"}\n{"text": " ", "label": "pos"}\n'
        )
        assert refusal(folder).startswith(f"row 2 of {folder} (train): the text is empty")

    def test_missing_and_empty_folders_are_refused(self, folder: Path) -> None:
        assert "is not a folder" in refusal(folder / "nowhere")
        assert "cannot be read as a dataset" in refusal(folder)

    def test_trust_remote_code_is_not_a_setting(self, folder: Path) -> None:
        assert "trust_remote_code" in refusal(folder, trust_remote_code=True)
