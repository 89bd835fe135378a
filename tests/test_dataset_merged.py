"""The study's merged dataset, from its parts or from the published files."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_loading import timed_load, write_parts

import sentikit
from sentikit.errors import InputError

DYNASENT_FILES = {
    "dynasent_r1": "dynasent-v1.1-round01-yelp",
    "dynasent_r2": "dynasent-v1.1-round02-dynabench",
}
SPLITS = {"train": "train", "validation": "dev", "test": "test"}
SIZES = {"dynasent_r1": 7, "dynasent_r2": 3, "sst_local": 2}
Rows = list[tuple[str, str, str]]


def small_rows(split: str) -> Rows:
    """Seven, three and two rows of the three sources, in the order of the parts."""
    labels = ["negative", "neutral", "positive"]
    return [
        (f"{source} , {split} , {position}", labels[position % 3], source)
        for source, size in SIZES.items()
        for position in range(size)
    ]


def write_small_parts(folder: Path) -> Path:
    folder.mkdir(parents=True)
    digits = {"negative": 0, "neutral": 2, "positive": 4}
    for split, ending in SPLITS.items():
        rows = small_rows(split)
        for source, stem in DYNASENT_FILES.items():
            own = [row for row in rows if row[2] == source]
            write_dynasent(folder / f"{stem}-{ending}.jsonl", own)
        (folder / f"{ending}.txt").write_text(
            "".join(
                f"({digits[label]} {' '.join(f'(2 {word})' for word in text.split())})\n"
                for text, label, source in rows
                if source == "sst_local"
            )
        )
    return folder


def write_dynasent(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for number, (text, label, _) in enumerate(rows):
            record = {"text_id": f"{path.stem}-{number}", "sentence": text, "gold_label": label}
            stream.write(json.dumps(record) + "\n")


def write_published(folder: Path, split: str, rows: Rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sentence", "label", "source", "split"])
        writer.writerows([*row, split] for row in rows)


def rows_of(examples: sentikit.Examples) -> list[tuple[Any, ...]]:
    return list(zip(examples.texts, examples.labels, examples.sources, strict=True))


def refusal(section: dict[str, Any], split: str = "train") -> str:
    with pytest.raises(InputError) as caught:
        sentikit.open_dataset({"name": "merged", **section}).split(split)
    return caught.value.message


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return write_small_parts(tmp_path / "parts")


class TestFromParts:
    def test_rows_are_the_concatenation_shuffled_with_seed_42(self, parts: Path) -> None:
        dataset = sentikit.open_dataset({"name": "merged", "path": parts})
        assert dataset.splits == ("train", "validation", "test")
        for split in dataset.splits:
            together = small_rows(split)
            # pandas.DataFrame.sample(frac=1, random_state=42) takes rows in this order.
            order = np.random.RandomState(42).permutation(len(together))
            assert rows_of(dataset.split(split)) == [together[row] for row in order]

    def test_the_source_datasets_may_be_in_different_folders(self, parts: Path) -> None:
        together = sentikit.open_dataset({"name": "merged", "path": parts})
        apart = sentikit.open_dataset({"name": "merged", "sst": parts, "dynasent": parts})
        assert apart.split("train").fingerprint() == together.split("train").fingerprint()

    def test_a_split_needs_all_its_source_datasets(self, parts: Path) -> None:
        (parts / f"{DYNASENT_FILES['dynasent_r2']}-train.jsonl").unlink()
        dataset = sentikit.open_dataset({"name": "merged", "path": parts})
        assert dataset.splits == ("validation", "test")

    def test_errors_name_file_and_line_of_the_source_dataset(self, parts: Path) -> None:
        path = parts / f"{DYNASENT_FILES['dynasent_r1']}-test.jsonl"
        rows = [(text, label, source) for text, label, source in small_rows("test")][:7]
        rows[4] = ("", "negative", "dynasent_r1")
        write_dynasent(path, rows)
        message = refusal({"path": parts}, "test")
        assert message.startswith(f"{path}, line 5: the text is empty")


class TestFromPublishedFiles:
    @pytest.mark.parametrize("inside", ["", "merged"])
    def test_rows_keep_their_order_and_get_the_same_ids_as_from_parts(
        self, parts: Path, tmp_path: Path, inside: str
    ) -> None:
        built = sentikit.open_dataset({"name": "merged", "path": parts})
        for split in SPLITS:
            write_published(tmp_path / "csv" / inside, split, rows_of(built.split(split)))
        published = sentikit.open_dataset({"name": "merged", "path": tmp_path / "csv"})
        for split in SPLITS:
            assert published.split(split).fingerprint() == built.split(split).fingerprint()

    def test_a_missing_column_says_which_are_there(self, tmp_path: Path) -> None:
        (tmp_path / "train.csv").write_text("sentense,label,source\na,positive,x\n")
        message = refusal({"path": tmp_path})
        assert "train.csv has no column 'sentence'. Did you mean 'sentense'?" in message

    def test_bad_rows_are_named_by_file_and_line(self, tmp_path: Path) -> None:
        header = b"sentence,label,source,split\n"
        for content, sentence in (
            (b"caf\xe9,positive,x,train\n", "UTF-8"),
            (b"fine\n", "1 field"),
            (b" ,positive,x,train\n", "the text is empty"),
            (b"fine,glad,x,train\n", "the label 'glad'"),
        ):
            (tmp_path / "train.csv").write_bytes(header + b"good,positive,x,train\n" + content)
            message = refusal({"path": tmp_path})
            assert f"{tmp_path / 'train.csv'}, line 3" in message
            assert sentence in message


class TestBalance:
    def test_smaller_sources_are_repeated_in_train_only(self, parts: Path) -> None:
        dataset = sentikit.open_dataset({"name": "merged", "path": parts, "balance": "source"})
        train = dataset.split("train")
        # ceil(7 / 7), ceil(7 / 3) and ceil(7 / 2) times 7, 3 and 2 rows.
        assert Counter(train.sources) == {"dynasent_r1": 7, "dynasent_r2": 9, "sst_local": 8}
        assert set(Counter(train.texts).values()) == {1, 3, 4}
        assert len(dataset.split("test")) == 12

    @pytest.mark.slow
    def test_the_published_sizes_give_the_studys_257383_rows(self, tmp_path: Path) -> None:
        write_parts(tmp_path / "parts", 1.0)
        section = {"name": "merged", "path": tmp_path / "parts", "balance": "source"}
        train = sentikit.open_dataset(section).split("train")
        assert len(train) == 257_383
        assert Counter(train.sources) == {
            "dynasent_r1": 80_488,
            "dynasent_r2": 7 * 13_065,
            "sst_local": 10 * 8_544,
        }


class TestRefusals:
    def test_contradictory_settings_are_refused(self, parts: Path) -> None:
        assert "sst and dynasent need each other" in refusal({"sst": parts})
        assert "not all three" in refusal({"path": parts, "sst": parts, "dynasent": parts})
        assert "balance" in refusal({"path": parts, "balance": "sources"})

    def test_missing_paths_are_named(self, tmp_path: Path) -> None:
        assert "is not a folder" in refusal({"path": tmp_path / "nowhere"})
        assert "has none of" in refusal({"path": tmp_path})


class TestThePublishedRows:
    @pytest.fixture(params=["validation", "test"])
    def split(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def published(self, shared_data: Path, split: str) -> Rows:
        path = shared_data / "merged" / f"{split}.csv"
        with path.open(encoding="utf-8", newline="") as stream:
            return [(r["sentence"], r["label"], r["source"]) for r in csv.DictReader(stream)]

    def test_a_folder_with_all_data_gives_the_published_rows(
        self, shared_data: Path, published: Rows, split: str
    ) -> None:
        dataset = sentikit.open_dataset({"name": "merged", "path": shared_data})
        assert rows_of(dataset.split(split)) == published

    def test_the_official_order_of_the_sources_gives_the_published_order(
        self, shared_data: Path, published: Rows, split: str, tmp_path: Path
    ) -> None:
        # The DynaSent files here hold their rows in the merged order. Putting them back needs
        # the shuffle itself; the treebank, whose own files are here, shows whether it is right.
        order = np.random.RandomState(42).permutation(len(published))
        together = [published[row] for row in np.argsort(order)]
        for source, stem in DYNASENT_FILES.items():
            own = [row for row in together if row[2] == source]
            write_dynasent(tmp_path / "dynasent" / f"{stem}-{SPLITS[split]}.jsonl", own)
        section = {"name": "merged", "sst": shared_data, "dynasent": tmp_path / "dynasent"}
        assert rows_of(sentikit.open_dataset(section).split(split)) == published

    def test_the_original_source_datasets_give_the_published_rows(
        self, shared_data: Path, published: Rows, split: str
    ) -> None:
        section = {"name": "merged", "sst": shared_data, "dynasent": shared_data}
        built = rows_of(sentikit.open_dataset(section).split(split))
        assert Counter(built) == Counter(published)
        assert [row[2] for row in built] == [row[2] for row in published]
        treebank = [(position, row) for position, row in enumerate(built) if row[2] == "sst_local"]
        assert all(published[position] == row for position, row in treebank)


class TestSpeed:
    @pytest.mark.slow
    def test_a_hundred_thousand_rows_load_and_merge_in_seconds(self, tmp_path: Path) -> None:
        write_parts(tmp_path / "parts", 1.0)
        load = timed_load({"name": "merged", "path": tmp_path / "parts"})
        assert load.rows == 102_097
        assert load.cpu_seconds < 8  # about two; other work may go on beside the tests
