"""Inference speed: sentikit against transformers' text-classification pipeline, in one run.

    python benchmarks/inference.py --texts DATA/merged/test.csv --run runs/minilm

Every arm labels the same texts with the same weights on one CPU thread, from strings to labels. The
arms alternate, so that changes of the machine's speed affect all. The script prints texts per
CPU-second (user and system time) and per second, the ratio of the former to the pipeline's at batch
32, and the number of labels that differ from the pipeline's. Without --run, the recipe quickstart
is trained.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, pipeline
from transformers.modeling_outputs import SequenceClassifierOutput

import sentikit
from sentikit.classifiers.loading import LoadingOptions, load_encoder
from sentikit.devices import half_precision_pays

PIPELINE = "transformers pipeline, batch 32"
TEST_TEXTS = Path(os.environ.get("SENTIKIT_STUDY_DATA", "data")) / "merged" / "test.csv"
Labels = list[str]


@dataclass
class Arm:
    """A way to label texts, with its times."""

    label: Callable[[list[str]], Labels]
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    labels: Labels = field(default_factory=list)

    def run(self, texts: list[str]) -> None:
        """Label all texts and record the time."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.labels = self.label(texts)
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)


class ForPipeline(PreTrainedModel):
    """A sentikit model with the pipeline's interface, with the same modules."""

    _supports_sdpa = True

    def __init__(self, config: Any, model: torch.nn.Module) -> None:
        super().__init__(config)
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Return the logits; token types are 0, the default."""
        return SequenceClassifierOutput(logits=self.model(input_ids, attention_mask))


def pipeline_arm(run: Path) -> Arm:
    """Return the pipeline at batch 32 in fp32."""
    classifier = load_encoder(run, LoadingOptions("cpu", "fp32", exportable=True))
    assert isinstance(classifier.predictor, sentikit.extension.TorchPredictor)
    model = classifier.predictor.model
    config = model.encoder.config
    config.id2label = dict(enumerate(classifier.labels))
    config.label2id = {label: number for number, label in config.id2label.items()}
    ready = pipeline(
        "text-classification",
        model=ForPipeline(config, model),
        tokenizer=classifier.tokenizer,
        device="cpu",
    )
    options = {"batch_size": 32, "truncation": True, "max_length": classifier.max_length}
    return Arm(lambda texts: [answer["label"] for answer in ready(texts, **options)])


def sentikit_arm(folder: Path, precision: str) -> Arm:
    """Return sentikit's Classifier on a run or an exported folder."""
    return Arm(sentikit.load(folder, device="cpu", precision=precision).predict)


def make_arms(run: Path, work: Path) -> dict[str, Arm]:
    """Return the arms that this machine can run."""
    for remark in sentikit.export_model(run, work / "onnx", "onnx", {"int8": True}):
        print(remark)
    arms = {PIPELINE: pipeline_arm(run), "sentikit, fp32": sentikit_arm(run, "fp32")}
    if half_precision_pays(torch.device("cpu")):
        arms["sentikit, bf16"] = sentikit_arm(run, "bf16")
    arms["sentikit, ONNX fp32"] = sentikit_arm(work / "onnx", "fp32")
    arms["sentikit, ONNX int8"] = sentikit_arm(work / "onnx", "int8")
    return arms


def read_texts(path: Path, limit: int | None) -> list[str]:
    """Return the texts of a CSV file in file order, or a random part of them."""
    dataset = sentikit.open_dataset({"name": "files", "test": str(path)})
    texts: list[str] = dataset.split("test").texts
    if limit is None:
        return texts
    return random.Random(0).sample(texts, min(limit, len(texts)))  # noqa: S311 - no secret


def trained_run(given: Path | None, work: Path) -> Path:
    """Return the run to measure; train one if none is given."""
    if given:
        return given
    from sentikit.cli import sentikit as command

    with contextlib.suppress(SystemExit):
        command.main(["train", "--recipe", "quickstart", "--output", str(work / "run")])
    return work / "run"


def report(arms: dict[str, Arm], texts: int, rounds: int) -> None:
    """Print medians, ratios and changed labels."""
    base = arms[PIPELINE]
    print(f"{texts} texts, one thread, median of {rounds} rounds")
    print(f"{'arm':<32} texts/CPU-s   texts/s   to pipeline   labels changed")
    for name, arm in arms.items():
        cpu, wall = (texts / statistics.median(times) for times in (arm.cpu, arm.wall))
        ratio = statistics.median(b / own for b, own in zip(base.cpu, arm.cpu, strict=True))
        changed = sum(a != b for a, b in zip(arm.labels, base.labels, strict=True))
        print(f"{name:<32} {cpu:>11.1f} {wall:>9.1f} {ratio:>12.2f}x {changed:>16}")
    if "sentikit, bf16" not in arms:
        print("bf16 was not run: this CPU has no AMX, bf16 would be slower than fp32.")


def main() -> None:
    """Time all arms in turn."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--texts", type=Path, default=TEST_TEXTS, help="a CSV file")
    options.add_argument("--limit", type=int, help="a random part of the texts")
    options.add_argument("--run", type=Path, help="a run with a trained model")
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    if not chosen.texts.is_file():
        print(f"Not run: {chosen.texts} is not here. Give a CSV file of texts with --texts.")
        return
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    texts = read_texts(chosen.texts, chosen.limit)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        arms = make_arms(trained_run(chosen.run, work), work)
        for arm in arms.values():
            arm.label(texts[:64])
        for _ in range(chosen.rounds):
            for arm in arms.values():
                arm.run(texts)
    report(arms, len(texts), chosen.rounds)


if __name__ == "__main__":
    main()
