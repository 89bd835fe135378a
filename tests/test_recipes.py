"""Recipes: found by name or file, extended, overridden, checked all at once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given
from hypothesis import strategies as st

from sentikit.cli import sentikit
from sentikit.errors import InputError
from sentikit.recipe.resolving import merge, parse_overrides, resolve_recipe
from sentikit.recipe_checks import recipe_problems
from sentikit.registry import default_registry
from sentikit.training.recipe import train_components
from sentikit.yaml_files import dump_yaml, parse_yaml

BUNDLED = default_registry().names("register_recipes")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(sentikit, list(arguments))


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_recipe_is_valid(name: str) -> None:
    recipe = resolve_recipe(name)
    assert [recipe.describe(p) for p in recipe_problems(recipe, default_registry())] == []
    assert (recipe.warnings, recipe.notes) == ((), ())
    assert not {"encoder", "llm", "threshold"} & set(recipe.values.get("cascade", {}))


class TestOldNamesOfKeys:
    """Every test sees what the recipe means, and the warning that it gives."""

    def test_a_users_old_key_replaces_the_inherited_adviser(self) -> None:
        name = "e3-gpt-4o-mini-electra-base-label"
        recipe = resolve_recipe(name, ["strategy.encoder=runs/own"])
        assert recipe.values["strategy"] == {"name": "label", "adviser": "runs/own"}
        assert recipe.warnings == (
            "--set strategy.encoder: strategy.encoder is the old name of strategy.adviser. "
            "It works until the next release.",
        )
        assert recipe.origin(("strategy", "adviser")) == "--set strategy.encoder"

    def test_a_users_new_key_replaces_an_old_one_of_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "own.yaml"
        file.write_text(
            "extends: e3-gpt-4o-mini-electra-base-label\nstrategy: {encoder: runs/own}\n"
        )
        recipe = resolve_recipe(str(file), ["strategy.adviser=runs/later"])
        assert recipe.values["strategy"]["adviser"] == "runs/later"
        assert "encoder" not in recipe.values["strategy"]
        assert recipe.warnings[0].startswith(f"{file}, line 2: strategy.encoder is the old name")
        assert resolve_recipe(str(file)).values["strategy"]["adviser"] == "runs/own"

    def test_both_names_in_one_place_are_refused(self) -> None:
        both = ["strategy.encoder=runs/a", "strategy.adviser=runs/b"]
        with pytest.raises(InputError, match=r"give only strategy\.adviser"):
            resolve_recipe("e3-gpt-4o-mini-electra-base-label", both)

    def test_old_keys_of_a_cascade_change_inherited_members(self) -> None:
        changes = ["cascade.llm=local-zero-shot", "cascade.threshold=0.6"]
        recipe = resolve_recipe("cascade-electra-base-gpt-4o-mini", changes)
        assert recipe.values["cascade"] == {
            "members": ["electra-base", "local-zero-shot"],
            "thresholds": [0.6],
        }
        assert [warning.split(": ")[1] for warning in recipe.warnings] == [
            "cascade.llm is the old name of cascade.members. It works until the next release.",
            "cascade.threshold is the old name of cascade.thresholds. It works until the next "
            "release.",
        ]
        assert recipe_problems(recipe, default_registry()) == []

    def test_a_missing_member_under_a_deprecated_key_is_refused_by_that_key(self) -> None:
        recipe = resolve_recipe("cascade-minilm-local", ["cascade.encoder=minilmm"])
        (problem,) = recipe_problems(recipe, default_registry())
        assert recipe.describe(problem).startswith("--set cascade.encoder: ")

    def test_commands_print_deprecation_warnings(self) -> None:
        words = ["recipes", "check", "e3-gpt-4o-mini-electra-base-label", "--set"]
        result = run(*words, "strategy.encoder=runs/own")
        assert result.exit_code == 0
        assert result.stderr.count("Warning: --set strategy.encoder: ") == 1
        assert "Warning" not in run(*words, "strategy.adviser=runs/own").stderr


@pytest.mark.parametrize(
    "name", [n for n in BUNDLED if resolve_recipe(n).values.get("kind", "train") == "train"]
)
def test_every_training_recipe_can_be_planned_without_network(name: str, tmp_path: Path) -> None:
    result = run("train", "--recipe", name, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    if "classifier" in resolve_recipe(name).values:  # it trains itself, and has no layers
        assert plan["parameters"] == plan["trained_parameters"] == 0
        assert plan["memory"] == {}
    else:
        assert plan["parameters"] >= plan["trained_parameters"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "parameters"), [("electra-base", 112_830_979), ("electra-large", 338_293_763)]
)
def test_the_studys_models_have_the_studys_parameters(recipe: str, parameters: int) -> None:
    assert (
        json.loads(run("train", "--recipe", recipe, "--dry-run", "--json").stdout)["parameters"]
        == parameters
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("no", "no"),
        ("0.5", 0.5),
        ("007", 7),
        ("true", True),
        ("~", None),
        ("'1'", "1"),
    ],
)
def test_yaml_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    parsed = parse_yaml(f"key: {text}", "test").value["key"]
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.text())
@example("08")
@example("1e5")
@example("12e4567")
@example("no")
@example("~")
@example("a\nb")
@example("\x85")
@example("\u2028")
def test_recipes_survive_a_yaml_round_trip(text: str) -> None:
    assert parse_yaml(dump_yaml({"key": [text]}), "test").value == {"key": [text]}


def test_overrides_are_split_at_the_first_equals_sign() -> None:
    assert parse_overrides(["dataset.text=a=b", "training.lr=1e-5"]) == {
        "dataset": {"text": "a=b"},
        "training": {"lr": 1e-5},
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainig.lr=1", "Error: --set trainig: unknown key. Did you mean 'training'?\n"),
        (
            "training.schedule=cosin",
            "Error: --set training.schedule: training.schedule.name: unknown",
        ),
        ("training.lr=x", "Error: --set training.lr: Input should be a valid number"),
        ("encoder=minilm", "Error: --set encoder: must be a section of 'key: value', not 'minilm'"),
        ("training=5", "Error: --set training: must be a section of 'key: value', not 5.\n"),
        ("training.schedule=", "Error: --set training.schedule: must be a section of"),
        ("dataset=", "Error: --set dataset: must be a section of 'key: value', not null.\n"),
        ("training.lr=", "Error: --set training.lr: Input should be a valid number (it is null)"),
        ("dataset.name=files", "Error: --set dataset: name at least one file: --set dataset.t"),
        ("head=3", "Error: --set head: must be a section of 'key: value', not 3.\n"),
    ],
)
def test_a_wrong_override_is_reported_once(setting: str, message: str) -> None:
    result = run("train", "--recipe", "quickstart", "--set", setting, "--dry-run")
    assert result.exit_code == 2
    assert result.stderr.startswith(message)


@pytest.mark.parametrize("bad", ["training.lr", "=1", "training..lr=1", "a=[1"])
def test_malformed_overrides_are_refused(bad: str) -> None:
    with pytest.raises(InputError, match="--set"):
        parse_overrides([bad])


@pytest.mark.parametrize(
    ("setting", "advice"),
    [
        ("label=# Stars", "--set 'label=\"# Stars\"'"),
        ("label=Stars # 1", "--set 'label=\"Stars # 1\"'"),
        ("map={a: b} # odd", "Remove it, or quote"),
    ],
)
def test_a_yaml_comment_is_not_part_of_a_value(setting: str, advice: str) -> None:
    with pytest.raises(InputError, match=re.escape(advice)):
        parse_overrides([setting])


def test_quoting_keeps_what_looks_like_a_comment() -> None:
    assert parse_overrides(['label="# Stars"', "text=a#b", "m={'# a': b}", "id="]) == {
        "label": "# Stars",
        "text": "a#b",
        "m": {"# a": "b"},
        "id": None,
    }


@pytest.mark.parametrize("reverse", [False, True])
def test_a_components_name_and_settings_may_be_overridden_in_any_order(reverse: bool) -> None:
    settings = ["training.schedule=cosine", "training.schedule.eta_min=1e-7"]
    found = parse_overrides(settings[::-1] if reverse else settings)
    assert found == {"training": {"schedule": {"name": "cosine", "eta_min": 1e-7}}}


def test_contradictory_overrides_are_refused() -> None:
    with pytest.raises(InputError, match=r"training\.lr cannot be set, because training=3 is"):
        parse_overrides(["training=3", "training.lr=1"])


@pytest.mark.posix
def test_a_recipe_that_extends_itself_is_refused() -> None:
    Path("loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(InputError, match=r"loop\.yaml is a link to itself"):
        resolve_recipe("loop.yaml")


def test_changing_a_components_name_drops_its_inherited_keys() -> None:
    base = {"head": {"name": "mlp", "layers": 2}, "training": {"lr": 1, "epochs": 2}}
    assert merge(base, {"head": {"name": "linear"}, "training": {"lr": 3}}) == {
        "head": {"name": "linear"},
        "training": {"lr": 3, "epochs": 2},
    }


def test_keys_dropped_by_an_override_are_reported() -> None:
    recipe = resolve_recipe("minilm", ["encoder.name=transformers", "encoder.model=x"])
    dropped = {
        key: value
        for key, value in resolve_recipe("minilm").values["encoder"].items()
        if key not in ("name", "model")
    }
    assert "max_length" in dropped
    (note,) = recipe.notes
    assert note.startswith("--set encoder.name=transformers drops encoder.")
    for key, value in dropped.items():
        assert f"encoder.{key}={'null' if value is None else repr(value)}" in note
    assert resolve_recipe("minilm", ["encoder.max_length=64"]).notes == ()
    shown = run("recipes", "show", "minilm", "--set", "encoder.name=transformers")
    assert f"Note: {note.split(' drops ')[0]}" in shown.stderr


def test_keys_dropped_by_a_users_own_recipe_are_reported() -> None:
    Path("below.yaml").write_text("extends: minilm\nhead: {name: mlp, layers: 2}\n")
    Path("mine.yaml").write_text("extends: below.yaml\nhead: {name: linear}\n")
    notes = resolve_recipe("mine.yaml").notes
    assert "mine.yaml: head.name=linear drops head.layers=2 of 'mlp'." in notes
    unchanged = next(note for note in notes if note.startswith("below.yaml: head.name=mlp drops"))
    assert unchanged.endswith("of 'linear'.")


def test_dropped_keys_are_reported_in_yaml() -> None:
    (note,) = resolve_recipe("b3-gpt-4o-mini-zero-shot", ["llm.backend=replay"]).notes
    assert "llm.reasoning_effort=null" in note
    # What a bundled recipe changes of another is no surprise to its user.
    assert resolve_recipe("local-zero-shot").notes == ()
    assert resolve_recipe("local-zero-shot", ["llm.temperature=0.5"]).notes == ()


def test_extends_and_overrides_are_applied_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: minilm\ntraining:\n  epochs: 9\n")
    recipe = resolve_recipe("mine.yaml", ["training.lr=1e-6"])
    assert recipe.values["training"]["epochs"] == 9
    assert recipe.values["training"]["lr"] == 1e-6
    assert recipe.values["training"]["head_lr"] == 5e-4
    assert recipe.origin(("training", "epochs")) == "mine.yaml, line 3"
    assert recipe.origin(("training", "lr")) == "--set training.lr"
    assert "minilm.yaml" in recipe.origin(("training", "head_lr"))


def test_a_cycle_of_extends_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(InputError, match=r"circle: a\.yaml → b\.yaml → a\.yaml"):
        resolve_recipe("a.yaml")


def test_all_errors_are_reported_at_once_with_places_and_suggestions(
    tmp_path: Path,
) -> None:
    (tmp_path / "wrong.yaml").write_text(
        """extends: minilm
trainning: {epochs: 1}
dataset: {name: demo, sampel: 0.5}
encoder: {name: minilmm}
head: {name: mlp, activation: relux, poling: mean}
training:
  lr: fast
  optimizer: {name: adamw, momentum: 0.9}
  schedule: {name: cosin}
engine: {name: deepspede}
"""
    )
    result = run("train", "--recipe", "wrong.yaml")
    assert result.exit_code == 2
    message = result.stderr
    for expected in (
        "wrong.yaml, line 2: trainning: unknown key. Did you mean 'training'?",
        "wrong.yaml, line 3: dataset.sampel: unknown key. Did you mean 'sample'?",
        "Did you mean 'minilm'?",
        "head.poling: unknown key. Did you mean 'pooling'?",
        "head.activation",
        "wrong.yaml, line 7: training.lr",
        "momentum: unknown key",
        "training.schedule",
        "engine.name",
    ):
        assert expected in message, message
    assert list(tmp_path.iterdir()) == [tmp_path / "wrong.yaml"]


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ("optimizer: {betas: [0.9, 0.99]}", "training.optimizer: needs a name: adamw, adam, sgd,"),
        ("optimizer: adm", "training.optimizer.name: unknown name 'adm'. Did you mean 'adam'"),
        ("schedule: {name: cosin}", "training.schedule.name: unknown name 'cosin'. Did you mean"),
        ("optimizer: {name: adamw, epsilon: 1}", "training.optimizer.epsilon: unknown key. Did"),
        (
            "class_weights: foo",
            "training.class_weights: Input should be 'none' or 'balanced', or a",
        ),
        ("class_weights: {good: x}", "training.class_weights.good: Input should be a valid number"),
        ("finetune_layers: 0", "training.finetune_layers: Input should be greater than or equal"),
        ("epochs: [1]", "training.epochs: Input should be a valid integer"),
    ],
)
def test_an_error_is_reported_once_where_it_occurs(
    training: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "odd.yaml").write_text(f"extends: minilm\ntraining: {{{training}}}\n")
    message = run("train", "--recipe", "odd.yaml").stderr
    assert expected in message
    assert "problems" not in message


def test_optimizers_and_schedules_may_be_given_by_name_only(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "extends: minilm\ntraining: {optimizer: adam, schedule: cosine}\n"
    )
    result = run("recipes", "check", "own.yaml")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1\na: 2\n", "line 2: the key 'a' occurs twice"),
        ("a: [1\n", "not valid YAML"),
        ("- 1\n", "expected a mapping of sections"),
        ("", "expected a mapping of sections"),
        ("a: !!python/object:os.system x\n", "is not allowed"),
        ("extends: [a]\n", "extends must be one recipe's name"),
        ("kind: bake\n", "unknown kind 'bake'"),
    ],
)
def test_files_that_are_no_recipes_are_refused(content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(content)
    result = run("recipes", "check", "odd.yaml")
    assert result.exit_code == 2
    assert expected in result.stdout


def test_a_recursive_yaml_value_is_refused(tmp_path: Path) -> None:
    (tmp_path / "circle.yaml").write_text("dataset: &a [*a]\n")
    with pytest.raises(InputError, match="a value contains itself"):
        resolve_recipe("circle.yaml")


def test_show_names_the_line_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"description: caf\xe9\n")
    shown = CliRunner().invoke(sentikit, ["recipes", "show", "latin.yaml"])
    assert shown.exit_code == 2
    assert "line 1: not UTF-8" in shown.stderr


def test_a_recipe_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_bytes(b"kind: train\ndescription: caf\xe9\n")
    assert "odd.yaml, line 2: not UTF-8" in run("recipes", "check", "odd.yaml").stdout


def test_unknown_recipes_get_the_nearest_names_and_no_recipe_lists_the_choices() -> None:
    unknown = run("train", "--recipe", "elektra-base")
    assert unknown.exit_code == 2
    assert "'electra-base'" in unknown.stderr
    none = run("train")
    assert none.exit_code == 2
    assert "quickstart" in none.stderr


def test_the_resolved_recipe_runs_again_as_it_is(tmp_path: Path) -> None:
    original = resolve_recipe("electra-large", ["training.lr=1e-7", "dataset.name=demo"])
    (tmp_path / "again.yaml").write_text(original.to_yaml())
    again = resolve_recipe("again.yaml")
    assert again.values == original.values
    assert train_components(again, default_registry()).training.lr == 1e-7


def test_recipes_copy_writes_the_resolved_recipe_and_overwrites_nothing(tmp_path: Path) -> None:
    assert run("recipes", "copy", "quickstart", "mine.yaml").exit_code == 0
    assert resolve_recipe("mine.yaml").values == resolve_recipe("quickstart").values
    again = run("recipes", "copy", "minilm", "mine.yaml")
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert run("recipes", "copy", "minilm", "mine.yaml", "--force").exit_code == 0


def test_recipes_copy_reports_a_wrong_name_first(tmp_path: Path) -> None:
    (tmp_path / "dir.csv").mkdir()
    (tmp_path / "dir.yaml").mkdir()
    assert "end in .yaml" in run("recipes", "copy", "minilm", "dir.csv").stderr
    for force in ([], ["--force"]):
        folder = run("recipes", "copy", "minilm", "dir.yaml", *force)
        assert folder.exit_code == 2
        assert "dir.yaml is a folder; a file is needed" in folder.stderr


def test_a_file_that_is_no_recipe_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bin.csv").touch()
    file = run("train", "--recipe", "bin.csv")
    assert file.stderr == "Error: bin.csv is not a recipe; recipe files end in .yaml.\n"
    unknown = run("train", "--recipe", "zzzzzz").stderr
    assert unknown.endswith("All are in: sentikit recipes list.\n")
    assert len(unknown) < 150


def test_show_resolved_says_where_each_value_comes_from() -> None:
    shown = run("recipes", "show", "electra-large", "--resolved").stdout
    line = next(line for line in shown.splitlines() if "layer_decay" in line)
    assert "0.95" in line
    assert "electra-base.yaml, line" in line


def test_recipes_list_prints_json() -> None:
    listed = json.loads(run("recipes", "list", "--json").stdout)
    assert {"name": "minilm", "kind": "train"}.items() <= {
        key: value
        for recipe in listed
        if recipe["name"] == "minilm"
        for key, value in recipe.items()
    }.items()
