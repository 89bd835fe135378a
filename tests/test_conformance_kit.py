"""``sentikit.plugins.plugin_kit.checks``: sound components pass, and each broken rule is named."""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from plugin_writing import PART_MODULE, SitePackages
from sentikit.plugins.plugin_kit.checks import (
    check_command,
    check_component,
    check_dataset,
    check_encoder,
    check_engine,
    check_fine_tuner,
    check_format,
    check_head,
    check_llm_backend,
    check_plugin,
    check_prompt_strategy,
    check_recipe,
    check_result_format,
    check_tracker,
)
from sentikit.plugins.plugin_kit.examination import COMPONENT_CHECKS
from tiny_models import make_encoder
from torch import nn

from sentikit import Examples, InputError, SentikitError
from sentikit.chat import Answer, Message
from sentikit.extension import (
    ComponentSettings,
    DatasetLoader,
    Encoder,
    FineTunedModel,
    FineTuner,
    FineTuningJob,
    Head,
    PromptStrategy,
    ResultColumns,
    ResultFormat,
    Tracker,
    Usage,
)
from sentikit.finetuning.recipe import fine_tuner_of
from sentikit.hookspecs import INTERFACES, KINDS
from sentikit.llm.backend import LLMBackend, RejectedError
from sentikit.registry import default_registry


def bundled(hook: str, name: str) -> Any:
    return default_registry().load(hook, name)


def test_there_is_a_check_for_every_hook() -> None:
    assert {*COMPONENT_CHECKS, "register_recipes", "register_commands"} == set(KINDS)
    assert set(INTERFACES) == set(COMPONENT_CHECKS)


def test_the_kits_old_import_path_works_and_warns() -> None:
    import sentikit.testing

    with pytest.warns(
        DeprecationWarning, match="sentikit.testing has moved. Import check_head from"
    ):
        from sentikit.testing import check_head as moved
    assert moved is check_head
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sentikit.testing.nonsense


def test_the_old_names_of_components_work_and_warn() -> None:
    from sentikit.plugins.plugin_kit import checks

    import sentikit.extension

    for old, new in (
        ("Part", "Component"),
        ("PartSettings", "ComponentSettings"),
        ("FinetuneParts", "FinetuneComponents"),
    ):
        for place in (sentikit, sentikit.extension):
            with pytest.warns(DeprecationWarning, match=rf"sentikit\.extension\.{new}"):
                assert getattr(place, old) is getattr(sentikit.extension, new)
    with pytest.warns(DeprecationWarning, match="check_part is now check_component"):
        assert checks.check_part is check_component


class TestSettings:
    def test_a_created_component_has_its_settings(self) -> None:
        component = check_component(bundled("register_heads", "mlp"), {"width": "8"})
        assert component.settings.width == 8

    def test_refused_settings_are_named(self) -> None:
        with pytest.raises(AssertionError, match="LinearHead refuses the settings: drop: unknown"):
            check_component(bundled("register_heads", "linear"), {"drop": 0.1})

    @pytest.mark.parametrize("key", ["name", "pooling"])
    def test_keys_that_the_core_reads_are_refused(self, key: str) -> None:
        class Taken(Head):
            Settings = type(
                "Settings", (ComponentSettings,), {"__annotations__": {key: str}, key: "x"}
            )

            def build(self, hidden_size: int, classes: int) -> nn.Module:
                return nn.Linear(hidden_size, classes)

        with pytest.raises(AssertionError, match=f"Taken.Settings uses {key}, which the core"):
            check_head(Taken, {})

    def test_settings_must_refuse_typos(self) -> None:
        class Lax(Tracker):
            class Settings(ComponentSettings, extra="allow"):
                pass

        with pytest.raises(AssertionError, match=r"Lax\.Settings must refuse other keys"):
            check_tracker(Lax, {})

    def test_settings_must_survive_a_round_trip_through_yaml(self) -> None:
        class Fleeting(Tracker):
            class Settings(ComponentSettings, arbitrary_types_allowed=True):
                opened: object = object()

        with pytest.raises(AssertionError, match="cannot be written to YAML"):
            check_tracker(Fleeting, {})

    def test_unwritten_methods_are_named(self) -> None:
        class Unfinished(DatasetLoader):
            def splits(self) -> tuple[str, ...]:
                return ("test",)

        with pytest.raises(AssertionError, match="Unfinished leaves out load"):
            check_dataset(Unfinished, {})


class Texts(DatasetLoader):
    """Serves what a test puts in."""

    columns: Mapping[str, Any]
    names: Any = ("test",)

    def splits(self) -> tuple[str, ...]:
        return self.names  # type: ignore[no-any-return]

    def load(self, split: str) -> Examples:
        return Examples.from_columns(**self.columns)


class TestDatasets:
    def test_the_demo_dataset_passes(self) -> None:
        check_dataset(bundled("register_datasets", "demo"), {})

    def test_a_dataset_of_files_passes(self) -> None:
        Path("a.csv").write_text("text,label\nfine,positive\nbad,\n")
        check_dataset(bundled("register_datasets", "files"), {"test": "a.csv"})

    @pytest.mark.parametrize(
        ("names", "columns", "reason"),
        [
            (
                ["test"],
                {"texts": ["a"]},
                r"must return a tuple of names, not \['test'\]",
            ),
            ((), {"texts": ["a"]}, "must return a tuple of names"),
            (("test", "test"), {"texts": ["a"]}, "names one twice"),
            (("test",), {"texts": []}, "is empty; leave an empty split out"),
            (("test",), {"texts": ["a", "b"], "ids": ["1", "1"]}, "has an id twice: '1'"),
            (("test",), {"texts": ["a"], "ids": [""]}, "has an empty id"),
            (("test",), {"texts": ["a", " "]}, "has an empty text, at row 1"),
            (("test",), {"texts": ["a"], "labels": [""]}, "has an empty label; give None"),
        ],
    )
    def test_faults_of_a_dataset_are_named(
        self, names: Any, columns: Mapping[str, Any], reason: str
    ) -> None:
        loader = type("Wrong", (Texts,), {"names": names, "columns": columns})
        with pytest.raises(AssertionError, match=reason):
            check_dataset(loader, {})

    def test_a_dataset_that_changes_between_loads_is_refused(self) -> None:
        class Random(Texts):
            def load(self, split: str) -> Examples:
                return Examples.from_columns([str(np.random.default_rng().integers(10**9))])

        with pytest.raises(AssertionError, match="gives other examples the second time"):
            check_dataset(Random, {})

    def test_a_dataset_that_returns_no_examples_is_refused(self) -> None:
        class Rows(Texts):
            def load(self, split: str) -> Any:
                return [{"text": "a"}]

        with pytest.raises(AssertionError, match=r"must return sentikit\.Examples, not list"):
            check_dataset(Rows, {})


def head_of(build: Any) -> type[Head]:
    return type("Wrong", (Head,), {"build": lambda self, hidden, classes: build(hidden, classes)})


class Detached(nn.Linear):
    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return super().forward(pooled.detach())


class Relative(nn.Linear):
    """Logits relative to the batch's mean."""

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        logits = super().forward(pooled)
        return logits - logits.mean(0)


class Idle(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.spare = nn.Linear(2, 2)


class Tied(nn.Linear):
    """Two names of one tensor, which safetensors refuses."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.same = self.weight


class Unseeded(nn.Linear):
    def reset_parameters(self) -> None:
        values = np.random.default_rng().normal(size=self.weight.shape)
        with torch.no_grad():
            if not self.weight.is_meta:
                self.weight.copy_(torch.from_numpy(values))
            self.bias.zero_()


class TestHeads:
    @pytest.mark.parametrize("name", ["linear", "mlp"])
    def test_bundled_heads_pass(self, name: str) -> None:
        check_head(bundled("register_heads", name), {})

    @pytest.mark.parametrize(
        ("build", "reason"),
        [
            (lambda hidden, classes: None, "must return a torch.nn.Module"),
            (lambda hidden, classes: nn.Linear(hidden, 4), r"into \(4, 2\), not \(4, 4\)"),
            (Unseeded, "must draw its weights from torch's seeded generator"),
            (Relative, "must not depend on the other texts"),
            (Detached, "passes no gradient on to the encoder"),
            (Idle, r"parameters without a gradient: spare\.weight, spare\.bias"),
            (Tied, "shares tensors"),
        ],
    )
    def test_faults_of_a_head_are_named(self, build: Any, reason: str) -> None:
        with pytest.raises(AssertionError, match=reason):
            check_head(head_of(build), {})


class Normalised(nn.Module):
    """Logits behind a batch normalisation, which mixes texts in training alone."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.norm, self.output = nn.BatchNorm1d(hidden), nn.Linear(hidden, classes)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.output(self.norm(pooled))
        return logits


def test_a_head_that_mixes_texts_only_in_training_is_refused() -> None:
    with pytest.raises(AssertionError, match="in training a text's logits must not depend on"):
        check_head(head_of(Normalised), {})


def test_a_settings_schema_that_cannot_be_built_is_named() -> None:
    annotations = {"width": "NoSuchType"}
    broken = type("Settings", (ComponentSettings,), {"__annotations__": annotations})
    linear = bundled("register_heads", "linear")
    with pytest.raises(AssertionError, match=r"Settings cannot be built: .*NoSuchType"):
        check_head(type("Odd", (linear,), {"Settings": broken}), {})


class TestEncoders:
    @pytest.mark.parametrize("architecture", ["electra", "modernbert"])
    def test_bundled_encoders_with_tiny_models_pass(
        self, tmp_path: Path, architecture: str
    ) -> None:
        folder = make_encoder(tmp_path / "model", architecture)
        check_encoder(bundled("register_encoders", "transformers"), {"model": str(folder)})

    @pytest.fixture
    def base(self, tmp_path: Path) -> Any:
        folder = str(make_encoder(tmp_path / "model"))

        class Base(bundled("register_encoders", "transformers")):  # type: ignore[misc]
            class Settings(ComponentSettings):
                model: str = folder
                revision: str | None = None
                trust_remote_code: bool = False

        return Base

    @pytest.mark.parametrize(
        ("method", "change", "reason"),
        [
            ("load_backbone", lambda model: model.half(), "must be in float32"),
            ("load_config", lambda config: _with(config, hidden_size=64), "has other parameters"),
            ("load_tokenizer", lambda t: _with(t, pad_token=None), "has no padding token"),
        ],
    )
    def test_faults_of_an_encoder_are_named(
        self, base: Any, method: str, change: Any, reason: str
    ) -> None:
        wrong = type("Wrong", (base,), {method: lambda self: change(getattr(base, method)(self))})
        with pytest.raises(AssertionError, match=reason):
            check_encoder(wrong, {})

    def test_an_encoder_whose_states_depend_on_padding_is_refused(self, base: Any) -> None:
        def unmasked(self: Encoder) -> Any:
            backbone = base.load_backbone(self)
            forward = backbone.forward
            backbone.forward = lambda input_ids, attention_mask: forward(input_ids=input_ids)
            return backbone

        with pytest.raises(AssertionError, match="change with the padding"):
            check_encoder(type("Unmasked", (base,), {"load_backbone": unmasked}), {})


def _with(thing: Any, **values: Any) -> Any:
    for key, value in values.items():
        setattr(thing, key, value)
    return thing


class TestEngines:
    @pytest.fixture
    def torch_engine(self) -> Any:
        return bundled("register_engines", "torch")

    def test_the_torch_engine_passes(self, torch_engine: Any) -> None:
        check_engine(torch_engine, {})

    @pytest.mark.parametrize(
        ("method", "wrong", "reason"),
        [
            ("suits", classmethod(lambda cls, hardware: -1), "must return 0 or more"),
            ("sum", lambda self, values: [0.0 for _ in values], r"sum\(\) of all processes"),
            ("gather", lambda self, array: [array, array], r"gather\(\) must return each"),
            ("broadcast", lambda self, value: None, r"broadcast\(\) must return what process 0"),
            ("training_mode", lambda self, on: None, "must switch dropout off"),
        ],
    )
    def test_faults_of_an_engine_are_named(
        self, torch_engine: Any, method: str, wrong: Any, reason: str
    ) -> None:
        with pytest.raises(AssertionError, match=reason):
            check_engine(type("Wrong", (torch_engine,), {method: wrong}), {})

    def test_an_engine_with_wrong_clipping_is_refused(self, torch_engine: Any) -> None:
        def unclipped(self: Any, model: Any, groups: Any, plan: Any) -> None:
            from dataclasses import replace

            torch_engine.prepare(self, model, groups, replace(plan, clip_norm=None))

        with pytest.raises(AssertionError, match=r"after step 1 of sgd: .* is off by"):
            check_engine(type("Unclipped", (torch_engine,), {"prepare": unclipped}), {})

    def test_an_engine_with_wrong_rates_is_refused(self, torch_engine: Any) -> None:
        def constant(self: Any, rates: Sequence[float]) -> Any:
            return torch_engine.step(self, [0.05 for _ in rates])

        with pytest.raises(AssertionError, match="after step 1 of sgd: head"):
            check_engine(type("Constant", (torch_engine,), {"step": constant}), {})

    def test_an_engine_with_a_wrong_gradient_norm_is_refused(self, torch_engine: Any) -> None:
        def normless(self: Any, rates: Sequence[float]) -> float:
            torch_engine.step(self, rates)
            return 0.0

        with pytest.raises(AssertionError, match="norm before clipping"):
            check_engine(type("Normless", (torch_engine,), {"step": normless}), {})

    def test_an_engine_whose_weights_are_no_copy_is_refused(self, torch_engine: Any) -> None:
        def aliased(self: Any) -> Any:
            return dict(self._model.state_dict())

        with pytest.raises(AssertionError, match="which later steps must not touch"):
            check_engine(type("Aliased", (torch_engine,), {"weights": aliased}), {})

    def test_an_engine_that_loses_optimizer_state_is_refused(self, torch_engine: Any) -> None:
        forgetful = type(
            "Forgetful", (torch_engine,), {"load_optimizer_state": lambda self, state: None}
        )
        with pytest.raises(AssertionError, match=r"load_optimizer_state\(optimizer_state\(\)\)"):
            check_engine(forgetful, {})


class TestStrategies:
    def test_the_studys_strategies_pass(self) -> None:
        for name in default_registry().names("register_prompt_strategies"):
            check_prompt_strategy(bundled("register_prompt_strategies", name), {})

    @pytest.mark.parametrize(
        ("messages", "reason"),
        [
            (lambda self, given: [], "must return a list of sentikit.extension.Message"),
            (lambda self, given: [given.text], "must return a list of sentikit.extension.Message"),
            (lambda self, given: [Message("user", "Label it.")], "must contain the text unchanged"),
            (lambda self, given: [Message("user", f"{object()} {given.text}")], "differ for the"),
        ],
    )
    def test_faults_of_a_strategy_are_named(self, messages: Any, reason: str) -> None:
        wrong = type("Wrong", (PromptStrategy,), {"messages": messages})
        with pytest.raises(AssertionError, match=reason):
            check_prompt_strategy(wrong, {})

    def test_a_strategy_that_parses_unknown_labels_is_refused(self) -> None:
        class Eager(PromptStrategy):
            def messages(self, given: Any) -> list[Message]:
                return [Message("user", given.text)]

            def parse(self, answer: str, classes: Sequence[str]) -> str | None:
                return answer.upper()

        with pytest.raises(AssertionError, match="must return one of the classes or None"):
            check_prompt_strategy(Eager, {})


class Echo(LLMBackend):
    """Answers with the first label."""

    model = "echo"

    def canonical(self, request: Any) -> Mapping[str, Any]:
        return {"messages": [message.to_json() for message in request.messages]}

    async def ask(self, request: Any) -> Answer:
        await asyncio.sleep(0)
        return Answer(request.labels[0])


class Tuner(FineTuner):
    """Sound: it learns nothing and says so."""

    trains_here = True
    model = "nothing"

    def identity(self) -> Mapping[str, Any]:
        return {"model": "nothing"}

    def epochs(self, examples: int) -> int:
        return 1

    def run(self, job: FineTuningJob, session: Any) -> FineTunedModel | None:
        assert job.engine is not None
        (job.path / "model").mkdir()
        session.record({"kind": "step", "step": 1})
        return FineTunedModel(Path("model"))


class TestFineTuners:
    def test_a_fine_tuner_that_learns_nothing_passes(self) -> None:
        check_fine_tuner(Tuner, {})

    def test_a_fine_tuner_without_a_model_is_refused(self) -> None:
        class Boasting(Tuner):
            def run(self, job: FineTuningJob, session: Any) -> FineTunedModel:
                return FineTunedModel(Path("model"))

        with pytest.raises(AssertionError, match="names model, which is not in the run's folder"):
            check_fine_tuner(Boasting, {})

    def test_a_fine_tuner_that_stops_unasked_is_refused(self) -> None:
        class Lazy(Tuner):
            def run(self, job: FineTuningJob, session: Any) -> None:
                return None

        with pytest.raises(AssertionError, match="must return a FineTunedModel"):
            check_fine_tuner(Lazy, {})

    def test_a_fine_tuner_with_a_random_identity_is_refused(self) -> None:
        class Restless(Tuner):
            def identity(self) -> Mapping[str, Any]:
                return {"at": time.monotonic_ns()}

        with pytest.raises(AssertionError, match="differs for the same settings"):
            check_fine_tuner(Restless, {})

    def test_a_fine_tuner_with_keys_of_the_core_is_refused(self) -> None:
        class Greedy(Tuner):
            class Settings(ComponentSettings):
                validation: str = "test"

        with pytest.raises(AssertionError, match="uses validation, which the core reads"):
            check_fine_tuner(Greedy, {})

    def test_a_backend_with_an_invalid_fine_tuner_is_refused(self) -> None:
        class Confused(Echo):
            fine_tuner = "no.such.module:Tuner"

        with pytest.raises(SentikitError, match="fine-tuner of Confused cannot be loaded"):
            fine_tuner_of(Confused)


class TestBackends:
    def test_an_echo_backend_passes(self) -> None:
        check_llm_backend(Echo, {})

    def test_a_backend_whose_call_fails_is_refused(self) -> None:
        class Refusing(Echo):
            async def ask(self, request: Any) -> Answer:
                raise RejectedError("too long")

        with pytest.raises(AssertionError, match=r"Refusing.ask\(\) failed: too long"):
            check_llm_backend(Refusing, {})

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (None, "it returned None; it must return an Answer"),
            (Answer(None), "its text is None; it must be a string"),  # type: ignore[arg-type]
            (
                Answer("positive", Usage(prompt=-1)),
                "its usage is .*; use whole numbers",
            ),
            (Answer("positive", Usage(completion=2.5)), "its usage is"),  # type: ignore[arg-type]
            (
                Answer("positive", billed_usd=float("nan")),
                "its billed_usd is nan; use USD of",
            ),
            (Answer("positive", billed_usd=float("inf")), "its billed_usd is inf"),
            (
                Answer("x", log_probabilities={"great": -1.0}),
                "its log_probabilities name 'great'",
            ),
            (
                Answer("x", log_probabilities={"positive": float("nan")}),
                "its log-probability of 'positive' is nan; it must be at most 0",
            ),
            (
                Answer("x", log_probabilities={"positive": 0.5}),
                "its log-probability of .* is 0.5",
            ),
        ],
    )
    def test_an_answer_of_another_shape_or_with_nan_or_odd_usage_is_named(
        self, answer: Any, reason: str
    ) -> None:
        async def ask(backend: Any, request: Any) -> Any:
            return answer

        with pytest.raises(AssertionError, match=rf"Odd\.ask\(\): {reason}"):
            check_llm_backend(type("Odd", (Echo,), {"ask": ask}), {})

    def test_a_backend_with_a_constant_cache_key_is_refused(self) -> None:
        class Forgetful(Echo):
            def canonical(self, request: Any) -> Mapping[str, Any]:
                return {"model": "echo"}

        with pytest.raises(AssertionError, match="must differ for another question"):
            check_llm_backend(Forgetful, {})

    def test_a_backend_with_a_secret_in_its_cache_key_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ACME_API_KEY", "sk-not-a-real-one")

        class Leaky(Echo):
            def canonical(self, request: Any) -> Mapping[str, Any]:
                return {"key": "sk-not-a-real-one", **super().canonical(request)}

        with pytest.raises(AssertionError, match="holds the secret in ACME_API_KEY"):
            check_llm_backend(Leaky, {})


class TestFormatsAndTrackers:
    def test_bundled_formats_pass(self) -> None:
        check_format(bundled("register_formats", "electra-classifier"), {})
        for name in default_registry().names("register_result_formats"):
            check_result_format(bundled("register_result_formats", name), {})

    def test_a_format_that_recognises_every_folder_is_refused(self) -> None:
        electra = bundled("register_formats", "electra-classifier")
        greedy = type("Greedy", (electra,), {"recognises": lambda self, folder: True})
        with pytest.raises(AssertionError, match="Greedy recognises an empty folder"):
            check_format(greedy, {})

    def test_a_result_format_that_names_absent_columns_is_refused(self) -> None:
        class Greedy(ResultFormat):
            def columns(self, columns: Sequence[str]) -> ResultColumns:
                return ResultColumns(label="verdict")

        with pytest.raises(AssertionError, match=r"columns that do not exist: \['verdict'\]"):
            check_result_format(Greedy, {})

    def test_a_result_format_that_confuses_gold_and_answer_is_refused(self) -> None:
        class Circular(ResultFormat):
            def columns(self, columns: Sequence[str]) -> ResultColumns | None:
                return ResultColumns("label", gold="label") if "label" in columns else None

        with pytest.raises(AssertionError, match="'label' for the answer and for the right label"):
            check_result_format(Circular, {})

    def test_a_result_format_with_absent_probability_columns_is_refused(self) -> None:
        class Hopeful(ResultFormat):
            def columns(self, columns: Sequence[str]) -> ResultColumns | None:
                by_class = {"positive": "p_positive"}
                named = ResultColumns("label", probabilities=by_class)
                return named if "label" in columns else None

        with pytest.raises(AssertionError, match=r"columns that do not exist: \['p_positive'\]"):
            check_result_format(Hopeful, {})

    def test_a_tracker_that_fails_on_unknown_numbers_is_refused(self) -> None:
        class Careless(Tracker):
            def log(self, record: Mapping[str, Any]) -> None:
                round(record.get("gradient_norm", 0.0))

        check_tracker(Tracker, {})
        with pytest.raises(TypeError):
            check_tracker(Careless, {})


class TestRecipes:
    @pytest.mark.parametrize("name", ["quickstart", "electra-base"])
    def test_bundled_recipes_pass(self, name: str) -> None:
        check_recipe(default_registry().find("register_recipes", name).target)

    def test_faults_of_a_recipe_are_named_with_their_line(self) -> None:
        Path("a.yaml").write_text("description: x\nextends: quickstart\ntraining:\n  epochz: 3\n")
        with pytest.raises(AssertionError, match=r"a\.yaml, line 4: training\.epochz: unknown key"):
            check_recipe("a.yaml")

    def test_a_recipe_without_description_is_refused(self) -> None:
        Path("a.yaml").write_text("extends: quickstart\n")
        with pytest.raises(AssertionError, match="give it a description"):
            check_recipe("a.yaml")

    def test_a_missing_recipe_file_is_named(self) -> None:
        with pytest.raises(InputError, match="does not exist"):
            check_recipe("gone.yaml")


class TestCommands:
    def test_commands_without_help_are_refused_at_every_level(self) -> None:
        group = click.Group("film", help="Films.")
        group.add_command(click.Command("rate", help="Rate one."))
        check_command(group)
        group.add_command(click.Command("bare"))
        with pytest.raises(AssertionError, match="The command 'film bare' has no help"):
            check_command(group)

    def test_a_command_whose_help_fails_is_refused(self) -> None:
        class Broken(click.Command):
            def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
                raise ValueError("no")

        with pytest.raises(AssertionError, match="--help ends with 1: ValueError"):
            check_command(Broken("film", help="Films."))


REVIEWS = """
from sentikit import hookimpl

@hookimpl
def register_datasets(register):
    register("film-reviews", f"{__name__}_parts:Reviews")
"""


class TestPlugins:
    def test_an_installed_plugin_is_checked_by_name(self, site: SitePackages) -> None:
        site.add_plugin("film", REVIEWS)
        site.add_module("film_parts", PART_MODULE)
        check_plugin("film")
        check_plugin("film", settings={"film-reviews": {}})

    def test_a_plugin_module_that_is_not_installed_is_checked(self, site: SitePackages) -> None:
        site.add_module("film", REVIEWS)
        site.add_module("film_parts", PART_MODULE)
        import film

        check_plugin(film)

    def test_given_settings_make_the_kit_run_a_component(self, site: SitePackages) -> None:
        site.add_plugin("film", REVIEWS)
        site.add_module("film_parts", PART_MODULE.replace('"fine", "bad"', '"fine", ""'))
        check_plugin("film")
        with pytest.raises(AssertionError, match=r"dataset film-reviews: .* has an empty text"):
            check_plugin("film", settings={"film-reviews": {}})

    def test_all_problems_of_a_plugin_are_reported_at_once(self, site: SitePackages) -> None:
        heads = REVIEWS.replace("datasets", "heads").replace("from sentikit import hookimpl", "")
        site.add_plugin("film", REVIEWS + heads + "import pydantic\n")
        with pytest.raises(AssertionError) as caught:
            check_plugin("film")
        message = str(caught.value)
        assert "loading it imports pydantic. Register 'module:Class' texts" in message
        assert "dataset film-reviews: The dataset 'film-reviews' of plugin 'film' cannot" in message
        assert "head film-reviews: The head 'film-reviews'" in message

    def test_a_plugin_that_a_busy_machine_once_loads_slowly_passes(
        self, site: SitePackages, tmp_path: Path
    ) -> None:
        once = tmp_path / "once"
        busy = "import pathlib, sys, time\n"
        busy += f"once = pathlib.Path({str(once)!r})\n"
        # Only the measuring process has been started by `-c`.
        busy += "if sys.argv[0] == '-c' and not once.exists():\n    once.touch()\n"
        busy += "    time.sleep(0.5)\n"
        site.add_plugin("film", busy + REVIEWS)
        site.add_module("film_parts", PART_MODULE)
        check_plugin("film")
        assert once.exists()

    def test_a_plugin_that_registers_nothing_is_refused(self, site: SitePackages) -> None:
        site.add_plugin("film", REVIEWS.replace("    register(", "    print("))
        with pytest.raises(AssertionError, match="it registers nothing"):
            check_plugin("film")

    def test_a_plugin_that_fails_to_load_is_refused(self, site: SitePackages) -> None:
        site.add_plugin("film", "import no_such_module")
        with pytest.raises(AssertionError, match="ModuleNotFoundError"):
            check_plugin("film")

    def test_disabled_plugins_with_the_same_names_are_ignored(
        self, site: SitePackages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("film", "food"):
            site.add_plugin(name, REVIEWS)
            site.add_module(f"{name}_parts", PART_MODULE)
        with pytest.raises(AssertionError, match="is also claimed by plugin 'food'"):
            check_plugin("film")
        monkeypatch.setenv("SENTIKIT_DISABLE_PLUGINS", "food")
        check_plugin("film")
        with pytest.raises(AssertionError, match="switched off by SENTIKIT_DISABLE_PLUGINS"):
            check_plugin("food")

    def test_an_unknown_plugin_is_named(self) -> None:
        with pytest.raises(AssertionError, match="There is no plugin named 'headz'"):
            check_plugin("headz")
        with pytest.raises(AssertionError):
            check_plugin(types.ModuleType("never_installed"))
