"""Code that comes with a model is never run, whatever is answered on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from terminals import on_a_terminal
from tiny_classifiers import make_classifier
from tiny_models import make_encoder

import sentikit

AUTO_MAP = {
    "AutoConfig": "foreign.ForeignConfig",
    "AutoModel": "foreign.ForeignModel",
    "AutoModelForCausalLM": "foreign.ForeignModel",
    "AutoModelForSequenceClassification": "foreign.ForeignModel",
}


def bring_code(folder: Path, trace: Path, **changes: Any) -> None:
    """Add Python code to a model folder, which leaves `trace` behind when it runs."""
    (folder / "foreign.py").write_text(f"open({str(trace)!r}, 'w').close()\nraise SystemExit\n")
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"auto_map": AUTO_MAP} | changes
    path.write_text(json.dumps(config))
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    config["auto_map"] = {"AutoTokenizer": ["foreign.ForeignTokenizer", None]}
    path.write_text(json.dumps(config | {"tokenizer_class": "ForeignTokenizer"}))
    for model in (folder, *folder.parents[:2]):
        renew_checksums(model)


def renew_checksums(model: Path) -> None:
    """Let a folder of our own format name the checksums of the files that it has now."""
    from sentikit.classifiers.model_folder import checksums

    path = model / "config.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    if "sha256" in config:
        path.write_text(json.dumps(config | {"sha256": checksums(model)}))


def answer_yes(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a command on a terminal whose user answers "y" to whatever it asks."""
    words = [sys.executable, "-m", "sentikit", *command]
    streams = ("stdin", "stdout", "stderr")
    code, shown = on_a_terminal(words, *streams, typed=b"y\ny\ny\n", cwd=folder)
    return code, " ".join(shown.split())


def native_folder(folder: Path, trace: Path) -> list[str]:
    make_classifier(folder / "model")
    bring_code(folder / "model" / "encoder", trace, model_type="foreign")
    return ["predict", "model", "texts.csv"]


def native_folder_of_known_type(folder: Path, trace: Path) -> list[str]:
    make_classifier(folder / "model")
    bring_code(folder / "model" / "encoder", trace)
    return ["predict", "model", "texts.csv"]


def onnx_folder(folder: Path, trace: Path) -> list[str]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    sentikit.export_model(make_classifier(folder / "native"), folder / "model", "onnx", {})
    bring_code(folder / "model", trace)
    return ["predict", "model", "texts.csv"]


def electra_classifier_folder(folder: Path, trace: Path) -> list[str]:
    head = {"name": "mlp", "layers": 1, "width": 8, "activation": "gelu", "dropout": 0.1}
    native = make_classifier(folder / "native", head=head)
    sentikit.export_model(native, folder / "model", "electra-classifier", {})
    bring_code(folder / "model", trace)
    return ["predict", "model", "texts.csv"]


def pretrained_encoder(folder: Path, trace: Path) -> list[str]:
    make_encoder(folder / "encoder")
    bring_code(folder / "encoder", trace, model_type="foreign")
    settings = ["encoder.name=transformers", "encoder.model=encoder", "dataset.name=demo"]
    options = [word for setting in settings for word in ("--set", setting)]
    return ["train", "--recipe", "minilm", *options, "--output", "run", "--dry-run"]


def language_model(folder: Path, trace: Path) -> list[str]:
    make_encoder(folder / "llm")
    bring_code(folder / "llm", trace, model_type="foreign")
    (folder / "recipe.yaml").write_text(
        "kind: prompt\ndataset: {name: demo}\n"
        "llm: {backend: local, model: ./llm}\nstrategy: {name: zero-shot}\n"
    )
    return ["prompt", "--recipe", "recipe.yaml", "--output", "run"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        native_folder,
        native_folder_of_known_type,
        onnx_folder,
        electra_classifier_folder,
        pretrained_encoder,
        language_model,
    ],
)
def test_a_models_own_code_is_refused_without_asking(
    make: Callable[[Path, Path], list[str]], tmp_path: Path
) -> None:
    trace = tmp_path / "the-code-ran"
    (tmp_path / "texts.csv").write_text("text\nI love it\n")
    command = make(tmp_path, trace)
    code, shown = answer_yes(command, tmp_path)
    assert not trace.exists()
    assert code == 2, shown
    assert "Python code that comes with" in shown
    assert "[y/N]" not in shown
    # Nothing is advised that the command does not offer.
    assert "trust_remote_code=True" not in shown
    assert ("encoder.trust_remote_code=true" in shown) == (make is pretrained_encoder)


def test_a_folder_that_names_code_is_refused_in_python_too(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "model")
    bring_code(folder / "encoder", tmp_path / "the-code-ran")
    with pytest.raises(sentikit.InputError, match="which sentikit does not run"):
        sentikit.load(folder)
    assert not (tmp_path / "the-code-ran").exists()


FOREIGN_MODEL = """
from transformers import BertConfig, BertModel

open({trace!r}, "a").close()


class ForeignConfig(BertConfig):
    model_type = "foreign"


class ForeignModel(BertModel):
    config_class = ForeignConfig
"""


@pytest.mark.slow
def test_a_model_trained_with_trusted_code_is_refused_where_it_is_loaded(
    tmp_path: Path, reviews: Path
) -> None:
    trace = tmp_path / "the-code-ran"
    encoder = make_encoder(tmp_path / "encoder", "bert")
    (encoder / "foreign.py").write_text(FOREIGN_MODEL.format(trace=str(trace)))
    path = encoder / "config.json"
    config = json.loads(path.read_text()) | {"auto_map": AUTO_MAP, "model_type": "foreign"}
    path.write_text(json.dumps(config))
    splits = ("train", "validation", "test")
    section = {"name": "transformers", "model": str(encoder), "trust_remote_code": True}
    recipe = {
        "encoder": section | {"max_length": 32},
        "head": {"name": "linear"},
        "dataset": {"name": "files"} | {split: str(reviews / f"{split}.csv") for split in splits},
        "training": {"epochs": 1, "batch_size": 16},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    run = tmp_path / "run"
    sentikit.train(tmp_path / "recipe.yaml", output=run)
    assert trace.exists()
    trace.unlink()
    (tmp_path / "texts.csv").write_text("text\nI love it\n")
    code, shown = answer_yes(["predict", str(run), "texts.csv"], tmp_path)
    assert code == 2, shown
    assert "was trained with encoder.trust_remote_code" in shown
    assert not trace.exists()
    with pytest.raises(sentikit.InputError, match="which is not run from a model folder"):
        sentikit.load(run)
    assert not trace.exists()
