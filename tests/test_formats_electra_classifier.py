"""The published classifiers' format: logits reproduced, folders written back, errors named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from tiny_classifiers import TEXTS, make_classifier

import sentikit
from sentikit import InputError
from sentikit.cli import sentikit as command

CHECKPOINT = "electra-classifier-checkpoint"
FIRST_NAME = "classifier.layers.1.projection"
SECOND_NAME = "classifier.layers.4.projection"
MLP = {"name": "mlp", "layers": 2, "width": 16, "activation": "swishglu", "dropout": 0.3}
ACTIVATIONS = {
    "tanh": "Tanh",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "leaky_relu": "LeakyReLU",
    "gelu": "GELU",
    "swish": "SiLU",
    "swishglu": "SwishGLU",
    "elu": "ELU",
    "mish": "Mish",
}


@pytest.fixture
def published(shared_data: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that the published package wrote."""
    folder = tmp_path / "published"
    shutil.copytree(shared_data / CHECKPOINT, folder)
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o755)
    return folder


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A folder of the format, exported from a native model."""
    model = make_classifier(tmp_path / "native", head=MLP)
    sentikit.export_model(model, tmp_path / "exported", "electra-classifier")
    return tmp_path / "exported"


def logits(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    return np.concatenate(list(sentikit.load(folder, device="cpu", precision="fp32").logits(texts)))


def read_tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def write_tensors(folder: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, folder / "model.safetensors")


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("names", [(FIRST_NAME,), (SECOND_NAME,), (FIRST_NAME, SECOND_NAME)])
def test_a_published_checkpoint_gives_the_same_logits_under_each_name_of_its_shared_tensors(
    published: Path, names: tuple[str, ...]
) -> None:
    tensors = read_tensors(published)
    shared = {kind: tensors.pop(f"{FIRST_NAME}.{kind}") for kind in ("weight", "bias")}
    for name in names:
        tensors |= {f"{name}.{kind}": tensor.clone() for kind, tensor in shared.items()}
    write_tensors(published, tensors)
    expected = json.loads((published / "expected_logits.json").read_text())
    found = logits(published, expected["texts"])
    assert found == pytest.approx(np.array(expected["logits"]), rel=1e-4)


def test_labels_follow_id2label_in_its_order(published: Path) -> None:
    expected = json.loads((published / "expected_logits.json").read_text())
    order = ["Positive", "negative", "neutral"]
    change_config(published, id2label={str(i): name for i, name in enumerate(order)})
    classifier = sentikit.load(published)
    assert classifier.labels == ("positive", "negative", "neutral")
    winners = np.argmax(expected["logits"], axis=1)
    assert classifier.predict(expected["texts"]) == [classifier.labels[i] for i in winners]


def test_a_model_with_custom_classes_is_scored_by_them(published: Path) -> None:
    change_config(published, id2label={"0": "bad", "1": "meh", "2": "good"})
    Path("own.csv").write_text("text,label\nI love it,Good\nIt is awful,bad\nAt nine,meh\n")
    words = ["evaluate", str(published), "--dataset", "files", "--set", "test=own.csv", "--json"]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["overall"]["per_class"]) == ["bad", "meh", "good"]


def test_known_classes_in_another_order_are_scored_correctly(published: Path) -> None:
    change_config(published, id2label={"0": "positive", "1": "neutral", "2": "negative"})
    Path("known.csv").write_text("text,label\nI love it,positive\nIt is awful,negative\n")
    words = ["evaluate", str(published), "--dataset", "files", "--set", "test=known.csv"]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output


def test_exporting_a_published_checkpoint_writes_it_back_the_same(
    published: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    sentikit.export_model(published, again, "electra-classifier")
    before, after = read_tensors(published), read_tensors(again)
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        assert json_or_text(again / name) == json_or_text(published / name)


def json_or_text(path: Path) -> Any:
    return json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_trained_model_survives_the_round_trip(
    activation: str, dropout: float, tmp_path: Path
) -> None:
    head = {"name": "mlp", "layers": 3, "width": 16, "activation": activation, "dropout": dropout}
    native = make_classifier(tmp_path / "native", head=head, pooling="max")
    sentikit.export_model(native, tmp_path / "out", "electra-classifier")
    assert np.array_equal(logits(tmp_path / "out", TEXTS), logits(native, TEXTS))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["ElectraClassifier"]
    assert config["hidden_activation"] == ACTIVATIONS[activation]
    assert (config["hidden_dim"], config["num_layers"], config["pooling"]) == (16, 3, "max")
    names = {name for name in read_tensors(tmp_path / "out") if name.startswith("classifier.")}
    stride = 3 if dropout else 2
    expected = {f"classifier.layers.{i * stride}" for i in range(4)}
    expected |= {FIRST_NAME} if activation == "swishglu" else set()
    assert {name.rpartition(".")[0] for name in names} == expected


def test_settings_without_a_key_in_the_format_survive_the_round_trip(tmp_path: Path) -> None:
    native = make_classifier(
        tmp_path / "native", head=MLP, scheme="bin_neg", threshold=0.9, temperature=2.5
    )
    sentikit.export_model(native, tmp_path / "out", "electra-classifier")
    ours = sentikit.load(native, calibrated=True)
    theirs = sentikit.load(tmp_path / "out", calibrated=True)
    assert theirs.labels == ("non-negative", "negative")
    assert theirs.predict(TEXTS) == ours.predict(TEXTS)
    assert theirs.max_length == 64
    assert np.array_equal(theirs.predict_proba(TEXTS), ours.predict_proba(TEXTS))


@pytest.mark.parametrize(
    ("architecture", "head", "part"),
    [("bert", MLP, "'bert'"), ("electra", {"name": "linear"}, "head of hidden layers")],
)
def test_models_that_the_format_cannot_represent_are_refused(
    architecture: str, head: dict[str, Any], part: str, tmp_path: Path
) -> None:
    native = make_classifier(tmp_path / "native", architecture=architecture, head=head)
    with pytest.raises(InputError, match=part) as refusal:
        sentikit.export_model(native, tmp_path / "out", "electra-classifier")
    assert "--format onnx or hub" in str(refusal.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"hidden_activation": "Module"}, "unknown activation 'Module'"),
        ({"hidden_activation": "Sigmoi"}, "Did you mean 'Sigmoid'"),
        ({"hidden_activation": "modules.os.system"}, "unknown activation"),
        ({"hidden_dim": 0, "num_layers": 0}, "hidden_dim: .*; num_layers: "),
        ({"hidden_dim": 8}, "does not fit its config.json"),
        ({"num_layers": 3}, "does not fit its config.json"),
        ({"dropout_rate": 0.0}, "does not fit its config.json"),
        ({"pooling": "sum"}, "pooling"),
        ({"id2label": {"0": "a", "2": "b"}}, "different label for each of 0, 1"),
        ({"hidden_act": "nonsense"}, "damaged, .*nonsense"),
        ({"sentikit": {"threshold": 0.5}}, "threshold needs two classes"),
    ],
)
def test_a_wrong_config_is_refused_with_its_key(
    values: dict[str, Any], complaint: str, exported: Path
) -> None:
    change_config(exported, **values)
    with pytest.raises(InputError, match=complaint):
        sentikit.load(exported)


def test_names_of_one_shared_tensor_with_different_values_are_refused(exported: Path) -> None:
    tensors = read_tensors(exported)
    for kind in ("weight", "bias"):
        tensors[f"{SECOND_NAME}.{kind}"] = tensors[f"{FIRST_NAME}.{kind}"] + 1
    write_tensors(exported, tensors)
    with pytest.raises(InputError, match="share one activation"):
        sentikit.load(exported)


def test_truncated_and_pickled_weights_are_refused(exported: Path) -> None:
    weights = exported / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged or truncated"):
        sentikit.load(exported)
    weights.rename(exported / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled weights"):
        sentikit.load(exported)


def test_a_missing_tokenizer_is_named(exported: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (exported / name).unlink()
    with pytest.raises(InputError, match="tokenizer"):
        sentikit.load(exported)
