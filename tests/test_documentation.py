"""The README, the pages in docs and the CLI reference: commands, links, recipes and outputs."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from documented_commands import DocumentedCommand, commands_of, problems_of

from sentikit.recipe.resolving import resolve_recipe
from sentikit.recipe_checks import recipe_problems
from sentikit.registry import default_registry

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = [command for page in PAGES for command in commands_of(page, ROOT)]
GENERATORS = sorted((ROOT / "docs").glob("generate_*.py"))
_CHECK_ALL = """
import json, os, runpy, sys
from pathlib import Path
os.environ["COLUMNS"] = "100"
sys.path.insert(0, os.getcwd())
paths, found = sys.argv[1:], {}
sys.argv[1:] = ["--check"]
for path in paths:
    try:
        runpy.run_path(path, run_name="__main__")
        found[Path(path).stem] = ""
    except SystemExit as end:
        found[Path(path).stem] = str(end.code or "")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def outdated() -> dict[str, str]:
    """What each generator says of its page with --check; one process imports the toolkit once."""
    words = [sys.executable, "-c", _CHECK_ALL, *map(str, GENERATORS)]
    done = subprocess.run(words, cwd=ROOT / "docs", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", [path.stem for path in GENERATORS])
def test_generated_pages_are_up_to_date(name: str, outdated: dict[str, str]) -> None:
    assert outdated[name] == ""


def test_every_command_has_an_example() -> None:
    import click

    from sentikit.cli import CORE_COMMANDS, sentikit

    def leaves(group: click.Group, path: str) -> list[tuple[str, click.Command]]:
        found = []
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                found += leaves(command, f"{path} {name}")
            else:
                found.append((f"{path} {name}", command))
        return found

    commands = leaves(sentikit, "sentikit")
    assert len(commands) >= len(CORE_COMMANDS)
    for path, command in commands:
        assert command.epilog, path
        assert path in command.epilog, path


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_in_the_documentation_is_valid(command: DocumentedCommand) -> None:
    assert problems_of(command, ROOT, own=("film-club",)) == []


def test_documented_commands_are_found_and_their_mistakes_noticed(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        """```sh
echo 'good' | sentikit predict runs/a --fromat csv   # a wrong option
HF_HUB_OFFLINE=1 sentikit train --recipe minilmm && sentikit recipes lsit
sentikit train --recipe minilm --output runs/mine \\
    --set 'dataset={name: demo,
                    sampel: 0.5}'
torchrun --nproc-per-node 2 -m sentikit train --recipe minilm --set training.lr=fast
sentikit datasets show demo > demo.txt
```

```sh title="mistakes"
sentikit trian --recipe minilm
```

Then `sentikit predict` and `sentikit runs shwo`, as `sentikit runs show RUN` says.
"""
    )
    found = commands_of(tmp_path / "page.md", tmp_path)
    assert [command.words[0] for command in found] == [
        *("predict", "train", "recipes", "train", "train", "datasets", "predict", "runs")
    ]
    problems = [problems_of(command, tmp_path) for command in found]
    for expected, found_problems in zip(
        ("--fromat", "'minilmm'", "lsit", "sampel", "training.lr", "", "", "shwo"),
        problems,
        strict=True,
    ):
        assert len(found_problems) == bool(expected)
        assert expected in "".join(found_problems)


def test_every_recipe_in_the_guides_is_valid() -> None:
    """Blocks with a title are files; others may leave out the sections that they do not explain."""
    fence = re.compile(r'^```yaml(?: title="([^"]*)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
    guides = [page for page in PAGES if page.parent.name != "hooks"]
    blocks = [(page.stem, *found) for page in guides for found in fence.findall(page.read_text())]
    for _, title, body in blocks:
        if title:
            Path(title).write_text(body, encoding="utf-8")
    for number, (page, title, body) in enumerate(blocks):
        path = Path(title or f"{page}-{number}.yaml")
        if not title:
            base = "finetune-local-minimal" if "finetune:" in body else "b3-gpt-4o-mini-zero-shot"
            complete = re.search("^(kind|extends):", body, re.MULTILINE)
            path.write_text(body if complete else f"extends: {base}\n{body}", encoding="utf-8")
        problems = recipe_problems(resolve_recipe(str(path)), default_registry())
        assert list(map(str, problems)) == [], path
    assert len(blocks) > 9


def test_relative_links_in_the_documentation_resolve() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_linked_from_the_index() -> None:
    docs = ROOT / "docs"
    linked = set(re.findall(r"\]\(([^)#]+\.md)", (docs / "README.md").read_text()))
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")} - {"README.md"}
    assert linked == pages


def test_the_site_builds_offline_with_every_link_and_anchor_resolved(
    tmp_path: Path,
) -> None:
    pytest.importorskip("material")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        assert "<p>```" not in page.read_text(encoding="utf-8"), f"a block of {page} is no code"
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', home)
    assert [address for address in fetched if "canonical" not in address] == []
    assert (tmp_path / "search" / "search_index.json").stat().st_size > 100_000


@pytest.mark.slow
def test_the_replayed_study_prints_what_its_page_shows(shared_data: Path, tmp_path: Path) -> None:
    tools = runpy.run_path(str(ROOT / "docs" / "run_tutorial.py"))
    page = (ROOT / "docs" / "reproducing-the-study.md").read_text(encoding="utf-8")
    (tmp_path / "data").symlink_to(shared_data, target_is_directory=True)
    shell = tools["Shell"](tmp_path)
    try:
        assert tools["follow"](page, tmp_path, shell, lambda commands: None) == page
    finally:
        shell.close()
