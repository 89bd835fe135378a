"""``sentikit gpt-finetune`` with the provider ``local``, on a tiny model in this process."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentikit.plugins.gpt_finetune.job import FineTuning, FineTuningOptions, _LearningBar
from several_processes import SENTIKIT, run, start, wait_for_steps
from tiny_language_models import make_language_model

from sentikit import InputError, export_model, load
from sentikit.extension import Interrupted, read_weights
from sentikit.finetuning.recipe import finetune_components
from sentikit.labelling.prompting import run_prompt
from sentikit.labelling.rows import LabellingOptions
from sentikit.llm.recipe import prompt_components
from sentikit.recipe.resolving import resolve_values
from sentikit.registry import default_registry

pytest.importorskip("peft")

ADAPTER = Path("model", "adapter_model.safetensors")
LABELS = ("negative", "neutral", "positive")
SETTINGS = {"epochs": 16, "batch_size": 8, "lr": 0.005, "precision": "fp32", "log_every": 4}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_language_model(tmp_path_factory.mktemp("models") / "llama", spread=0.2)


def fine_tuning(reviews: Path, base: Path | str, **finetune: Any) -> FineTuning:
    splits = {split: f"{reviews}/{split}.csv" for split in ("train", "validation", "test")}
    recipe = {
        "kind": "finetune",
        "dataset": {"name": "files", **splits},
        "strategy": {"name": "minimal"},
        "finetune": {"provider": "local", "model": str(base), **SETTINGS, **finetune},
        "engine": {"name": "torch"},
    }
    return FineTuning(
        finetune_components(resolve_values(recipe, "tiny", "the test"), default_registry())
    )


def learn(job: FineTuning, path: str | Path = "tuned", **options: Any) -> Path:
    chosen = FineTuningOptions(device="cpu", threads=1, **options)
    return job.run(Path(path), chosen).path


@pytest.fixture(scope="module")
def tuned(base: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model was fine-tuned on the reviews."""
    return learn(fine_tuning(reviews, base), tmp_path_factory.mktemp("runs") / "tuned")


@pytest.fixture(scope="module")
def uninterrupted(base: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few epochs, to compare with one that is stopped and resumed."""
    return learn(short_job(reviews, base), tmp_path_factory.mktemp("runs") / "tuned")


def short_job(reviews: Path, base: Path) -> FineTuning:
    return fine_tuning(reviews, base, epochs=4)


def ask(model: Path | str, reviews: Path, path: str, **llm: Any) -> dict[str, Any]:
    """Prompt a model for the test split and return its metrics."""
    recipe = {
        "kind": "prompt",
        "dataset": {"name": "files", "test": f"{reviews}/test.csv"},
        "strategy": {"name": "minimal"},
        "llm": {
            "backend": "local",
            "model": str(model),
            "device": "cpu",
            "precision": "fp32",
            **llm,
        },
    }
    components = prompt_components(resolve_values(recipe, "asked", "the test"), default_registry())
    run_prompt(components, Path(path), LabellingOptions())
    return json.loads(Path(path, "metrics.json").read_text())  # type: ignore[no-any-return]


def rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path, "predictions.jsonl").read_text().splitlines()]


def test_a_locally_fine_tuned_model_is_prompted_as_it_was_trained(
    tuned: Path, base: Path, reviews: Path
) -> None:
    base_score = ask(base, reviews, "base-asked")["overall"]["macro_f1"]
    tuned_score = ask(tuned, reviews, "asked")["overall"]["macro_f1"]
    assert tuned_score > 0.8 > base_score + 0.3
    assert all(abs(sum(row["probabilities"].values()) - 1) < 1e-5 for row in rows("asked"))


def test_a_local_fine_tuning_run_records_losses_and_scores(tuned: Path, base: Path) -> None:
    manifest = json.loads((tuned / "manifest.json").read_text())
    assert (manifest["status"], manifest["kind"]) == ("finished", "finetune")
    assert manifest["base_model"] == str(base)
    assert manifest["cost_usd"] == {}
    metrics = json.loads((tuned / "metrics.json").read_text())
    log = [json.loads(line) for line in (tuned / "log.jsonl").read_text().splitlines()]
    epochs = [record for record in log if record["kind"] == "epoch"]
    best = max(epochs, key=lambda record: record["validation_macro_f1"])
    assert metrics["best_epoch"] == best["epoch"]
    assert metrics["validation_macro_f1"] == best["validation_macro_f1"]
    assert epochs[-1]["training_loss"] < epochs[0]["training_loss"] / 2
    assert not (tuned / "checkpoints").exists()


def test_an_epochs_line_names_macro_f1_as_the_field_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = {"training_loss": 0.5, "validation_macro_f1": 0.75, "validation_accuracy": 0.8}
    _LearningBar(shown=False).show({"kind": "epoch", "epoch": 1, **record})
    expected = "training loss 0.5000  validation macro-F1 0.7500  validation accuracy 0.8000"
    assert capsys.readouterr().err == f"epoch 1  {expected}\n"


def test_peft_loads_the_trained_adapter(tuned: Path, base: Path, reviews: Path) -> None:
    """And gives, read so, the very log-probabilities that the backend finds."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ask(tuned, reviews, "asked")
    with pytest.warns(FutureWarning):
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(base), str(tuned / "model")
        ).eval()
    tokenizer = AutoTokenizer.from_pretrained(tuned / "model")
    line = json.loads((tuned / "train.jsonl").read_text().splitlines()[0])
    row = rows("asked")[0]
    messages = [line["messages"][0], {"role": "user", "content": row["text"]}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompted = tokenizer(text, add_special_tokens=False).input_ids
    found = []
    for label in LABELS:
        answer = [*tokenizer(label).input_ids, tokenizer.eos_token_id]
        with torch.inference_mode():
            logits = model(torch.tensor([prompted + answer])).logits[0].log_softmax(-1)
        found.append(
            sum(logits[len(prompted) - 1 + n, token].item() for n, token in enumerate(answer))
        )
    assert torch.tensor(found).softmax(0).tolist() == pytest.approx(
        [row["probabilities"][label] for label in LABELS], abs=1e-4
    )


def test_a_local_fine_tuning_run_stores_only_the_adapter(tuned: Path) -> None:
    files = {path.name for path in (tuned / "model").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= files
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    weights = read_weights(tuned / "model" / "adapter_model.safetensors")
    assert weights
    assert all("lora_" in name for name in weights)


def test_export_merges_the_adapter_into_a_whole_model(tuned: Path, reviews: Path) -> None:
    assert export_model(tuned, "whole", "causal-lm") == []
    ask(tuned, reviews, "adapter")
    ask("./whole", reviews, "merged")
    for one, other in zip(rows("adapter"), rows("merged"), strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)


def test_loading_a_fine_tuning_run_as_a_classifier_is_refused(tuned: Path) -> None:
    with pytest.raises(InputError, match=r"prompt --recipe … --set llm[.]backend=local"):
        load(tuned)


def stop_after(calls: int) -> Callable[[], bool]:
    asked = []
    return lambda: bool(asked.append(1)) or len(asked) > calls


@pytest.mark.parametrize("calls", [1, 40])
def test_local_fine_tuning_stopped_and_resumed_ends_the_same(
    calls: int, uninterrupted: Path, base: Path, reviews: Path
) -> None:
    with pytest.raises(Interrupted):
        learn(short_job(reviews, base), stop_requested=stop_after(calls))
    assert json.loads(Path("tuned/manifest.json").read_text())["status"] == "interrupted"
    resumed = learn(short_job(reviews, base), resume=True)
    weights = [read_weights(folder / ADAPTER) for folder in (uninterrupted, resumed)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert untimed(uninterrupted) == untimed(resumed)


def untimed(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_a_run_killed_before_its_manifest_is_not_trained_again(
    tuned: Path, base: Path, reviews: Path
) -> None:
    shutil.copytree(tuned, "copy")
    manifest = json.loads(Path("copy/manifest.json").read_text())
    Path("copy/manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
    before = Path("copy/log.jsonl").read_text()
    learn(fine_tuning(reviews, base), "copy", resume=True)
    assert Path("copy/log.jsonl").read_text() == before
    assert json.loads(Path("copy/manifest.json").read_text())["status"] == "finished"


def test_a_model_without_a_chat_template_learns_to_end_its_answer(
    tmp_path: Path, reviews: Path
) -> None:
    plain = make_language_model(tmp_path / "plain", template=None, spread=0.2)
    learn(fine_tuning(reviews, plain, epochs=8))
    assert Path("tuned/model/chat_template.jinja").is_file()
    assert ask("tuned", reviews, "asked")["overall"]["macro_f1"] > 0.4


@pytest.mark.slow
class TestProcesses:
    """The command itself, in processes that are killed or work together."""

    @pytest.fixture
    def words(self, base: Path, reviews: Path) -> list[str]:
        recipe = fine_tuning(reviews, base, checkpoints={"every_minutes": 0.003}).components.recipe
        Path("finetune.yaml").write_text(recipe.to_yaml())
        command = [
            "gpt-finetune",
            "--recipe",
            "finetune.yaml",
            "--output",
            "run",
            "--device",
            "cpu",
        ]
        return [*command, "--threads", "1"]

    def test_local_fine_tuning_killed_repeatedly_ends_the_same(
        self, words: list[str], tuned: Path
    ) -> None:
        for lines in (2, 9, 20):
            resume = ["--resume"] if Path("run/manifest.json").is_file() else []
            process = start([*SENTIKIT, *words, *resume])
            wait_for_steps(process, Path("run"), lines)
            process.kill()
            process.communicate()
        outcome = run(*words, "--resume")
        assert outcome.code == 0, outcome.error
        assert "Resuming after step" in outcome.error
        weights = [read_weights(folder / ADAPTER) for folder in (tuned, Path("run"))]
        assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
        assert untimed(tuned) == untimed(Path("run"))

    def test_two_processes_fine_tune_like_one(self, words: list[str], tuned: Path) -> None:
        outcome = run(*words, "--nproc", "2")
        assert outcome.code == 0, outcome.error
        assert json.loads(Path("run/manifest.json").read_text())["processes"] == 2
        for alone, together in zip(untimed(tuned)[:3], untimed(Path("run"))[:3], strict=True):
            for number in ("step", "loss", "gradient_norm", "lr"):
                assert together[number] == pytest.approx(alone[number], rel=1e-3)


class TestBadInput:
    @pytest.fixture
    def spoilt(self, tuned: Path) -> Path:
        """A copy of the run, to be spoilt."""
        return Path(shutil.copytree(tuned, "spoilt"))

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ("./nowhere", "There is no model folder ./nowhere. Check finetune.model"),
            ("EMPTY", "is not a causal language model"),
            ("PICKLED", "holds only pickled weights"),
        ],
    )
    def test_a_folder_that_holds_no_base_model_is_refused(
        self, model: str, message: str, reviews: Path, base: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "model"
        if model == "PICKLED":
            shutil.copytree(base, folder)
            (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        elif model == "EMPTY":
            folder.mkdir()
        with pytest.raises(InputError, match=message):
            learn(fine_tuning(reviews, model if model.startswith(".") else folder))
        assert not Path("tuned").exists()

    def test_a_missing_peft_is_reported(
        self, reviews: Path, base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = fine_tuning(reviews, base)
        monkeypatch.setitem(sys.modules, "peft", None)
        with pytest.raises(InputError, match=r"pip install 'sentikit\[local\]'"):
            learn(job)
        assert not Path("tuned").exists()

    def test_local_fine_tuning_works_without_a_validation_split(
        self, reviews: Path, base: Path
    ) -> None:
        with pytest.raises(InputError, match=r"finetune\.validation"):
            learn(fine_tuning(reviews, base, validation=None))

    def test_lora_targets_the_model_lacks_are_refused(self, reviews: Path, base: Path) -> None:
        with pytest.raises(InputError, match=r"finetune\.lora: .*no_such"):
            learn(fine_tuning(reviews, base, lora={"targets": ["no_such"]}))

    def test_an_unknown_metric_of_local_fine_tuning_is_refused(
        self, reviews: Path, base: Path
    ) -> None:
        message = r"finetune\.early_stopping\.metric: .*Did you mean 'accuracy'"
        with pytest.raises(InputError, match=message):
            learn(fine_tuning(reviews, base, early_stopping={"metric": "acuracy"}))

    def test_an_example_longer_than_the_models_context_is_refused(
        self, reviews: Path, tmp_path: Path
    ) -> None:
        short = make_language_model(tmp_path / "short", positions=64)
        with pytest.raises(InputError, match="exceed the 64 tokens"):
            learn(fine_tuning(reviews, short))
        assert not Path("tuned").exists()

    def test_an_adapter_of_another_base_model_is_refused(
        self, spoilt: Path, reviews: Path, tmp_path: Path
    ) -> None:
        other = make_language_model(tmp_path / "other", spread=0.2, seed=1)
        with pytest.raises(InputError, match="trained on another model"):
            ask(spoilt, reviews, "asked", base=str(other))

    def test_a_moved_base_model_can_be_named(self, spoilt: Path, reviews: Path, base: Path) -> None:
        config = spoilt / "model" / "adapter_config.json"
        gone = json.loads(config.read_text()) | {"base_model_name_or_path": "/gone/llama"}
        config.write_text(json.dumps(gone))
        with pytest.raises(InputError, match=r"no model folder /gone/llama. Check llm\.base"):
            ask(spoilt, reviews, "asked")
        shutil.rmtree("asked", ignore_errors=True)
        assert ask(spoilt, reviews, "asked", base=str(base))["overall"]["macro_f1"] > 0.8

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda folder: (folder / "adapter_model.safetensors").unlink(), "does not exist"),
            (
                lambda folder: (folder / "adapter_model.safetensors").rename(
                    folder / "adapter_model.bin"
                ),
                "has only pickled weights",
            ),
            (
                lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"half"),
                "damaged or truncated",
            ),
            (
                lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}'),
                "no LoRA adapter",
            ),
        ],
        ids=["missing", "pickled", "truncated", "another kind"],
    )
    def test_a_damaged_adapter_is_refused(
        self, spoil: Callable[[Path], Any], message: str, spoilt: Path, reviews: Path
    ) -> None:
        spoil(spoilt / "model")
        with pytest.raises(InputError, match=message):
            ask(spoilt, reviews, "asked")
