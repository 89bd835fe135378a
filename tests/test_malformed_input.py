"""Malformed input of every kind: each ends in one sentence and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_models import make_encoder

from sentikit.classifiers.encoder import Encoder
from sentikit.cli import sentikit
from sentikit.errors import InputError, printable
from sentikit.keys import find_key, redacted
from sentikit.weights import refuse_impossible_sizes

DRY = "train --recipe quickstart --dry-run --set"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (f"{DRY} training.epochs={'9' * 4000}", "training.epochs: Input should be less than"),
        (f"{DRY} {'.'.join('a' * 3000)}=1", "is nested too deeply (3,000 keys)."),
        (f"{DRY} training.batch_size=true", "Input should be a number (it is true)"),
        (f"{DRY} training.batch_size={10**20}", "Input should be less than"),
        (f"{DRY} training.epochs=1e999", "Input should be a finite number"),
        (f"{DRY} training.lr=nan", "Input should be a finite number"),
        (f"{DRY} dataset.validation_holdout=true", "Input should be a number (it is true)"),
        (f"{DRY} training={'[' * 5000}", "nested too deeply"),
        ("compare a b --resamples 1000000000000", "resamples must be from 1 to 1,000,000"),
    ],
)
def test_a_malformed_setting_gives_one_sentence(command: str, sentence: str) -> None:
    result = CliRunner().invoke(sentikit, command.split())
    assert result.exit_code == 2, result.output
    assert sentence in result.output
    assert len(result.output) < 400
    assert list(Path.cwd().iterdir()) == []


OF_A = {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 1}
SCORES = {"examples": 1, "macro_f1": 0.5, "accuracy": 0.5, "per_class": {"a": OF_A}}


def write_run(name: str, manifest: str, metrics: object = None) -> None:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest)
    (folder / "predictions.jsonl").write_text("")
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))


FINISHED = json.dumps({"kind": "train", "status": "finished"})


@pytest.mark.parametrize(
    ("manifest", "metrics", "sentence"),
    [
        ("[" * 200_000, None, "looks damaged: its JSON is nested too deeply."),
        (f'{{"status": {"9" * 10_000}}}', None, "looks damaged: a number has too many"),
        ('{"status": "finished", "kind": 7}', None, "looks damaged: kind: "),
        (FINISHED, [], "metrics.json looks damaged: "),
        (FINISHED, {"overall": SCORES | {"macro_f1": "x"}}, "damaged: overall.macro_f1: "),
        (FINISHED, {"overall": SCORES | {"macro_f1": 1e308}}, "damaged: overall.macro_f1: "),
        (FINISHED, {"overall": SCORES | {"accuracy": -5}}, "damaged: overall.accuracy: "),
        (FINISHED, {"overall": SCORES | {"per_class": 3}}, "damaged: overall.per_class: "),
        (FINISHED, {"overall": SCORES, "by_source": {"x": {}}}, "damaged: by_source.x."),
    ],
)
def test_a_damaged_run_is_listed_as_damaged_with_what_is_wrong(
    manifest: str, metrics: object, sentence: str
) -> None:
    write_run("sound", FINISHED, {"split": "test", "overall": SCORES})
    write_run("damaged", manifest, metrics)
    listed = CliRunner().invoke(sentikit, ["runs", "list"])
    assert listed.exit_code == 0, listed.output
    assert "runs/sound" in listed.output
    assert sentence in " ".join(listed.output.split())
    for command in ("runs show", "compare"):
        shown = CliRunner().invoke(sentikit, [*command.split(), "runs/damaged"])
        assert shown.exit_code == 2 or command == "compare", shown.output
        assert shown.exception is None or isinstance(shown.exception, SystemExit), shown.exception


def test_an_unclosed_quote_in_the_env_file_is_named_without_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ACME_API_KEY", raising=False)
    Path(".env").write_text('OTHER=1\nACME_API_KEY="sk-secret\nMORE=2\n')
    with pytest.raises(InputError, match=r"\.env, line 2: .* Close its quotes") as raised:
        find_key("ACME_API_KEY")
    assert "sk-secret" not in raised.value.message
    Path(".env").write_text("ACME_API_KEY='sk-secret'\n")
    assert find_key("ACME_API_KEY") == "sk-secret"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("red \x1b[31mX\x1b[0m", "red X"),
        ("\x1b]0;title\x07done", "done"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\rb\x08c\x00d\x9b31m", "abcd31m"),
        ("safe \u202etxt.exe", "safe txt.exe"),
        ("two\nlines\tand é 😀", "two\nlines\tand é 😀"),
    ],
)
def test_control_sequences_are_not_printed(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 10**9),
        ("hidden_size", "x"),
        ("num_attention_heads", 0),
        ("num_hidden_layers", 10**6),
        ("vocab_size", -1),
        ("intermediate_size", True),
        ("max_position_embeddings", 10**9),
        ("type_vocab_size", 10**9),
        ("pad_token_id", 10**9),
        ("pad_token_id", "x"),
    ],
)
def test_impossible_model_sizes_are_refused_before_anything_is_built(
    key: str, value: object, tmp_path: Path
) -> None:
    folder = make_encoder(tmp_path / "model" / "encoder")
    (folder / "model.safetensors").rename(tmp_path / "model" / "model.safetensors")
    refuse_impossible_sizes(folder, tmp_path / "model" / "model.safetensors")
    config = json.loads((folder / "config.json").read_text()) | {key: value}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=f"does not fit its weights: {key} is "):
        Encoder.restore(folder)


def test_secrets_of_the_env_file_are_redacted_like_environment_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACME_API_KEY", "sk-in-the-environment")
    Path(".env").write_text("OTHER_API_KEY=sk-in-the-file\n")
    text = redacted("sk-in-the-environment and sk-in-the-file")
    assert text == "[ACME_API_KEY] and [OTHER_API_KEY]"
