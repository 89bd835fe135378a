"""The Stanford Sentiment Treebank from its tree files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import sentikit
from sentikit.errors import InputError

SMALL_TREES = {
    "train.txt": (
        "(3 (2 It) (4 (2 's) (4 good)))\n"
        "(0 (1 (2 a) (1 bore)) (2 .))\n"
        "\n"
        "(2 (2 (2 -LRB-) (2 a)) (2 8\xa01\\/2))\n"
    ),
    "dev.txt": "(4 (4 lovely) (2 film))\n",
    "test.txt": "(1 (2 not) (3 good))\n",
}


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    folder = tmp_path / "trees"
    folder.mkdir()
    for name, content in SMALL_TREES.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def refusal(path: Path, split: str = "train") -> str:
    with pytest.raises(InputError) as caught:
        sentikit.open_dataset({"name": "sst", "path": path}).split(split)
    return caught.value.message


class TestReading:
    def test_sentences_are_the_leaves_with_their_escapes(self, trees: Path) -> None:
        train = sentikit.open_dataset({"name": "sst", "path": trees}).split("train")
        assert train.texts == ["It 's good", "a bore .", "-LRB- a 8\xa01\\/2"]
        assert train.labels == ["positive", "negative", "neutral"]
        assert train.sources == ["sst"] * 3

    def test_the_five_labels_are_read(self, trees: Path) -> None:
        dataset = sentikit.open_dataset({"name": "sst", "path": trees, "labels": "five"})
        assert dataset.split("train").labels == ["positive", "very negative", "neutral"]
        assert dataset.split("validation").labels == ["very positive"]

    @pytest.mark.parametrize("inside", ["", "trees", "sst/trees", "sst"])
    def test_the_files_may_be_in_a_subfolder(self, tmp_path: Path, inside: str) -> None:
        folder = tmp_path / "data" / inside
        folder.mkdir(parents=True)
        (folder / "dev.txt").write_text(SMALL_TREES["dev.txt"])
        dataset = sentikit.open_dataset({"name": "sst", "path": tmp_path / "data"})
        assert dataset.splits == ("validation",)
        assert dataset.split("validation").texts == ["lovely film"]

    def test_subtrees_add_every_distinct_phrase_once_to_train_only(self, trees: Path) -> None:
        dataset = sentikit.open_dataset({"name": "sst", "path": trees, "subtrees": True})
        train = dataset.split("train")
        assert train.texts == [
            *("It 's good", "a bore .", "-LRB- a 8\xa01\\/2"),
            *("It", "'s", "good", "'s good"),
            *("a", "bore", "a bore", "."),
            *("-LRB-", "-LRB- a", "8\xa01\\/2"),
        ]
        assert dict(zip(train.texts, train.labels, strict=True))["bore"] == "negative"
        assert len(dataset.split("test")) == 1

    def test_ids_are_the_same_wherever_the_text_comes_from(self, trees: Path) -> None:
        train = sentikit.open_dataset({"name": "sst", "path": trees}).split("train")
        assert train.ids == sentikit.Examples.from_columns(train.texts).ids


class TestRefusals:
    @pytest.mark.parametrize(
        ("line", "sentence"),
        [
            ("(3 (2 It) (4 works)", "1 ')' missing at the end"),
            ("(3 (2 It) (4 works)))", "text after the tree's end, at column 21"),
            ("(3 (7 It))", "'(7' where '(' with a label from 0 to 4 is needed, at column 4"),
            ("(3 (It) (2 works))", "'(' where '(' with a label from 0 to 4 is needed"),
            ("(3 (2 ))", "a node without words, at column 7"),
            ("just words", "'just' where '(' with a label"),
            (")", "')' where '(' with a label"),
        ],
    )
    def test_a_malformed_tree_is_named_by_file_and_line(
        self, trees: Path, line: str, sentence: str
    ) -> None:
        (trees / "train.txt").write_text(f"(3 fine)\n{line}\n")
        message = refusal(trees)
        assert message.startswith(f"{trees / 'train.txt'}, line 2: {sentence}")

    def test_broken_utf8_is_named_by_file_and_line(self, trees: Path) -> None:
        (trees / "train.txt").write_bytes(b"(3 fine)\n(3 caf\xe9)\n")
        message = refusal(trees)
        assert f"{trees / 'train.txt'}, line 2" in message
        assert "UTF-8" in message

    def test_an_empty_file_is_refused(self, trees: Path) -> None:
        (trees / "train.txt").write_text("")
        assert str(trees / "train.txt") in refusal(trees)

    def test_a_missing_folder_is_refused(self, tmp_path: Path) -> None:
        assert "is not a folder" in refusal(tmp_path / "nowhere")

    def test_a_folder_without_trees_says_what_it_looked_for(self, tmp_path: Path) -> None:
        assert "holds none of train.txt, dev.txt, test.txt" in refusal(tmp_path)

    def test_a_missing_file_removes_only_its_split(self, trees: Path) -> None:
        (trees / "train.txt").unlink()
        dataset = sentikit.open_dataset({"name": "sst", "path": trees})
        assert dataset.splits == ("validation", "test")
        assert "no split 'train'" in refusal(trees)

    def test_subtrees_without_files_are_refused(self) -> None:
        with pytest.raises(InputError, match="subtrees needs the tree files"):
            sentikit.open_dataset({"name": "sst", "subtrees": True})

    def test_an_unknown_key_is_refused(self, trees: Path) -> None:
        with pytest.raises(InputError, match="subtrees"):
            sentikit.open_dataset({"name": "sst", "path": trees, "subtree": True})


class TestThePublishedTreebank:
    def test_the_published_treebank_has_the_published_sizes_and_labels(
        self, shared_data: Path
    ) -> None:
        dataset = sentikit.open_dataset({"name": "sst", "path": shared_data, "labels": "five"})
        assert [len(dataset.split(split)) for split in dataset.splits] == [8544, 1101, 2210]
        assert Counter(dataset.split("train").labels) == {
            "very negative": 1092,
            "negative": 2218,
            "neutral": 1624,
            "positive": 2322,
            "very positive": 1288,
        }

    @pytest.mark.slow
    def test_subtrees_give_all_phrases_of_the_published_treebank(self, shared_data: Path) -> None:
        dataset = sentikit.open_dataset({"name": "sst", "path": shared_data, "subtrees": True})
        train = dataset.split("train")
        # 8,544 sentences, ten of them twice, and 150,740 phrases that are no sentence.
        assert len(train) == 159_284
        assert len(set(train.texts)) == 159_274
