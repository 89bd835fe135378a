"""Prepares a training run: data loaded and tokenised, model built and frozen, steps planned."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentikit.classifiers.batches import TokenizedTexts, tokenize
from sentikit.classifiers.torch_model import SentimentModel
from sentikit.datasets.examples import Examples
from sentikit.errors import InputError
from sentikit.training.engine import StepPlan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sentikit.training.engine import Engine
    from sentikit.training.parts import TrainParts
    from sentikit.training.settings import LoopSettings

#: Texts and word pieces a process passes forward at once where the recipe leaves it open.
_MICRO_BATCH = {"cpu": (32, 4096), "cuda": (1024, 16_384), "mps": (64, 4096)}


@dataclass(frozen=True)
class Splits:
    """The examples of a training run; `test` is None where the dataset has none."""

    train: Examples
    validation: Examples
    test: Examples | None

    def items(self) -> list[tuple[str, Examples]]:
        """Return the splits there are, by name."""
        found = [("train", self.train), ("validation", self.validation), ("test", self.test)]
        return [(name, examples) for name, examples in found if examples is not None]


def load_splits(parts: TrainParts) -> Splits:
    """Load what training needs.

    Raises:
        InputError: no training or validation split, or only one class to learn.
    """
    if "validation" not in parts.dataset_for("validation").splits:
        raise InputError(
            f"The dataset {parts.dataset_for('validation').name!r} has no validation split to "
            "choose the best epoch by. Set dataset.validation_holdout, as 10% or 500."
        )
    train = parts.dataset.split("train")
    present = set(train.values("label"))
    if len(present) < 2:
        raise InputError(
            f"The training split of {parts.dataset.name!r} has only the class "
            f"{present.pop()!r}. At least two classes are needed to learn anything."
        )
    judged = parts.dataset_for("test")
    test = judged.split("test") if "test" in judged.splits else None
    return Splits(train, parts.dataset_for("validation").split("validation"), test)


def check_alike(engine: Engine, identity: str) -> None:
    """Refuse processes that would train on other data than the first: machines may differ.

    Raises:
        InputError: this process is one of them.
    """
    if engine.broadcast(identity) != identity:
        raise InputError(
            f"{socket.gethostname()}: the data or the recipe of process {engine.rank} are not "
            "those of process 0. Give every machine the same files and start the same command."
        )


def tokenize_examples(
    examples: Examples, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenizedTexts:
    """Tokenise a split, some thousands of texts at a time."""
    return tokenize(_text_batches(examples), tokenizer, max_length)


def _text_batches(examples: Examples) -> Iterator[Sequence[str]]:
    for batch in examples.batches():
        yield batch["text"]


def build_model(parts: TrainParts, classes: int) -> SentimentModel:
    """Build the pretrained encoder with a new head; the head's weights follow from the seed."""
    import torch

    backbone = parts.encoder.load_backbone()
    torch.manual_seed(parts.training.seed)
    head = parts.head.build(int(backbone.config.hidden_size), classes)
    return SentimentModel(backbone, head, parts.head_options.pooling)


def step_plan(
    training: LoopSettings, engine: Engine, precision: str, section: str = "training"
) -> StepPlan:
    """Decide how a batch is cut.

    Raises:
        InputError: more processes than texts in a batch.
    """
    check_processes(training, engine.processes, section)
    share = -(-training.batch_size // engine.processes)
    rows, tokens = _MICRO_BATCH[engine.device.type]
    return StepPlan(
        training.optimizer,
        training.clip_norm,
        precision,
        training.batch_size,
        training.micro_batch_size or min(share, rows),
        training.micro_batch_tokens or tokens,
    )


def check_processes(training: LoopSettings, processes: int, section: str = "training") -> None:
    """Refuse more processes than texts in a batch.

    Args:
        training: the settings.
        processes: how many there are.
        section: where the settings stand in the recipe.

    Raises:
        InputError: there are more.
    """
    if processes > training.batch_size:
        raise InputError(
            f"{section}.batch_size is {training.batch_size}, fewer than the {processes} "
            "processes. Raise it or start fewer processes."
        )


def run_identity(values: Mapping[str, Any], training: LoopSettings, splits: Splits) -> str:
    """Hash what must be the same when a run is resumed: the recipe's parts and the data.

    How often to save, how steps run and when to stop may change.
    """
    fixed = {key: values.get(key) for key in ("dataset", "evaluation_dataset", "encoder", "head")}
    prints = {name: examples.fingerprint() for name, examples in splits.items()}
    text = json.dumps([fixed, training.deciding(), prints], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
