"""The strategy ``masked``, which hides personal data from the strategy that it wraps."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from llm_fixtures import serving
from sentikit.plugins.masking.personal_data import mask
from sentikit.plugins.plugin_kit.checks import check_plugin

from sentikit import InputError, Prediction
from sentikit.cli import sentikit
from sentikit.components import check_component
from sentikit.extension import PromptInput, PromptStrategy, RetrievedExample, open_component
from sentikit.registry import default_registry

CLASSES = ("negative", "neutral", "positive")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jane.doe+x@mail.example.org!", "write to <EMAIL>!"),
        ("see https://x.example/a?b=1, please", "see <URL>, please"),
        ("call (212) 555-0123 or +49 30 901820.", "call <PHONE> or <PHONE>."),
        ("IBAN DE89 3704 0044 0532 0130 00 ok", "IBAN <IBAN> ok"),
        ("IBAN DE88 3704 0044 0532 0130 00 is none", "IBAN DE88 3704 0044 0532 0130 00 is none"),
        ("card 4111 1111 1111 1111", "card <CARD>"),
        ("card 4111 1111 1111 1111 12/26", "card <CARD> 12/26"),
        ("card 4111 1111 1111 1111 123", "card <CARD> 123"),
        ("2024 4111 1111 1111 1111", "2024 <CARD>"),
        ("IBAN ES9121000418450200051332 EUR", "IBAN <IBAN> EUR"),
        ("BE68 5390 0754 7034 OK", "<IBAN> OK"),
        ("192.168.1.1:8080", "<IP>:8080"),
        ("192.168.1.1: no route", "<IP>: no route"),
        ("version 1.2.3.4.5", "version 1.2.3.4.5"),
        ("joe@www.example.com/reset?token=abc123", "<EMAIL>"),
        ("order 4111 1111 1111 1112", "order 4111 1111 1111 1112"),
        ("ssn 219-09-9999", "ssn <SSN>"),
        ("from 192.168.1.1 and 2001:db8::1", "from <IP> and <IP>"),
        ("thanks @some_user", "thanks <HANDLE>"),
        ("a@b.de, c@d.fr;e@f.it", "<EMAIL>, <EMAIL>;<EMAIL>"),
        ("x@y.com.z@w.org", "<EMAIL><EMAIL>"),
        ("rated 5 of 10 on 2024-05-03 for $1,299.99", "rated 5 of 10 on 2024-05-03 for $1,299.99"),
        ("", ""),
    ],
)
def test_only_personal_data_proven_by_patterns_and_check_digits_is_masked(
    text: str, masked: str
) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "piece", ["a", "a.", "a@", "@a.", "1", "1 ", "www.)", "A1 ", ":", "-", "+"]
)
def test_masking_takes_time_in_proportion_to_the_texts_length(piece: str) -> None:
    def seconds(letters: int) -> float:
        text = piece * (letters // len(piece))
        times = []
        for _ in range(2):
            began = time.process_time()
            mask(text)
            times.append(time.process_time() - began)
        return min(times)

    # Four times the letters; sixteen times the time would be quadratic.
    assert seconds(16_000) <= 8 * seconds(4_000) + 0.02


def test_only_the_chosen_kinds_and_regions_are_masked() -> None:
    text = "030 901820, jane@example.org"
    assert mask(text, ["phone"], ["DE"]) == "<PHONE>, jane@example.org"
    assert mask(text, ["email"]) == "030 901820, <EMAIL>"


def test_the_wrapped_strategy_sees_masked_text_examples_and_columns() -> None:
    section = {"name": "masked", "strategy": {"name": "examples"}}
    strategy = open_component("register_prompt_strategies", section)
    assert isinstance(strategy, PromptStrategy)
    given = PromptInput(
        "Call +1 212 555 0123",
        CLASSES,
        Prediction("negative"),
        (RetrievedExample("Mail me: a@b.example", "negative"),),
        columns={"author": "x@y.example", "stars": 4},
    )
    prompt = "\n".join(message.content for message in strategy.messages(given))
    assert "<PHONE>" in prompt
    assert "Mail me: <EMAIL>" in prompt
    assert "555" not in prompt
    assert strategy.needs().examples is not None


def test_ids_sources_and_numbers_are_masked_too() -> None:
    user = "{text} {id} {source} {row.phone} {row.stars}"
    template = {"name": "template", "user": user}
    section = {"name": "masked", "strategy": template}
    strategy = open_component("register_prompt_strategies", section)
    given = PromptInput(
        "Good",
        CLASSES,
        id="jane@example.org",
        source="https://x.example/jane",
        columns={"phone": 2125550123, "stars": 4},
    )
    (message,) = strategy.messages(given)
    assert message.content == "Good <EMAIL> <URL> <PHONE> 4"


def test_a_masked_prompt_run_sends_no_personal_data_and_keeps_the_original_text() -> None:
    Path("test.csv").write_text('text,label\n"I love it, ask jane@example.org",positive\n')
    strategy = {"name": "masked", "strategy": {"name": "zero-shot"}, "kinds": ["email"]}
    with serving() as server:
        recipe = {
            "kind": "prompt",
            "dataset": {"name": "files", "test": "test.csv"},
            "llm": {"backend": "openai", "model": "any", "base_url": server.url},
            "strategy": strategy,
        }
        Path("own.yaml").write_text(json.dumps(recipe))
        done = CliRunner().invoke(sentikit, ["prompt", "--recipe", "own.yaml", "--output", "run"])
        assert done.exit_code == 0, done.output
        sent = server.server.bodies
    assert "<EMAIL>" in json.dumps(sent)
    assert "jane" not in json.dumps(sent)
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["recipe"]["strategy"] | strategy == manifest["recipe"]["strategy"]
    assert "jane@example.org" in Path("run/predictions.jsonl").read_text()


def test_the_manifest_counts_what_was_masked_by_kind_and_once_for_equal_prompts() -> None:
    rows = [
        "text,label,author",
        '"mail a@b.example or c@d.example, or call +1 212 555 0123",positive,x@y.example',
        '"write to e@f.example",negative,',
        '"write to g@h.example",negative,',
        '"no data",neutral,',
    ]
    Path("test.csv").write_text("\n".join(rows) + "\n")
    with serving() as server:
        recipe = {
            "kind": "prompt",
            "dataset": {"name": "files", "test": "test.csv", "columns": ["author"]},
            "llm": {"backend": "openai", "model": "any", "base_url": server.url},
            "strategy": {"name": "masked"},
        }
        Path("own.yaml").write_text(json.dumps(recipe))
        done = CliRunner().invoke(sentikit, ["prompt", "--recipe", "own.yaml", "--output", "run"])
        assert done.exit_code == 0, done.output
        finished = json.loads(Path("run/manifest.json").read_text())
        again = ["prompt", "--recipe", "own.yaml", "--output", "again"]
        assert CliRunner().invoke(sentikit, again).exit_code == 0
    # The two texts that differ only in the address give one prompt.
    counted = {"masked": {"prompts": 2, "pieces": {"email": 4, "phone": 1}}}
    assert finished["prompts"] == [counted]
    # Answers from the cache too.
    cached = Path("again/manifest.json").read_text()
    assert json.loads(cached)["prompts"] == [counted]
    assert "@" not in cached


def test_a_misspelt_strategy_or_kind_is_named() -> None:
    hook, registry = "register_prompt_strategies", default_registry()
    with pytest.raises(InputError, match=r"zero-shto.*Did you mean 'zero-shot'"):
        open_component(hook, {"name": "masked", "strategy": {"name": "zero-shto"}})
    _, problems = check_component(registry, hook, {"name": "masked", "kinds": ["emial"]})
    assert "kinds" in str(problems[0])


def test_the_masking_plugin_passes_the_conformance_kit() -> None:
    check_plugin("masking")


def test_plugins_check_passes_without_the_packages_of_masking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    monkeypatch.delitem(sys.modules, "sentikit.plugins.masking.personal_data", raising=False)
    checked = CliRunner().invoke(sentikit, ["plugins", "check", "masking", "--json"])
    assert checked.exit_code == 0, checked.output
    part = next(row for row in json.loads(checked.stdout) if row["name"] == "masked")
    assert part["passed"]
    assert not part["put_to_work"]
    with pytest.raises(AssertionError, match=r"pip install 'sentikit\[masking\]'"):
        check_plugin("masking", {"masked": {}})
