"""Engines: the same steps and the same model, however many processes share the work."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from several_processes import SENTIKIT as PROGRAM
from several_processes import (
    Outcome,
    children,
    end,
    log,
    run,
    run_ranks,
    start,
    wait_for_steps,
)

import sentikit as toolkit
from sentikit.cli import sentikit
from sentikit.devices import Hardware
from sentikit.registry import default_registry

#: Accumulation (15 of 30 texts at once), a last batch of 40 instead of 60, layer-wise groups, a
#: head with its own rate, a frozen lower layer, clipping: 20 steps of all that.
STEPS = (
    "head.dropout=0",
    "training.epochs=4",
    "training.batch_size=60",
    "training.micro_batch_size=15",
    "training.layer_decay=0.5",
    "training.head_lr=2e-3",
    "training.finetune_layers=1",
    "training.clip_norm=0.5",
    "training.precision=fp32",
)
HAS_DEEPSPEED = importlib.util.find_spec("deepspeed") is not None
needs_deepspeed = pytest.mark.skipif(not HAS_DEEPSPEED, reason="deepspeed is not installed")


@pytest.fixture(scope="session")
def calm_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ELECTRA without dropout, which would differ with the number of processes."""
    from tiny_models import make_encoder

    return make_encoder(tmp_path_factory.mktemp("models") / "calm", dropout=0.0)


@pytest.fixture(scope="session")
def many_reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews whose validation and test splits do not divide evenly among two processes."""
    from tiny_models import make_reviews

    return make_reviews(tmp_path_factory.mktemp("many"), rows=280)


@pytest.fixture(scope="module")
def recipe(
    calm_encoder: Path, many_reviews: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "calm.yaml"
    path.write_text(
        f"""dataset:
  name: files
  train: {many_reviews}/train.csv
  validation: {many_reviews}/validation.csv
  test: {many_reviews}/test.csv
encoder: {{name: transformers, model: {calm_encoder}, max_length: 64}}
head: {{name: linear, pooling: mean}}
training: {{epochs: 2, batch_size: 16, lr: 1e-3, log_every: 1}}
"""
    )
    return path


def arguments(recipe: Path, output: str, *settings: str) -> list[str]:
    words = ["train", "--recipe", str(recipe), "--output", output]
    for setting in settings:
        words += ["--set", setting]
    return words


@pytest.fixture(scope="module")
def zero(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of DeepSpeed's settings under which ZeRO 3 cuts every tensor."""
    path = tmp_path_factory.mktemp("configurations") / "zero.json"
    path.write_text(json.dumps({"zero_optimization": {"stage3_param_persistence_threshold": 0}}))
    return path


@pytest.fixture(scope="module")
def alone(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the run that one process trained with settings, trained once for all tests."""

    @cache
    def trained(*settings: str) -> Path:
        folder = tmp_path_factory.mktemp("alone") / "run"
        result = train(recipe, str(folder), *settings)
        assert result.exit_code == 0, result.output
        return folder

    return trained


@dataclass(frozen=True)
class Together:
    """What two processes wrote that trained by one engine after another, then examined engines."""

    outcomes: list[Outcome]
    folder: Path


@pytest.fixture(scope="module")
def together(recipe: Path, zero: Path, tmp_path_factory: pytest.TempPathFactory) -> Together:
    folder = tmp_path_factory.mktemp("together")
    commands = [
        [*arguments(recipe, f"stage {stage}", *STEPS, *deepspeed(stage, zero)), "--json"]
        for stage in range(4)
    ]
    program = str(Path(__file__).with_name("engine_processes.py"))
    words = [sys.executable, program, str(zero), json.dumps(commands)]
    return Together(run_ranks((), folders=[folder, folder], command=words), folder)


def deepspeed(stage: int, config: Path) -> list[str]:
    return [f"engine={{name: deepspeed, stage: {stage}, config: {str(config)!r}}}"]


def train(recipe: Path, output: str, *settings: str) -> Result:
    return CliRunner().invoke(sentikit, arguments(recipe, output, *settings))


def assert_alike(first: Path, second: Path, tolerance: float) -> None:
    """Compare losses, gradient norms, validation and final weights."""
    for kind, keys in {
        "step": ("loss", "gradient_norm", "lr"),
        "epoch": ("training_loss", "validation_loss", "validation_macro_f1"),
    }.items():
        records, others = log(first, kind), log(second, kind)
        assert [r["step"] for r in records] == [r["step"] for r in others]
        for key in keys:
            values, other = ([r[key] for r in several] for several in (records, others))
            assert np.allclose(values, other, rtol=tolerance, atol=tolerance), key
    weights, others = (load_file(path / "model/model.safetensors") for path in (first, second))
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.allclose(tensor, others[name], rtol=0, atol=10 * tolerance), name


def predicted(run_folder: Path) -> list[dict[str, Any]]:
    lines = (run_folder / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(
    "engine",
    [
        "stage: 2, offload_optimizer: true",
        "stage: 3, offload_optimizer: true, offload_parameters: true, config: ZERO",
    ],
)
def test_offloading_changes_placement_but_no_step(
    recipe: Path, alone: Callable[..., Path], zero: Path, engine: str
) -> None:
    section = engine.replace("ZERO", repr(str(zero)))
    result = train(recipe, "away", *STEPS, f"engine={{name: deepspeed, {section}}}")
    assert result.exit_code == 0, result.output
    assert_alike(alone(*STEPS), Path("away"), 1e-6)


def assert_two_processes_trained_as_one(one: Path, two: Path, printed: str) -> None:
    assert len(log(one, "step")) == 20
    assert max(record["gradient_norm"] for record in log(one, "step")) > 0.5
    assert_alike(one, two, 1e-6)
    # Standard output holds the result and nothing else, though two processes were at work.
    assert json.loads(printed)["run"] == two.name
    assert json.loads((two / "manifest.json").read_text())["processes"] == 2
    # Every text is judged once, in order, and an ordinary process loads the model.
    rows = predicted(two)
    assert [row["id"] for row in rows] == [row["id"] for row in predicted(one)]
    classifier = toolkit.load(two, precision="fp32")
    again = classifier.predict_proba([row["text"] for row in rows])
    recorded = [[row["probabilities"][label] for label in classifier.labels] for row in rows]
    assert np.allclose(again, recorded, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_two_processes_take_the_same_steps_as_one(recipe: Path, alone: Callable[..., Path]) -> None:
    words = arguments(recipe, "two", *STEPS, "engine.name=torch")
    outcome = run(*words, "--nproc", "2", "--json")
    assert outcome.code == 0, outcome.error
    assert_two_processes_trained_as_one(alone(*STEPS), Path("two"), outcome.output)


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_processes_with_deepspeed_take_the_same_steps_as_one(
    stage: int, together: Together, alone: Callable[..., Path]
) -> None:
    two = together.folder / f"stage {stage}"
    printed = two.with_suffix(".stdout").read_text()
    assert_two_processes_trained_as_one(alone(*STEPS), two, printed)


@pytest.mark.slow
@needs_deepspeed
def test_a_run_killed_and_resumed_by_another_engine_ends_the_same(recipe: Path, zero: Path) -> None:
    settings = (
        "head.dropout=0",
        "training.epochs=5",
        "training.batch_size=24",
        "training.layer_decay=0.7",
        "training.schedule={name: reduce_on_plateau, patience: 0}",
        "training.checkpoints.every_minutes=0.001",
        "training.precision=fp32",
    )
    assert train(recipe, "whole", *settings).exit_code == 0
    torch_engine = ["engine.name=torch"]
    relay = [
        (deepspeed(3, zero), 2),
        (torch_engine, 1),
        (deepspeed(3, zero), 2),
        (deepspeed(1, zero), 1),
        (torch_engine, 2),
        (deepspeed(2, zero), 1),
    ]
    for leg, (engine, processes) in enumerate(relay):
        words = arguments(recipe, "relay", *settings, *engine)
        words += ["--nproc", str(processes), *(["--resume"] if leg else [])]
        process = start([*PROGRAM, *words])
        if leg == len(relay) - 1:
            outcome = end(process)
            break
        wait_for_steps(process, Path("relay"), 10 * (leg + 1))
        # kill -9, all at once: nobody has time to save.
        for victim in [*children(process), process.pid]:
            os.kill(victim, signal.SIGKILL)
        end(process)
    assert outcome.code == 0, outcome.error
    assert "Resuming after step" in outcome.error
    assert_alike(Path("whole"), Path("relay"), 1e-5)


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("stage", [0, 1, 3])
@pytest.mark.parametrize("optimizer", ["sgd, momentum: 0.9", "adagrad", "rmsprop, momentum: 0.5"])
def test_deepspeed_runs_every_bundled_optimizer(
    recipe: Path, alone: Callable[..., Path], zero: Path, optimizer: str, stage: int
) -> None:
    settings = (*STEPS, f"training.optimizer={{name: {optimizer}}}")
    plain = alone(*settings)
    linear = torch.nn.functional.linear
    result = train(recipe, "zero", *settings, *deepspeed(stage, zero))
    assert result.exit_code == 0, result.output
    assert_alike(plain, Path("zero"), 2e-5)
    # Whoever trains another model in this process afterwards gets torch as it was.
    assert torch.nn.functional.linear is linear


@pytest.mark.slow
@needs_deepspeed
def test_both_engines_pass_the_conformance_kit_in_two_processes(together: Together) -> None:
    assert [outcome.code for outcome in together.outcomes] == [0, 0], together.outcomes


def half_precision_steps(name: str, settings: dict[str, Any], precision: str) -> Any:
    """Take steps whose loss is so large that fp16 overflows until the scale has come down."""
    from sentikit.plugins.plugin_kit.engines import tiny_training

    engine_class = default_registry().load("register_engines", name)
    engine = engine_class(engine_class.Settings(**settings))
    engine.start("cpu")
    training = tiny_training(engine, "adamw")
    plan = replace(training.plan, precision=precision)
    engine.prepare(training.model, training.groups, plan)
    for number in range(12):
        batch = training.batches[number % len(training.batches)]
        with engine.micro_step(last=True):
            logits = engine.forward(*batch.inputs)
            loss = torch.nn.functional.cross_entropy(logits, batch.gold)
            engine.backward(300 * loss)
        engine.step((0.05, 0.1))
    found = engine.weights(), engine.optimizer_state()
    engine.finish()
    return found


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_gradients_of_any_number_type_are_clipped_as_torch_clips_them(
    kind: torch.dtype, optimizer: str
) -> None:
    from sentikit.plugins.plugin_kit.engines import tiny_training

    engine_class = default_registry().load("register_engines", "torch")
    engine = engine_class(engine_class.Settings(graphs=False))
    engine.start("cpu")
    training = tiny_training(engine, optimizer)
    groups, batch = training.groups, training.batches[0]
    engine.prepare(training.model.to(kind), groups, replace(training.plan, clip_norm=0.01))
    loss = torch.nn.functional.cross_entropy(engine.forward(*batch.inputs), batch.gold)
    engine.backward(loss)
    parameters = [p for group in groups for p in group.parameters.values()]
    before = [p.grad.double().clone() for p in parameters]
    expected = torch.stack([g.norm() for g in before]).norm()
    assert expected > 0.1
    engine._optimizer.zero_grad = lambda **_: None
    norm = float(engine.step((0.01, 0.01)))
    engine.finish()
    assert norm == pytest.approx(float(expected), rel=0.02)
    for parameter, own in zip(parameters, before, strict=True):
        clipped = own * 0.01 / expected
        assert torch.allclose(parameter.grad.double(), clipped, rtol=0.03, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@needs_deepspeed
def test_half_precision_keeps_float32_weights_and_the_same_loss_scale(
    precision: str, stage: int
) -> None:
    weights, state = half_precision_steps("torch", {}, precision)
    others, other_state = half_precision_steps("deepspeed", {"stage": stage}, precision)
    assert state.keys() == other_state.keys()
    assert ("loss/scale" in state) == (precision == "fp16")
    if precision == "fp16":
        assert float(state["loss/scale"]) == float(other_state["loss/scale"]) < 2**16
        assert int(state["loss/growth"]) == int(other_state["loss/growth"])
    steps = [float(value) for key, value in state.items() if key.endswith("/step")]
    assert steps == [float(v) for key, v in other_state.items() if key.endswith("/step")]
    for name, tensor in weights.items():
        assert others[name].dtype == torch.float32
        assert torch.allclose(tensor, others[name], rtol=0, atol=1e-5), name


@pytest.mark.slow
@needs_deepspeed
def test_the_users_deepspeed_file_is_merged_and_unused_keys_are_reported(recipe: Path) -> None:
    given = {
        "zero_optimization": {
            "stage": 3,
            "reduce_bucket_size": 5000,
            "contiguous_gradients": False,
        },
        "train_batch_size": "auto",
        "gradient_clipping": "auto",
        "optimizer": {"type": "Adam", "params": {"lr": 1.0}},
        "bf16": {"enabled": True},
    }
    Path("mine.json").write_text(json.dumps(given))
    first = train(recipe, "first", "engine={name: deepspeed, config: mine.json}")
    assert first.exit_code == 0, first.output
    warning = next(line for line in first.output.splitlines() if "mine.json" in line)
    assert "optimizer (training.optimizer)" in warning
    assert "bf16 (training.precision)" in warning
    assert "train_batch_size" not in warning
    assert "stage" not in warning
    second = train(recipe, "second", "engine={name: deepspeed, config: mine.json, stage: 1}")
    assert "zero_optimization.stage (the engine section)" in second.output
    assert_alike(Path("first"), Path("second"), 1e-6)


@pytest.mark.parametrize(
    ("section", "file", "complaint"),
    [
        ("stage: 4", "{}", "engine.stage"),
        ("stagee: 1", "{}", "Did you mean 'stage'?"),
        ("config: nowhere.json", "{}", "nowhere.json does not exist"),
        ("config: ds.json", '{"a": 1,\n"b"', "ds.json, line 2: not valid JSON"),
        ("config: ds.json", "[1]", "must contain a JSON object"),
        ("config: ds.json", '{"zero_optimization": 3}', "zero_optimization must be an object"),
        ("config: ds.json", '{"zero_optimization": {"stage": true}}', "must be 0 to 3, not True"),
        ("stage: 0, offload_optimizer: true", "{}", "needs ZeRO stage 1, 2 or 3"),
        ("offload_parameters: true", "{}", "needs ZeRO stage 3, the stage is 2"),
    ],
)
@needs_deepspeed
def test_a_wrong_engine_section_is_refused(
    recipe: Path, section: str, file: str, complaint: str
) -> None:
    Path("ds.json").write_text(file)
    result = train(recipe, "run", f"engine={{name: deepspeed, {section}}}")
    assert result.exit_code == 2, result.output
    assert complaint in result.output
    assert not Path("run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refused", "key"),
    [
        ('{"zero_optimization": {"stage": 2, "reduce_bucket_size": -3}}', "reduce_bucket_size"),
        ('{"sparse_gradients": true}', "sparse_gradients"),
    ],
)
@needs_deepspeed
def test_a_file_that_deepspeed_refuses_is_named_with_its_reason(
    recipe: Path, refused: str, key: str
) -> None:
    Path("ds.json").write_text(refused)
    result = train(recipe, "run", "engine={name: deepspeed, config: ds.json}")
    assert result.exit_code == 2, result.output
    assert "DeepSpeed refuses ds.json" in result.output
    assert key in result.output


def test_a_missing_deepspeed_names_the_install_command(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    result = train(recipe, "run", "engine.name=deepspeed")
    assert result.exit_code == 2
    assert "pip install 'sentikit[deepspeed]'" in result.output
    deepspeed = default_registry().load("register_engines", "deepspeed")
    assert deepspeed.suits(Hardware(gpus=8, processes=8)) == 0


@needs_deepspeed
def test_an_outdated_deepspeed_is_refused(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "old/deepspeed-0.18.0.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: deepspeed\nVersion: 0.18.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "old"))
    result = train(recipe, "run", "engine.name=deepspeed")
    assert result.exit_code == 2
    assert "needs deepspeed 0.19.8 or newer, but 0.18.0 is installed" in result.output


@needs_deepspeed
def test_deepspeed_is_chosen_with_several_gpus() -> None:
    registry = default_registry()
    engines = {name: registry.load("register_engines", name) for name in ("torch", "deepspeed")}
    for gpus, best in ((0, "torch"), (1, "torch"), (2, "deepspeed")):
        hardware = Hardware(gpus=gpus, processes=1)
        assert max(engines, key=lambda name: engines[name].suits(hardware)) == best
