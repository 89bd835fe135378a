"""A broken plugin never breaks the command line, and is named with its reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from broken_plugins import CASES, DATASET, OFFER, Broken

pytestmark = pytest.mark.slow


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sentikit", *command.split()],
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_at_least_fifty_broken_plugins_are_tested() -> None:
    assert len({case.name for case in CASES}) == 50


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_plugin_is_named_and_the_command_line_stays_up(
    case: Broken, tmp_path: Path
) -> None:
    folder = tmp_path / "site"
    case.write(folder)
    listed = run(folder, "plugins list")
    assert listed.returncode == 0, listed.stderr
    assert "Traceback" not in listed.stdout + listed.stderr
    assert "HELLO" not in listed.stdout
    assert "\x1b" not in listed.stdout + listed.stderr
    assert "minilm" in listed.stdout, "the other plugins are there"
    assert case.sentence in " ".join((listed.stdout + listed.stderr).split())
    command, sentence = case.command
    if command:
        done = run(folder, command)
        output = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == case.exit_code, output
        assert sentence in output
        assert "\x1b" not in output
        assert "Traceback" not in output
        assert "This is a bug in sentikit" not in output


def test_plugins_check_prints_only_json_even_if_a_plugin_prints(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    (case,) = [case for case in CASES if case.name == "prints-fd"]
    case.write(folder)
    (folder / "odd_prints_fd" / "data.py").write_text(
        "import os\nos.write(1, b'HELLO')\nprint('HELLO')\n" + DATASET.replace("SETTINGS", "pass")
    )
    checked = run(folder, "plugins check odd-prints-fd --json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)
    assert "HELLO" not in checked.stdout


def test_sigterm_ends_the_command_while_a_component_is_imported(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    Broken("hangs", OFFER).write(folder)
    (folder / "odd_hangs" / "data.py").write_text(
        "import sys, time\nprint('loading', file=sys.stderr, flush=True)\n"
        "try:\n    time.sleep(60)\nexcept Exception:\n    pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "sentikit", "datasets", "show", "odd"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    assert process.stderr.readline() == "loading\n"
    process.terminate()
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out) == (143, "")
    assert "Traceback" not in errors


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_while_a_plugin_loads(way: int, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    code = OFFER + "import time\ntry:\n    time.sleep(60)\nexcept Exception:\n    pass\n"
    Broken("hangs", code).write(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "sentikit", "plugins", "list"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    line = process.stderr.readline()
    assert "Waiting for the plugin 'odd-hangs' to load." in line
    process.send_signal(way)
    began = time.monotonic()
    out, errors = process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert out == ""
    if way == signal.SIGINT:
        assert process.returncode == 130
        assert errors == "\nStopped while the plugin 'odd-hangs' was loading.\n"
    else:
        assert process.returncode == 143
    assert "Traceback" not in errors


COMPONENT = """
from sentikit.extension import DatasetLoader
class Odd(DatasetLoader):
    def splits(self):
        FAULT
    def load(self, split): ...
"""


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("return 1 / 0", "line 5: ZeroDivisionError: division by zero."),
        ("import sys; sys.exit(0)", "line 5: SystemExit: 0."),
        ("raise KeyError('sk-secret-secret')", "line 5: KeyError: '[ACME_API_KEY]'."),
    ],
)
def test_a_component_that_fails_at_run_time_is_named_with_its_line(
    fault: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_API_KEY", "sk-secret-secret")
    folder = tmp_path / "site"
    Broken("work", OFFER).write(folder)
    (folder / "odd_work" / "data.py").write_text(COMPONENT.replace("FAULT", fault))
    done = run(folder, "datasets show odd")
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: In the dataset 'odd' of plugin odd-work 0.1, odd_work/data.py {sentence} "
        "Report it to its author, or run with SENTIKIT_DISABLE_PLUGINS=odd-work\n"
    )


def test_an_unknown_command_mentions_failed_plugins(tmp_path: Path) -> None:
    Broken("raises", "raise RuntimeError('boom')\n").write(tmp_path / "site")
    done = run(tmp_path / "site", "rate")
    assert done.returncode == 2
    assert "Plugins that failed: odd-raises (sentikit plugins list)." in done.stderr


def test_a_single_file_can_be_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my_reviews.py"
    path.write_text(
        "from sentikit import Examples, hookimpl\n"
        "from sentikit.extension import DatasetLoader\n"
        "class Mine(DatasetLoader):\n"
        "    def splits(self): return ('test',)\n"
        "    def load(self, split): return Examples.from_columns(['fine'], ['positive'])\n"
        "@hookimpl\ndef register_datasets(register):\n"
        "    register('mine', f'{__name__}:Mine')\n"
    )
    assert "There is no dataset named 'mine'" in run(tmp_path / "none", "datasets show mine").stderr
    monkeypatch.setenv("SENTIKIT_PLUGINS", f"{path},./gone.py")
    done = run(tmp_path / "none", "datasets show mine")
    assert done.returncode == 0, done.stderr
    listed = run(tmp_path / "none", "plugins list").stdout
    assert "my-reviews" in listed
    assert "which is not a file that ends in .py" in listed
