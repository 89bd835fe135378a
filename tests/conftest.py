"""Fixtures every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from plugin_writing import SitePackages

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

# Set before any library reads them: no telemetry, whose identifiers ONNX Runtime and MLflow write
# into the home directory, and no threads of the tokenizers.
for switch in ("HF_HUB_DISABLE_TELEMETRY", "ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY"):
    os.environ.setdefault(switch, "true")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# An example's duration means nothing on a machine that does other work as well.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if sys.platform == "win32" and item.get_closest_marker("posix"):
        pytest.skip("Windows has no such signals, pipes, links or permissions")


@pytest.fixture
def shared_data() -> Path:
    """The real data beside the checkout; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("the shared data folder is not here")
    return SHARED


@pytest.fixture(autouse=True)
def own_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty folder, without the user's settings and disabled plugins."""
    for variable in ("SENTIKIT_DISABLE_PLUGINS", "OPENAI_API_KEY", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random ELECTRA in the hub's layout."""
    from tiny_models import make_encoder

    return make_encoder(tmp_path_factory.mktemp("models") / "tiny-electra")


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of train.csv, validation.csv and test.csv."""
    from tiny_models import make_reviews

    return make_reviews(tmp_path_factory.mktemp("reviews"))


@pytest.fixture(scope="session")
def trained_run(
    tiny_encoder: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that trained the tiny encoder on the reviews and predicted their test split."""
    from sentikit.recipe.resolving import resolve_values
    from sentikit.registry import default_registry
    from sentikit.training.job import JobOptions, train
    from sentikit.training.recipe import train_components

    splits = {split: f"{reviews}/{split}.csv" for split in ("train", "validation", "test")}
    recipe = {
        "dataset": {"name": "files", **splits},
        "encoder": {"name": "transformers", "model": str(tiny_encoder), "max_length": 64},
        "head": {"name": "linear", "pooling": "mean"},
        "training": {"epochs": 2, "batch_size": 16, "lr": 1e-3},
    }
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    parts = train_components(resolve_values(recipe, "tiny", "the test"), default_registry())
    train(parts, folder, JobOptions(device="cpu"))
    return folder


@pytest.fixture
def tiny_recipe(tiny_encoder: Path, reviews: Path, tmp_path: Path) -> Path:
    """A recipe that trains the tiny encoder on the reviews in a second or two."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"""dataset:
  name: files
  train: {reviews}/train.csv
  validation: {reviews}/validation.csv
  test: {reviews}/test.csv
encoder: {{name: transformers, model: {tiny_encoder}, max_length: 64}}
head: {{name: linear, pooling: mean}}
training: {{epochs: 2, batch_size: 16, lr: 1e-3, log_every: 1}}
"""
    )
    return path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SitePackages]:
    """A folder of installed third-party distributions, which this process's registry sees."""
    from plugin_writing import site_packages

    from sentikit.registry import default_registry

    with site_packages(tmp_path / "site-packages") as folder:
        default_registry.cache_clear()
        yield folder
    default_registry.cache_clear()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Limit torch to one thread: the machine may be shared."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
