"""The data of a training run: splits, model inputs, and texts embedded by a frozen encoder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sentikit.classifiers.batches import BATCH_LIMITS, TokenizedTexts, batches_by_length, tokenize
from sentikit.classifiers.torch_model import SentimentModel
from sentikit.datasets.examples import Examples
from sentikit.devices import autocast
from sentikit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from sentikit.classifiers.batches import TokenizedTexts
    from sentikit.classifiers.torch_model import SentimentModel
    from sentikit.training.engine import Engine
    from sentikit.training.recipe import TrainParts


class ModelInputs(Protocol):
    """What a model is fed with: tokenised texts, or features of a frozen encoder."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The size of each text, by which batches are planned."""

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Return the model's inputs for some rows."""


@dataclass(frozen=True)
class Labelled:
    """Inputs of a split and the class number of each."""

    inputs: ModelInputs
    gold: NDArray[np.int64]


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


def tokenize_examples(
    examples: Examples, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenizedTexts:
    """Tokenise a split, some thousands of texts at a time."""
    return tokenize(_text_batches(examples), tokenizer, max_length)


def _text_batches(examples: Examples) -> Iterator[Sequence[str]]:
    for batch in examples.batches():
        yield batch["text"]


@dataclass(frozen=True)
class EmbeddedTexts:
    """Pooled texts of a frozen encoder.

    Attributes:
        vectors: (texts, hidden), float32; on disk.
    """

    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """One for each text: all are alike."""
        return np.ones(len(self.vectors), np.int64)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor]:
        """Return the vectors of some rows, (rows, hidden)."""
        import torch

        return (torch.from_numpy(np.ascontiguousarray(self.vectors[rows])),)


class HeadOnly(nn.Module):
    """The head of a model whose encoder is frozen; its weights bear the whole model's names."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits, (texts, classes), in float32."""
        logits: Tensor = self.head(pooled)
        return logits.float()


def embed(
    model: SentimentModel, inputs: TokenizedTexts, engine: Engine, precision: str
) -> EmbeddedTexts:
    """Embed every text once, without dropout; processes share the work.

    Args:
        model: on the engine's device.
        inputs: the tokenised texts.
        engine: who else is at work.
        precision: fp32, bf16 or fp16.
    """
    import torch

    hidden, device = int(model.encoder.config.hidden_size), engine.device
    model.eval()
    batches = list(batches_by_length(inputs.lengths, *BATCH_LIMITS[device.type]))
    with tempfile.TemporaryFile(prefix="sentikit-") as spool:
        spool.truncate(max(1, len(inputs)) * hidden * 4)
        vectors = np.memmap(spool, np.float32, "r+", shape=(len(inputs), hidden))
    with torch.inference_mode(), autocast(device, precision):
        for rows in batches[engine.rank :: engine.processes]:
            ids, mask = inputs.batch(rows)
            pooled = model.embed(ids.to(device), mask.to(device))
            vectors[rows] = pooled.float().cpu().numpy()
    exchange_rows(engine, batches, vectors)
    return EmbeddedTexts(vectors)


def exchange_rows(
    engine: Engine, batches: Sequence[NDArray[np.int64]], rows: NDArray[np.float32]
) -> None:
    """Fill in the rows that other processes have worked out; each sends its own and no more.

    Args:
        engine: who takes part.
        batches: row numbers; batch b was worked out by process b mod processes.
        rows: (rows, …), the own ones filled in.
    """
    if engine.processes == 1:
        return
    nothing = np.empty(0, np.int64)
    shares = [
        np.concatenate([nothing, *batches[rank :: engine.processes]])
        for rank in range(engine.processes)
    ]
    pieces = engine.gather(rows[shares[engine.rank]])
    for share, piece in zip(shares, pieces, strict=True):
        rows[share] = piece
