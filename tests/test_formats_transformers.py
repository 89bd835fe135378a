"""Export for transformers: loaded without sentikit, with the same probabilities."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_classifiers import TEXTS, make_classifier

import sentikit
from sentikit import InputError
from sentikit.cli import sentikit as command

LINEAR: dict[str, Any] = {"name": "linear"}
NATIVE: dict[str, Any] = {"name": "native"}
MLP: dict[str, Any] = {"name": "mlp", "width": 8}


def pipeline_probabilities(folder: Path) -> list[list[float]]:
    from transformers import pipeline

    classify = pipeline("text-classification", str(folder), top_k=None, device="cpu")
    rows = [{one["label"]: one["score"] for one in row} for row in classify(TEXTS, truncation=True)]
    return [[row[name] for name in ("negative", "neutral", "positive")] for row in rows]


@pytest.mark.parametrize("head", [LINEAR, NATIVE], ids=["linear", "native"])
@pytest.mark.parametrize("architecture", ["electra", "bert", "roberta", "distilbert", "deberta-v2"])
def test_transformers_gives_the_same_probabilities_as_the_exported_model(
    tmp_path: Path, architecture: str, head: dict[str, Any]
) -> None:
    model = make_classifier(tmp_path / "model", architecture=architecture, head=head, pooling="cls")
    remarks = sentikit.export_model(model, tmp_path / "out", "transformers")
    assert "transformers gives the same probabilities" in remarks[0]
    expected = sentikit.load(model, device="cpu", precision="fp32").predict_proba(TEXTS)
    assert expected.std(axis=0).max() > 0.001
    np.testing.assert_allclose(pipeline_probabilities(tmp_path / "out"), expected, atol=1e-5)
    back = sentikit.load(tmp_path / "out", device="cpu", precision="fp32")
    np.testing.assert_allclose(back.predict_proba(TEXTS), expected, atol=1e-5)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"][0].endswith("ForSequenceClassification")
    assert "auto_map" not in config


@pytest.mark.parametrize(
    ("made", "advice"),
    [
        ({"pooling": "mean"}, "'head={name: native}' or --set 'head={name: linear, pooling: cls}'"),
        ({"pooling": "mean", "head": MLP}, "'head={name: linear, pooling: cls}'. Or export it"),
        ({"pooling": "cls", "head": MLP}, "head={name: native}"),
        ({"architecture": "modernbert", "pooling": "cls"}, "Train on one of bert, camembert"),
    ],
)
def test_models_transformers_cannot_represent_are_refused_with_a_remedy(
    tmp_path: Path, made: dict[str, Any], advice: str
) -> None:
    model = make_classifier(tmp_path / "model", **made)
    with pytest.raises(InputError, match="transformers") as caught:
        sentikit.export_model(model, tmp_path / "out", "transformers")
    assert advice in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_head_is_native_to_its_encoder(tmp_path: Path) -> None:
    electra = make_classifier(tmp_path / "a", head=NATIVE, pooling="cls")
    bert = make_classifier(tmp_path / "b", architecture="bert", head=NATIVE, pooling="cls")
    kinds = [
        type(sentikit.load(folder, device="cpu").predictor.model.head.activation).__name__  # type: ignore[attr-defined]
        for folder in (electra, bert)
    ]
    assert kinds == ["GELU", "Tanh"]


def test_the_native_head_reads_the_first_token_and_no_other_pooling(tiny_recipe: Path) -> None:
    text = tiny_recipe.read_text()
    words = ["train", "--recipe", str(tiny_recipe), "--output", "run", "--set"]
    refused = CliRunner().invoke(command, [*words, "head={name: native, pooling: mean}"])
    assert refused.exit_code == 2
    assert "the head 'native' works only with pooling cls" in refused.stderr
    tiny_recipe.write_text(
        text.replace("head: {name: linear, pooling: mean}", "head: {name: native}")
    )
    trained = CliRunner().invoke(command, [*words, "training.epochs=1"])
    assert trained.exit_code == 0, trained.output
    assert json.loads(Path("run/model/config.json").read_text())["pooling"] == "cls"
    out = CliRunner().invoke(command, ["export", "run", "out", "--format", "transformers"])
    assert out.exit_code == 0, out.output
    card = Path("out/README.md").read_text()
    assert "library_name: transformers" in card
    assert 'pipeline("text-classification", "OWNER/NAME")' in card


_WITHOUT_SENTIKIT = """
import json, sys
from importlib.abc import MetaPathFinder

class NoSentikit(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sentikit":
            raise ImportError("sentikit cannot be imported here")

sys.meta_path.insert(0, NoSentikit())
from transformers import pipeline
classify = pipeline("text-classification", sys.argv[1], top_k=None, device="cpu")
print(json.dumps(classify(json.loads(sys.argv[2]), truncation=True)))
"""


@pytest.mark.slow
def test_a_process_that_cannot_import_sentikit_gets_the_same_probabilities(tmp_path: Path) -> None:
    model = make_classifier(tmp_path / "model", architecture="bert", head=NATIVE, pooling="cls")
    words = [sys.executable, "-m", "sentikit", "export", str(model), "out"]
    done = subprocess.run(
        [*words, "--format", "transformers"], capture_output=True, text=True, check=True
    )
    # Only the folder: libraries that are imported meanwhile have their say on standard error.
    assert done.stdout == "out\n"
    found = subprocess.run(
        [sys.executable, "-c", _WITHOUT_SENTIKIT, "out", json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        check=True,
    )
    classifier = sentikit.load(model, device="cpu", precision="fp32")
    rows = [{one["label"]: one["score"] for one in row} for row in json.loads(found.stdout)]
    shares = [[row[label] for label in classifier.labels] for row in rows]
    np.testing.assert_allclose(shares, classifier.predict_proba(TEXTS), atol=1e-5)
