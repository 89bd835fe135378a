"""Formats of plugins: recognised by their folders; a failing one affects nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_writing import SitePackages
from tiny_classifiers import TEXTS, make_classifier

import sentikit
from sentikit.plugin_sources import installed_plugins
from sentikit.registry import Registry

PLUGIN = """
from sentikit import hookimpl

@hookimpl
def register_formats(register):
    register("list", f"{__name__}_parts:WordList", summary="words and what they mean")
"""

WORD_LIST = """
import numpy as np
from transformers import AutoTokenizer

from sentikit.extension import EncoderClassifier, ModelFormat, scheme_for_classes


class Words:
    device, precision, batch_limits = "cpu", "fp32", (64, 4)

    def __init__(self, good):
        self.good = good

    def logits(self, batches):
        return [np.stack([self.row(ids) for ids in batch]) for batch, mask in batches]

    def row(self, ids):
        return np.array([0.0, 1.0 if self.good in ids.tolist() else -1.0], np.float32)


class WordList(ModelFormat):
    def recognises(self, folder):
        return (folder / "good.txt").is_file()

    def load(self, folder, device, precision):
        tokenizer = AutoTokenizer.from_pretrained(folder / "words")
        word = (folder / "good.txt").read_text().strip()
        predictor = Words(tokenizer.convert_tokens_to_ids(word))
        return EncoderClassifier(predictor, tokenizer, scheme_for_classes(["meh", "good"]), 32)

    def export(self, source, folder):
        (folder / "good.txt").write_text("great")
        return []
"""


def registry(site: SitePackages) -> Registry:
    return Registry([*installed_plugins(), *installed_plugins([str(site.folder)])])


def test_a_folder_in_a_plugins_format_is_a_classifier(site: SitePackages, tmp_path: Path) -> None:
    site.add_plugin("wordlist", PLUGIN)
    site.add_module("wordlist_parts", WORD_LIST)
    native = make_classifier(tmp_path / "native")
    (tmp_path / "list").mkdir()
    (native / "encoder").rename(tmp_path / "list" / "words")
    (tmp_path / "list" / "good.txt").write_text("great")
    classifier = sentikit.load(tmp_path / "list", registry=registry(site))
    assert classifier.predict(TEXTS) == ["good", *["meh"] * (len(TEXTS) - 1)]
    with pytest.raises(sentikit.InputError, match="cannot be exported"):
        sentikit.export_model(tmp_path / "list", "out", "onnx", registry=registry(site))


@pytest.mark.parametrize(
    "parts",
    ["raise RuntimeError('no')", WORD_LIST.replace("return (folder", "raise KeyError('x') #")],
)
def test_a_failing_format_is_skipped_and_reported(
    parts: str, site: SitePackages, tmp_path: Path
) -> None:
    site.add_plugin("wordlist", PLUGIN)
    site.add_module("wordlist_parts", parts)
    native = make_classifier(tmp_path / "native")
    found = registry(site)
    assert len(sentikit.load(native, registry=found).predict(TEXTS)) == len(TEXTS)
    with pytest.raises(sentikit.InputError, match="neither a run nor a model folder"):
        sentikit.load(tmp_path, registry=found)
    (report,) = [report for report in found.reports() if report.name == "wordlist"]
    assert any("format 'list'" in problem for problem in report.problems)
