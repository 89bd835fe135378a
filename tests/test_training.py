"""Training: a run folder with the best weights, honest scores, and every option working."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from several_processes import end, start

import sentikit as toolkit
from sentikit.cli import sentikit
from sentikit.errors import InputError

OPTIMIZERS = ("adamw", "adam", "sgd", "adagrad", "rmsprop")
SCHEDULES = (
    "{name: constant}",
    "{name: linear}",
    "{name: cosine}",
    "{name: cosine_warm_restarts, t_0: 1}",
    "{name: step, step_size: 1}",
    "{name: multi_step, milestones: [1]}",
    "{name: exponential}",
    "{name: cyclic, epochs_up: 0.5}",
    "{name: reduce_on_plateau, patience: 0}",
)


def train(recipe: Path, *settings: str, extra: tuple[str, ...] = ()) -> Result:
    arguments = ["train", "--recipe", str(recipe), "--output", "run", *extra]
    for setting in settings:
        arguments += ["--set", setting]
    return CliRunner().invoke(sentikit, arguments)


def log(kind: str, run: Path = Path("run")) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def read(name: str, run: Path = Path("run")) -> Any:
    return json.loads((run / name).read_text())


def test_a_training_run_contains_all_documented_files(tiny_recipe: Path) -> None:
    result = train(tiny_recipe, "training.epochs=6", "training.lr=3e-3")
    assert result.exit_code == 0, result.output
    manifest, metrics = read("manifest.json"), read("metrics.json")
    assert manifest["status"] == "finished"
    assert manifest["recipe"]["training"]["epochs"] == 6
    assert manifest["dataset"] == {
        "dataset": "files",
        "split": "test",
        "examples": 48,
        "fingerprint": manifest["data"]["test"]["fingerprint"],
    }
    assert {"torch", "transformers", "sentikit", "python"} <= manifest["versions"].keys()
    assert manifest["cost_usd"] == {}
    rows = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 48
    assert set(rows[0]) == {"id", "text", "gold", "label", "probabilities", "source"}
    assert math.isclose(sum(rows[0]["probabilities"].values()), 1, abs_tol=1e-5)
    right = sum(row["label"] == row["gold"] for row in rows)
    assert metrics["overall"]["accuracy"] == right / 48
    assert set(metrics["by_source"]) == {"shop", "cinema"}
    assert metrics["overall"]["macro_f1"] > 0.8
    assert not Path("run/checkpoints").exists()


def test_the_saved_model_reproduces_the_runs_predictions(tiny_recipe: Path) -> None:
    train(tiny_recipe)
    rows = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    classifier = toolkit.load("run")
    probabilities = classifier.predict_proba([row["text"] for row in rows])
    assert classifier.labels == ("negative", "neutral", "positive")
    recorded = [[row["probabilities"][label] for label in classifier.labels] for row in rows]
    assert np.allclose(probabilities, recorded, atol=2e-6)
    assert classifier.predict([rows[0]["text"]]) == [rows[0]["label"]]


def test_the_same_recipe_gives_the_same_run_and_another_seed_another(tiny_recipe: Path) -> None:
    train(tiny_recipe)
    first = Path("run").rename("first")
    train(tiny_recipe)
    assert [r["loss"] for r in log("step")] == [r["loss"] for r in log("step", first)]
    assert Path("run/predictions.jsonl").read_text() == (first / "predictions.jsonl").read_text()
    Path("run").rename("second")
    train(tiny_recipe, "training.seed=1")
    assert [r["loss"] for r in log("step")] != [r["loss"] for r in log("step", first)]


def test_the_best_epoch_is_kept_instead_of_the_last(tiny_recipe: Path) -> None:
    # A rate this high learns at first and then ruins what it has learnt.
    train(
        tiny_recipe, "training.epochs=8", "training.lr=5e-2", "training.schedule={name: constant}"
    )
    epochs = log("epoch")
    scores = [record["validation_macro_f1"] for record in epochs]
    best = read("manifest.json")["best_epoch"]
    assert scores[best - 1] == max(scores)
    result = CliRunner().invoke(sentikit, ["evaluate", "run", "--split", "validation", "--json"])
    assert json.loads(result.stdout)["overall"]["macro_f1"] == pytest.approx(max(scores))


def test_the_best_epoch_may_be_chosen_by_a_plugins_metric(tiny_recipe: Path) -> None:
    metric = "quadratic_weighted_kappa"
    result = train(
        tiny_recipe,
        "training.epochs=6",
        "training.lr=2e-2",
        f"training.early_stopping={{metric: {metric}, target: 0.999}}",
    )
    assert result.exit_code == 0, result.output
    scores = [record[f"validation_{metric}"] for record in log("epoch")]
    best = read("manifest.json")["best_epoch"]
    assert scores[best - 1] == max(scores) > min(scores)
    evaluated = CliRunner().invoke(sentikit, ["evaluate", "run", "--split", "validation", "--json"])
    own = json.loads(evaluated.stdout)["overall"]["metrics"][metric]
    assert own == pytest.approx(max(scores))


def test_an_ordinal_metric_may_be_watched_for_ordered_custom_classes(
    tiny_recipe: Path,
) -> None:
    metric = "quadratic_weighted_kappa"
    result = train(
        tiny_recipe,
        "training.epochs=1",
        f"training.early_stopping.metric={metric}",
        "dataset.labels={classes: [negative, positive, neutral], ordered: true}",
    )
    assert result.exit_code == 0, result.output
    assert f"validation_{metric}" in log("epoch")[0]


def test_an_unknown_or_unsuitable_metric_is_refused_before_training(
    tiny_recipe: Path,
) -> None:
    unknown = train(tiny_recipe, "training.early_stopping.metric=quadratic_weigthed_kappa")
    assert unknown.exit_code == 2
    assert "training.early_stopping.metric" in unknown.output
    assert "Did you mean 'quadratic_weighted_kappa'?" in unknown.output
    unsuitable = train(
        tiny_recipe,
        "training.early_stopping.metric=quadratic_weighted_kappa",
        "dataset.labels=bin_neg",
    )
    assert unsuitable.exit_code == 2
    assert "cannot score the classes" in unsuitable.output
    assert not Path("run").exists()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_trains_with_every_schedule(
    tiny_recipe: Path, optimizer: str, schedule: str
) -> None:
    rate = 0.2 if optimizer == "sgd" else 2e-2 if optimizer == "adagrad" else 2e-3
    result = train(
        tiny_recipe,
        f"training.optimizer.name={optimizer}",
        f"training.schedule={schedule}",
        f"training.lr={rate}",
        "training.epochs=4",
    )
    assert result.exit_code == 0, result.output
    epochs = log("epoch")
    assert min(r["training_loss"] for r in epochs) < epochs[0]["training_loss"]


def test_gradient_accumulation_gives_the_steps_of_the_whole_batch(tiny_recipe: Path) -> None:
    quiet = ("encoder.model=quiet", "head.dropout=0", "training.epochs=2")
    from tiny_models import make_encoder

    make_encoder(Path("quiet"), dropout=0.0)
    train(tiny_recipe, *quiet, "training.batch_size=40")
    whole = Path("run").rename("whole")
    train(tiny_recipe, *quiet, "training.batch_size=40", "training.micro_batch_size=5")
    losses = [[r["loss"] for r in log("step", run)] for run in (whole, Path("run"))]
    assert len(losses[0]) == 2 * math.ceil(96 / 40)
    assert np.allclose(losses[0], losses[1], atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "moved"),
    [
        ("all", {"embeddings", "layer.0", "layer.1", "head"}),
        ("1", {"layer.1", "head"}),
        ("none", {"head"}),
    ],
)
def test_only_the_chosen_layers_are_trained(
    tiny_recipe: Path, tiny_encoder: Path, layers: str, moved: set[str]
) -> None:
    from safetensors.torch import load_file

    train(tiny_recipe, f"training.finetune_layers={layers}", "training.epochs=1")
    before = {f"encoder.{k}": v for k, v in load_file(tiny_encoder / "model.safetensors").items()}
    after = load_file("run/model/model.safetensors")
    changed = {
        name for name, value in after.items() if not value.equal(before.get(name, value + 1))
    }
    places = ("embeddings.", "layer.0", "layer.1", "head")
    assert {p.rstrip(".") for p in places if any(p in name for name in changed)} == moved


def test_a_frozen_encoder_embeds_each_text_once(tiny_recipe: Path) -> None:
    result = train(
        tiny_recipe,
        "training.finetune_layers=none",
        "training.lr=5e-2",
        "training.epochs=30",
        "training.weight_decay=0",
    )
    assert result.exit_code == 0, result.output
    assert read("metrics.json")["overall"]["macro_f1"] > 0.6
    assert toolkit.load("run").predict(["the film was great"])[0] in (
        "negative",
        "neutral",
        "positive",
    )


def test_layer_decay_gives_each_layer_its_rate(tiny_recipe: Path) -> None:
    words = ["train", "--recipe", str(tiny_recipe), "--dry-run", "--json"]
    for setting in ("training.layer_decay=0.5", "training.lr=1", "training.head_lr=4"):
        words += ["--set", setting]
    result = CliRunner().invoke(sentikit, words)
    groups = json.loads(result.stdout)["groups"]
    rates = {group["name"].removesuffix(", no decay"): group["lr"] for group in groups}
    assert rates == {"embeddings": 0.25, "layer 0": 0.5, "layer 1": 1, "head": 4}
    assert {g["weight_decay"] for g in groups if g["name"].endswith("no decay")} == {0.0}
    plan = json.loads(result.stdout)
    assert sum(group["parameters"] for group in groups) == plan["parameters"]


def test_early_stopping_stops_with_a_reason(tiny_recipe: Path) -> None:
    result = train(
        tiny_recipe,
        "training.epochs=40",
        "training.lr=1e-9",
        "training.early_stopping={patience: 2}",
    )
    assert len(log("epoch")) < 40
    assert "has not improved for 2 epochs" in result.stderr
    assert "has not improved" in read("manifest.json")["stopped"]


def test_a_target_score_ends_training(tiny_recipe: Path) -> None:
    train(
        tiny_recipe,
        "training.epochs=40",
        "training.lr=3e-3",
        "training.early_stopping={metric: loss, target: 1.0}",
    )
    assert log("epoch")[-1]["validation_loss"] <= 1.0
    assert len(log("epoch")) < 40


# With one step an epoch, only the validation split sees what the step has done.
@pytest.mark.parametrize("batch_size", [16, 1000])
def test_a_loss_that_turns_nan_at_once_is_an_error_with_advice(
    tiny_recipe: Path, batch_size: int
) -> None:
    hot = ("training.lr=1e30", "training.clip_norm=null", "training.warmup=0")
    result = train(tiny_recipe, *hot, f"training.batch_size={batch_size}")
    assert result.exit_code == 1
    assert "NaN" in result.stderr
    assert "training.lr" in result.stderr
    assert read("manifest.json")["status"] == "failed"
    assert not Path("run/model").exists()


def interactive(recipe: Path, typed: str | io.BufferedReader, *settings: str) -> Result:
    arguments = ["train", "--recipe", str(recipe), "--output", "run", "--interactive"]
    for setting in settings:
        arguments += ["--set", setting]
    return CliRunner().invoke(sentikit, arguments, input=typed)


@pytest.mark.posix
def test_ctrl_c_at_the_interactive_prompt_quits_at_once(tiny_recipe: Path) -> None:
    class Silent(io.FileIO):
        """The end of a pipe that nobody writes to; Ctrl-C comes while it is read."""

        def readinto(self, buffer: Any) -> int:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            return super().readinto(buffer)

    reading, writing = os.pipe()
    with Silent(reading) as silent, open(writing, "wb"):
        result = interactive(tiny_recipe, io.BufferedReader(silent))
    assert result.exit_code == 130
    assert "type help" in result.stderr
    assert "--resume" in result.stderr
    assert len(log("epoch")) == 1


def test_the_metric_of_the_best_epoch_may_not_change_midway(tiny_recipe: Path) -> None:
    assert interactive(tiny_recipe, "quit\n").exit_code == 130
    words = ["train", "--recipe", str(tiny_recipe), "--output", "run", "--resume", "--set"]
    changed = CliRunner().invoke(sentikit, [*words, "training.early_stopping.metric=loss"])
    assert changed.exit_code == 2
    assert "Resume with the original settings" in changed.stderr
    patient = CliRunner().invoke(sentikit, [*words, "training.early_stopping.patience=5"])
    assert patient.exit_code == 0, patient.output


def test_a_loss_that_turns_nan_later_keeps_the_best_weights(tiny_recipe: Path) -> None:
    result = interactive(
        tiny_recipe, "lr 1e30\ncontinue\n", "training.epochs=3", "training.clip_norm=null"
    )
    assert result.exit_code == 0, result.output
    assert "NaN" in result.stderr
    assert read("manifest.json")["best_epoch"] == 1
    assert "NaN" in read("manifest.json")["stopped"]
    score = read("metrics.json")["overall"]["macro_f1"]
    assert 0 < score <= 1
    assert len(log("epoch")) == 1


def test_a_loss_that_is_nan_between_two_log_lines_is_in_no_checkpoint(tiny_recipe: Path) -> None:
    often = "training.checkpoints.every_minutes=1e-9"
    result = interactive(
        tiny_recipe,
        "lr 1e30\ncontinue\n",
        *("training.epochs=3", "training.clip_norm=null", "training.log_every=1000", often),
    )
    assert result.exit_code == 0, result.output
    assert "the best weights are kept" in result.stderr
    assert read("manifest.json")["best_epoch"] == 1


@pytest.mark.parametrize(("tolerance", "epochs"), [(0.0, 6), (10.0, 3)])
def test_the_tolerance_delays_stopping_but_not_the_choice_of_weights(
    tiny_recipe: Path, tolerance: float, epochs: int
) -> None:
    watched = f"{{metric: loss, patience: 2, tolerance: {tolerance}}}"
    train(
        tiny_recipe, "training.epochs=6", "training.lr=3e-3", f"training.early_stopping={watched}"
    )
    losses = [record["validation_loss"] for record in log("epoch")]
    assert len(losses) == epochs
    assert read("manifest.json")["best_epoch"] == losses.index(min(losses)) + 1 > 1


@pytest.mark.parametrize("metric", ["macro_f1", "loss"])
def test_a_collapse_to_one_class_is_reported(tiny_recipe: Path, metric: str) -> None:
    settings = ("training.epochs=8", "training.lr=3e-3", "training.clip_norm=null")
    watched = f"training.early_stopping.metric={metric}"
    result = interactive(tiny_recipe, "continue 6\nlr 10\ncontinue\n", *settings, watched)
    assert result.exit_code == 0, result.output
    assert "Training collapsed in epoch 8" in result.stderr or "NaN" in result.stderr
    assert read("metrics.json")["overall"]["macro_f1"] > 0.6


def test_the_user_may_change_settings_between_epochs(tiny_recipe: Path) -> None:
    typed = (
        "lrr 3\nlr\ncontinue soon\nmemory\nepochs 5\npatience = 9\ncheckpoint 2\nlr=1e-4\nhelp\n"
        "continue 2\nquit\n"
    )
    result = interactive(tiny_recipe, typed, "training.epochs=3", "training.lr=1e-3")
    assert result.exit_code == 130
    for expected in (
        "Did you mean 'lr'?",
        "lr needs one number",
        "continue: Input should be a valid integer",
        "MiB",
        "epochs will be 5",
        "patience will be 9",
        "--resume",
    ):
        assert expected in result.stderr
    assert len(log("epoch")) == 3
    assert max(r["lr"] for r in log("step") if r["epoch"] > 1) <= 1e-4
    resumed = train(tiny_recipe, "training.epochs=3", "training.lr=1e-3", extra=("--resume",))
    assert resumed.exit_code == 0, resumed.output
    assert [record["epoch"] for record in log("epoch")] == [1, 2, 3, 4, 5]


def test_the_end_of_input_means_continue(tiny_recipe: Path) -> None:
    assert interactive(tiny_recipe, "", "training.epochs=3").exit_code == 0
    assert len(log("epoch")) == 3


def test_class_weights_and_label_smoothing_change_the_loss(tiny_recipe: Path) -> None:
    train(tiny_recipe)
    plain = Path("run").rename("plain")
    train(tiny_recipe, "training.label_smoothing=0.2")
    smoothed = Path("run").rename("smoothed")
    train(tiny_recipe, "training.class_weights={negative: 5, neutral: 1, positive: 1}")
    first = [log("step", run)[0]["loss"] for run in (plain, smoothed, Path("run"))]
    assert len(set(first)) == 3


def test_a_dataset_without_a_test_split_is_scored_on_validation(tiny_recipe: Path) -> None:
    train(tiny_recipe, "dataset.splits={test: null}")
    assert read("metrics.json")["split"] == "validation"


def test_another_dataset_can_be_used_for_evaluation(tiny_recipe: Path) -> None:
    train(tiny_recipe, "evaluation_dataset={name: demo}")
    assert read("manifest.json")["dataset"]["dataset"] == "demo"
    assert len(Path("run/predictions.jsonl").read_text().splitlines()) == 141


@pytest.mark.parametrize("template", ["bin_neg", "bin_neu", "bin_pos"])
def test_binary_label_schemes_train(tiny_recipe: Path, template: str) -> None:
    result = train(tiny_recipe, f"dataset.labels={template}", "training.epochs=1")
    assert result.exit_code == 0, result.output
    assert len(toolkit.load("run").labels) == 2


def test_a_binary_threshold_is_applied(tiny_recipe: Path) -> None:
    train(tiny_recipe, "dataset.labels=bin_pos", "dataset.threshold=0.999", "training.epochs=1")
    rows = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    assert {row["label"] for row in rows} == {"non-positive"}
    assert set(toolkit.load("run").predict(["the film was great"])) == {"non-positive"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["training.micro_batch_size=7"], "does not divide"),
        (["training.warmup=1000"], "steps, but training has only"),
        (["training.class_weights={good: 1}"], "unknown class 'good'"),
        (["training.finetune_layers=9"], "the encoder has 2"),
        (["training.precision=fp16"], "fp16 needs a GPU"),
        (["training.optimizer={name: adamw, momentum: 0.9}"], "momentum"),
        (["training.optimizer={name: sgd, nesterov: true}"], "nesterov needs a momentum"),
        (["dataset.validation=null"], "validation_holdout"),
        (["dataset.validation_holdout=500"], "Lower it"),
        (["encoder.model=./nowhere"], "has no config.json"),
        (
            ["dataset.labels=bin_neg", "evaluation_dataset={name: demo}"],
            "the classes are negative, neutral, positive, but those of dataset are non-negative",
        ),
        (
            ["dataset.validation_holdout=5", "evaluation_dataset={name: demo}"],
            "is not used if evaluation_dataset is set",
        ),
    ],
)
def test_impossible_recipes_are_refused_before_anything_is_written(
    tiny_recipe: Path, settings: list[str], expected: str
) -> None:
    result = train(tiny_recipe, *settings)
    assert result.exit_code == 2, result.output
    assert expected in result.stderr
    assert not Path("run").exists()


def test_texts_longer_than_the_encoder_reads_are_truncated_and_reported(
    tiny_recipe: Path, reviews: Path
) -> None:
    rows = (reviews / "train.csv").read_text().replace("\n", " very" * 500 + "\n", 3)
    Path("long.csv").write_text(rows.replace(" very" * 500, "", 1))
    settings = ("dataset.train=long.csv", "encoder.max_length=1024", "training.epochs=1")
    result = train(tiny_recipe, *settings)
    assert result.exit_code == 0, result.output
    assert "this encoder has 130 positions" in result.stderr
    assert len(toolkit.load("run").predict(["very " * 2000])) == 1


def test_a_class_without_training_examples_is_reported(tiny_recipe: Path, reviews: Path) -> None:
    lines = (reviews / "train.csv").read_text().splitlines()
    Path("two.csv").write_text("\n".join(li for li in lines if ",neutral," not in li) + "\n")
    result = train(tiny_recipe, "dataset.train=two.csv", "training.epochs=1")
    assert result.exit_code == 0, result.output
    assert "No train text is labelled 'neutral', so such a class counts as 0" in result.stderr
    assert "No validation text" not in result.stderr


def test_training_data_of_a_single_class_are_refused(tiny_recipe: Path, reviews: Path) -> None:
    lines = (reviews / "train.csv").read_text().splitlines()
    same = [lines[0], *(line for line in lines if ",positive," in line)]
    Path("same.csv").write_text("\n".join(same) + "\n")
    result = train(tiny_recipe, "dataset.train=same.csv")
    assert result.exit_code == 2
    assert "only the class 'positive'" in result.stderr


def test_a_folder_that_holds_a_run_is_not_overwritten(tiny_recipe: Path) -> None:
    train(tiny_recipe)
    before = Path("run/predictions.jsonl").read_text()
    result = train(tiny_recipe)
    assert result.exit_code == 2
    assert "already holds another run" in result.stderr
    assert Path("run/predictions.jsonl").read_text() == before


def test_two_processes_cannot_train_the_same_run(tiny_recipe: Path) -> None:
    from sentikit.runs.folder import RunFolder

    run = RunFolder(Path("run"))
    run.path.mkdir()
    with run.locked():
        result = train(tiny_recipe)
    assert result.exit_code == 2
    assert "in use by another" in result.stderr


@pytest.mark.parametrize("other", ["minilm-head", "minilm-2b", "minilmx"])
def test_a_run_of_another_recipe_is_not_resumed(other: str) -> None:
    from sentikit.runs.folder import INTERRUPTED, RunFolder, choose_run_folder

    for name in (other, "minilm-2"):
        (Path("runs") / name).mkdir(parents=True)
        RunFolder(Path("runs") / name).update_manifest(status=INTERRUPTED)
        if name == other:
            with pytest.raises(InputError, match="no unfinished run of 'minilm'"):
                choose_run_folder(None, "minilm", True, Path("runs"))
    assert choose_run_folder(None, "minilm", True, Path("runs")).path == Path("runs/minilm-2")


def test_a_run_created_meanwhile_is_not_overwritten() -> None:
    """As where a second command worked longer, and ended after the first."""
    from sentikit.runs.folder import FINISHED, choose_run_folder

    first, second = (choose_run_folder(Path("run"), "run", False, Path("runs")) for _ in range(2))
    with first.locked(new=True):
        first.update_manifest(status=FINISHED)
    with pytest.raises(InputError, match="already holds another run"), second.locked(new=True):
        second.update_manifest(status="running")
    assert first.status == FINISHED


def test_a_missing_device_is_refused(tiny_recipe: Path) -> None:
    result = train(tiny_recipe, extra=("--device", "cuda:7"))
    assert result.exit_code == 2
    assert "CUDA devices" in result.stderr
    assert "is not a device" in train(tiny_recipe, extra=("--device", "toaster")).stderr


def test_out_of_memory_is_reported_without_a_traceback(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentikit.training.trainer import Trainer

    def run(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes.")

    monkeypatch.setattr(Trainer, "run", run)
    result = train(tiny_recipe)
    assert result.exit_code == 1
    assert "There is not enough memory" in result.stderr
    assert "training.micro_batch_size" in result.stderr


def test_a_schedule_longer_than_training_is_reported(tiny_recipe: Path) -> None:
    result = train(tiny_recipe, "training.schedule={name: step, step_size: 50}")
    assert result.exit_code == 0
    assert "step needs 50 epochs" in result.stderr


def test_half_precision_on_a_slower_device_is_reported(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    result = train(tiny_recipe, "training.precision=bf16", "training.epochs=1")
    assert result.exit_code == 0, result.output
    assert "bf16 is several times slower than fp32 on this device" in result.stderr
    assert read("manifest.json")["precision"] == "bf16"


def test_training_imports_no_report_vote_or_plotting_code(tiny_recipe: Path) -> None:
    program = (
        "import sys\n"
        "from sentikit.cli import main\n"
        f"sys.argv = ['sentikit', 'train', '--recipe', {str(tiny_recipe)!r}, '--output', 'run',\n"
        "    '--set', 'training.epochs=1']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "rooms = ('reports', 'ensembles', 'llm', 'finetuning', 'assurance', 'labelling')\n"
        "loaded = [m for m in sys.modules if m.startswith(tuple(f'sentikit.{r}' for r in rooms))]\n"
        "print(loaded, 'matplotlib' in sys.modules)\n"
    )
    outcome = end(start([sys.executable, "-c", program]))
    assert outcome.code == 0, outcome.error
    assert outcome.output.splitlines()[-1] == "[] False"
