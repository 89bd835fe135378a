"""The data of a training run: splits, model inputs, and batches of texts of similar length."""

from __future__ import annotations

import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sentikit.classifiers.batches import BATCH_LIMITS, TokenizedTexts, batches_by_length
from sentikit.datasets.examples import Examples, text_hashes
from sentikit.datasets.labels import absence_warnings
from sentikit.datasets.opening import STATING_LABELS
from sentikit.devices import autocast
from sentikit.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sentikit.classifiers.torch_model import SentimentModel
    from sentikit.training.engine import Engine
    from sentikit.training.recipe import TrainData


Rows = NDArray[np.int64]


class ModelInputs(Protocol):
    """Inputs of a model: tokenized texts, or features of a frozen encoder."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The size of each text, by which batches are planned."""

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, ...]: ...


@dataclass(frozen=True)
class Labelled:
    """The inputs of a split and their class numbers."""

    inputs: ModelInputs
    gold: NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """The examples of a training run; None for a split that the dataset lacks."""

    train: Examples
    validation: Examples | None
    test: Examples | None

    def items(self) -> list[tuple[str, Examples]]:
        found = [("train", self.train), ("validation", self.validation), ("test", self.test)]
        return [(name, examples) for name, examples in found if examples is not None]


def load_splits(components: TrainData, validated: bool = True) -> Splits:
    """Load the splits; `validated` is whether training needs a validation split."""
    components.check_splits(validated)
    dataset, evaluation = components.dataset, components.dataset_for("validation")
    train = dataset.split("train")
    present = set(train.values("label"))
    if len(present) < 2:
        raise InputError(
            f"The training split of {dataset.name!r} has only the class "
            f"{present.pop()!r}. Training needs at least two."
        )
    test, validation = (
        evaluation.split(name) if name in evaluation.splits else None
        for name in ("test", "validation")
    )
    if evaluation is not dataset and not evaluation.options.model_fields_set & STATING_LABELS:
        for name, examples in (("validation", validation), ("test", test)):
            if examples is not None:
                evaluation.refuse_other_scheme(name, examples, "evaluation_dataset")
    if validated and validation is not None and len(validation) < len(dataset.scheme.classes):
        raise InputError(
            f"The validation split has {len(validation)} texts for {len(dataset.scheme.classes)} "
            "classes, too few to choose the best epoch. Raise dataset.validation_holdout, for "
            "example to 10%."
        )
    return Splits(train, validation, test)


#: With fewer validation texts, the choice of the best epoch is mostly chance.
FEW_VALIDATION = 30
#: Share of unknown word pieces above which a tokenizer does not suit the texts.
MANY_UNKNOWN = 0.05


def data_warnings(splits: Splits, classes: Sequence[str], batch_size: int) -> Iterator[str]:
    train, validation = splits.train, splits.validation
    for name, examples in splits.items():
        yield from absence_warnings(name, classes, examples.values("label"))
    if validation is not None and len(validation) < FEW_VALIDATION:
        yield (
            f"Only {len(validation)} validation texts choose the best epoch; use at least "
            f"{FEW_VALIDATION}."
        )
    if batch_size > len(train):
        yield (
            f"training.batch_size is {batch_size}, but there are only {len(train):,} training "
            "texts, so an epoch is one step. Lower it."
        )
    trained = text_hashes(train.values("text"))
    for name, other in splits.items()[1:]:
        shared = int(np.isin(text_hashes(other.values("text")), trained).sum())
        if shared == len(other):
            yield f"Every {name} text is also a training text, so its scores are too optimistic."
        elif shared:
            yield (
                f"{shared:,} of {len(other):,} {name} texts ({shared / len(other):.1%}) are also "
                "training texts, so scores on them are too optimistic."
            )
    yield from _conflicting_labels(train, trained)


def _conflicting_labels(train: Examples, hashes: NDArray[np.uint64]) -> Iterator[str]:
    first: dict[int, str] = {}
    conflicting: dict[int, tuple[int, str, str]] = {}
    pairs = zip(hashes.tolist(), train.values("label"), strict=True)
    for row, (key, label) in enumerate(pairs):
        before = first.setdefault(key, label)
        if label != before:
            conflicting.setdefault(key, (row, before, label))
    if conflicting:
        row, before, label = next(iter(conflicting.values()))
        text = train.select([row]).texts[0]
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        yield (
            f"{len(conflicting):,} training texts have several labels, for example {shown!r}: "
            f"{before} and {label}. Correct or remove them."
        )


def repeated_rows(examples: Examples, wanted: str | Mapping[str, int]) -> NDArray[np.int64]:
    """Return the rows to train on, repeated for oversampling."""
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
                f"training.oversample: {name!r} is not a source or class of the training split. "
                f"{did_you_mean(name, sorted(known))}"
            )
    pairs = zip(keys["source"], keys["class"], strict=True)
    return np.repeat(
        rows, [wanted.get(source or "", 1) * wanted.get(label or "", 1) for source, label in pairs]
    )


@dataclass(frozen=True)
class SelectedInputs:
    """Selected rows of other inputs, possibly repeated."""

    inputs: ModelInputs
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.asarray(self.inputs.lengths[self.rows])

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, ...]:
        return self.inputs.batch(self.rows[rows])


def labelled(
    inputs: TokenizedTexts | EmbeddedTexts,
    gold: NDArray[np.int64],
    rows: NDArray[np.int64] | None = None,
) -> Labelled:
    """Return inputs with gold classes; with `rows`, those texts, all chunks of each with its class.

    `gold` has one class per text.
    """
    if rows is None:
        return Labelled(inputs, gold)
    tokens = inputs.tokens if isinstance(inputs, EmbeddedTexts) else inputs
    if tokens.owners is not None:
        first = np.searchsorted(tokens.owners, np.arange(len(gold) + 1))
        gold = gold[tokens.owners]
        rows = np.concatenate([np.arange(first[row], first[row + 1]) for row in rows])
    if len(rows) == len(inputs):
        return Labelled(inputs, gold)
    return Labelled(SelectedInputs(inputs, rows), gold[rows])


def token_warnings(
    inputs: Mapping[str, TokenizedTexts], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[str]:
    """Warn about truncated texts and unknown word pieces."""
    for name, texts in inputs.items():
        cut = texts.cut
        if cut:
            yield (
                f"{cut:,} of {len(texts):,} {name} texts ({cut / len(texts):.1%}) are longer than "
                f"encoder.max_length ({max_length}) and are truncated. Raise it, or set "
                "encoder.long_texts to chunks."
            )
    unknown = tokenizer.unk_token_id
    pieces = inputs["train"].pieces
    # A byte-level tokenizer never uses its unknown token, or shares its id with another token.
    share = float((pieces == unknown).mean()) if unknown is not None and len(pieces) else 0.0
    if share > MANY_UNKNOWN:
        yield (
            f"{share:.1%} of the word pieces of the training texts are unknown to the encoder's "
            "tokenizer. Use an encoder for their language and script."
        )


@dataclass(frozen=True)
class EmbeddedTexts:
    """Pooled embeddings from a frozen encoder."""

    vectors: NDArray[np.float32]
    tokens: TokenizedTexts

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.ones(len(self.vectors), np.int64)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor]:
        return (torch.from_numpy(np.ascontiguousarray(self.vectors[rows])),)


class HeadOnly(nn.Module):
    """The head of a model with a frozen encoder; its weights have the same names as there."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.head(pooled)
        return logits.float()


def embed(
    model: SentimentModel, inputs: TokenizedTexts, engine: Engine, precision: str
) -> EmbeddedTexts:
    """Embed every text once, without dropout, divided among the processes."""
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
    """Fill in the rows that other processes computed: batch b belongs to process b mod n."""
    if engine.processes == 1:
        return
    nothing, processes = np.empty(0, np.int64), engine.processes
    shares = [np.concatenate([nothing, *batches[rank::processes]]) for rank in range(processes)]
    pieces = engine.gather(rows[shares[engine.rank]])
    for share, piece in zip(shares, pieces, strict=True):
        rows[share] = piece


#: Batches in a pool that is sorted by length: more mean less padding and less randomness.
POOL_BATCHES = 50


@dataclass(frozen=True)
class MicroBatch:
    """The rows of one forward pass of one process.

    Attributes:
        rows: row numbers; never empty, see `weights`.
        weights: 1 for a row that counts, 0 for one that only keeps processes in step.
    """

    rows: Rows
    weights: NDArray[np.float32]


def plan_epoch(lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Return the batches of an epoch, with every row once; one batch may be smaller.

    Texts are shuffled and sorted by length within pools of some batches, then the batches are
    shuffled. They are random, with little padding (about 93 % of a batch is text, against 42 % in
    random order). A batch is one optimizer step, whatever the number of processes.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    pool = batch_size * POOL_BATCHES
    batches: list[Rows] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def share(
    batch: Rows,
    lengths: NDArray[np.int64],
    rank: int,
    processes: int,
    most_rows: int,
    most_tokens: int,
) -> list[MicroBatch]:
    """Return one process's share of a batch, split into micro-batches.

    Every process gets the same number of micro-batches, because engines synchronise in each; a
    process without further rows repeats one with weight 0.
    """
    parts = [batch[number::processes] for number in range(processes)]
    cuts = [_cut(part, lengths, most_rows, most_tokens) for part in parts]
    pieces = max(map(len, cuts))
    idle = MicroBatch(batch[:1], np.zeros(1, np.float32))
    own = [MicroBatch(rows, np.ones(len(rows), np.float32)) for rows in cuts[rank]]
    return own + [idle] * (pieces - len(own))


def _cut(rows: Rows, lengths: NDArray[np.int64], most_rows: int, most_tokens: int) -> list[Rows]:
    """Split rows into as few pieces of similar length as the limits allow, longest first."""
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    pieces: list[Rows] = []
    start = 0
    while start < len(ordered):
        longest = max(1, int(lengths[ordered[start]]))
        count = max(1, min(most_rows, most_tokens // longest))
        pieces.append(ordered[start : start + count])
        start += count
    return pieces


def steps_per_epoch(examples: int, batch_size: int) -> int:
    return -(-examples // batch_size)


def pinned(tensors: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Return tensors in pinned memory for a GPU, unchanged for other devices."""
    if device.type != "cuda":
        return tensors
    return tuple(tensor.pin_memory() for tensor in tensors)


Plan = TypeVar("Plan")
Batch = TypeVar("Batch")


def prefetched(
    plans: Iterable[Plan], make: Callable[[Plan], Batch], workers: int, ahead: int
) -> Iterator[tuple[Plan, Batch]]:
    """Yield each plan with the result of `make`, in order; threads make `ahead` of them early."""
    if ahead == 0:
        yield from ((plan, make(plan)) for plan in plans)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    waiting: deque[tuple[Plan, Future[Batch]]] = deque()
    try:
        for plan in plans:
            waiting.append((plan, pool.submit(make, plan)))
            if len(waiting) > ahead:
                first, made = waiting.popleft()
                yield first, made.result()
        for last, made in waiting:
            yield last, made.result()
    finally:
        pool.shutdown(cancel_futures=True)
