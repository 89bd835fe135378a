"""Differences of Windows and macOS, as far as Linux can imitate them."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from ensemble_runs import write_results
from prompt_commands import texts, write_recipe

from sentikit.cli import sentikit
from sentikit.labelling.job import _path_from
from sentikit.training.reporting import memory_in_use

ROOT = Path(__file__).resolve().parents[1]
#: Modules and names of POSIX that Windows lacks.
POSIX_MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty")
POSIX_NAMES = (
    *("SIGHUP", "SIGKILL", "SIGUSR1"),
    *("fork", "getuid", "geteuid", "mkfifo", "killpg", "sysconf", "sched_getaffinity"),
)
WITHOUT_POSIX = f"""
import os, signal, sys
sys.modules.update(dict.fromkeys({POSIX_MODULES!r}))
for name in {POSIX_NAMES!r}:
    delattr(signal if name.startswith("SIG") else os, name)
"""


@pytest.mark.posix
@pytest.mark.parametrize(
    ("package", "last"),
    [
        ("sentikit", "sentikit.yaml_files"),
        pytest.param(
            "sentikit.plugins", "sentikit.plugins.wandb_tracker.tracker", marks=pytest.mark.slow
        ),
    ],
)
def test_every_module_imports_without_posix(package: str, last: str) -> None:
    program = f"""{WITHOUT_POSIX}
import importlib, pkgutil, warnings
warnings.simplefilter("ignore")
package = importlib.import_module({package!r})
left_out = ("sentikit.__main__", "sentikit.plugins.deepspeed_engine")
for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not found.name.startswith(left_out):
        importlib.import_module(found.name)
print("imported", {last!r} in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["imported True"], done.stderr[-2000:]


@pytest.mark.parametrize(
    "system",
    [pytest.param("", id="this system"), pytest.param(WITHOUT_POSIX, marks=pytest.mark.posix)],
)
def test_two_processes_cannot_share_a_run(system: str) -> None:
    program = f"""{system}
import sys
from pathlib import Path
from sentikit.errors import InputError
from sentikit.runs.folder import RunFolder
run = RunFolder(Path("run"))
if sys.argv[1:]:
    with run.locked():
        raise SystemExit("locked twice")
import subprocess
for held in range(2):
    with run.locked():
        run.update_manifest(status="running")
        second = subprocess.run([sys.executable, __file__, "second"], capture_output=True)
        assert b"in use by another" in second.stderr, second.stderr
print("kept apart")
"""
    Path("program.py").write_text(program)
    done = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True)
    assert done.stdout == "kept apart\n", done.stderr


def test_memory_in_use_is_unknown_without_the_module_resource(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert memory_in_use().startswith("peak memory")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory_in_use().startswith("peak memory: unknown on Windows")


def test_pipes_get_utf_8_and_plain_line_ends_where_the_system_writes_cp1252() -> None:
    text = "I love it 😀 日本"
    answers = write_results(Path("answers.jsonl"), [(text, "positive", "positive")])
    Path("reviews.csv").write_text(f"text\n{text}\n", encoding="utf-8")
    command = [sys.executable, "-m", "sentikit", "predict", answers, "reviews.csv"]
    cp1252 = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    for kind in ("jsonl", "csv"):
        done = subprocess.run([*command, "--format", kind], env=cp1252, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert text in done.stdout.decode("utf-8")
        assert b"\r" not in done.stdout


def test_messages_escape_what_a_cp1252_console_lacks() -> None:
    command = [sys.executable, "-m", "sentikit", "runs", "show", "runs/日本"]
    cp1252 = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run(command, env=cp1252, capture_output=True)
    assert done.returncode == 2
    assert rb"runs/\u65e5\u672c does not exist" in done.stderr


def test_files_of_core_and_plugins_are_opened_with_an_encoding() -> None:
    rule = ["--preview", "--select", "PLW1514", "--no-cache"]
    command = [sys.executable, "-m", "ruff", "check", *rule, "sentikit", "plugins"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_answers_on_another_drive_are_named_by_their_full_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _path_from(Path("runs/a"), Path("runs/answers.sqlite")) == "../answers.sqlite"

    def refuse(*_: object) -> str:
        raise ValueError("path is on mount 'C:', start on mount 'D:'")  # as on Windows

    monkeypatch.setattr("os.path.relpath", refuse)
    assert _path_from(Path("runs/a"), Path("/cache/answers.sqlite")) == "/cache/answers.sqlite"


def held(path: Any) -> str | None:
    """Return what of a file or folder this process has open or mapped."""
    real = os.path.realpath(path)
    places = []
    for number in os.listdir("/proc/self/fd"):
        try:
            places.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # closed meanwhile
            continue
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    places += [line.split(None, 5)[5] for line in maps if len(line.split(None, 5)) == 6]
    return next((p for p in places if p == real or p.startswith(f"{real}/")), None)


def refusing_open_files(function: Callable[..., Any], paths: int) -> Callable[..., Any]:
    def refuse(*arguments: Any, **named: Any) -> Any:
        for path in arguments[:paths]:
            if not named and not os.path.islink(path) and (place := held(path)):
                raise PermissionError(13, "The file is used by a process", place)
        return function(*arguments, **named)

    return refuse


@pytest.fixture
def windows_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rename, replace and remove no open or mapped file, and open no folder, as Windows does."""
    # Windows itself removes a temporary file once it is closed.
    monkeypatch.setattr("tempfile._os", SimpleNamespace(**vars(os)))
    for name, paths in (("rename", 2), ("replace", 2), ("unlink", 1), ("remove", 1)):
        monkeypatch.setattr(os, name, refusing_open_files(getattr(os, name), paths))
    open_file = os.open

    def open_no_folder(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if os.path.isdir(path) and not named:
            raise PermissionError(13, "Permission denied", path)
        return open_file(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", open_no_folder)
    monkeypatch.setattr("shutil._use_fd_functions", False)


def test_the_imitated_windows_refuses_to_replace_an_open_file(windows_files: None) -> None:
    Path("a").write_text("")
    Path("b").write_text("")
    with Path("b").open(encoding="utf-8"), pytest.raises(PermissionError):
        os.replace("a", "b")
    os.replace("a", "b")


def test_training_resuming_and_labelling_touch_no_open_file(
    tiny_recipe: Path, windows_files: None
) -> None:
    def run(*words: str) -> None:
        done = CliRunner().invoke(sentikit, list(words))
        assert done.exit_code == 0, done.output

    checkpoints = ("--set", "training.checkpoints.every_minutes=0.0001")
    words = ("train", "--recipe", str(tiny_recipe), "--output", "runs/tiny", *checkpoints)
    stopped = CliRunner().invoke(sentikit, [*words, "--interactive"], input="quit\n")
    assert stopped.exit_code == 130, stopped.exception
    run(*words, "--resume")
    Path("new.csv").write_text("text\nthe film was great\n")
    run("predict", "runs/tiny", "new.csv", "--output", "labelled.csv")
    run("predict", "runs/tiny", "new.csv", "--output", "labelled.parquet")
    run("evaluate", "runs/tiny", "--output", "runs/again")
    run("export", "runs/tiny", "exported", "--format", "hub")
    run("compare", "runs/tiny", "runs/again", "--report", "report.html")


def test_prompting_and_resuming_touch_no_open_file(windows_files: None) -> None:
    from llm_fixtures import serving

    with serving() as server:
        recipe = write_recipe(server.url, texts(30), in_flight=1, max_tokens=8)
        words = ["prompt", "--recipe", recipe, "--output", "runs/llm"]
        words += ["--set", "llm.prices.prompt=1", "--set", "llm.prices.completion=1"]
        stopped = CliRunner().invoke(sentikit, [*words, "--max-cost", "0.0015"])
        assert stopped.exit_code == 1, stopped.output
        done = CliRunner().invoke(sentikit, [*words, "--resume"])
    assert done.exit_code == 0, done.output
    assert json.loads(Path("runs/llm/manifest.json").read_text())["status"] == "finished"


#: Names of POSIX as tests use them; those with words of a shell or paths of a system in strings.
ONLY_ON_POSIX = re.compile(
    r"signal\.SIG(?!INT\b)|send_signal|\.terminate\(|mkfifo|\.chmod\(|symlink_to|os\.kill|umask"
    r"|[\"'](bash|sh)[\"'],|[\"']/(dev|proc)/|import (fcntl|resource|termios)"
)


def code_of_tests(module: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, markers and code of each test of a module."""
    code = module.read_text(encoding="utf-8")
    tree, lines = ast.parse(code), code.splitlines()
    whole = [ast.unparse(n) for n in tree.body if ast.unparse(n).startswith("pytestmark")]
    classes = [(tree.body, "".join(whole))]
    while classes:
        body, markers = classes.pop()
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef):
                continue
            own = markers + "".join(map(ast.unparse, node.decorator_list))
            if isinstance(node, ast.ClassDef):
                classes.append((node.body, own))
            elif node.name.startswith("test_"):
                yield node.name, own, "\n".join(lines[node.lineno - 1 : node.end_lineno])


def test_fast_tests_that_need_posix_are_skipped_on_windows() -> None:
    unmarked = [
        f"{module.name}: {name}"
        for module in sorted((ROOT / "tests").glob("test_*.py"))
        for name, markers, code in code_of_tests(module)
        if ONLY_ON_POSIX.search(code) and not re.search(r"posix|slow|skipif", markers)
    ]
    assert unmarked == []
