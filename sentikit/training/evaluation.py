"""The loss, the logits of a split, and the use of an epoch's scores for early stopping."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.batches import BATCH_LIMITS, TokenizedTexts, batches_by_length
from sentikit.errors import InputError, SentikitError, did_you_mean
from sentikit.training.data import (
    EmbeddedTexts,
    MicroBatch,
    ModelInputs,
    Rows,
    exchange_rows,
    pinned,
    prefetched,
)
from sentikit.training.settings import EarlyStopping, LoopSettings, ReduceOnPlateau

if TYPE_CHECKING:
    from torch import Tensor

    from sentikit.scoring import Scores
    from sentikit.training.checkpoints import TrainingState
    from sentikit.training.engine import Engine


class Objective(Protocol):
    """The loss that training minimises."""

    def total_weight(self, batch: Rows) -> float:
        """Return the divisor of a batch's loss."""

    def loss(self, logits: Tensor, micro_batch: MicroBatch, total_weight: float) -> Tensor:
        """Return a micro-batch's share of the batch's mean loss; the shares add up to it."""


@dataclass
class CrossEntropy:
    gold: NDArray[np.int64]
    class_weights: NDArray[np.float32]
    label_smoothing: float
    _moved: tuple[Tensor, ...] | None = field(default=None, init=False, repr=False)

    def total_weight(self, batch: Rows) -> float:
        return float(self.class_weights[self.gold[batch]].sum())

    def loss(self, logits: Tensor, micro_batch: MicroBatch, total_weight: float) -> Tensor:
        import torch
        from torch.nn import functional

        device = logits.device
        if self._moved is None or self._moved[0].device != device:
            tensors = (torch.from_numpy(self.gold), torch.from_numpy(self.class_weights))
            self._moved = tuple(tensor.to(device) for tensor in tensors)
        gold, class_weights = self._moved
        (rows,) = pinned((torch.from_numpy(micro_batch.rows),), device)
        losses = functional.cross_entropy(
            logits,
            gold[rows.to(device, non_blocking=True)],
            weight=class_weights,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        if not micro_batch.weights.all():
            losses = losses * torch.from_numpy(micro_batch.weights).to(device)
        return losses.sum() / total_weight


def class_weights(
    wanted: str | dict[str, float], gold: NDArray[np.int64], classes: tuple[str, ...]
) -> NDArray[np.float32]:
    """Return one weight per class.

    ``balanced`` is examples / (classes · examples of the class), as in scikit-learn.
    """
    if wanted == "none":
        return np.ones(len(classes), np.float32)
    if wanted == "balanced":
        counts = np.maximum(np.bincount(gold, minlength=len(classes)), 1)
        return (len(gold) / (len(classes) * counts)).astype(np.float32)
    assert isinstance(wanted, dict)
    for name in wanted:
        if name not in classes:
            raise InputError(
                f"training.class_weights: unknown class {name!r}. {did_you_mean(name, classes)}"
            )
    missing = [name for name in classes if name not in wanted]
    if missing or min(wanted.values()) <= 0:
        raise InputError(
            "training.class_weights: every class needs a weight above 0 "
            f"(missing: {', '.join(missing) or 'none'})."
        )
    return np.array([wanted[name] for name in classes], np.float32)


def shared_logits(engine: Engine, inputs: ModelInputs, classes: int) -> NDArray[np.float32]:
    """Return the logits of all texts, (texts, classes), on every process; chunks are averaged.

    The processes take turns at batches of similar length. In an incomplete last round, a process
    repeats a batch and drops the result, because engines may need every process in every pass.
    """
    import torch

    device = engine.device
    batches = list(batches_by_length(inputs.lengths, *BATCH_LIMITS[device.type]))
    rounds = -(-len(batches) // engine.processes)
    positions = range(engine.rank, rounds * engine.processes, engine.processes)
    own = np.zeros((len(inputs), classes), np.float32)
    found: list[tuple[NDArray[np.int64], Tensor]] = []

    def assemble(position: int) -> tuple[NDArray[np.int64], tuple[Tensor, ...]]:
        rows = batches[min(position, len(batches) - 1)]
        return rows, pinned(inputs.batch(rows), device)

    engine.training_mode(False)
    with torch.no_grad():
        ahead = 0 if device.type == "cpu" else 2
        for position, (rows, tensors) in prefetched(positions, assemble, 1, ahead):
            logits = engine.forward(*tensors)
            if logits.shape != (len(rows), classes):
                raise SentikitError(
                    f"The engine {type(engine).__name__} returned logits of shape "
                    f"{tuple(logits.shape)} instead of (texts, classes), {(len(rows), classes)}."
                )
            if position < len(batches):
                found.append((rows, logits))
    # Fetched only now, so that a GPU never waits between batches.
    for rows, logits in found:
        own[rows] = logits.cpu().numpy()
    engine.training_mode(True)
    exchange_rows(engine, batches, own)
    tokens = inputs.tokens if isinstance(inputs, EmbeddedTexts) else inputs
    return tokens.by_text(own) if isinstance(tokens, TokenizedTexts) else own


#: A collapse is a score this far below the highest, with only one class predicted.
_COLLAPSE_DROP = 0.2


def watched_value(stopping: EarlyStopping, loss: float, scores: Scores) -> float:
    own = {"macro_f1": scores.macro_f1, "accuracy": scores.accuracy, "loss": loss}
    return (scores.metrics | own)[stopping.metric]


def watch_patience(stopping: EarlyStopping, state: TrainingState, value: float) -> None:
    """Count the epochs since the last improvement that was more than the tolerance."""
    if stopping.is_better(value, state.stopping_best, stopping.tolerance):
        state.stopping_best, state.stale_epochs = value, 0
    else:
        state.stale_epochs += 1


def reason_to_stop(stopping: EarlyStopping, state: TrainingState, value: float) -> str:
    """Return why training should end after this epoch, or ""."""
    if stopping.reached(value):
        return f"{stopping.metric} reached its target {stopping.target}"
    if stopping.patience and state.stale_epochs >= stopping.patience:
        return (
            f"{stopping.metric} has not improved for {state.stale_epochs} epochs "
            f"(best in epoch {state.best_epoch})"
        )
    return ""


def watch_plateau(settings: LoopSettings, state: TrainingState, value: float) -> None:
    """Lower the rate's factor in `state` after too many evaluations without improvement."""
    schedule = settings.schedule
    if not isinstance(schedule, ReduceOnPlateau):
        return
    if settings.early_stopping.is_better(value, state.plateau_best, schedule.threshold):
        state.plateau_best, state.plateau_stale = value, 0
        return
    state.plateau_stale += 1
    if state.plateau_stale > schedule.patience:
        state.plateau_factor = max(schedule.min_factor, state.plateau_factor * schedule.factor)
        state.plateau_stale = 0


def collapse(state: TrainingState, scores: Scores) -> str:
    """Return a warning if the model predicts only one class, at first or after a collapse."""
    answered = {name for row in scores.confusion.values() for name, n in row.items() if n}
    if len(answered) > 1:
        return ""
    if state.epoch == 1:
        return (
            f"After epoch 1 the model predicts {answered.pop()!r} for every validation text. If "
            "this persists, change the lr, train longer or set class_weights to balanced."
        )
    if state.highest_macro_f1 - scores.macro_f1 <= _COLLAPSE_DROP:
        return ""
    return (
        f"Training collapsed in epoch {state.epoch}: the model predicts {answered.pop()!r} for "
        f"every text (macro-F1 {scores.macro_f1:.3f}, at best {state.highest_macro_f1:.3f}). "
        f"The weights of epoch {state.best_epoch} are kept. A lower lr, more warmup or a "
        "clip_norm can prevent it."
    )
