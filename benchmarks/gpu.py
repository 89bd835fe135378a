"""ELECTRA on one GPU: fine-tuning and inference, against transformers' Trainer in the same run.

    pip install accelerate  # needed by the Trainer
    python benchmarks/gpu.py --json gpu.json

Weights are random (the speed is the same). Texts are random word pieces in the lengths of the
11,951 merged validation and test texts: 20.8 on average, median 19, 95 % below 41, 99 % below 53,
at most 143. Dropout, head, layer-wise rates and the batch of 256 are the study's. For sentikit, the
training loop is timed, including logging. The arms are

    casting    autocast casts the weights, transformers checks for padding on the device
    mask       the attention mask is prepared in advance
    halves     also, bf16 copies of the weights are kept; attention never uses cuDNN
    graphs     also, passes are recorded as CUDA graphs, as training does

The script prints texts per second (inference: word pieces, without padding), the share of the GPU's
bf16 peak that the model's arithmetic uses (6 · parameters · word pieces in training, 2 in
inference, without embeddings and padding), the ratio to the Trainer with bf16, and a projection for
the study's E1: 14 epochs of 102,097 texts, each with an evaluation of 5,421.

    python benchmarks/gpu.py --device cpu --sizes small --texts 64 --rounds 1

tests the script on any machine; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training import ForTrainer
from transformers import AutoModel, ElectraConfig

import sentikit.classifiers.torch_model as torch_model
from sentikit.classifiers.batches import TokenizedTexts, batches_by_length
from sentikit.classifiers.torch_model import SentimentModel
from sentikit.extension import TorchPredictor
from sentikit.registry import default_registry
from sentikit.training.checkpoints import CheckpointFolder, TrainingState
from sentikit.training.data import Labelled, plan_epoch
from sentikit.training.engine import step_plan
from sentikit.training.evaluation import CrossEntropy
from sentikit.training.model import parameter_groups
from sentikit.training.reporting import SilentJournal
from sentikit.training.settings import TrainingSettings
from sentikit.training.trainer import Trainer

BATCH = 256
PRECISION = {"cuda": "bf16", "cpu": "fp32"}
EPOCHS, EPOCH_TEXTS, VALIDATION_TEXTS = 14, 102_097, 5_421
CLASSES = ("negative", "neutral", "positive")
#: Dense bf16 peak in FLOP/s, by a part of the device's name.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "V100": 125e12, "L4": 121e12}
#: Number of the 11,951 merged texts with 3, 4, 5, … word pieces of ELECTRA's vocabulary.
LENGTHS = (
    "1 24 107 182 248 339 405 421 487 521 498 581 491 551 486 513 454 455 456 417 368 358 338 293 "
    "300 279 241 200 192 188 169 135 142 126 106 108 91 82 70 66 57 54 40 37 31 29 28 22 10 12 24 "
    "18 10 9 10 16 11 5 4 2 0 1 3 4 0 0 2 1 0 1 1 1 3 1 2 3 0 0 1 0 0 0 1 0 0 1 1 1 0 1 0 1"
)
LONGEST = (127, 131, 143)


@dataclass(frozen=True)
class Arm:
    """A way to run sentikit's steps."""

    ready_mask: bool = True
    halves: bool = True
    graphs: bool = True


ARMS = {
    "casting": Arm(ready_mask=False, halves=False, graphs=False),
    "mask": Arm(halves=False, graphs=False),
    "halves": Arm(graphs=False),
    "graphs": Arm(),
}
#: Arms that are run for a large model.
LARGE = ("casting", "halves", "graphs")


def texts_of_real_lengths(count: int) -> TokenizedTexts:
    """Return random word pieces in the lengths of the merged validation and test texts."""
    counts = [int(number) for number in LENGTHS.split()]
    known = np.concatenate([np.repeat(np.arange(3, 3 + len(counts)), counts), LONGEST])
    generator = np.random.default_rng(0)
    lengths = generator.choice(known, count).astype(np.int64)
    pieces = generator.integers(1000, 30_000, int(lengths.sum()), dtype=np.int32)
    return TokenizedTexts(pieces, np.concatenate([[0], np.cumsum(lengths)]), 0)


def build(size: str, device: str) -> SentimentModel:
    """Return ELECTRA with the study's head."""
    registry = default_registry()
    encoder_class = registry.load("register_encoders", f"electra-{size}")
    config: ElectraConfig = encoder_class(encoder_class.Settings()).load_config()
    head_class = registry.load("register_heads", "mlp")
    torch.manual_seed(0)
    with torch.device(device):
        head = head_class(head_class.Settings()).build(config.hidden_size, 3)
        return SentimentModel(AutoModel.from_config(config), head, "mean")


def wait_for(device: str) -> None:
    """Wait until the GPU has finished."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(run: Callable[[], Any], device: str) -> float:
    """Return the seconds of `run`, including the GPU's work."""
    wait_for(device)
    started = time.perf_counter()
    run()
    wait_for(device)
    return time.perf_counter() - started


def freed(device: str) -> None:
    """Free the memory of the last arm."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def as_arm(arm: Arm) -> Iterator[None]:
    """Disable what the arm does not use."""
    engine_class = default_registry().load("register_engines", "torch")
    types, width = torch_model._PADDING_ONLY, torch_model._SHORT_TEXTS
    engine_class.keeps_half_weights = arm.halves
    torch_model._PADDING_ONLY = types if arm.ready_mask else frozenset()
    torch_model._SHORT_TEXTS = width if arm.halves else 0
    try:
        yield
    finally:
        engine_class.keeps_half_weights = True
        torch_model._PADDING_ONLY, torch_model._SHORT_TEXTS = types, width


def make_trainer(
    size: str, inputs: TokenizedTexts, validation: TokenizedTexts, device: str, graphs: bool
) -> Trainer:
    """Return sentikit's loop over ELECTRA, with settings of the study."""
    model = build(size, device)
    engine_class = default_registry().load("register_engines", "torch")
    engine = engine_class(engine_class.Settings(graphs=graphs))
    engine.start(device)
    settings = TrainingSettings(
        lr=1e-5, layer_decay=0.95, batch_size=BATCH, precision=PRECISION[device]
    )
    groups = parameter_groups(model, settings)
    plan = step_plan(settings, engine, PRECISION[device])
    engine.prepare(model, groups, plan)
    gold = np.random.default_rng(1).integers(0, 3, len(inputs))
    return Trainer(
        engine=engine,
        groups=groups,
        plan=plan,
        settings=settings,
        train=Labelled(inputs, gold),
        validation=Labelled(validation, np.resize(gold, len(validation))),
        classes=CLASSES,
        objective=CrossEntropy(gold, np.ones(3, np.float32), 0.0),
        checkpoints=CheckpointFolder(Path(tempfile.gettempdir()) / "unused", 1),
        journal=SilentJournal(),
        stop_requested=lambda: False,
    )


def training_arm(
    size: str, name: str, texts: int, rounds: int, device: str
) -> dict[str, float | int | str]:
    """Return the median seconds of an epoch of sentikit's loop, and of an evaluation."""
    inputs = texts_of_real_lengths(texts)
    validation = texts_of_real_lengths(min(texts, VALIDATION_TEXTS))
    with as_arm(ARMS[name]):
        trainer = make_trainer(size, inputs, validation, device, ARMS[name].graphs)
        state = TrainingState("")

        def epoch() -> None:
            state.batch = 0
            trainer.train_epoch(state)
            state.epoch += 1

        first = timed(epoch, device)
        seconds = [timed(epoch, device) for _ in range(rounds)]
        trainer.evaluate(trainer.validation)
        evaluation = timed(lambda: trainer.evaluate(trainer.validation), device)
        found: dict[str, float | int | str] = {
            "seconds": statistics.median(seconds),
            "spread": max(seconds) / min(seconds),
            "first": first,
            "texts": texts,
            "tokens": int(inputs.lengths.sum()),
            "loss": state.epoch_loss / state.step,
            "evaluation_seconds": evaluation * VALIDATION_TEXTS / len(validation),
        }
        if device == "cuda":
            found |= looked_into(trainer, state)
        trainer.engine.finish()
        return found


def looked_into(trainer: Trainer, state: TrainingState) -> dict[str, float | int | str]:
    """Return kernels, busy time and waits per step, over a few steps between two log lines."""
    from torch.profiler import ProfilerActivity, profile

    plan = plan_epoch(trainer.train.inputs.lengths, BATCH, 0, 0)[:4]
    batches = [trainer._assemble(numbered) for numbered in enumerate(plan)]
    rates = trainer.rates(state)

    def steps() -> None:
        for batch in batches:
            trainer._accumulate(batch)
            trainer.engine.step(rates)

    steps()
    found: dict[str, float | int | str] = {"memory": torch.cuda.max_memory_allocated()}
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps()
        found["waits"] = "none"
    except RuntimeError as error:
        found["waits"] = str(error)[:300]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    wall = timed(steps, "cuda") / len(batches)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as watched:
        steps()
        torch.cuda.synchronize()
    kernels = [e for e in watched.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.device_time_total for event in kernels) / 1e6 / len(batches)
    ordered = sorted(watched.key_averages(), key=lambda e: -e.self_device_time_total)
    largest = "; ".join(
        f"{e.key[:60]} {e.self_device_time_total / 1e3 / len(batches):.2f} ms x{e.count}"
        for e in ordered[:8]
    )
    return found | {
        "kernels_per_step": len(kernels) // len(batches),
        "busy_seconds_per_step": busy,
        "wall_seconds_per_step": wall,
        "largest": largest,
    }


def inference_arm(
    size: str, name: str, texts: int, rounds: int, device: str
) -> dict[str, float | int | str]:
    """Return the median seconds of sentikit's predictor for all texts."""
    inputs = texts_of_real_lengths(texts)
    with as_arm(ARMS[name]):
        predictor = TorchPredictor(build(size, device), torch.device(device), PRECISION[device])

        def label() -> None:
            plan = batches_by_length(inputs.lengths, *predictor.batch_limits)
            predictor.logits(inputs.arrays(rows) for rows in plan)

        first = timed(label, device)
        seconds = [timed(label, device) for _ in range(rounds)]
    return {
        "seconds": statistics.median(seconds),
        "spread": max(seconds) / min(seconds),
        "first": first,
        "texts": texts,
        "tokens": int(inputs.lengths.sum()),
    }


def trainer_arm(size: str, texts: int, device: str, **options: Any) -> dict[str, Any]:
    """Return the seconds of transformers' Trainer for an epoch with bf16, after a warm-up."""
    from transformers import Trainer as Peer
    from transformers import TrainingArguments

    inputs = texts_of_real_lengths(texts)
    gold = np.random.default_rng(1).integers(0, 3, len(inputs))

    def collate(rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        numbers = np.array([row["row"] for row in rows])
        ids, mask = inputs.batch(numbers)
        labels = torch.from_numpy(gold[numbers])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    with tempfile.TemporaryDirectory() as folder, as_arm(ARMS["casting"]):
        rows = [
            {"row": row, "input_ids": range(length)} for row, length in enumerate(inputs.lengths)
        ]
        model = ForTrainer(build(size, device))

        def train(epochs: float) -> None:
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=BATCH,
                num_train_epochs=epochs,
                bf16=PRECISION[device] == "bf16",
                use_cpu=device == "cpu",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                remove_unused_columns=False,
                **options,
            )
            Peer(model, arguments, train_dataset=rows, data_collator=collate).train()

        train(0.2)
        return {"seconds": timed(lambda: train(1), device), "texts": texts}


def ceilings() -> dict[str, float]:
    """Measure the limits of this GPU: bandwidth of a copy, and speed of a bf16 matrix product."""
    first = torch.randn(2**29, device="cuda")
    second = torch.empty_like(first)
    copies = [timed(lambda: second.copy_(first), "cuda") for _ in range(6)]
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    products = [timed(lambda: [a @ b for _ in range(10)], "cuda") / 10 for _ in range(4)]
    copying, product = min(copies), min(products)
    return {"copy_bytes_per_second": 2 * 2**31 / copying, "bf16_flops": 2 * 8192**3 / product}


def attempted(results: dict[str, Any], key: str, run: Callable[[], Any], device: str) -> None:
    """Store and print an arm's result or failure."""
    started = time.perf_counter()
    try:
        results[key] = run()
    except Exception as error:
        traceback.print_exc()
        results[key] = {"error": f"{type(error).__name__}: {error}"[:500]}
    freed(device)
    print(f"[{time.perf_counter() - started:6.1f} s] {key}: {results[key]}", flush=True)


def table(results: dict[str, Any], sizes: list[str]) -> str:
    """Return the results as a table."""
    lines = [f"{results['device']}, torch {torch.__version__}"]
    peak = next((value for part, value in PEAKS.items() if part in results["device"]), None)
    for size in sizes:
        # Embedding lookups are not arithmetic.
        named = build(size, "meta").named_parameters()
        parameters = sum(p.numel() for name, p in named if ".embeddings." not in name)
        peers = {
            key: found["texts"] / found["seconds"]
            for key, found in results.items()
            if key.startswith(f"{size} Trainer") and "seconds" in found
        }
        for key, found in results.items():
            if not key.startswith(size) or "seconds" not in found:
                continue
            rate = found["texts"] / found["seconds"]
            line = f"{key:<30}{rate:>10,.0f} texts/s"
            if "tokens" in found:
                pieces = found["tokens"] / found["seconds"]
                line += f"{pieces:>12,.0f} word pieces/s"
                if peak:
                    factor = 2 if "inference" in key else 6
                    line += f", {factor * parameters * pieces / peak:.1%} of the peak"
            if "evaluation_seconds" in found:
                line += "".join(
                    f", {rate / peer:.2f} x {name.removeprefix(size + ' ')}"
                    for name, peer in peers.items()
                )
                e1 = EPOCHS * (EPOCH_TEXTS / rate + found["evaluation_seconds"])
                line += f", E1 {e1 / 60:.1f} minutes"
            lines.append(line)
    return "\n".join(lines)


def arms(chosen: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the measurements, by name."""
    rounds, device = chosen.rounds, chosen.device
    for size in chosen.sizes:
        texts = chosen.texts // 2 if size == "large" else chosen.texts
        by_length = {"train_sampling_strategy": "group_by_length"}
        yield f"{size} Trainer", partial(trainer_arm, size, texts, device)
        yield f"{size} Trainer by length", partial(trainer_arm, size, texts, device, **by_length)
        names = [name for name in chosen.arms if size != "large" or name in LARGE]
        for name in names:
            key = f"{size} training {name}"
            yield key, partial(training_arm, size, name, texts, rounds, device)
        for name in names:
            if name != "graphs":
                key = f"{size} inference {name}"
                yield key, partial(inference_arm, size, name, 4 * texts, rounds, device)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sizes", nargs="+", default=["base", "large"])
    options.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    options.add_argument("--texts", type=int, default=25_600)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--device", choices=list(PRECISION), default="cuda")
    options.add_argument("--json", type=Path, help="write all figures here")
    chosen = options.parse_args()
    device = chosen.device
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no GPU here: nothing was measured.")
    if device == "cpu":
        torch.set_num_threads(1)
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "torch": torch.__version__,
    }
    if device == "cuda":
        attempted(results, "ceilings", ceilings, device)
    for key, run in arms(chosen):
        attempted(results, key, run, device)
        if chosen.json:
            chosen.json.write_text(json.dumps(results, indent=1))
    print(table(results, chosen.sizes))


if __name__ == "__main__":
    main()
