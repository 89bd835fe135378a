"""The command line as a whole: lazy, forgiving, and never a traceback unless asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from plugin_writing import SitePackages, site_packages

from sentikit.cli import CORE_COMMANDS, sentikit

HEAVY = ("torch", "transformers", "datasets", "numpy", "pandas", "openai")
#: Packages of the core that some jobs do without, and those that a prompt recipe needs.
ROOMS = {"assurance", "comparison", "ensembles", "finetuning", "labelling", "llm", "training"}
ROOMS |= {"reports"}
PROMPT_ROOMS = {"labelling", "llm"}
COMMAND_PLUGIN = """
from sentikit import hookimpl

@hookimpl
def register_commands(register):
    register({name!r}, f"{{__name__}}_command:run", summary={summary!r})
"""
COMMAND = """
import click

@click.command()
def run():
    {body}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SitePackages]:
    """A folder of distributions that the commands run below can import from."""
    with site_packages(tmp_path / "site-packages") as site:
        monkeypatch.setenv("PYTHONPATH", str(site.folder))
        yield site


def add_command(
    site: SitePackages, plugin: str, command: str, body: str, summary: str = ""
) -> None:
    site.add_plugin(plugin, COMMAND_PLUGIN.format(name=command, summary=summary))
    site.add_module(f"{plugin}_command", COMMAND.format(body=body))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "sentikit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def in_bash(script: str) -> subprocess.CompletedProcess[str]:
    return in_shell("bash", script)


def in_shell(shell: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that finds the command on its path."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [shell, "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


def readme_line(shell: str) -> str:
    """Return the README's line that switches completion on."""
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(rf"^.*={shell}_source sentikit.*$", readme, re.MULTILINE)
    return str(line)


class TestHelp:
    def test_help_lists_core_and_plugin_commands(self, site: SitePackages) -> None:
        add_command(site, "film", "rate-films", "pass", summary="Rate films.")
        result = run("--help")
        assert (result.returncode, result.stderr) == (0, "")
        for name, summary in {**CORE_COMMANDS, "rate-films": "Rate films."}.items():
            assert re.search(rf"^  {name} +{re.escape(summary)}$", result.stdout, re.MULTILINE)

    def test_help_imports_nothing_heavy(self, site: SitePackages) -> None:
        add_command(site, "film", "rate-films", "pass")
        code = (
            "import sys, json\n"
            "from sentikit.cli import main\n"
            "try:\n"
            "    main(['--help'])\n"
            "except SystemExit:\n"
            "    print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        loaded = json.loads(result.stderr)
        assert "film" in loaded
        assert "film_command" not in loaded
        assert not {*HEAVY, "pydantic", "pyarrow", "rich", "yaml", "sklearn"} & set(loaded)
        assert not [name for name in loaded if name.startswith("sentikit.cli.")]

    @pytest.mark.parametrize(
        ("command", "own"),
        [
            ("compare first.csv second.csv", {"comparison", "reports"}),
            ("predict first.csv new.csv --output labelled.csv", {"labelling"}),
            ("prompt --recipe current-zero-shot --set dataset.name=demo --show 1", PROMPT_ROOMS),
            ("train --recipe quickstart --dry-run", {"training"}),
        ],
    )
    def test_a_command_imports_only_its_own_rooms_of_the_core(
        self, command: str, own: set[str]
    ) -> None:
        labels = ["positive", "negative"] * 10
        rows = [f"{i},text {i},{label},{label}" for i, label in enumerate(labels)]
        for name in ("first.csv", "second.csv"):
            Path(name).write_text("\n".join(["id,text,gold,predicted_label", *rows]))
        Path("new.csv").write_text("text\ntext 1\ntext 2\n")
        code = (
            "import sys\n"
            "from sentikit.cli import main\n"
            "try:\n"
            f"    main({command.split()})\n"
            "except SystemExit as end:\n"
            "    assert not end.code\n"
            "found = {name.split('.')[1] for name in sys.modules if name.startswith('sentikit.')}\n"
            "print(*found, file=sys.stderr)\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stderr
        assert set(result.stderr.splitlines()[-1].split()) & ROOMS == own

    def test_running_a_core_command_loads_no_plugin(self, site: SitePackages) -> None:
        site.add_plugin("film", "open('imported', 'w')")
        assert run("train", "--help").returncode == 0
        assert not Path("imported").exists()
        run("--help")
        assert Path("imported").exists()

    def test_commands_of_disabled_plugins_are_not_listed(
        self, site: SitePackages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_command(site, "film", "rate-films", "pass")
        monkeypatch.setenv("SENTIKIT_DISABLE_PLUGINS", "film")
        assert "rate-films" not in run("--help").stdout
        assert run("rate-films").returncode == 2

    def test_help_works_with_a_broken_plugin(self, site: SitePackages) -> None:
        site.add_plugin("film", "raise SystemExit('mine')")
        result = run("--help")
        assert (result.returncode, result.stderr) == (0, "")

    def test_every_commands_example_uses_existing_options(self) -> None:
        for name, command in leaf_commands(sentikit, "sentikit"):
            text = f"{command.help}\n{command.epilog}"
            examples = [line for line in text.splitlines() if f"{name} " in f"{line} "]
            assert examples, f"{name} --help shows no example"
            parameters = command.get_params(click.Context(command))
            known = {option for p in parameters for option in (*p.opts, *p.secondary_opts)}
            for example in examples:
                used = re.findall(r"(?<=\s)--?[a-z][\w-]*", example.partition(name)[2])
                assert set(used) <= known, f"{name}: {example}"

    def test_summaries_in_the_list_equal_the_commands_help(self) -> None:
        context = click.Context(sentikit)
        for name, summary in CORE_COMMANDS.items():
            command = sentikit.get_command(context, name)
            assert command is not None
            first = (command.help or "").split("\n\n")[0].replace("\n", " ")
            words = summary.rstrip(".").split()
            assert [word for word in words if word not in first] == [], (name, summary, first)


def leaf_commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield the commands that do something, with all the words that call them."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for inner in command.list_commands(context):
        below = command.get_command(context, inner)
        assert below is not None
        yield from leaf_commands(below, f"{name} {inner}")


class TestNames:
    def test_an_unknown_command_gets_a_suggestion(self) -> None:
        result = run("trian")
        assert result.returncode == 2
        assert "No such command 'trian'. Did you mean 'train'?" in result.stderr
        assert "Traceback" not in result.stderr

    def test_plugin_commands_are_suggested_too(self, site: SitePackages) -> None:
        add_command(site, "film", "rate-films", "pass")
        assert "Did you mean 'rate-films'?" in run("rate-film").stderr

    def test_a_plugin_command_runs(self, site: SitePackages) -> None:
        add_command(site, "film", "rate-films", "click.echo('rated')")
        for name in ("rate-films", "film/rate-films"):
            result = run(name)
            assert (result.returncode, result.stdout, result.stderr) == (0, "rated\n", "")

    def test_a_core_command_cannot_be_replaced(self, site: SitePackages) -> None:
        add_command(site, "film", "train", "click.echo('mine')", summary="Mine.")
        assert "--recipe" in run("train", "--help").stdout
        assert run("film/train").stdout == "mine\n"
        listed = run("--help").stdout
        assert "film/train" in listed
        assert len(re.findall(r"^  train ", listed, re.MULTILINE)) == 1

    def test_a_command_claimed_twice_names_both_owners(self, site: SitePackages) -> None:
        add_command(site, "film", "rate", "click.echo('films')")
        add_command(site, "food", "rate", "click.echo('food')")
        result = run("rate")
        assert result.returncode == 2
        assert "claimed by the plugins 'film' (film) and 'food' (food)" in result.stderr
        assert run("food/rate").stdout == "food\n"
        assert "food/rate" in run("--help").stdout

    def test_a_command_that_cannot_be_imported_names_its_plugin(self, site: SitePackages) -> None:
        site.add_plugin("film", COMMAND_PLUGIN.format(name="rate", summary=""))
        result = run("rate")
        assert result.returncode == 1
        assert "The command 'rate' of plugin 'film' cannot be loaded" in result.stderr
        assert "Traceback" not in result.stderr


class TestSubcommands:
    def test_a_plugin_adds_a_subcommand_to_a_core_group(self, site: SitePackages) -> None:
        add_command(site, "film", "runs prune", "click.echo('pruned')", summary="Prune runs.")
        for name in ("prune", "film/prune"):
            result = run("runs", name)
            assert (result.returncode, result.stdout, result.stderr) == (0, "pruned\n", "")
        assert re.search(r"^  prune +Prune runs\.$", run("runs", "--help").stdout, re.MULTILINE)
        assert "Did you mean 'prune'?" in run("runs", "prun").stderr
        assert "prune" not in run("--help").stdout

    def test_a_core_subcommand_cannot_be_replaced_by_a_plugin(self, site: SitePackages) -> None:
        add_command(site, "film", "plugins list", "click.echo('mine')")
        assert "--json" in run("plugins", "list", "--help").stdout
        assert run("plugins", "film/list").stdout == "mine\n"
        message = (
            "film: the command 'plugins list' is a core command and cannot be replaced; write "
        )
        assert f"{message}sentikit plugins film/list" in run("plugins", "list").stdout

    def test_a_subcommand_of_no_group_is_reported_by_plugins_list(self, site: SitePackages) -> None:
        add_command(site, "film", "run prune", "pass")
        message = "film: the command 'run prune' cannot be called: there is no group 'run'."
        assert f"{message} Did you mean 'runs'?" in run("plugins", "list").stdout

    def test_a_bundled_plugins_command_cannot_be_replaced_by_a_third_partys(
        self, site: SitePackages
    ) -> None:
        add_command(site, "film", "gpt-finetune", "click.echo('mine')")
        assert "--prepare-only" in run("gpt-finetune", "--help").stdout
        assert run("film/gpt-finetune").stdout == "mine\n"
        listed = run("plugins", "list").stdout
        assert "film: the command name 'gpt-finetune' is also claimed by plugin" in listed
        assert "gpt_finetune: the command" not in listed


class TestFailures:
    @pytest.mark.parametrize(
        ("body", "code", "message"),
        [
            ("import sentikit; raise sentikit.InputError('Wrong key.')", 2, "Error: Wrong key.\n"),
            ("import sentikit; raise sentikit.SentikitError('No net.')", 1, "Error: No net.\n"),
            ("raise click.UsageError('Wrong use.')", 2, "Error: Wrong use.\n"),
            (
                "raise ValueError('odd')",
                1,
                "Error: In the command 'rate' of plugin film 1.0, film_command.py line 6: "
                "ValueError: odd. Report it to its author, or run "
                "with SENTIKIT_DISABLE_PLUGINS=film\n",
            ),
            ("import sys; sys.exit(0)", 0, ""),
            ("open('/no/such/file')", 1, "Error: /no/such/file: No such file or directory.\n"),
            ("raise KeyboardInterrupt", 130, "Stopped.\n"),
            ("raise click.Abort", 130, "Stopped.\n"),
            ("raise SystemExit(3)", 3, ""),
            ("raise click.exceptions.Exit(4)", 4, ""),
            ("return 5", 0, ""),
            ("return 'text'", 0, ""),
        ],
    )
    def test_failures_have_documented_exit_codes_and_messages(
        self, site: SitePackages, body: str, code: int, message: str
    ) -> None:
        add_command(site, "film", "rate", body)
        result = run("rate")
        assert result.returncode == code
        assert message in result.stderr
        assert bool(result.stderr) == bool(message)
        assert "Traceback" not in result.stderr

    def test_debug_shows_a_traceback(self, site: SitePackages) -> None:
        add_command(site, "film", "rate", "raise ValueError('odd')")
        result = run("--debug", "rate")
        assert result.returncode == 1
        assert "Traceback" in result.stderr
        assert "film_command.py" in result.stderr
        assert "\nValueError: odd\n" in result.stderr

    def test_debug_keeps_the_exit_code(self) -> None:
        result = run("--debug", "runs", "show", "nowhere")
        assert result.returncode == 2
        assert "Traceback" in result.stderr
        assert "\nError: nowhere" in result.stderr

    def test_a_wrong_option_gets_a_suggestion(self) -> None:
        result = run("train", "--recip", "x")
        assert result.returncode == 2
        assert "No such option '--recip'" in result.stderr
        assert "'--recipe'" in result.stderr

    @pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
    def test_infinite_and_nan_amounts_are_refused(self, number: str) -> None:
        asked = [
            (f"{name} {option.opts[0]}", command, option)
            for name, command in leaf_commands(sentikit, "sentikit")
            for option in command.params
            if isinstance(option.type, click.types.FloatParamType)
        ]
        assert {words.split()[1] for words, _, _ in asked} >= {"prompt", "gpt-finetune", "compare"}
        for words, command, option in asked:
            with pytest.raises(click.BadParameter, match=r"not a finite|not in the range"):
                option.type_cast_value(click.Context(command, info_name=words), number)
        result = run("prompt", "--max-cost", number)
        assert result.returncode == 2
        assert f"{number!r} is not a finite number." in result.stderr or "range" in result.stderr

    def test_a_closed_pipe_ends_the_command_quietly(self, site: SitePackages) -> None:
        body = "[click.echo('x' * 1000) for _ in range(10_000)]"
        add_command(site, "film", "rate", body)
        command = f"{sys.executable} -m sentikit rate | head -c 10"
        result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
        assert result.stdout == "x" * 10
        assert result.stderr == ""

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
    def test_a_full_disk_is_reported_in_one_sentence(self, site: SitePackages) -> None:
        add_command(site, "film", "rate", "click.echo('rated')")
        with Path("/dev/full").open("w") as full:
            result = subprocess.run(
                [sys.executable, "-m", "sentikit", "rate"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
            )
        assert result.returncode == 1
        assert result.stderr == "Error: No space left on device.\n"


class TestCompletion:
    def complete(self, words: str) -> list[str]:
        environment = {**os.environ, "_SENTIKIT_COMPLETE": "bash_complete"}
        environment |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        result = subprocess.run(
            [sys.executable, "-c", "from sentikit.cli import main; main()"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return [line.partition(",")[2] for line in result.stdout.splitlines()]

    def test_completion_offers_commands_of_core_and_plugins(self, site: SitePackages) -> None:
        site.add_plugin("film", COMMAND_PLUGIN.format(name="plug", summary="Its module is gone."))
        assert self.complete("sentikit pl") == ["plugins", "plug"]

    def test_the_shell_offers_files_if_no_name_matches(self) -> None:
        # What was typed comes back, and the shell replaces it by the names of files.
        assert self.complete("sentikit predict films") == ["films"]
        for command in ("predict runs/quick", "label", "annotate", "sample"):
            assert self.complete(f"sentikit {command} films") == ["films"]

    def test_completion_offers_subcommands_and_options(self) -> None:
        assert self.complete("sentikit plugins l") == ["list"]
        assert self.complete("sentikit plugins list --js") == ["--json"]

    def test_completion_offers_runs_recipes_classifiers_and_columns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("runs/quick").mkdir(parents=True)
        Path("runs/quick/manifest.json").write_text("{}")
        Path("films.csv").write_text("id,title,body\n1,Alien,fine\n")
        assert self.complete("sentikit predict runs/q") == ["runs/quick"]
        assert self.complete("sentikit serve runs/q") == ["runs/quick"]
        assert self.complete("sentikit evaluate tfid") == ["tfidf"]
        assert self.complete("sentikit train --recipe quick") == ["quickstart"]
        assert self.complete("sentikit recipes show quick") == ["quickstart"]
        columns = "sentikit predict runs/quick films.csv --text-column "
        assert self.complete(columns) == ["id", "title", "body"]
        assert self.complete(f"{columns}t") == ["title"]
        assert self.complete("sentikit predict runs/quick none.csv --text-column t") == [""]

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion_scripts_exist_for_each_shell(self, shell: str) -> None:
        environment = {**os.environ, "_SENTIKIT_COMPLETE": f"{shell}_source"}
        command = [sys.executable, "-c", "from sentikit.cli import main; main()"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (result.returncode, "sentikit" in result.stdout) == (0, True)

    @pytest.mark.posix
    def test_bash_completes_after_the_readmes_line(self) -> None:
        script = (
            f"{readme_line('bash')}\nCOMP_WORDS=(sentikit datasets s) COMP_CWORD=2\n"
            "function=$(complete -p sentikit); function=${function#*-F }; function=${function% *}\n"
            '$function sentikit s datasets; echo "${COMPREPLY[@]}"\n'
        )
        done = in_bash(script)
        assert (done.stdout, done.stderr) == ("show suspects\n", "")

    @pytest.mark.posix
    def test_zsh_completes_after_the_readmes_line(self) -> None:
        script = (
            f"autoload -Uz compinit; compinit -u -D\n{readme_line('zsh')}\n"
            "_describe() { print -l -- ${(P)3}; }\n"
            "words=(sentikit datasets s) CURRENT=3; $_comps[sentikit]\n"
            "compadd() { print -l -- ${(P)@[-1]}; }\n"
            "words=(sentikit train --recipe quick) CURRENT=4; $_comps[sentikit]\n"
        )
        done = in_shell("zsh", script)
        names = [line.partition(":")[0] for line in done.stdout.splitlines()]
        assert (names, done.stderr) == (["show", "suspects", "quickstart"], "")

    @pytest.mark.posix
    def test_fish_completes_after_the_readmes_line(self) -> None:
        script = (
            f'{readme_line("fish")}\ncomplete -C "sentikit datasets s"\n'
            'complete -C "sentikit train --recipe quick"\n'
        )
        done = in_shell("fish", script)
        names = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        assert (names, done.stderr) == (["show", "suspects", "quickstart"], "")

    @pytest.mark.posix
    def test_bash_offers_names_and_otherwise_files(self) -> None:
        script = (
            'compopt() { echo "$@"; }\neval "$(_SENTIKIT_COMPLETE=bash_source sentikit)"\n'
            "for word in quick none; do\n"
            "COMP_WORDS=(sentikit train --recipe $word) COMP_CWORD=3 COMPREPLY=()\n"
            '_sentikit_completion sentikit $word --recipe; echo "${COMPREPLY[@]}"\ndone\n'
        )
        done = in_bash(script)
        assert (done.stdout, done.stderr) == ("quickstart\n-o default\n\n", "")


def test_the_version_option_prints_the_version() -> None:
    assert re.fullmatch(r"sentikit, version \d+\.\d+\.\d+\S*\n", run("--version").stdout)


@pytest.mark.parametrize(
    ("own", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_idle_threads_do_not_spin(own: dict[str, str], expected: str) -> None:
    code = "import atexit, os; atexit.register(lambda: print(os.environ['OMP_WAIT_POLICY']));"
    code += "from sentikit.cli import main; main(['--version'])"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | own
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == expected
