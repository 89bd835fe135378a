"""Every hook is documented with its signature, and what its page and the guide say works."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from plugin_writing import SitePackages, site_packages
from sentikit.plugins.plugin_kit.new_plugin import KINDS

import sentikit as toolkit
from sentikit import extension, hookspecs
from sentikit.cli import sentikit
from sentikit.recipe.resolving import resolve_recipe
from sentikit.recipe_checks import recipe_problems
from sentikit.registry import default_registry

DOCS = Path(__file__).resolve().parents[1] / "docs"
GUIDE = DOCS / "writing-plugins.md"
PLUGIN, PACKAGE = "film-club", "film_club"
#: Methods of an interface that a page need not name.
INHERITED = {"settings", "Settings"}

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="this is no checkout")


def page_of(hook: str) -> str:
    return (DOCS / "hooks" / f"{hook}.md").read_text(encoding="utf-8")


def files_in(page: str) -> dict[str, str]:
    """Return the code blocks that begin with a file's name in a comment."""
    blocks = re.findall(r"^```\w+\n# (\S+\.\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return dict(blocks)


def install(site: SitePackages, files: dict[str, str]) -> None:
    """Lay the page's files down as a distribution called film-club would."""
    for name, content in files.items():
        path = site.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    importlib.invalidate_caches()
    if not list(site.folder.glob("*.dist-info")):
        site.add_distribution(PLUGIN, {PLUGIN: PACKAGE})


def run_tests(path: Path, tmp_path: Path) -> int:
    """Run the test functions of a page's test module; the fixture it may ask for is tmp_path."""
    spec = importlib.util.spec_from_file_location("tests_of_a_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    count = 0
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("test_"):
            wanted = inspect.signature(function).parameters
            folder = tmp_path / name
            folder.mkdir()
            function(**({"tmp_path": folder} if wanted else {}))
            count += 1
    return count


def test_there_is_a_page_for_each_hook_and_no_other() -> None:
    pages = {path.stem for path in (DOCS / "hooks").glob("*.md")}
    assert pages == set(hookspecs.KINDS)


@pytest.mark.parametrize("hook", hookspecs.KINDS)
class TestEachHook:
    def test_every_hooks_specification_is_marked_and_documented(self, hook: str) -> None:
        specification = getattr(hookspecs, hook)
        assert specification.__doc__
        assert getattr(specification, f"{hookspecs.PROJECT}_spec", None) is not None

    def test_every_hooks_page_shows_the_exact_signature(self, hook: str) -> None:
        source = inspect.getsource(getattr(hookspecs, hook))
        signature = re.search(r"^def .*?(?=:$)", source, re.MULTILINE)
        assert signature
        assert f"```python\n{signature[0]}\n```" in page_of(hook)

    def test_every_hooks_page_names_all_methods_of_its_interface(self, hook: str) -> None:
        if hook not in hookspecs.INTERFACES:
            return
        page, interface = page_of(hook), getattr(extension, hookspecs.INTERFACES[hook])
        assert f"`sentikit.extension.{hookspecs.INTERFACES[hook]}`" in page
        for name in vars(interface):
            if not name.startswith("_") and name not in INHERITED | {"is_main_process"}:
                assert re.search(rf"`{name}\b", page), f"{hook}.md does not mention `{name}`"

    def test_every_public_name_on_a_hooks_page_exists(self, hook: str) -> None:
        page = page_of(hook)
        for name in re.findall(r"sentikit\.([A-Za-z_]+)", page):
            assert name in toolkit.__all__ or name in ("plugins", "cli", "extension"), name
        for name in re.findall(r"sentikit\.plugins\.(\S+)", page):
            assert name in ("plugin_kit.checks", "gpt_finetune.job"), name
        for name in re.findall(r"sentikit\.extension\.([A-Za-z_]+)", page):
            assert name in extension.__all__, name

    def test_every_hooks_example_registers_and_passes_its_tests(
        self, hook: str, site: SitePackages, tmp_path: Path
    ) -> None:
        install(site, files_in(page_of(hook)))
        registry = default_registry()
        (found,) = [r for r in registry.registrations(hook) if r.plugin == PLUGIN]
        assert found.load() is not None
        assert found.distribution == PLUGIN
        assert run_tests(site.folder / "tests" / "test_film_club.py", tmp_path) >= 1

    def test_every_recipe_on_a_hooks_page_is_valid(self, hook: str, site: SitePackages) -> None:
        files = files_in(page_of(hook))
        install(site, files)
        for name in files:
            if name.endswith(".yaml"):
                recipe = resolve_recipe(str(site.folder / name), registry=default_registry())
                problems = recipe_problems(recipe, default_registry())
                assert [str(problem) for problem in problems] == []


def test_a_plugins_fine_tuned_model_is_prompted_with_the_messages_it_was_trained_on(
    site: SitePackages,
) -> None:
    install(site, files_in(page_of("register_llm_backends")))

    def run(command: str) -> int:
        return CliRunner().invoke(sentikit, shlex.split(command)).exit_code

    assert run(f"gpt-finetune --recipe {site.folder}/finetune.yaml --output runs/fine-tuned") == 0
    prompt = f"prompt --recipe {site.folder}/recipe.yaml --set llm.model=runs/fine-tuned"
    assert run(prompt) == 2, "the model was trained on other messages"
    assert run(f"{prompt} --set strategy.name=minimal --output runs/asked") == 0


def test_a_plugin_can_start_with_most_kinds_of_component() -> None:
    pages = {path.stem.removeprefix("register_") for path in (DOCS / "hooks").glob("*.md")}
    offered = {"prompt_strategies", *(f"{kind}s" for kind in KINDS if kind != "prompt_strategy")}
    assert pages - offered == {"engines", "formats", "recipes", "result_formats"}


@pytest.mark.parametrize("kind", KINDS)
def test_plugins_new_of_a_kind_writes_the_example_of_its_hooks_page(kind: str) -> None:
    assert CliRunner().invoke(sentikit, ["plugins", "new", PLUGIN, "--kind", kind]).exit_code == 0
    hook = {"prompt_strategy": "prompt_strategies"}.get(kind, f"{kind}s")
    shown = files_in(page_of(f"register_{hook}"))
    shown["tests/test_plugin.py"] = shown.pop("tests/test_film_club.py")
    written = {
        str(path.relative_to(PLUGIN)): path.read_text(encoding="utf-8")
        for path in Path(PLUGIN).rglob("*")
        if path.is_file()
    }
    assert written.keys() - shown.keys() == {"README.md", "pyproject.toml"}
    assert {name: written[name] for name in shown} == shown
    assert f"with {KINDS[kind]}. Replace it" in written["README.md"]
    assert "_" not in KINDS[kind]


@pytest.mark.slow
def test_every_generated_plugin_passes_its_own_tests_under_pytest(tmp_path: Path) -> None:
    """The plugins are laid down as pip would install them, and share one process."""
    with site_packages(tmp_path / "site-packages") as site:
        for kind in KINDS:
            name = f"my-{kind.replace('_', '-')}"
            command = ["plugins", "new", name, "--kind", kind]
            assert CliRunner().invoke(sentikit, command).exit_code == 0
            package = name.replace("-", "_")
            (Path(name) / package).rename(site.folder / package)
            site.add_distribution(name, {name: package})
        command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "."]
        result = subprocess.run(
            [*command, "-p", "no:cacheprovider"],
            env={**os.environ, "PYTHONPATH": str(site.folder)},
            capture_output=True,
            text=True,
        )
    assert result.returncode == 0, result.stdout
    assert int(re.findall(r"(\d+) passed", result.stdout)[-1]) >= 2 * len(KINDS) - 1


class TestGuide:
    def test_the_plugin_guides_commands_work_on_a_new_plugin(self, site: SitePackages) -> None:
        text = GUIDE.read_text(encoding="utf-8")
        first, *later = re.findall(r"^sentikit .*$", text, re.MULTILINE)
        assert first == f"sentikit plugins new {PLUGIN}"
        assert CliRunner().invoke(sentikit, shlex.split(first)[1:]).exit_code == 0
        files = {
            str(path.relative_to(PLUGIN)): path.read_text(encoding="utf-8")
            for path in Path(PLUGIN).rglob("*")
            if path.is_file()
        }
        install(site, files)
        for line in later:
            words = shlex.split(line)[1:]
            words += ["--dry-run"] if words[0] == "train" else []
            default_registry.cache_clear()
            result = CliRunner().invoke(sentikit, words)
            assert result.exit_code == 0, f"{line}: {result.output}"

    def test_the_plugin_guides_second_dataset_passes_its_tests(
        self, site: SitePackages, tmp_path: Path
    ) -> None:
        assert CliRunner().invoke(sentikit, ["plugins", "new", PLUGIN]).exit_code == 0
        (Path(PLUGIN) / PACKAGE).rename(site.folder / PACKAGE)
        install(site, files_in(GUIDE.read_text(encoding="utf-8")))
        default_registry.cache_clear()
        assert run_tests(site.folder / "tests" / "test_stars.py", tmp_path) == 4

    def test_the_plugin_guide_links_every_hook(self) -> None:
        linked = set(re.findall(r"\(hooks/(\w+)\.md\)", GUIDE.read_text(encoding="utf-8")))
        assert linked == set(hookspecs.KINDS)

    def test_the_plugin_guides_entry_point_equals_the_generated_one(self) -> None:
        CliRunner().invoke(sentikit, ["plugins", "new", PLUGIN])
        shown = re.search(r"^```toml\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
        assert shown
        assert shown[1] in Path(PLUGIN, "pyproject.toml").read_text()
