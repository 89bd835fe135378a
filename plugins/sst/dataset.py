"""The Stanford Sentiment Treebank (Socher et al. 2013), from its tree files or from the hub."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from sentikit import Examples, InputError, open_dataset
from sentikit.extension import ComponentSettings, DatasetLoader, ExamplesBuilder

from .trees import read_trees

LABELS = ("very negative", "negative", "neutral", "positive", "very positive")
SOURCE = "sst"
_FILES = {"train": "train.txt", "validation": "dev.txt", "test": "test.txt"}
_FOLDERS = (".", "trees", "sst/trees", "sst")
# Upper ends of the first four of five classes, of a score from 0 to 1
# (https://huggingface.co/datasets/stanfordnlp/sst).
_UPPER_ENDS = (0.2, 0.4, 0.6, 0.8)


class _Row(NamedTuple):
    place: str
    text: str
    label: str


class StanfordSentimentTreebank(DatasetLoader):
    """Sentences of movie reviews with five labels, very negative to very positive."""

    class Settings(ComponentSettings):
        """Source of the treebank."""

        path: Path | None = Field(
            None, description="folder of the official train.txt, dev.txt and test.txt trees"
        )
        hub: Literal["setfit", "stanfordnlp"] = Field(
            "setfit", description="without a path: SetFit/sst5, or stanfordnlp/sst"
        )
        subtrees: bool = Field(
            False, description="add every distinct phrase inside the training sentences to train"
        )

        @model_validator(mode="after")
        def _phrases_need_trees(self) -> StanfordSentimentTreebank.Settings:
            if self.subtrees and self.path is None:
                raise ValueError("subtrees needs the tree files: give their folder as path")
            return self

    settings: Settings

    def splits(self) -> tuple[str, ...]:
        """Return the splits whose file exists, or all three from the hub."""
        if self.settings.path is None:
            return tuple(_FILES)
        folder = _tree_folder(self.settings.path.expanduser())
        return tuple(split for split, name in _FILES.items() if (folder / name).is_file())

    def load(self, split: str) -> Examples:
        """Load a split; ids are made from the texts."""
        builder = ExamplesBuilder()
        for row in self._rows(split):
            builder.add(row.text, label=row.label, source=SOURCE)
        return builder.finish()

    def locate(self, split: str, row: int) -> str:
        """Name the file and the line of a row."""
        return next(islice(self._rows(split), row, None)).place

    def _rows(self, split: str) -> Iterator[_Row]:
        if self.settings.path is not None:
            path = _tree_folder(self.settings.path.expanduser()) / _FILES[split]
            return _tree_rows(path, phrases=self.settings.subtrees and split == "train")
        return _setfit_rows(split) if self.settings.hub == "setfit" else _score_rows(split)


def _tree_folder(path: Path) -> Path:
    """Return the folder of the tree files: `path` or one in it."""
    for folder in _FOLDERS:
        if any((path / folder / name).is_file() for name in _FILES.values()):
            return path / folder
    if not path.is_dir():
        raise InputError(f"{path} is not a folder. Give the folder of the treebank's tree files.")
    raise InputError(
        f"{path} holds none of {', '.join(_FILES.values())} (nor do trees/ and sst/trees/ in it). "
        "Give the folder of the treebank's tree files (trainDevTestTrees_PTB.zip, unpacked)."
    )


def _tree_rows(path: Path, phrases: bool) -> Iterator[_Row]:
    """Yield the sentences, then each distinct phrase that is not itself a sentence."""
    seen = set()
    for number, tree in read_trees(path):
        sentence = tree.sentence()
        if phrases:
            seen.add(sentence.text)
        yield _Row(f"{path}, line {number}", sentence.text, LABELS[sentence.label])
    if not phrases:
        return
    for number, tree in read_trees(path):
        for phrase in tree.phrases():
            if phrase.text not in seen:
                seen.add(phrase.text)
                yield _Row(f"{path}, line {number}", phrase.text, LABELS[phrase.label])


def _setfit_rows(split: str) -> Iterator[_Row]:
    loader = open_dataset({"name": "hub", "path": "SetFit/sst5"}).loader
    with loader.rows(split) as rows:
        for where, row in rows:
            yield _Row(rows.at(where), row["text"] or "", LABELS[row["label"]])


def _score_rows(split: str) -> Iterator[_Row]:
    section = {"path": "stanfordnlp/sst", "config": "default", "revision": "refs/convert/parquet"}
    with open_dataset({"name": "hub", **section}).loader.rows(split) as rows:
        for where, row in rows:
            # Scores there are in single precision: 0.200000003 means 0.2.
            label = LABELS[bisect_left(_UPPER_ENDS, round(row["label"], 6))]
            yield _Row(rows.at(where), row["sentence"] or "", label)
