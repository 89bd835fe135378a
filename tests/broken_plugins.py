"""Fifty broken plugins, each written as an installed distribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

HOOK = "from sentikit import hookimpl\n"
OFFER = HOOK + (
    "@hookimpl\ndef register_datasets(register):\n"
    "    register('odd', f'{__name__}.data:Odd', summary='odd')\n"
)
DATASET = """
import typing
from sentikit.extension import DatasetLoader, ExamplesBuilder, ComponentSettings
class Odd(DatasetLoader):
    SETTINGS
    def splits(self): return ("test",)
    def load(self, split):
        builder = ExamplesBuilder()
        builder.add("fine", label="positive")
        return builder.finish()
"""
COMMAND = (
    HOOK + "import click\n@click.command()\ndef mine():\n    'Mine.'\n    click.echo('mine')\n"
    "@hookimpl\ndef register_commands(register):\n    register('NAME', mine)\n"
)


def offering(registered: str) -> str:
    return HOOK + f"@hookimpl\ndef register_datasets(register):\n    register({registered})\n"


@dataclass(frozen=True)
class Broken:
    """A broken plugin and the messages expected about it.

    Attributes:
        name: the case; the plugin is called ``odd-NAME``.
        code: its module's code.
        sentence: the reason that `sentikit plugins list` prints.
        command: another command that meets it, and what that prints.
        exit_code: that command's exit code.
        settings: the dataset's settings, if the plugin has one.
        requires: the version of sentikit that it requires.
        entry: the entry point's name and target, if they are not the plugin's.
    """

    name: str
    code: str
    sentence: str = ""
    command: tuple[str, str] = ("", "")
    exit_code: int = 0
    settings: str = "pass"
    requires: str = ">=0.1.0"
    entry: tuple[str, str] = ("", "")
    more: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the plugin into a folder for ``PYTHONPATH``."""
        module = "odd_" + self.name.replace("-", "_")
        package = folder / module
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(self.code)
        (package / "data.py").write_text(DATASET.replace("SETTINGS", self.settings))
        for name, code in self.more.items():
            (package / name).write_text(code)
        info = folder / f"{module}-0.1.dist-info"
        info.mkdir()
        name, target = self.entry
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: odd-{self.name}\nVersion: 0.1\n"
            f"Requires-Dist: sentikit{self.requires}\n"
        )
        (info / "entry_points.txt").write_text(
            f"[sentikit]\n{name or 'odd-' + self.name} = {target or module}\n"
        )


CHECK = "plugins check"
SHOW = "datasets show odd"
CASES = [
    Broken("raises", "raise RuntimeError('boom')\n", "__init__.py line 1: RuntimeError: boom."),
    Broken("syntax", "def x(:\n", "__init__.py line 1: SyntaxError: invalid syntax."),
    Broken("missing-dep", "import not_installed\n", "No module named 'not_installed'."),
    Broken(
        "misspelt-hook",
        HOOK + "@hookimpl\ndef register_dataset(register):\n    pass\n",
        "there is no hook 'register_dataset'. Did you mean 'register_datasets'",
    ),
    Broken(
        "misspelt-metric",
        HOOK + "@hookimpl\ndef register_metric(register):\n    pass\n",
        "there is no hook 'register_metric'. Did you mean 'register_metrics'",
    ),
    Broken(
        "undecorated",
        "def register_datasets(register):\n    register('odd', 'x:Y')\n",
        "register_datasets needs the decorator @sentikit.hookimpl.",
    ),
    Broken(
        "extra-arg",
        HOOK + "@hookimpl\ndef register_datasets(register, config):\n    pass\n",
        "missing a required argument: 'config'. Write def register_datasets(register).",
    ),
    Broken(
        "no-arg",
        HOOK + "@hookimpl\ndef register_datasets():\n    pass\n",
        "Write def register_datasets(register).",
    ),
    Broken(
        "hook-raises",
        HOOK + "@hookimpl\ndef register_datasets(register):\n    raise KeyError('oops')\n",
        "register_datasets: odd_hook_raises/__init__.py line 4: KeyError: 'oops'.",
    ),
    Broken(
        "hook-exits",
        HOOK + "import sys\n@hookimpl\ndef register_datasets(register):\n    sys.exit(0)\n",
        "register_datasets: odd_hook_exits/__init__.py line 5: SystemExit: 0.",
    ),
    Broken(
        "hook-async",
        HOOK + "@hookimpl\nasync def register_datasets(register):\n    register('odd', 'x:Y')\n",
        "a hook must be a plain function, without async and yield.",
    ),
    Broken(
        "taken-dataset",
        offering("'sst', f'{__name__}.data:Odd'"),
        "the dataset name 'sst' is also claimed by plugin 'sst'",
        ("datasets show sst", "is claimed by the plugins 'sst' (sentikit) and 'odd-taken-dataset'"),
        2,
    ),
    Broken(
        "taken-core-command",
        COMMAND.replace("NAME", "train"),
        "the command 'train' is a core command and cannot be replaced",
        ("train --help", "Usage: sentikit train"),
    ),
    Broken(
        "taken-command",
        COMMAND.replace("NAME", "gpt-finetune"),
        "the command name 'gpt-finetune' is also claimed by plugin 'gpt_finetune'",
        ("odd-taken-command/gpt-finetune", "mine"),
    ),
    Broken(
        "twice",
        OFFER + "    register('odd', f'{__name__}.data:Other')\n",
        "dataset name 'odd' is registered twice.",
    ),
    Broken("prints", OFFER + "print('HELLO')\n", "", (SHOW, "1")),
    Broken("prints-fd", OFFER + "import os\nos.write(1, b'HELLO')\n", "", (SHOW, "1")),
    Broken(
        "slow",
        OFFER + "import time\ntime.sleep(2.5)\n",
        "Waiting for the plugin 'odd-slow' to load.",
        (f"{CHECK} odd-slow", "and every command waits for it; less than 0.3 s are allowed"),
        1,
    ),
    Broken(
        "patch-click",
        OFFER + "import click\ndef bad(*a, **k):\n    raise RuntimeError('patched')\n"
        "click.echo = bad\n",
        "",
        ("plugins list --json", "In plugin odd-patch-click 0.1, odd_patch_click/__init__.py line"),
        1,
    ),
    Broken("exits", "import sys\nsys.exit(3)\n", "__init__.py line 2: SystemExit: 3."),
    Broken("os-exit", "import os\nos._exit(3)\n", "line 2: HardExit: os._exit(3) was called."),
    Broken("base-exception", "class X(BaseException): pass\nraise X('base')\n", "line 2: X: base."),
    Broken("recursion", "def f(): f()\nf()\n", "RecursionError: maximum recursion depth exceeded"),
    Broken(
        "heavy",
        OFFER + "import numpy\n",
        "",
        (f"{CHECK} odd-heavy", "loading it imports numpy. Register 'module:Class' texts"),
        1,
    ),
    Broken("warns", OFFER + "import warnings\nwarnings.warn('old')\n", "", (SHOW, "1")),
    Broken(
        "logging",
        OFFER + "import logging\nlogging.basicConfig(level=10)\nlogging.warning('line')\n",
        "",
        (SHOW, "1"),
    ),
    Broken("chdir", OFFER + "import os\nos.chdir('/')\n", "loading it changes the current folder;"),
    Broken(
        "signal",
        OFFER + "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n",
        "loading it replaces the handler of SIGINT; this was undone.",
    ),
    Broken(
        "thread",
        OFFER + "import threading, time\nthreading.Thread(target=time.sleep, args=[1]).start()\n",
        "",
        (f"{CHECK} odd-thread", "loading it starts a thread, which keeps every command"),
        1,
    ),
    Broken("close-stdout", OFFER + "import sys\nsys.stdout.close()\n", "", (SHOW, "1")),
    Broken(
        "replace-stdout", OFFER + "import sys, io\nsys.stdout = io.StringIO()\n", "", (SHOW, "")
    ),
    Broken(
        "newer-name", "from sentikit import Nonsense\n", "line 1: ImportError: cannot import name"
    ),
    Broken(
        "bad-name",
        offering("'Odd Name/x', 'x:Y'"),
        "dataset name 'Odd Name/x' must be lower-case letters, digits",
    ),
    Broken("number-name", offering("42, 'x:Y'"), "dataset name 42 must be lower-case letters"),
    Broken(
        "no-target-module",
        offering("'odd', 'no.such.module:Odd'"),
        "",
        (SHOW, "cannot be loaded from no.such.module:Odd: ModuleNotFoundError: No module named"),
        1,
    ),
    Broken(
        "no-target-name",
        offering("'odd', f'{__name__}.data:Od'"),
        "",
        (SHOW, "odd_no_target_name.data has no 'Od'. Did you mean 'Odd'"),
        1,
    ),
    Broken(
        "target-form",
        offering("'odd', f'{__name__}.data.Odd'"),
        "of dataset 'odd' must be of the form 'package.module:Name'.",
    ),
    Broken("target-kind", offering("'odd', 42"), "target 42 of dataset 'odd' must be a class"),
    Broken(
        "wrong-kind",
        offering("'odd', f'{__name__}.other:H'"),
        "",
        (SHOW, "must be a subclass of sentikit.extension.DatasetLoader."),
        1,
        more={"other.py": "from sentikit.extension import Head\nclass H(Head): pass\n"},
    ),
    Broken(
        "escapes",
        HOOK
        + "S = 'red \\x1b[31mX\\x1b[m' + 300 * 'x'\n@hookimpl\ndef register_datasets(register):\n"
        "    register('odd', f'{__name__}.data:Odd', summary=S)\n",
        "",
        ("datasets list", "red Xxxx"),
    ),
    Broken(
        "settings-undefined",
        OFFER,
        "",
        (SHOW, "has a class Settings that cannot be built: name 'Undefined' is not defined"),
        1,
        "class Settings(ComponentSettings):\n        x: 'Undefined' = 3",
    ),
    Broken(
        "settings-plain",
        OFFER,
        "",
        (SHOW, "has a class Settings that is no subclass of sentikit.extension.ComponentSettings"),
        1,
        "class Settings:\n        x: int = 3",
    ),
    Broken(
        "settings-name",
        OFFER,
        "",
        (SHOW, "has a setting called 'name', which a recipe's section already has"),
        1,
        "class Settings(ComponentSettings):\n        name: str = 'x'",
    ),
    Broken(
        "settings-core",
        OFFER,
        "",
        (f"{CHECK} odd-settings-core", "Odd.Settings uses sample, which the core reads"),
        1,
        "class Settings(ComponentSettings):\n        sample: str = 'x'",
    ),
    Broken(
        "settings-default",
        OFFER,
        "",
        (f"{CHECK} odd-settings-default", "Odd.Settings refuses its own default of x"),
        1,
        "class Settings(ComponentSettings):\n        x: int = 'not a number'",
    ),
    Broken(
        "settings-exotic",
        OFFER,
        "",
        (f"{CHECK} odd-settings-exotic", "Odd.Settings cannot be written to YAML"),
        1,
        "class Settings(ComponentSettings):\n        x: typing.Callable = print",
    ),
    Broken(
        "newer-sentikit",
        "raise RuntimeError('must not be imported')\n",
        "it needs sentikit>=9.0, but this is 0.1.0.",
        requires=">=9.0",
    ),
    Broken("no-module", OFFER, "No module named 'odd_nowhere'.", entry=("", "odd_nowhere")),
    Broken(
        "no-attribute", OFFER, "has no attribute 'Plugin'.", entry=("", "odd_no_attribute:Plugin")
    ),
    Broken("taken-entry", OFFER, "the plugin name 'files' is taken", entry=("files", "")),
]
