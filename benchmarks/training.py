"""Training speed: sentikit against transformers' Trainer on the same real texts, in one run.

    python benchmarks/training.py --data DATA --texts 1280

Every arm trains MiniLM-L6 with the same head on the same texts at batch 32 on one CPU thread, for
one epoch; the arms alternate, so that changes of the machine's speed affect all. The script prints
texts per CPU-second (user and system time) and the ratio to the Trainer with its default collation.
The arm padded to 512 tokens, as in the study, uses a twentieth of the texts.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentikit import open_dataset
from sentikit.classifiers.batches import TokenizedTexts, tokenize
from sentikit.classifiers.torch_model import SentimentModel
from sentikit.devices import half_precision_pays
from sentikit.registry import default_registry
from sentikit.training.data import plan_epoch, share
from sentikit.training.engine import StepPlan
from sentikit.training.evaluation import CrossEntropy
from sentikit.training.model import parameter_groups
from sentikit.training.settings import AdamW, TrainingSettings

BATCH = 32


def read_texts(data: Path, count: int) -> tuple[list[str], np.ndarray]:
    """Return a random part of SST train and DynaSent dev, with class numbers."""
    dataset = open_dataset(
        {
            "name": "mixture",
            "parts": [
                {"name": "sst", "path": str(data / "sst" / "trees")},
                {
                    "name": "dynasent",
                    "path": str(data / "dynasent-v1.1"),
                    "splits": {"train": "validation"},
                },
            ],
        }
    )
    examples = dataset.split("train")
    rows = np.random.default_rng(0).permutation(len(examples))[:count]
    chosen = examples.select(rows)
    return chosen.texts, dataset.scheme.numbers(chosen.labels)


def parts() -> tuple[Any, SentimentModel]:
    """Return MiniLM's tokenizer, and the model with a fixed linear head."""
    registry = default_registry()
    encoder_class = registry.load("register_encoders", "minilm")
    head_class = registry.load("register_heads", "linear")
    encoder = encoder_class(encoder_class.Settings())
    torch.manual_seed(0)
    head = head_class(head_class.Settings()).build(384, 3)
    return encoder.load_tokenizer(), SentimentModel(encoder.load_backbone(), head, "mean")


def sentikit_arm(texts: list[str], gold: np.ndarray, precision: str) -> float:
    """Train an epoch with sentikit's batches, objective and engine; return CPU seconds."""
    tokenizer, model = parts()
    engine_class = default_registry().load("register_engines", "torch")
    engine = engine_class(engine_class.Settings())
    engine.start("cpu")
    settings = TrainingSettings(lr=5e-5)
    groups = parameter_groups(model, settings)
    engine.prepare(model, groups, StepPlan(AdamW(), 1.0, precision, BATCH, BATCH))
    objective = CrossEntropy(gold, np.ones(3, np.float32), 0.0)
    rates = [group.lr for group in groups]
    started = time.process_time()
    inputs: TokenizedTexts = tokenize([texts], tokenizer, 128)
    engine.training_mode(True)
    for batch in plan_epoch(inputs.lengths, BATCH, 0, 0):
        for micro_batch in share(batch, inputs.lengths, 0, 1, BATCH, 4096):
            with engine.micro_step(last=True):
                logits = engine.forward(*inputs.batch(micro_batch.rows))
                engine.backward(objective.loss(logits, micro_batch, float(len(batch))))
        engine.step(rates)
    return time.process_time() - started


class ForTrainer(torch.nn.Module):
    """The same model with the Trainer's interface."""

    def __init__(self, model: SentimentModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return loss and logits."""
        logits = self.model(input_ids, attention_mask)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def trainer_arm(texts: list[str], gold: np.ndarray, **options: Any) -> float:
    """Train an epoch with transformers' Trainer and its padding collator; return CPU seconds."""
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    tokenizer, model = parts()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=5e-5,
            weight_decay=0.01,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            **options,
        )
        started = time.process_time()
        columns = tokenizer(texts, truncation=True, max_length=128, return_token_type_ids=False)
        dataset = Dataset.from_dict({**columns, "labels": gold.tolist()})
        Trainer(
            ForTrainer(model),
            arguments,
            train_dataset=dataset,
            data_collator=DataCollatorWithPadding(tokenizer),
        ).train()
        return time.process_time() - started


def padded_arm(texts: list[str], gold: np.ndarray) -> float:
    """Train with every text padded to 512 tokens, in random order; return CPU seconds."""
    tokenizer, model = parts()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-5)
    started = time.process_time()
    model.train()
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(
            texts[start : start + BATCH],
            truncation=True,
            max_length=512,
            padding="max_length",
            return_tensors="pt",
        )
        logits = model(batch["input_ids"], batch["attention_mask"])
        loss = torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(gold[start : start + BATCH])
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.process_time() - started


def main() -> None:
    """Time all arms alternately and print medians and ratios."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SENTIKIT_STUDY_DATA", "data"))
    )
    options.add_argument("--texts", type=int, default=1280)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    texts, gold = read_texts(chosen.data, chosen.texts)
    few = max(BATCH, len(texts) // 20 // BATCH * BATCH)
    arms: dict[str, tuple[int, Callable[[], float]]] = {
        "Trainer, default collation": (len(texts), lambda: trainer_arm(texts, gold)),
        "Trainer, group_by_length": (
            len(texts),
            lambda: trainer_arm(texts, gold, train_sampling_strategy="group_by_length"),
        ),
        "padded to 512, the study's way": (few, lambda: padded_arm(texts[:few], gold[:few])),
        "sentikit, fp32": (len(texts), lambda: sentikit_arm(texts, gold, "fp32")),
    }
    if half_precision_pays(torch.device("cpu")):
        arms["sentikit, bf16"] = (len(texts), lambda: sentikit_arm(texts, gold, "bf16"))
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(chosen.rounds):
        for name, (count, run) in arms.items():
            speeds[name].append(count / run())
    base = statistics.median(speeds["Trainer, default collation"])
    print(f"{len(texts)} texts, batch {BATCH}, one thread, median of {chosen.rounds} rounds")
    print(f"{'arm':<32} texts/CPU-s   to Trainer")
    for name, found in speeds.items():
        middle = statistics.median(found)
        print(f"{name:<32} {middle:>10.1f}   {middle / base:>9.2f}x")
    padded = statistics.median(speeds["padded to 512, the study's way"])
    best = max(statistics.median(found) for found in speeds.values())
    print(f"fastest against padding to 512: {best / padded:.0f}x")
    if "sentikit, bf16" not in arms:
        print("bf16 was not run: this CPU has no AMX, bf16 would be slower than fp32.")


if __name__ == "__main__":
    main()
