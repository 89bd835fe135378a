"""The README and the CLI reference say what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_cli_reference_is_what_the_commands_say() -> None:
    words = [sys.executable, str(ROOT / "docs" / "generate_cli_reference.py"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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


def test_the_readmes_commands_and_options_exist() -> None:
    text = (ROOT / "README.md").read_text()
    reference = (ROOT / "docs" / "cli.md").read_text()
    for line in re.findall(r"^\s*(?:echo .* \| )?sentikit (.+)$", text, re.MULTILINE):
        words = line.split()
        heading = " ".join(["sentikit", *words[:2]])
        assert f" {heading}\n" in reference or f" sentikit {words[0]}\n" in reference, line
        for option in re.findall(r"--[a-z-]+", line):
            assert option in reference, f"{option} in: {line}"


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
