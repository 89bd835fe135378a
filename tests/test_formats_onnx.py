"""ONNX folders: the labels of the torch model, in the same Classifier."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_classifiers import TEXTS, make_classifier
from tiny_models import WORDS

import sentikit
from sentikit import InputError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

MLP = {"name": "mlp", "layers": 2, "width": 16, "activation": "swishglu", "dropout": 0.3}


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(
        tmp_path_factory.mktemp("onnx") / "native", head=MLP, scheme="bin_pos", temperature=1.7
    )


@pytest.fixture(scope="module")
def exported(native: Path) -> Path:
    folder = native.with_name("exported")
    sentikit.export_model(native, folder, "onnx", {"int8": True})
    return folder


def words(count: int) -> list[str]:
    """Return texts of many lengths made of words that the tiny tokenizer knows."""
    picks = np.random.default_rng(3)
    return [" ".join(picks.choice(WORDS, size=picks.integers(0, 60))) for _ in range(count)]


@pytest.mark.parametrize("architecture", ["electra", "bert", "roberta", "distilbert"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_onnx_labels_agree_with_torch_in_fp32(
    architecture: str, pooling: str, tmp_path: Path
) -> None:
    native = make_classifier(tmp_path / "native", architecture=architecture, pooling=pooling)
    remarks = sentikit.export_model(native, tmp_path / "out", "onnx")
    assert "the same label for all" in remarks[0]
    torch_classifier = sentikit.load(native, device="cpu", precision="fp32")
    onnx_classifier = sentikit.load(tmp_path / "out")
    texts = [*TEXTS, *words(300)]
    assert onnx_classifier.predict(texts) == torch_classifier.predict(texts)
    expected = torch_classifier.predict_proba(texts)
    assert onnx_classifier.predict_proba(texts) == pytest.approx(expected, abs=1e-4)
    assert not (tmp_path / "out" / "model.int8.onnx").exists()


def test_an_onnx_folder_is_a_classifier_like_any_other(native: Path, exported: Path) -> None:
    ours, theirs = sentikit.load(native), sentikit.load(exported)
    assert theirs.labels == ours.labels == ("non-positive", "positive")
    assert (theirs.precision, theirs.device, theirs.max_length) == ("fp32", "cpu", 64)
    assert theirs.scheme.class_of("neg") == "non-positive"
    assert [p.label for p in theirs.classify(TEXTS)] == ours.predict(TEXTS)
    assert theirs.predict([]) == []
    assert theirs.predict_proba([]).shape == (0, 2)


def test_an_onnx_export_keeps_the_temperature(native: Path, exported: Path) -> None:
    ours, theirs = sentikit.load(native, calibrated=True), sentikit.load(exported, calibrated=True)
    assert theirs.temperature == 1.7
    assert theirs.predict_proba(TEXTS) == pytest.approx(ours.predict_proba(TEXTS), abs=1e-5)


def test_an_endless_stream_of_texts_is_answered_as_it_arrives(exported: Path) -> None:
    endless = sentikit.load(exported).classify(repeat("the food was great"))
    assert len({prediction.label for prediction in islice(endless, 1000)}) == 1


def test_int8_is_smaller_and_used_when_asked_for(exported: Path) -> None:
    sizes = [(exported / name).stat().st_size for name in ("model.int8.onnx", "model.onnx")]
    assert sizes[0] < sizes[1]
    quantised, full = sentikit.load(exported, precision="int8"), sentikit.load(exported)
    assert quantised.precision == "int8"
    texts = words(200)
    difference = np.abs(quantised.predict_proba(texts) - full.predict_proba(texts))
    assert 0 < difference.mean() < 0.1


def test_int8_needs_no_padding_token(tmp_path: Path) -> None:
    native = make_classifier(tmp_path / "native")
    path = native / "encoder" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["pad_token"]
    path.write_text(json.dumps(config))
    for name in ("special_tokens_map.json",):
        (path.parent / name).unlink(missing_ok=True)
    whole = json.loads((native / "config.json").read_text())
    del whole["sha256"]
    (native / "config.json").write_text(json.dumps(whole))
    assert sentikit.load(native, device="cpu").tokenizer.pad_token is None  # type: ignore[attr-defined]
    sentikit.export_model(native, tmp_path / "out", "onnx", {"int8": True})
    assert (tmp_path / "out" / "model.int8.onnx").is_file()


def test_int8_export_reports_changed_labels_on_the_runs_test_texts(
    trained_run: Path, tmp_path: Path
) -> None:
    same, changed = sentikit.export_model(trained_run, tmp_path / "out", "onnx", {"int8": True})
    assert "all 55 texts" in same  # 48 of the test split, and 7 odd ones
    assert "of 55 labels" in changed
    with pytest.raises(InputError, match="Export the run"):
        sentikit.export_model(tmp_path / "out", tmp_path / "again", "onnx")


def test_an_onnx_folder_exported_by_other_tools_loads(exported: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in ("model.onnx", "tokenizer.json", "tokenizer_config.json"):
        (foreign / name).write_bytes((exported / name).read_bytes())
    config = {"model_type": "electra", "id2label": {"0": "POSITIVE", "1": "NEGATIVE"}}
    (foreign / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 130}))
    classifier = sentikit.load(foreign)
    assert classifier.labels == ("POSITIVE", "NEGATIVE")
    assert classifier.max_length == 130
    assert len(classifier.predict(TEXTS)) == len(TEXTS)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_missing_precision_of_an_onnx_folder_is_refused(precision: str, exported: Path) -> None:
    with pytest.raises(InputError, match=f"no {precision} graph; it has fp32 and int8"):
        sentikit.load(exported, precision=precision)


def test_a_missing_device_for_onnx_is_refused(exported: Path) -> None:
    with pytest.raises(InputError, match="--device cuda:7"):
        sentikit.load(exported, device="cuda:7")


def test_a_torch_folder_has_no_int8(native: Path) -> None:
    with pytest.raises(InputError, match="--format onnx --int8"):
        sentikit.load(native, precision="int8")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("model.onnx", "cannot be read by ONNX Runtime"),
        ("config.json", "not valid JSON"),
        ("tokenizer.json", "tokenizer"),
    ],
)
def test_a_damaged_onnx_folder_is_named(
    name: str, complaint: str, exported: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in exported.iterdir():
        content = path.read_bytes()
        (damaged / path.name).write_bytes(content[:50] if path.name == name else content)
    with pytest.raises(InputError, match=complaint):
        sentikit.load(damaged)


def changed_copy(exported: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(exported, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.mark.parametrize("more", [1, 2])
def test_other_classes_than_the_graph_has_are_refused(
    more: int, native: Path, exported: Path, tmp_path: Path
) -> None:
    logits = len(sentikit.load(native).labels)
    names = {str(number): f"class {number}" for number in range(logits + more)}
    odd = changed_copy(exported, tmp_path / "odd", id2label=names)
    message = rf"names {logits + more} classes, but model\.onnx has {logits} logits"
    with pytest.raises(InputError, match=message):
        sentikit.load(odd)


def test_texts_longer_than_the_onnx_models_positions_are_cut(
    exported: Path, tmp_path: Path
) -> None:
    long = changed_copy(exported, tmp_path / "long", max_length=100_000)
    assert len(sentikit.load(long).predict(["fine " * 5000])) == 1


def test_a_missing_onnx_extra_names_the_pip_command(
    native: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Python does for a package that is not installed.
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for attempt in (
        lambda: sentikit.load(exported),
        lambda: sentikit.export_model(native, tmp_path / "out", "onnx"),
    ):
        with pytest.raises(InputError, match=r"pip install 'sentikit\[onnx\]'"):
            attempt()
    assert not (tmp_path / "out").exists()


def test_equalising_reduces_int8_error_of_an_outlier_channel_to_a_quarter(tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from onnxruntime.quantization import quantize_dynamic
    from sentikit.plugins.onnx_format.quantisation import write_quantised_graph

    drawn = np.random.default_rng(0)
    words = drawn.normal(size=(50, 8)).astype(np.float32)
    wide = drawn.normal(size=(8, 16)).astype(np.float32)
    wide[0] /= 100
    spread = np.where(np.arange(8) == 0, 100.0, 1.0)
    weights = {"words": words, "wide": wide, "narrow": drawn.normal(size=(16, 3)), "last": [-1]}
    weights["spread"] = spread
    kinds = {"last": np.int64}
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            node("Gather", ["words", "input_ids"], ["found"]),
            node("Mul", ["found", "spread"], ["states"]),
            node("Cast", ["attention_mask"], ["tokens"], to=1),
            node("Unsqueeze", ["tokens", "last"], ["mask"]),
            node("Mul", ["states", "mask"], ["masked"]),
            node("MatMul", ["masked", "wide"], ["hidden"], "first"),
            node("MatMul", ["hidden", "narrow"], ["logits"], "second"),
        ],
        "tiny",
        [value(name, 7, ["texts", "tokens"]) for name in ("input_ids", "attention_mask")],
        [value("logits", 1, ["texts", "tokens", 3])],
        [
            onnx.numpy_helper.from_array(np.asarray(v, kinds.get(n, np.float32)), n)
            for n, v in weights.items()
        ],
    )
    imports = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=imports, ir_version=10), tmp_path / "x")
    ids = drawn.integers(0, 50, (20, 6))
    mask = np.ones_like(ids)
    write_quantised_graph(tmp_path / "x", tmp_path / "equalised", [(ids, mask)])
    quantize_dynamic(tmp_path / "x", tmp_path / "plain", per_channel=True, reduce_range=True)

    def logits(name: str) -> np.ndarray:
        session = runtime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])

    errors = [np.square(logits(name) - logits("x")).mean() for name in ("equalised", "plain")]
    assert 0 < errors[0] < errors[1] / 4
    operations = {n.name: n.op_type for n in onnx.load(tmp_path / "equalised").graph.node}
    assert operations["second"] == "MatMul", "the first product that narrows stays in fp32"
    assert "MatMulInteger" in operations.values()


def test_onnx_runtime_sends_no_usage_data_and_leaves_the_home_directory_empty(
    exported: Path, tmp_path: Path
) -> None:
    program = "import sys, sentikit; print(sentikit.load(sys.argv[1]).predict(['I love it']))"
    own = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported)],
        env=own,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("['")
    assert not list(tmp_path.rglob("*icrosoft*"))
