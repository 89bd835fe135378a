"""``sentikit plugins``: the command as a user runs it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from plugin_writing import PART_MODULE, SitePackages
from sentikit.plugins.plugin_kit.checks import check_plugin

from sentikit.cli import sentikit
from sentikit.plugin_sources import installed_plugins
from sentikit.registry import default_registry

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

SOUND = """
from sentikit import hookimpl

@hookimpl
def register_datasets(register):
    register("film-reviews", f"{__name__}_parts:Reviews", summary="two reviews")

@hookimpl
def register_recipes(register):
    register("film", __file__.replace("film.py", "film.yaml"))
"""


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    """Let the process's registry see what a test installs, and forget it afterwards."""
    default_registry.cache_clear()
    yield
    default_registry.cache_clear()


@pytest.fixture
def film(site: SitePackages) -> SitePackages:
    site.add_plugin("film", SOUND, distribution="film-club")
    site.add_module("film_parts", PART_MODULE)
    recipe = "description: films\nextends: quickstart\ndataset: {name: film-reviews}\n"
    (site.folder / "film.yaml").write_text(recipe)
    return site


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(sentikit, ["plugins", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


class TestList:
    def test_plugins_list_prints_a_table(self, film: SitePackages) -> None:
        result = run("list")
        assert (result.exit_code, result.stderr) == (0, "")
        line = next(line for line in result.stdout.splitlines() if line.strip().startswith("film "))
        offers = ["dataset", "film-reviews;", "recipe", "film"]
        assert line.split() == ["film", "film-club", "1.0", "loaded", *offers]
        assert "head linear, mlp" in result.stdout

    def test_plugins_list_prints_json(self, film: SitePackages) -> None:
        found = {entry["name"]: entry for entry in json.loads(run("list", "--json").stdout)}
        assert found["film"] == {
            "name": "film",
            "distribution": "film-club",
            "version": "1.0",
            "location": "film",
            "state": "loaded",
            "offers": {"dataset": ["film-reviews"], "recipe": ["film"]},
            "problems": [],
        }
        assert {source.name for source in installed_plugins()} == set(found)

    @pytest.mark.parametrize("hook", ["recipes", "register_recipes"])
    def test_plugins_list_filters_by_hook(self, film: SitePackages, hook: str) -> None:
        found = json.loads(run("list", "--hook", hook, "--json").stdout)
        assert {entry["name"] for entry in found} == {"recipe_collection", "film"}
        assert found[-1]["offers"] == {"recipe": ["film"]}

    def test_an_unknown_hook_gets_a_suggestion(self) -> None:
        result = run("list", "--hook", "haeds")
        assert result.exit_code == 2
        assert "There is no hook named 'haeds'. Did you mean 'heads'" in result.stderr

    def test_plugins_list_shows_failed_and_disabled_plugins_with_reasons(
        self, film: SitePackages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        film.add_plugin("broken", "import no_such_module")
        monkeypatch.setenv("SENTIKIT_DISABLE_PLUGINS", "film,tweets")
        result = run("list")
        assert result.exit_code == 0
        assert (
            "broken: broken.py line 1: ModuleNotFoundError: No module named 'no_such_module'."
            in result.stdout
        )
        assert "film: switched off by SENTIKIT_DISABLE_PLUGINS" in result.stdout
        assert result.stderr == (
            "SENTIKIT_DISABLE_PLUGINS names no plugin with 'tweets'. Did you mean 'tweet'?\n"
        )
        found = json.loads(run("list", "--json").stdout)
        states = {entry["name"]: entry["state"] for entry in found}
        assert states["broken"] == "failed"
        assert states["film"] == "disabled"
        assert states["demo"] == "loaded"

    def test_plugins_list_reports_a_plugin_that_claims_a_core_command(
        self, film: SitePackages
    ) -> None:
        command = (
            "import click\n@click.command()\ndef train():\n    'Mine.'\n    click.echo('mine')\n"
        )
        hook = "from sentikit import hookimpl\n@hookimpl\ndef register_commands(register):\n"
        film.add_plugin("rival", hook + "    register('train', f'{__name__}_command:train')\n")
        film.add_module("rival_command", command)
        stdout = run("list").stdout
        assert "rival: the command 'train' is a core command and cannot be replaced" in stdout
        mine = CliRunner().invoke(sentikit, ["rival/train"])
        assert mine.stdout == "mine\n"
        core = CliRunner().invoke(sentikit, ["train", "--help"])
        assert "--recipe" in core.stdout


class TestCheck:
    def test_plugins_check_checks_one_plugin(self, film: SitePackages) -> None:
        result = run("check", "film")
        assert (result.exit_code, result.stderr) == (0, "")
        lines = [line.split() for line in result.stdout.splitlines() if "film" in line]
        assert lines == [
            ["film", "plugin", "film", "passed"],
            ["film", "dataset", "film-reviews", "passed,", "not", "run"],
            ["film", "recipe", "film", "passed"],
        ]

    def test_plugins_check_prints_json(self, film: SitePackages) -> None:
        (film.folder / "film.yaml").write_text("description: films\nextends: quickstrat\n")
        result = run("check", "film", "--json")
        assert result.exit_code == 1
        plugin, dataset, recipe = json.loads(result.stdout)
        assert plugin["passed"]
        assert dataset["passed"]
        assert not recipe["passed"]
        assert (
            "There is no recipe named 'quickstrat'. Did you mean 'quickstart'" in recipe["problem"]
        )
        assert result.stderr == "Failed: film.\n"

    def test_plugins_check_loads_every_target(self, film: SitePackages) -> None:
        (film.folder / "film_parts.py").unlink()
        result = run("check", "film")
        assert result.exit_code == 1
        assert "film, dataset film-reviews: The dataset 'film-reviews' of plugin" in result.stdout
        assert "No module named 'film_parts'" in result.stdout

    def test_plugins_check_reports_a_failed_plugin(self, film: SitePackages) -> None:
        film.add_plugin("broken", "raise SystemExit(7)")
        result = run("check", "broken")
        assert result.exit_code == 1
        assert "broken, plugin broken: broken.py line 1: SystemExit: 7." in result.stdout

    def test_plugins_check_names_an_unknown_plugin(self) -> None:
        result = run("check", "haeds")
        assert result.exit_code == 2
        assert "There is no plugin named 'haeds'. Did you mean 'heads'?" in result.stderr

    def test_plugins_check_names_a_disabled_plugin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SENTIKIT_DISABLE_PLUGINS", "heads")
        result = run("check", "heads")
        assert result.exit_code == 2
        assert "switched off by SENTIKIT_DISABLE_PLUGINS" in result.stderr

    @pytest.mark.slow
    def test_all_bundled_plugins_pass(self) -> None:
        result = run("check", "--json")
        problems = [e["problem"] for e in json.loads(result.stdout) if not e["passed"]]
        assert problems == []
        assert result.exit_code == 0


class TestNew:
    def test_plugins_new_writes_a_distribution(self) -> None:
        result = run("new", "film-club")
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "film-club/README.md",
            "film-club/film_club/__init__.py",
            "film-club/film_club/command.py",
            "film-club/film_club/dataset.py",
            "film-club/film_club/head.py",
            "film-club/film_club/reviews.csv",
            "film-club/pyproject.toml",
            "film-club/recipe.yaml",
            "film-club/tests/test_plugin.py",
        ]
        assert "pip install -e 'film-club[test]'" in result.stderr
        for path in map(Path, result.stdout.splitlines()):
            assert "$" not in path.read_text()
        assert sorted(path.name for path in Path().iterdir()) == ["film-club"]

    def test_a_new_plugin_passes_the_conformance_kit(self, site: SitePackages) -> None:
        run("new", "film-club", "--output", str(site.folder / "source"))
        (site.folder / "source" / "film_club").rename(site.folder / "film_club")
        site.add_distribution("film-club", {"film-club": "film_club"})
        check_plugin("film-club", settings={"film-club-reviews": {}})
        default_registry.cache_clear()
        counted = CliRunner().invoke(sentikit, ["film-club", "--json"])
        assert json.loads(counted.stdout)["test"] == {"positive": 2, "negative": 2, "neutral": 2}
        again = run("new", "film-club", "--output", "elsewhere")
        assert again.exit_code == 2
        assert "There is a plugin named 'film-club' already" in again.stderr

    def test_plugins_new_accepts_an_empty_folder(self) -> None:
        Path("plugins/mine").mkdir(parents=True)
        assert run("new", "film-club", "--output", "plugins/mine").exit_code == 0
        assert Path("plugins/mine/pyproject.toml").is_file()

    def test_plugins_new_overwrites_nothing(self) -> None:
        Path("film-club").mkdir()
        Path("film-club/notes.txt").write_text("mine")
        result = run("new", "film-club")
        assert result.exit_code == 2
        assert "film-club exists already; nothing was written" in result.stderr
        assert [path.name for path in Path("film-club").iterdir()] == ["notes.txt"]
        Path("file").write_text("mine")
        assert run("new", "film-club", "--output", "file").exit_code == 2
        assert Path("file").read_text() == "mine"

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("Film Club", "Use lower-case words joined by '-', such as 'film-club'."),
            ("film_club", "as 'film-club'"),
            ("../film", "as 'film'"),
            ("3", "as 'film-club'"),
            ("", "cannot be called ''"),
            ("torch", "Python has a module 'torch' already"),
            ("json", "Python has a module 'json' already"),
            ("class", "Python has a module 'class' already"),
            ("train", "sentikit has a command 'train' already"),
            ("heads", "There is a plugin named 'heads' already"),
        ],
    )
    def test_plugins_new_refuses_invalid_names(self, name: str, reason: str) -> None:
        result = run("new", name)
        assert result.exit_code == 2
        assert reason in result.stderr
        assert list(Path().iterdir()) == []

    @pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
    @pytest.mark.posix
    def test_plugins_new_reports_an_unwritable_folder(self) -> None:
        Path("closed").mkdir(mode=0o500)
        result = run("new", "film-club", "--output", "closed/film-club")
        assert result.exit_code == 2
        assert "may not be read or written" in result.stderr

    def test_plugins_new_reports_a_file_in_the_way(self) -> None:
        Path("file").write_text("")
        result = run("new", "film-club", "--output", "file/film-club")
        assert result.exit_code == 2
        assert "because a file has that name" in result.stderr


def test_the_list_of_plugins_shows_recipes_as_a_count() -> None:
    result = CliRunner().invoke(sentikit, ["plugins", "list"])
    (line,) = (line for line in result.stdout.splitlines() if "recipe_collection" in line)
    assert re.search(r"\b\d+ recipes; command recipes list, .*, recipes study$", line)
    assert "b1-electra-base-head" not in result.stdout
