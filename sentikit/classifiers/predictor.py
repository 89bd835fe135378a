"""What computes logits of padded batches: a torch module, or whatever a format brings."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.batching import BATCH_LIMITS, BatchLimits

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sentikit.classifiers.model import SentimentModel


class Predictor(Protocol):
    """Computes logits."""

    @property
    def device(self) -> str:
        """Where, as ``cpu`` or ``cuda:0``."""

    @property
    def precision(self) -> str:
        """In fp32, bf16, fp16 or int8."""

    @property
    def batch_limits(self) -> BatchLimits:
        """The size of one pass."""

    def logits(self, batches: Iterable[tuple[Tensor, Tensor]]) -> list[NDArray[np.float32]]:
        """Return the logits, (texts, classes), of each batch.

        Args:
            batches: ids and mask on the CPU, both (texts, word pieces), int64.
        """


class TorchPredictor:
    """Runs a torch module, with its weights in the wanted precision.

    Weights in bf16 are faster than fp32 weights under autocast, which casts them in every pass.

    Attributes:
        model: the module, in evaluation mode.
    """

    def __init__(self, model: SentimentModel, device: torch.device, precision: str) -> None:
        import torch

        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        self.model = model.to(device=device, dtype=kinds[precision]).eval()
        self._precision = precision
        self._device = device

    @property
    def device(self) -> str:
        """Where the module is."""
        return str(self._device)

    @property
    def precision(self) -> str:
        """In which precision the weights are."""
        return self._precision

    @property
    def batch_limits(self) -> BatchLimits:
        """The size of one pass."""
        return BATCH_LIMITS[self._device.type]

    def logits(self, batches: Iterable[tuple[Tensor, Tensor]]) -> list[NDArray[np.float32]]:
        """Return the logits of each batch; the device is waited for once, at the end."""
        import torch

        from sentikit.classifiers.fast_linear import fast_linear

        on_cpu_in_fp32 = self._device.type == "cpu" and self._precision == "fp32"
        with torch.inference_mode(), fast_linear() if on_cpu_in_fp32 else nullcontext():
            results = [self.model(*self._moved(batch)) for batch in batches]
            return [logits.cpu().numpy() for logits in results]

    def _moved(self, batch: tuple[Tensor, Tensor]) -> list[Tensor]:
        if self._device.type == "cpu":
            return list(batch)
        pinned = self._device.type == "cuda"
        return [
            (tensor.pin_memory() if pinned else tensor).to(self._device, non_blocking=True)
            for tensor in batch
        ]
