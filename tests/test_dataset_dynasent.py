"""DynaSent from its JSON Lines files, in a folder or in the published archive."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import sentikit
from sentikit.errors import InputError

NAMES = {1: "dynasent-v1.1-round01-yelp", 2: "dynasent-v1.1-round02-dynabench"}
SPLITS = {"train": "train", "validation": "dev", "test": "test"}


def rows(number: int, split: str) -> list[dict[str, Any]]:
    labels = ["positive", "mixed", None, "negative"]
    return [
        {
            "hit_ids": ["y1"],
            "sentence": f"round {number}, {split}, {label}",
            "text_id": f"r{number}-{split}-{position}",
            "label_distribution": {"positive": ["w1"], "mixed": []},
            "gold_label": label,
        }
        for position, label in enumerate(labels)
    ]


def write_files(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, stem in NAMES.items():
        for split, ending in SPLITS.items():
            content = "".join(json.dumps(row) + "\n" for row in rows(number, split))
            (folder / f"{stem}-{ending}.jsonl").write_text(content)
    return folder


def write_archive(path: Path, files: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files.iterdir()):
            archive.write(file, f"dynasent-v1.1/{file.name}")
            archive.writestr(f"__MACOSX/dynasent-v1.1/._{file.name}", b"\0")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "dynasent-v1.1")


def refusal(section: dict[str, Any], split: str = "train") -> str:
    with pytest.raises(InputError) as caught:
        sentikit.open_dataset({"name": "dynasent", **section}).split(split)
    return caught.value.message


class TestReading:
    def test_rounds_are_concatenated_without_mixed_and_null(self, folder: Path) -> None:
        train = sentikit.open_dataset({"name": "dynasent", "path": folder}).split("train")
        assert train.ids == ["r1-train-0", "r1-train-3", "r2-train-0", "r2-train-3"]
        assert train.labels == ["positive", "negative", "positive", "negative"]
        assert train.sources == ["dynasent_r1", "dynasent_r1", "dynasent_r2", "dynasent_r2"]
        assert train.texts[0] == "round 1, train, positive"

    def test_mixed_is_kept_on_request_and_null_never(self, folder: Path) -> None:
        section = {"name": "dynasent", "path": folder, "rounds": [1], "ternary": False}
        dataset = sentikit.open_dataset({**section, "label_map": {"mixed": "neutral"}})
        assert dataset.split("test").ids == ["r1-test-0", "r1-test-1", "r1-test-3"]
        assert dataset.split("test").labels == ["positive", "neutral", "negative"]

    @pytest.mark.parametrize("depth", ["", "inside"])
    def test_the_files_may_be_one_folder_deeper(self, tmp_path: Path, depth: str) -> None:
        write_files(tmp_path / "data" / depth)
        dataset = sentikit.open_dataset({"name": "dynasent", "path": tmp_path / "data"})
        assert dataset.splits == ("train", "validation", "test")
        assert len(dataset.split("validation")) == 4

    @pytest.mark.parametrize("given", ["the archive", "its folder"])
    def test_the_archive_reads_the_same_and_is_not_unpacked(
        self, folder: Path, tmp_path: Path, given: str
    ) -> None:
        archive = write_archive(tmp_path / "zipped" / "dynasent-v1.1.zip", folder)
        path = archive if given == "the archive" else archive.parent
        zipped = sentikit.open_dataset({"name": "dynasent", "path": path})
        unzipped = sentikit.open_dataset({"name": "dynasent", "path": folder})
        for split in SPLITS:
            assert zipped.split(split).fingerprint() == unzipped.split(split).fingerprint()
        assert list(archive.parent.iterdir()) == [archive]

    def test_missing_files_are_read_from_the_archive_in_the_folder(
        self, folder: Path, tmp_path: Path
    ) -> None:
        write_archive(folder / "dynasent-v1.1.zip", write_files(tmp_path / "other"))
        (folder / f"{NAMES[2]}-train.jsonl").unlink()
        dataset = sentikit.open_dataset({"name": "dynasent", "path": folder})
        assert dataset.splits == ("train", "validation", "test")
        assert len(dataset.split("train")) == 4

    def test_a_split_needs_the_files_of_every_round_asked_for(self, folder: Path) -> None:
        (folder / f"{NAMES[2]}-train.jsonl").unlink()
        both = sentikit.open_dataset({"name": "dynasent", "path": folder})
        assert both.splits == ("validation", "test")
        first = sentikit.open_dataset({"name": "dynasent", "path": folder, "rounds": [1]})
        assert first.splits == ("train", "validation", "test")


class TestRefusals:
    @pytest.mark.parametrize(
        ("line", "sentence"),
        [(b"{not json}", "JSON"), (b'"a text"', "JSON object"), (b'{"a": "\xff"}', "UTF-8")],
    )
    @pytest.mark.parametrize("zipped", [False, True])
    def test_a_bad_line_is_named_by_file_and_line(
        self, folder: Path, tmp_path: Path, line: bytes, sentence: str, zipped: bool
    ) -> None:
        name = f"{NAMES[1]}-train.jsonl"
        good = (folder / name).read_bytes()
        (folder / name).write_bytes(good + b"\n" + line + b"\n")
        path = write_archive(tmp_path / "d.zip", folder) if zipped else folder
        message = refusal({"path": path})
        assert f"{name}, line 6" in message
        assert sentence in message

    def test_a_missing_column_says_which_are_there(self, folder: Path) -> None:
        name = f"{NAMES[1]}-train.jsonl"
        (folder / name).write_text('{"text_id": "1", "text": "a", "gold_label": "positive"}\n')
        message = refusal({"path": folder})
        assert f"{name} has no column 'sentence'" in message

    def test_an_empty_text_is_named_by_file_and_line(self, folder: Path) -> None:
        name = f"{NAMES[2]}-train.jsonl"
        good = (folder / name).read_text()
        row = {"text_id": "x", "sentence": " ", "gold_label": "positive"}
        (folder / name).write_text(good + json.dumps(row) + "\n")
        message = refusal({"path": folder})
        assert message.startswith(f"{folder / name}, line 5: the text is empty")

    def test_an_unknown_label_is_named_by_file_and_line(self, folder: Path) -> None:
        name = f"{NAMES[1]}-train.jsonl"
        row = {"text_id": "x", "sentence": "a", "gold_label": "glad"}
        (folder / name).write_text(json.dumps(row) + "\n")
        message = refusal({"path": folder})
        assert message.startswith(f"{folder / name}, line 1: the label 'glad'")

    def test_missing_paths_are_named(self, tmp_path: Path) -> None:
        assert "does not exist" in refusal({"path": tmp_path / "nowhere"})
        assert "has none of DynaSent's files" in refusal({"path": tmp_path})

    def test_a_damaged_archive_is_refused(self, folder: Path, tmp_path: Path) -> None:
        not_one = tmp_path / "dynasent-v1.1.zip"
        not_one.write_text("this is no archive")
        assert "cannot be read as a zip archive" in refusal({"path": not_one})
        archive = write_archive(tmp_path / "cut.zip", folder)
        content = bytearray(archive.read_bytes())
        with zipfile.ZipFile(archive) as opened:
            start = opened.getinfo(f"dynasent-v1.1/{NAMES[1]}-train.jsonl").header_offset
        content[start + 90 : start + 130] = b"\xff" * 40
        archive.write_bytes(content)
        message = refusal({"path": archive})
        assert f"{archive}:dynasent-v1.1/{NAMES[1]}-train.jsonl" in message
        assert "download it again" in message

    @pytest.mark.parametrize("rounds", [[], [3], "both"])
    def test_unknown_rounds_are_refused(self, folder: Path, rounds: Any) -> None:
        assert "rounds" in refusal({"path": folder, "rounds": rounds})

    def test_a_round_given_twice_counts_once(self, folder: Path) -> None:
        section = {"name": "dynasent", "path": folder, "rounds": [2, 2]}
        assert sentikit.open_dataset(section).split("test").ids == ["r2-test-0", "r2-test-3"]


class TestThePublishedFiles:
    def test_the_published_dynasent_files_have_the_published_sizes(self, shared_data: Path) -> None:
        dataset = sentikit.open_dataset({"name": "dynasent", "path": shared_data})
        assert dataset.splits == ("validation", "test")
        for split in dataset.splits:
            sources = Counter(dataset.split(split).sources)
            assert sources == {"dynasent_r1": 3600, "dynasent_r2": 720}
