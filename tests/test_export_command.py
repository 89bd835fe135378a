"""``sentikit export``: formats and their options from the registry, whole folders or none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_classifiers import TEXTS, make_classifier

import sentikit as toolkit
from sentikit.cli import sentikit

MLP = {"name": "mlp", "layers": 1, "width": 8, "activation": "relu", "dropout": 0.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("export") / "model", head=MLP)


def export(*words: str | Path) -> Result:
    return CliRunner().invoke(sentikit, ["export", *map(str, words)])


@pytest.mark.posix
def test_export_writes_a_model_and_names_its_folder(model: Path) -> None:
    result = export(model, "out", "--format", "electra-classifier")
    assert result.exit_code == 0, result.output
    assert result.stdout == "out\n"
    ours, theirs = toolkit.load(model, device="cpu"), toolkit.load("out", device="cpu")
    assert theirs.predict(TEXTS) == ours.predict(TEXTS)
    before = os.umask(0)
    os.umask(before)
    for path in [Path("out"), *Path("out").iterdir()]:
        readable = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == readable & ~before


def test_a_run_and_an_exported_model_can_be_exported(trained_run: Path) -> None:
    assert export(trained_run, "hub", "--format", "hub").exit_code == 0
    assert export("hub", "again", "--format", "hub").exit_code == 0
    assert toolkit.load("again").labels == ("negative", "neutral", "positive")


def test_export_fills_an_empty_folder_and_refuses_a_full_one(model: Path) -> None:
    Path("empty").mkdir()
    assert export(model, "empty", "--format", "electra-classifier").exit_code == 0
    assert Path("empty/config.json").is_file()
    refused = export(model, "empty", "--format", "hub")
    assert refused.exit_code == 2
    assert "is not empty" in refused.stderr
    assert not Path("empty/README.md").exists()
    Path("file").touch()
    refused = export(model, "file", "--format", "hub")
    assert refused.exit_code == 2
    assert "is a file" in refused.stderr


def test_a_refused_export_writes_nothing(trained_run: Path) -> None:
    result = export(trained_run, "out", "--format", "electra-classifier")
    assert result.exit_code == 2
    assert "head of hidden layers" in result.stderr
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "Choose a format with --format: causal-lm, electra-classifier, hub, onnx"),
        (("--format", "onx"), "Error: There is no format named 'onx'. Did you mean 'onnx'?"),
        (("--format", "hub", "--int8"), "--int8 belongs to --format onnx, not to hub"),
        (("--format", "hub", "--private"), "--private needs --push"),
        (("--format", "onnx", "--itn8"), "--int8"),
    ],
)
def test_wrong_usage_of_export_is_explained(
    words: tuple[str, ...], complaint: str, model: Path
) -> None:
    result = export(model, "out", *words)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "does not exist"),
        ({}, "it has no config.json"),
        ({"config.json": '{"architectures": ["BertForMaskedLM"]}'}, "is for BertForMaskedLM"),
        ({"manifest.json": "{}"}, "is a run without a model"),
        ({"config.json": "["}, "not valid JSON"),
    ],
)
def test_exporting_something_that_is_no_model_is_refused(
    content: dict[str, str] | None, complaint: str
) -> None:
    if content is not None:
        Path("source").mkdir()
        for name, text in content.items():
            Path("source", name).write_text(text)
    result = export("source", "out", "--format", "hub")
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.output


def test_exporting_a_model_that_is_not_downloaded_says_how_to_fetch_it() -> None:
    result = export("jane/reviews", "out", "--format", "hub")
    assert "hf download jane/reviews --local-dir DIR" in result.stderr


def test_the_help_of_export_lists_every_formats_options() -> None:
    result = CliRunner().invoke(sentikit, ["export", "--help"])
    assert result.exit_code == 0
    assert "onnx: add model.int8.onnx" in result.stdout
    assert "hub, transformers: also upload" in result.stdout
