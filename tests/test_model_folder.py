"""The native model folder: a damaged one is refused when it is loaded."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest

import sentikit
from sentikit import InputError
from sentikit.files import checksums
from sentikit.weights import read_weights, write_weights


@pytest.fixture
def model(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run / "model", tmp_path / "model"))


@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("name", ["model.safetensors", "encoder/tokenizer.json"])
def test_a_model_with_a_flipped_bit_is_refused(model: Path, name: str, place: float) -> None:
    content = bytearray((model / name).read_bytes())
    content[int(place * len(content))] ^= 4
    (model / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is damaged: its checksum"):
        sentikit.load(model)


def test_a_missing_file_of_a_model_folder_is_named(model: Path) -> None:
    (model / "encoder" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        sentikit.load(model)


def test_a_model_folder_without_checksums_loads(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    del config["sha256"]
    (model / "config.json").write_text(json.dumps(config))
    assert sentikit.load(model, device="cpu").predict(["good"]) != [None]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_models_fingerprint_depends_only_on_its_content(
    model: Path, recorded: bool, tmp_path: Path
) -> None:
    if not recorded:
        config = json.loads((model / "config.json").read_text())
        del config["sha256"]
        (model / "config.json").write_text(json.dumps(config))
    first = sentikit.load(model, device="cpu").describe()
    copied = Path(shutil.copytree(model, tmp_path / "copy"))
    assert sentikit.load(copied, device="cpu").describe() == first
    weights = read_weights(copied / "model.safetensors")
    name = next(iter(weights))
    write_weights(copied / "model.safetensors", weights | {name: weights[name] + 1})
    config = json.loads((copied / "config.json").read_text())
    if recorded:
        now = checksums(copied)
        config["sha256"] = {name: now[name] for name in config["sha256"]}
        (copied / "config.json").write_text(json.dumps(config))
    assert sentikit.load(copied, device="cpu").describe() != first


def test_a_model_that_is_loaded_does_not_change_with_its_file(model: Path) -> None:
    classifier = sentikit.load(model, device="cpu")
    before = classifier.predict_proba(["the film was good"])
    path = model / "model.safetensors"
    with path.open("r+b") as file:  # as rsync --inplace or cp do
        file.write(bytes(path.stat().st_size))
    assert (classifier.predict_proba(["the film was good"]) == before).all()


def test_a_model_can_be_pickled(model: Path) -> None:
    classifier = sentikit.load(model, device="cpu")
    copy = pickle.loads(pickle.dumps(classifier))
    assert (copy.predict_proba(["good"]) == classifier.predict_proba(["good"])).all()
