"""The loss, the same however it is shared: cross-entropy with label smoothing, class weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sentikit.errors import InputError, did_you_mean
from sentikit.training.batches import MicroBatch, Rows

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Objective(Protocol):
    """What training minimises."""

    def total_weight(self, batch: Rows) -> float:
        """Return what a whole batch's loss is divided by."""

    def loss(self, logits: Tensor, micro_batch: MicroBatch, total_weight: float) -> Tensor:
        """Return a micro-batch's part of its batch's mean loss; the parts add up to the mean.

        Args:
            logits: what the model made of the rows, float32.
            micro_batch: the rows, and which count.
            total_weight: of the whole batch, over all processes.
        """


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of a classifier's logits.

    Attributes:
        gold: class number of every training example.
        class_weights: one weight a class.
        label_smoothing: mass spread over all classes.
    """

    gold: NDArray[np.int64]
    class_weights: NDArray[np.float32]
    label_smoothing: float

    def total_weight(self, batch: Rows) -> float:
        """Return what a whole batch's loss is divided by: the weights of its gold classes."""
        return float(self.class_weights[self.gold[batch]].sum())

    def loss(self, logits: Tensor, micro_batch: MicroBatch, total_weight: float) -> Tensor:
        """Return a micro-batch's part of its batch's mean loss; the parts add up to the mean.

        Args:
            logits: (rows, classes), float32.
            micro_batch: the rows, and which count.
            total_weight: of the whole batch, over all processes.
        """
        from torch.nn import functional

        losses = functional.cross_entropy(
            logits,
            _moved(self.gold[micro_batch.rows], logits.device),
            weight=_moved(self.class_weights, logits.device),
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        return (losses * _moved(micro_batch.weights, logits.device)).sum() / total_weight


def _moved(array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to the device, without waiting until a GPU has done all it was given."""
    import torch

    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def class_weights(
    wanted: str | dict[str, float], gold: NDArray[np.int64], classes: tuple[str, ...]
) -> NDArray[np.float32]:
    """Return one weight a class.

    ``balanced`` is examples / (classes · examples of the class), as scikit-learn's.

    Raises:
        InputError: a weight for a class that is not there, or a class without a weight.
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
