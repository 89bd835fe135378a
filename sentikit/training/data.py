"""The data of a training run: splits, model inputs, and texts embedded by a frozen encoder."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sentikit.classifiers.batches import (
    BATCH_LIMITS,
    LongTexts,
    TokenizedTexts,
    batches_by_length,
    tokenize,
)
from sentikit.classifiers.torch_model import SentimentModel
from sentikit.datasets.examples import Examples, text_hashes
from sentikit.devices import autocast
from sentikit.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from sentikit.classifiers.batches import TokenizedTexts
    from sentikit.classifiers.torch_model import SentimentModel
    from sentikit.training.engine import Engine
    from sentikit.training.recipe import TrainData


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
    """The examples of a training run; None where the dataset has none."""

    train: Examples
    validation: Examples | None
    test: Examples | None

    def items(self) -> list[tuple[str, Examples]]:
        """Return the splits there are, by name."""
        found = [("train", self.train), ("validation", self.validation), ("test", self.test)]
        return [(name, examples) for name, examples in found if examples is not None]


def load_splits(parts: TrainData, validated: bool = True) -> Splits:
    """Load what training needs.

    Args:
        parts: of the run.
        validated: whether a validation split is needed.

    Raises:
        InputError: no training or validation split, or only one class to learn.
    """
    has_validation = "validation" in parts.dataset_for("validation").splits
    if validated and not has_validation:
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
    validation = None
    if has_validation:
        validation = parts.dataset_for("validation").split("validation")
    if validation is not None and validated:
        check_validation(validation, parts.dataset.scheme.classes)
    return Splits(train, validation, test)


#: Validation texts below which the choice of the best epoch is mostly chance.
FEW_VALIDATION = 30
#: Share of unknown word pieces from which a tokenizer does not suit the texts.
MANY_UNKNOWN = 0.05


def check_validation(validation: Examples, classes: Sequence[str]) -> None:
    """Refuse a validation split that cannot tell epochs apart.

    Raises:
        InputError: it has fewer texts than there are classes.
    """
    if len(validation) < len(classes):
        raise InputError(
            f"The validation split has {len(validation)} texts for {len(classes)} classes; the "
            "best epoch cannot be chosen by it. Raise dataset.validation_holdout, as 10%."
        )


def data_warnings(splits: Splits, batch_size: int) -> Iterator[str]:
    """Yield what is suspect about the examples of a training run, one sentence each."""
    train, validation = splits.train, splits.validation
    if validation is not None and len(validation) < FEW_VALIDATION:
        yield (
            f"Only {len(validation)} validation texts choose the best epoch; use at least "
            f"{FEW_VALIDATION}."
        )
    if batch_size > len(train):
        yield (
            f"training.batch_size is {batch_size}, and there are {len(train):,} training texts: "
            "every epoch is one step. Lower it."
        )
    learnt = text_hashes(train.values("text"))
    for name, other in splits.items()[1:]:
        shared = int(np.isin(text_hashes(other.values("text")), learnt).sum())
        if shared == len(other):
            yield f"Every {name} text is a training text too; its scores are too good to be true."
        elif shared:
            yield (
                f"{shared:,} of {len(other):,} {name} texts ({shared / len(other):.1%}) are "
                "training texts too; scores on them are too good."
            )
    yield from _conflicting_labels(train, learnt)


def _conflicting_labels(train: Examples, hashes: NDArray[np.uint64]) -> Iterator[str]:
    """Yield a sentence on training texts that stand there with several labels."""
    first: dict[int, str] = {}
    conflicting: dict[int, tuple[int, str, str]] = {}
    labels = train.values("label")
    for row, (key, label) in enumerate(zip(hashes.tolist(), labels, strict=True)):
        before = first.setdefault(key, label)
        if label != before:
            conflicting.setdefault(key, (row, before, label))
    if conflicting:
        row, before, label = next(iter(conflicting.values()))
        text = train.select([row]).texts[0]
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        yield (
            f"{len(conflicting):,} training texts have several labels, as {shown!r}: {before} and "
            f"{label}. Correct or remove them."
        )


def repeated_rows(examples: Examples, wanted: str | Mapping[str, int]) -> NDArray[np.int64]:
    """Return the rows to train on, some of them several times.

    Args:
        examples: the training split.
        wanted: ``none``; ``source`` or ``class``, each as often as brings it to the size of the
            largest, rounded up, as in the study's balanced variant; or how often by name.

    Raises:
        InputError: a name is neither a source nor a class.
    """
    rows = np.arange(len(examples), dtype=np.int64)
    if wanted == "none":
        return rows
    keys = {"source": examples.sources, "class": examples.labels}
    if isinstance(wanted, str):
        groups = keys[wanted]
        counts = Counter(groups)
        most = max(counts.values())
        times = {name: -(-most // count) for name, count in counts.items()}
        return np.repeat(rows, [times[name] for name in groups])
    known = {name for names in keys.values() for name in names if name is not None}
    for name in wanted:
        if name not in known:
            raise InputError(
                f"training.oversample: {name!r} is no source or class of the training split. "
                f"{did_you_mean(name, sorted(known))}"
            )
    pairs = zip(keys["source"], keys["class"], strict=True)
    return np.repeat(
        rows, [wanted.get(source or "", 1) * wanted.get(label or "", 1) for source, label in pairs]
    )


@dataclass(frozen=True)
class SelectedInputs:
    """Rows of other inputs, some of them several times."""

    inputs: ModelInputs
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The size of each row."""
        return np.asarray(self.inputs.lengths[self.rows])

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Return the model's inputs for some rows."""
        return self.inputs.batch(self.rows[rows])


def token_warnings(
    inputs: Mapping[str, TokenizedTexts], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[str]:
    """Yield what is suspect about tokenised splits: texts cut, and unknown word pieces.

    Args:
        inputs: the splits, by name.
        tokenizer: the one they were tokenised with.
        max_length: word pieces after which texts were cut.
    """
    for name, texts in inputs.items():
        cut = texts.cut
        if cut:
            yield (
                f"{cut:,} of {len(texts):,} {name} texts ({cut / len(texts):.1%}) are longer than "
                f"encoder.max_length ({max_length}), and part of them is left out. Raise it, or "
                "set encoder.long_texts to chunks."
            )
    unknown = tokenizer.unk_token_id
    pieces = inputs["train"].pieces
    # Of a byte-level tokenizer the unknown piece is never used, or is another one's name.
    share = float((pieces == unknown).mean()) if unknown is not None and len(pieces) else 0.0
    if share > MANY_UNKNOWN:
        yield (
            f"{share:.1%} of the word pieces of the training texts are unknown to the encoder's "
            "tokenizer. Use an encoder made for their language and script."
        )


def tokenize_examples(
    examples: Examples,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    long_texts: LongTexts = "cut",
) -> TokenizedTexts:
    """Tokenise a split, some thousands of texts at a time."""
    return tokenize(_text_batches(examples), tokenizer, max_length, long_texts)


def _text_batches(examples: Examples) -> Iterator[Sequence[str]]:
    for batch in examples.batches():
        yield batch["text"]


@dataclass(frozen=True)
class EmbeddedTexts:
    """Pooled texts of a frozen encoder.

    Attributes:
        vectors: (rows, hidden), float32; on disk.
        tokens: what was embedded.
    """

    vectors: NDArray[np.float32]
    tokens: TokenizedTexts

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
    return EmbeddedTexts(vectors, inputs)


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
