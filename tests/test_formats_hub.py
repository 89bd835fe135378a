"""Hub folders: a card whose figures are the run's own, and an upload only on request."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from tiny_classifiers import TEXTS, make_classifier
from upload_server import TOKEN, upload_server

import sentikit
from sentikit import InputError


@pytest.fixture(scope="module")
def published(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "published"
    sentikit.export_model(trained_run, folder, "hub")
    return folder


def header(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(
        (folder / "README.md").read_text().split("---\n")[1]
    )
    return found


def test_the_hub_folder_contains_only_the_model_and_its_card(
    trained_run: Path, published: Path
) -> None:
    names = {str(p.relative_to(published)) for p in published.rglob("*") if p.is_file()}
    own = trained_run / "model"
    assert names == {str(p.relative_to(own)) for p in own.rglob("*") if p.is_file()} | {"README.md"}
    ours = sentikit.load(trained_run, device="cpu").predict_proba(TEXTS)
    assert np.array_equal(sentikit.load(published, device="cpu").predict_proba(TEXTS), ours)


def test_the_cards_metadata_equal_metrics_json(trained_run: Path, published: Path) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())
    (index,) = header(published)["model-index"]
    found = {
        (result["dataset"].get("config"), metric["name"]): metric["value"]
        for result in index["results"]
        for metric in result["metrics"]
    }
    scores = {None: metrics["overall"], **metrics["by_source"]}
    expected = {(source, "Macro-F1"): s["macro_f1"] for source, s in scores.items()}
    expected |= {(source, "Accuracy"): s["accuracy"] for source, s in scores.items()}
    assert found == expected
    assert {result["dataset"]["split"] for result in index["results"]} == {"test"}


def test_the_cards_tables_show_the_scores(trained_run: Path, published: Path) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())
    manifest = json.loads((trained_run / "manifest.json").read_text())
    card = (published / "README.md").read_text()
    for name, scores in [("all", metrics["overall"]), *metrics["by_source"].items()]:
        figures = [scores["macro_f1"], scores["accuracy"], scores["calibration"]["ece"]]
        shown = " | ".join(f"{figure:.4f}" for figure in figures)
        assert f"| {name} | {scores['examples']} | {shown} |" in card
    for name, s in metrics["overall"]["per_class"].items():
        shown = " | ".join(f"{s[key]:.4f}" for key in ("precision", "recall", "f1"))
        assert f"| {name} | {s['support']} | {shown} |" in card
    assert f"{metrics['calibrated']['temperature']:.4f}" in card
    assert f"{metrics['calibrated']['ece']:.4f}" in card
    assert manifest["dataset"]["fingerprint"] in card
    assert f"sentikit {sentikit.__version__}" in card
    assert "epochs: 2" in card
    assert "Not stated yet" in card


def test_the_card_contains_no_local_paths(
    published: Path, tiny_encoder: Path, reviews: Path
) -> None:
    for path in published.rglob("*"):
        if path.suffix in (".json", ".md"):
            text = path.read_text()
            assert str(tiny_encoder.parent) not in text, path
            assert str(reviews) not in text, path


def test_a_model_without_a_run_gets_a_card_without_scores(tmp_path: Path) -> None:
    native = make_classifier(tmp_path / "native")
    sentikit.export_model(native, tmp_path / "out", "hub")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "exported without the run that trained it" in card
    assert "model-index" not in header(tmp_path / "out")


def test_a_run_that_lost_its_recipe_gets_a_card_without_it(
    trained_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "recipe": None}))
    sentikit.export_model(run, tmp_path / "out", "hub")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Training" in card
    assert "The recipe" not in card


def test_pickled_files_are_not_published(tmp_path: Path) -> None:
    native = make_classifier(tmp_path / "native")
    (native / "optimizer.pt").write_bytes(b"pickle")
    (native / ".cache").mkdir()
    (native / ".cache" / "secrets.json").write_text("{}")
    sentikit.export_model(native, tmp_path / "out", "hub")
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert not names & {"optimizer.pt", "secrets.json", ".cache"}


def push(run: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Export with --push in a process of its own, in which the library reads the environment."""
    words = [sys.executable, "-m", "sentikit", "export", str(run), "out", "--format", "hub"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    home = {"HF_HOME": str(Path.cwd() / "empty"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [*words, "--push", "jane/reviews", "--private"],
        env=kept | home | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_pushing_uploads_the_folder(trained_run: Path) -> None:
    Path(".env").write_text(f"HF_TOKEN={TOKEN}\n")
    with upload_server() as uploads:
        done = push(trained_run, HF_ENDPOINT=uploads.address)
        assert done.returncode == 0, done.stderr
        assert f"Uploaded to {uploads.address}/jane/reviews" in done.stderr
    (created,) = uploads.created
    assert created["visibility"] == "private"
    assert uploads.files == {
        str(path.relative_to("out")): path.read_bytes()
        for path in Path("out").rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_a_refused_token_an_absent_one_and_no_network_end_with_one_sentence(
    trained_run: Path,
) -> None:
    with upload_server() as uploads:
        refused = push(trained_run, HF_ENDPOINT=uploads.address, HF_TOKEN="hf_reader")
        absent = push(trained_run, HF_ENDPOINT=uploads.address)
    unreachable = push(trained_run, HF_ENDPOINT=uploads.address, HF_TOKEN=TOKEN)
    assert (refused.returncode, absent.returncode, unreachable.returncode) == (2, 2, 1)
    assert "may not write there" in refused.stderr
    assert "set HF_TOKEN" in absent.stderr
    assert "cannot be reached" in unreachable.stderr
    for done in (refused, absent, unreachable):
        assert "Traceback" not in done.stderr
        assert "hf_reader" not in done.stderr
        assert TOKEN not in done.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize("repository", ["reviews", "jane/re views", "a/b/c", "/reviews"])
def test_a_malformed_repository_is_refused(
    repository: str, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(InputError, match="owner/name"):
        sentikit.export_model(trained_run, tmp_path / "out", "hub", {"push": repository})
    assert not (tmp_path / "out").exists()
