"""Recipes of the kinds prompt, cascade and vote are checked like those of training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from sentikit import InputError
from sentikit.llm.recipe import prompt_components
from sentikit.recipe.resolving import resolve_recipe, resolve_values
from sentikit.recipe_checks import recipe_problems
from sentikit.registry import default_registry
from sentikit.training.recipe import train_components

REGISTRY = default_registry()
OPENAI = {"backend": "openai", "model": "some-model"}
FAMILIES = {"gpt-4o-mini": "gpt-4o-mini-2024-07-18", "gpt-4o": "gpt-4o-2024-08-06"}


def problems(**sections: Any) -> list[str]:
    recipe = resolve_values(sections, "own", "the test")
    return [str(problem) for problem in recipe_problems(recipe, REGISTRY)]


def prompt_problems(**sections: Any) -> list[str]:
    return problems(**{"kind": "prompt", "dataset": {"name": "demo"}, "llm": OPENAI, **sections})


def test_the_shortest_prompt_recipe_is_valid() -> None:
    assert prompt_problems() == []


def test_all_errors_of_a_prompt_recipe_are_reported_at_once() -> None:
    found = prompt_problems(
        llm={"backend": "opnai", "model": "m", "temprature": 1, "max_tokens": 0},
        strategy={"name": "labels", "encoder": "runs/e1"},
        splitt="test",
    )
    assert any("llm.backend: There is no LLM backend named 'opnai'" in line for line in found)
    assert any("llm.max_tokens" in line for line in found)
    assert any(
        "strategy.name: There is no prompt strategy named 'labels'" in line for line in found
    )
    assert any("splitt: unknown key. Did you mean 'split'?" in line for line in found)


def test_unknown_keys_get_suggestions_from_core_and_component() -> None:
    (line,) = prompt_problems(llm={**OPENAI, "temprature": 0.1})
    assert line == "llm.temprature: unknown key. Did you mean 'temperature'?"
    (line,) = prompt_problems(strategy={"name": "zero-shot", "finetuned": True})
    assert line == "strategy.finetuned: unknown key. Did you mean 'fine_tuned'?"
    (line,) = prompt_problems(llm={"model": "m"})
    assert line.startswith("llm.backend: a name is needed. Known: ")


def test_a_train_recipe_is_refused_with_the_right_command() -> None:
    with pytest.raises(InputError, match=r"kind prompt, not train\. Run it with sentikit train"):
        prompt_components(resolve_recipe("minilm"), REGISTRY)
    with pytest.raises(InputError, match=r"kind train, not prompt\. Run it with sentikit prompt"):
        train_components(resolve_recipe("b3-gpt-4o-mini-zero-shot"), REGISTRY)


def test_another_backend_drops_the_settings_of_the_first() -> None:
    recipe = resolve_recipe(
        "b3-gpt-4o-mini-zero-shot", ["llm.backend=replay", "llm.run=old.csv"], REGISTRY
    )
    assert recipe.values["llm"] == {"backend": "replay", "run": "old.csv"}
    assert recipe_problems(recipe, REGISTRY) == []


def test_model_and_address_can_be_overridden() -> None:
    settings = ["llm.model=qwen", "llm.base_url=http://localhost:8000/v1", "llm.temperature=1e-1"]
    recipe = resolve_recipe("current-zero-shot", settings, REGISTRY)
    components = prompt_components(recipe, REGISTRY)
    assert components.llm.model == "qwen"
    assert components.llm_options.temperature == 0.1


def test_every_bundled_prompt_recipe_is_valid() -> None:
    for name in REGISTRY.names("register_recipes"):
        assert recipe_problems(resolve_recipe(name, registry=REGISTRY), REGISTRY) == [], name


def rows_of_the_study(path: Path) -> list[dict[str, str]]:
    ids = {"B3", "B4", *(f"E{n}" for n in range(3, 10)), *(f"E{n}" for n in range(19, 25))}
    with path.open(encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["id"] in ids]


STRATEGIES = {
    "Baseline (Zero shot)": "zero-shot",
    "Prompt, Label": "label",
    "Prompt, Label, Examples (Few shot)": "examples",
    "Prompt, Label, Balanced Ex. (Few shot)": "balanced-examples",
    "Prompt, Probs": "probabilities",
    "Prompt, Label, Probs": "label-probabilities",
    "Prompt, Label, Probs, Examples": "all",
}


def test_the_studys_rows_have_their_recipes(shared_data: Path) -> None:
    rows = rows_of_the_study(shared_data / "recorded" / "published-round1.csv")
    assert len(rows) == 15
    names = REGISTRY.names("register_recipes")
    for row in rows:
        (name,) = (name for name in names if name.startswith(f"{row['id'].lower()}-"))
        values = resolve_recipe(name, registry=REGISTRY).values
        assert values["llm"]["model"] == FAMILIES[row["gpt"]]
        assert values["llm"]["temperature"] == 0.0
        assert values["strategy"]["name"] == STRATEGIES[row["description"]]
        size = row["electra"].removeprefix("ELECTRA ").removesuffix(" FT").lower()
        if size:
            assert values["strategy"]["adviser"] == f"runs/electra-{size}"


#: The strategy and epochs of each fine-tuned row, by the study's name for their model.
FINE_TUNED = {
    "gpt-4o-mini FT": ("zero-shot", "auto"),
    "gpt-4o-mini FT 5": ("zero-shot", 5),
    "gpt-4o-mini FT-M": ("minimal", "auto"),
    "gpt-4o-mini FT-L": ("label", "auto"),
    "gpt-4o-mini FT-L 5": ("label", 5),
    "gpt-4o FT": ("zero-shot", "auto"),
    "gpt-4o FT-M": ("minimal", "auto"),
    "gpt-4o FT-L": ("label", "auto"),
}


def fine_tuned_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if " FT" in row["gpt"]]


def test_the_studys_fine_tuned_rows_have_prompt_and_finetune_recipes(shared_data: Path) -> None:
    rows = fine_tuned_rows(shared_data / "recorded" / "published-round1.csv")
    assert len(rows) == 13
    names = REGISTRY.names("register_recipes")
    for row in rows:
        (name,) = (name for name in names if name.startswith(f"{row['id'].lower()}-"))
        asked = resolve_recipe(name, registry=REGISTRY).values
        size = row["electra"].removeprefix("ELECTRA ").removesuffix(" FT").lower()
        assert asked["strategy"].get("adviser") == (f"runs/electra-{size}" if size else None)
        assert asked["llm"]["temperature"] == 0.0
        tuned = resolve_recipe(asked["llm"]["model"].removeprefix("runs/")).values
        strategy, epochs = FINE_TUNED[row["gpt"]]
        assert tuned["strategy"]["name"] == strategy
        assert tuned["finetune"].get("epochs", "auto") == epochs
        assert tuned["finetune"]["model"] == FAMILIES[row["gpt"].split(" ")[0]]
        # The study deliberately sent the label prompt to models that were trained without it.
        meant = size != "" and strategy == "zero-shot"
        assert asked["strategy"].get("not_as_trained", False) is meant
        if not meant:
            learnt = {k: v for k, v in asked["strategy"].items() if k != "not_as_trained"}
            assert learnt == tuned["strategy"]


def test_every_fine_tuned_row_has_a_local_twin(shared_data: Path) -> None:
    names = REGISTRY.names("register_recipes")
    for row in fine_tuned_rows(shared_data / "recorded" / "published-round1.csv"):
        (name,) = (name for name in names if name.startswith(f"{row['id'].lower()}-"))
        asked = resolve_recipe(name, registry=REGISTRY).values
        twin = name.split("-", 1)[1].replace("gpt-4o-mini", "local").replace("gpt-4o", "local")
        values = resolve_recipe(twin, registry=REGISTRY).values
        assert values["llm"]["backend"] == "local"
        assert values["strategy"] == asked["strategy"]
        tuned = resolve_recipe(values["llm"]["model"].removeprefix("runs/")).values
        assert tuned["finetune"]["provider"] == "local"


def test_the_current_models_name_is_set_in_one_recipe() -> None:
    recipes = Path(REGISTRY.find("register_recipes", "current-zero-shot").target).parent
    model = resolve_recipe("current-zero-shot").values["llm"]["model"]
    holders = [path.name for path in recipes.glob("*.yaml") if model in path.read_text()]
    assert holders == ["current-zero-shot.yaml"]


def cascade(**settings: Any) -> list[str]:
    defaults = {"members": ["minilm", "current-zero-shot"], "thresholds": [0.8]}
    chosen = {key: value for key, value in {**defaults, **settings}.items() if value is not None}
    return problems(kind="cascade", cascade=chosen)


def test_bundled_cascade_recipes_are_valid() -> None:
    assert cascade() == []
    assert cascade(thresholds=None, tune={"goal": "calls", "target": 0.2}) == []
    assert cascade(members=["runs/anything", "results.csv#encoder"]) == []
    assert cascade(members=["minilm", "cascade-minilm-local"]) == []
    (line,) = cascade(thresholds=None)
    assert line == "cascade: give either thresholds or tune."
    (line,) = cascade(tune={"goal": "f1"})
    assert line == "cascade: give either thresholds or tune."
    (line,) = cascade(thresholds=None, tune={"goal": "cost"})
    assert "The goal cost needs a target" in line
    (line,) = cascade(thresholds=None, tune={"goal": "calls", "target": 20})
    assert "The target of calls must be at most 1" in line
    (line,) = cascade(thresholds=[1.5])
    assert line.startswith("cascade.thresholds")
    (line,) = cascade(members=["minilmm", "current-zero-shot"])
    assert line.startswith("cascade.members.0: There is no recipe named 'minilmm'. Did you mean")
    with pytest.raises(
        InputError, match=r"the old name of cascade\.members; give only cascade\.members"
    ):
        cascade(encoder="minilm")


def test_bundled_vote_recipes_are_valid() -> None:
    members = ["minilm", "b3-gpt-4o-mini-zero-shot", "runs/x"]
    assert problems(kind="vote", vote={"members": members, "ties": "probability"}) == []
    (line,) = problems(kind="vote", vote={"members": ["minilm"]})
    assert line == "vote.members: needs at least 2 values, but has 1."
    (line,) = problems(kind="vote", vote={"members": [*members, "nobody"]})
    assert line.startswith("vote.members.3: There is no recipe named 'nobody'")
    (line,) = problems(kind="vote", vote={"members": members, "ties": "coin"})
    assert line.startswith("vote.ties")
