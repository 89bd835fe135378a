"""Real installs: a wheel, a third-party plugin, and a bundled plugin copied out.

A fresh virtual environment gets sentikit's own wheel. Third-party packages are borrowed from the
environment that runs the tests, by a path file, so that nothing is downloaded; sentikit itself is
not, as every test asserts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_models import make_encoder, make_reviews

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("sentikit", "plugins", "recipes")
SINGLE_FILES = (
    *("pyproject.toml", "setup.cfg", "MANIFEST.in", "README.md", "LICENSE"),
    *("CHANGELOG.md", "CITATION.cff", "constraints.txt"),
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "setup.cfg").is_file(), reason="this is no checkout"),
]


@dataclass(frozen=True)
class Environment:
    """A virtual environment with sentikit's wheel.

    Attributes:
        folder: its root.
        work: the folder commands run in.
    """

    folder: Path
    work: Path

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run its interpreter."""
        return self._run(str(self.folder / "bin" / "python"), *arguments)

    def sentikit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run its command."""
        return self._run(str(self.folder / "bin" / "sentikit"), *arguments)

    def install(self, source: Path) -> None:
        """Install a wheel or a source folder, without a look at any index."""
        words = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", str(source)]
        done = self._run(
            sys.executable, "-m", "pip", "--python", str(self.folder), "install", *words
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        kept |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PIP_NO_INPUT": "1"}
        return subprocess.run(
            words, env=kept, cwd=self.work, capture_output=True, text=True, timeout=600, check=False
        )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is shipped, so that building leaves nothing behind in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in SINGLE_FILES:
        shutil.copy(ROOT / name, folder / name)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_vote.py").touch()
    return folder


@pytest.fixture(scope="module")
def dist(source: Path) -> Path:
    """The folder with the sdist, and the wheel that was built from the sdist."""
    words = ["-m", "build", "--no-isolation", "--outdir", str(source / "dist"), str(source)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> Environment:
    """A fresh environment with the wheel, and everybody else's packages borrowed."""
    folder, work = tmp_path / "environment", tmp_path / "work"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    fresh = Environment(folder, work)
    fresh.install(wheel)
    (site,) = (folder / "lib").glob("python*/site-packages")
    # The path's own .pth files are not read, so an editable sentikit there stays invisible.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    place = fresh.python("-c", "import sentikit; print(sentikit.__file__)").stdout.strip()
    assert place == str(site / "sentikit" / "__init__.py")
    return fresh


def shipped(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


class TestWheel:
    def test_the_wheel_installs_a_single_top_level_package(self, wheel: Path) -> None:
        assert {name.partition("/")[0].partition("-")[0] for name in shipped(wheel)} == {"sentikit"}
        (top_level,) = (name for name in shipped(wheel) if name.endswith("top_level.txt"))
        assert zipfile.ZipFile(wheel).read(top_level).decode().split() == ["sentikit"]

    def test_the_wheel_contains_every_file_of_its_folders(self, source: Path, wheel: Path) -> None:
        inside = shipped(wheel)
        places = {"sentikit": "", "plugins": "sentikit/", "recipes": "sentikit/"}
        for folder, prefix in places.items():
            for path in (source / folder).rglob("*"):
                if path.is_file():
                    name = f"{prefix}{path.relative_to(source)}"
                    assert name in inside, f"{name} is not in the wheel"
        for name in (
            "sentikit/py.typed",
            "sentikit/recipes/quickstart.yaml",
            "sentikit/plugins/demo/train.csv",
            "sentikit/plugins/plugin_kit/template/package/head.py.template",
        ):
            assert name in inside

    def test_the_sdist_contains_the_same_files_and_no_tests(self, dist: Path, wheel: Path) -> None:
        (path,) = dist.glob("*.tar.gz")
        with tarfile.open(path) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        for name in shipped(wheel):
            if ".dist-info/" not in name:
                for folder in ("plugins/", "recipes/"):
                    name = name.replace(f"sentikit/{folder}", folder, 1)
                assert name in names
        assert set(SINGLE_FILES) <= names
        assert not any(name.startswith("tests/") for name in names)


def test_a_new_plugin_installs_passes_its_tests_and_trains(environment: Environment) -> None:
    written = environment.sentikit("plugins", "new", "film-club")
    assert written.returncode == 0, written.stderr
    environment.install(environment.work / "film-club")

    tests = environment.python("-m", "pytest", "-q", "film-club")
    assert tests.returncode == 0, tests.stdout + tests.stderr
    checked = environment.sentikit("plugins", "check", "film-club")
    assert checked.returncode == 0, checked.stdout + checked.stderr

    listed = json.loads(environment.sentikit("plugins", "list", "--json").stdout)
    (entry,) = [entry for entry in listed if entry["name"] == "film-club"]
    assert entry["state"] == "loaded"
    assert entry["offers"] == {
        "dataset": ["film-club-reviews"],
        "head": ["film-club-bottleneck"],
        "command": ["film-club"],
    }
    assert all(entry["state"] == "loaded" for entry in listed), listed

    assert "  film-club " in environment.sentikit("--help").stdout
    counted = json.loads(environment.sentikit("film-club", "--json").stdout)
    assert counted["train"] == {"positive": 4, "negative": 4, "neutral": 4}
    shown = environment.sentikit("datasets", "show", "film-club-reviews", "--json")
    assert [split["examples"] for split in json.loads(shown.stdout)["splits"]] == [12, 6, 6]

    encoder = make_encoder(environment.work / "encoder")
    trained = environment.sentikit(
        *("train", "--recipe", "film-club/recipe.yaml", "--output", "run", "--json"),
        *("--set", f"encoder={{name: transformers, model: {encoder}}}"),
        *("--set", "training.epochs=1"),
    )
    assert trained.returncode == 0, trained.stderr
    manifest = json.loads((environment.work / "run" / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["recipe"]["head"] == {"name": "film-club-bottleneck", "width": 32}

    predicted = environment.sentikit("predict", "run", "film-club/film_club/reviews.csv")
    assert predicted.returncode == 0, predicted.stderr
    assert len(predicted.stdout.splitlines()) >= 24


PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "copied-{name}"
version = "1.0"
dependencies = ["sentikit"]

[project.entry-points.sentikit]
copied-{name} = "copied_{name}"

[tool.setuptools]
packages = ["copied_{name}"]
"""


def copy_out(plugin: str, folder: Path) -> None:
    """Copy a bundled plugin, as it is, into a distribution of its own."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "plugins" / plugin, folder / f"copied_{plugin}", ignore=ignored)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(name=plugin))


@pytest.mark.parametrize("plugin", ["heads", "files"])
def test_a_bundled_plugin_works_as_a_separate_distribution(
    plugin: str, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = f"copied-{plugin}"
    copy_out(plugin, environment.work / "source")
    environment.install(environment.work / "source")
    reviews = make_reviews(environment.work / "reviews", rows=24)
    clash = environment.sentikit("plugins", "check", copied)
    assert clash.returncode == 1
    assert f"is also claimed by plugin '{plugin}' (sentikit)" in clash.stdout

    monkeypatch.setenv("SENTIKIT_DISABLE_PLUGINS", plugin)
    settings = {"files": {"train": str(reviews / "train.csv")}} if plugin == "files" else {}
    place = "sentikit.plugins.plugin_kit.checks"
    kit = f"from {place} import check_plugin; check_plugin({copied!r}, {settings!r})"
    passed = environment.python("-c", kit)
    assert passed.returncode == 0, passed.stderr
    checked = environment.sentikit("plugins", "check", copied)
    assert checked.returncode == 0, checked.stdout
    listed = json.loads(environment.sentikit("plugins", "list", "--json").stdout)
    states = {entry["name"]: entry["state"] for entry in listed}
    assert (states[plugin], states[copied]) == ("disabled", "loaded")
    train_with_reviews(environment, reviews)


def train_with_reviews(environment: Environment, reviews: Path) -> None:
    """Train on CSV files with a head of hidden layers: one of them is the plugin copied out."""
    encoder = make_encoder(environment.work / "encoder")
    splits = ("train", "validation", "test")
    files = ", ".join(f"{split}: {reviews / split}.csv" for split in splits)
    recipe = f"""
        description: a copied plugin at work
        dataset: {{name: files, {files}}}
        encoder: {{name: transformers, model: {encoder}}}
        head: {{name: mlp, layers: 1, width: 8, activation: tanh}}
        training: {{epochs: 1, batch_size: 8}}
    """
    (environment.work / "recipe.yaml").write_text(recipe)
    trained = environment.sentikit("train", "--recipe", "recipe.yaml", "--output", "run")
    assert trained.returncode == 0, trained.stderr
    assert (environment.work / "run" / "predictions.jsonl").is_file()
