"""ELECTRA on one GPU: texts per second of training and inference, against transformers' Trainer.

    pip install accelerate  # the Trainer asks for it
    python benchmarks/gpu.py --size base --data ../shared/data

Weights are random (the speed is the same) and the lengths are those of the merged data. The
dropout, the head and the batch of 256 are the study's. Printed are texts per second, the share of
the GPU's bf16 peak that the model's own arithmetic uses (6 · parameters · tokens in training, 2 in
inference, embeddings and padding not counted), the ratio to the Trainer with bf16 in the same run,
and the projected time of the study's E1: 14 epochs of 102,097 texts.

    python benchmarks/gpu.py --device cpu --size small --texts 64 --rounds 1

shows on any machine that the script works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, ElectraConfig

from sentikit import open_dataset
from sentikit.classifiers.batches import TokenizedTexts, batches_by_length
from sentikit.classifiers.torch_model import SentimentModel
from sentikit.extension import TorchPredictor
from sentikit.registry import default_registry
from sentikit.training.batches import MicroBatch, Rows, plan_epoch, prefetched, share
from sentikit.training.engine import StepPlan
from sentikit.training.evaluation import CrossEntropy
from sentikit.training.parameters import AdamW, parameter_groups
from sentikit.training.settings import TrainingSettings

BATCH = 256
PRECISION = {"cuda": "bf16", "cpu": "fp32"}
E1_TEXTS = 14 * 102_097
#: Dense bf16 peak in FLOP/s, by a part of the device's name.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "V100": 125e12, "L4": 121e12}


def texts_of_real_lengths(data: Path, count: int) -> TokenizedTexts:
    """Return random word pieces in the lengths of the merged validation and test texts."""
    dataset = open_dataset({"name": "merged", "path": str(data)})
    words = [len(t.split()) for s in ("validation", "test") for t in dataset.split(s).texts]
    generator = np.random.default_rng(0)
    # A word of these texts is 1.2 word pieces on average; two specials surround a text.
    lengths = np.minimum(np.ceil(generator.choice(words, count) * 1.2) + 2, 512).astype(np.int64)
    pieces = generator.integers(1000, 30_000, int(lengths.sum()), dtype=np.int32)
    return TokenizedTexts(pieces, np.concatenate([[0], np.cumsum(lengths)]), 0)


def build(size: str) -> SentimentModel:
    """Return ELECTRA with the study's head."""
    registry = default_registry()
    encoder_class = registry.load("register_encoders", f"electra-{size}")
    config: ElectraConfig = encoder_class(encoder_class.Settings()).load_config()
    head_class = registry.load("register_heads", "mlp")
    head = head_class(head_class.Settings()).build(config.hidden_size, 3)
    return SentimentModel(AutoModel.from_config(config), head, "mean")


def wait_for(device: str) -> None:
    """Wait until the GPU has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(run: Any, rounds: int, device: str) -> float:
    """Return the median seconds of `run`, after one round of warming up."""
    run()
    seconds = []
    for _ in range(rounds):
        wait_for(device)
        started = time.perf_counter()
        run()
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def training_arm(size: str, inputs: TokenizedTexts, rounds: int, device: str) -> float:
    """Return the seconds of an epoch with sentikit's batches, objective and engine."""
    model = build(size)
    engine_class = default_registry().load("register_engines", "torch")
    engine = engine_class(engine_class.Settings())
    engine.start(device)
    groups = parameter_groups(model, TrainingSettings(lr=1e-5, layer_decay=0.95))
    plan = StepPlan(AdamW(), 1.0, PRECISION[device], BATCH, BATCH)
    engine.prepare(model, groups, plan)
    objective = CrossEntropy(np.zeros(len(inputs), np.int64), np.ones(3, np.float32), 0.0)
    rates = [group.lr for group in groups]

    def assemble(batch: Rows) -> list[tuple[MicroBatch, list[torch.Tensor]]]:
        pieces = share(batch, inputs.lengths, 0, 1, BATCH, plan.micro_batch_tokens)
        made = [(piece, inputs.batch(piece.rows)) for piece in pieces]
        pinned = device == "cuda"
        return [(piece, [t.pin_memory() if pinned else t for t in ts]) for piece, ts in made]

    def epoch() -> None:
        engine.training_mode(True)
        for batch, pieces in prefetched(plan_epoch(inputs.lengths, BATCH, 0, 0), assemble, 1, 2):
            for number, (piece, tensors) in enumerate(pieces, 1):
                with engine.micro_step(last=number == len(pieces)):
                    loss = objective.loss(engine.forward(*tensors), piece, float(len(batch)))
                    engine.backward(loss)
            engine.step(rates)

    return timed(epoch, rounds, device)


def inference_arm(size: str, inputs: TokenizedTexts, rounds: int, device: str) -> float:
    """Return the seconds in which sentikit's predictor labels all texts."""
    predictor = TorchPredictor(build(size), torch.device(device), PRECISION[device])

    def label() -> None:
        plan = batches_by_length(inputs.lengths, *predictor.batch_limits)
        predictor.logits(inputs.batch(rows) for rows in plan)

    return timed(label, rounds, device)


class ForTrainer(torch.nn.Module):
    """The same model in the shape the Trainer expects."""

    def __init__(self, model: SentimentModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return loss and logits."""
        logits = self.model(input_ids, attention_mask)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def trainer_arm(size: str, inputs: TokenizedTexts, device: str) -> float:
    """Return the seconds transformers' Trainer needs for the same epoch with bf16."""
    from transformers import Trainer, TrainingArguments

    def collate(rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        ids, mask = inputs.batch([row["row"] for row in rows])
        labels = torch.zeros(len(rows), dtype=torch.long)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            bf16=PRECISION[device] == "bf16",
            use_cpu=device == "cpu",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        rows = [{"row": row} for row in range(len(inputs))]
        trainer = Trainer(
            ForTrainer(build(size)), arguments, train_dataset=rows, data_collator=collate
        )
        wait_for(device)
        started = time.perf_counter()
        trainer.train()
        wait_for(device)
        return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--size", choices=["small", "base", "large"], default="base")
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--texts", type=int, default=25_600)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--device", choices=list(PRECISION), default="cuda")
    chosen = options.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no GPU here: nothing was measured.")
    name = torch.cuda.get_device_name() if chosen.device == "cuda" else "CPU"
    peak = next((value for part, value in PEAKS.items() if part in name), None)
    inputs = texts_of_real_lengths(chosen.data, chosen.texts)
    named = build(chosen.size).named_parameters()
    # What is looked up in a table of embeddings is not computed.
    parameters = sum(p.numel() for name, p in named if ".embeddings." not in name)
    training = training_arm(chosen.size, inputs, chosen.rounds, chosen.device)
    inference = inference_arm(chosen.size, inputs, chosen.rounds, chosen.device)
    peer = trainer_arm(chosen.size, inputs, chosen.device)
    tokens = int(inputs.lengths.sum())
    print(
        f"{name}, ELECTRA {chosen.size}, {len(inputs)} texts of {tokens / len(inputs):.1f} pieces"
    )
    for arm, seconds, factor in (("training", training, 6), ("inference", inference, 2)):
        used = factor * parameters * tokens / seconds
        share_of_peak = f", {used / peak:.1%} of the peak" if peak else ""
        print(f"{arm:<10} {len(inputs) / seconds:>10,.0f} texts/s{share_of_peak}")
    print(f"Trainer    {len(inputs) / peer:>10,.0f} texts/s; sentikit is {peer / training:.2f}x")
    print(f"E1, 14 epochs of 102,097 texts: {E1_TEXTS / (len(inputs) / training) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
