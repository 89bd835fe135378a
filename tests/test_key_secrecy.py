"""Keys: set everywhere, then searched for in everything that a run writes, prints and sends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from llm_fixtures import serving

from sentikit.cli import sentikit

KEYS = {
    "ACME_API_KEY": "sk-acme-0123456789abcdef",
    "GATEWAY_TOKEN": "gateway-token-0123456789",
    "OTHER_SECRET": "another-secret-0123456789",
}


def places_of_a_key(folder: Path) -> list[str]:
    """Return the files below a folder that hold a planted key, ``.env`` left out."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".env"]
    return [
        f"{path.relative_to(folder)}: {name}"
        for path in files
        for name, value in KEYS.items()
        if value.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize("fault", ["", "400"])
def test_no_file_or_output_contains_a_key_even_if_a_server_echoes_it(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_API_KEY", KEYS["ACME_API_KEY"])
    monkeypatch.setenv("GATEWAY_TOKEN", KEYS["GATEWAY_TOKEN"])
    Path(".env").write_text(f"OTHER_SECRET={KEYS['OTHER_SECRET']}\n")
    quoted = " ".join(KEYS.values())
    second = "I hate it, forbidden" if fault else "I hate it"
    Path("texts.csv").write_text(f'id,text,label\n1,I love it,positive\n2,"{second}",negative\n')
    behaviour = {"fault_words": {"forbidden": fault}} if fault else {}
    text = f"positive {quoted}"
    with serving(key=KEYS["ACME_API_KEY"], text=text, enforces=(), **behaviour) as server:
        settings = [
            f"llm.base_url={server.url}", "llm.model=any", "llm.key_variable=ACME_API_KEY",
            "llm.header_variables={X-Gateway: GATEWAY_TOKEN}",
            "dataset={name: files, test: texts.csv}",
        ]  # fmt: skip
        sets = [word for setting in settings for word in ("--set", setting)]
        command = ["prompt", "--recipe", "current-zero-shot", *sets, "--output", "run"]
        result = CliRunner().invoke(sentikit, command)
        again = CliRunner().invoke(sentikit, [*command[:-1], "again"])
        sent = json.dumps(server.server.bodies)
    assert Path("run/predictions.jsonl").is_file(), result.output
    assert result.exit_code in (0, 1), result.output
    assert "[ACME_API_KEY]" in Path("run/predictions.jsonl").read_text()
    assert places_of_a_key(Path()) == []
    printed = (
        result.output + again.output + CliRunner().invoke(sentikit, ["runs", "show", "run"]).output
    )
    assert [name for name, value in KEYS.items() if value in printed + sent] == []
