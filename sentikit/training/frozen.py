"""A frozen encoder answers the same every epoch: each text is embedded once, the head trained."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sentikit.classifiers.batches import BATCH_LIMITS, batches_by_length
from sentikit.devices import autocast
from sentikit.training.evaluation import exchange_rows

if TYPE_CHECKING:
    from sentikit.classifiers.batches import TokenizedTexts
    from sentikit.classifiers.torch_model import SentimentModel
    from sentikit.training.engine import Engine


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
