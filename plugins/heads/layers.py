"""The modules of the heads: linear layers, with the study's activations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "elu": nn.ELU,
    "mish": nn.Mish,
}


def activation_module(name: str, width: int) -> nn.Module:
    """Return an activation over a layer of `width`; SwishGLU has weights."""
    return SwishGLU(width) if name == "swishglu" else _ACTIVATIONS[name]()


class MlpLayers(nn.Module):
    """Linear layers of one width that share an activation."""

    def __init__(
        self,
        inputs: int,
        width: int,
        layers: int,
        outputs: int,
        activation: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        sizes = [inputs] + [width] * layers
        self.hidden = nn.ModuleList(nn.Linear(size, width) for size in sizes[:-1])
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return (texts, outputs)."""
        for layer in self.hidden:
            pooled = self.dropout(self.activation(layer(pooled)))
        logits: Tensor = self.output(pooled)
        return logits


class SwishGLU(nn.Module):
    """One projection to twice the width, split into a and g: a · SiLU(g) (arXiv:2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, 2 * width)

    def forward(self, states: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        values, gates = self.projection(states).chunk(2, dim=-1)
        gated: Tensor = values * functional.silu(gates)
        return gated


class NativeLayers(nn.Module):
    """A hidden layer of the encoder's width, then the logits."""

    def __init__(self, size: int, classes: int, activation: nn.Module, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(size, size)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(size, classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits, (texts, classes), of pooled texts, (texts, size)."""
        hidden = self.activation(self.dense(self.dropout(pooled)))
        logits: Tensor = self.out_proj(self.dropout(hidden))
        return logits


class AttentionLayers(nn.Module):
    """Attention over the tokens of a text, dropout and a linear layer."""

    def __init__(self, hidden_size: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.query = nn.Linear(hidden_size, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, classes)

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool (texts, tokens, hidden) to (texts, hidden); padding has no weight."""
        scores = self.query(torch.tanh(self.projection(states))).squeeze(-1).float()
        weights = scores.masked_fill(mask == 0, torch.finfo(torch.float32).min).softmax(dim=1)
        pooled: Tensor = (states * weights.to(states.dtype).unsqueeze(-1)).sum(dim=1)
        return pooled

    def forward(self, pooled: Tensor) -> Tensor:
        """Return (texts, classes)."""
        logits: Tensor = self.output(self.dropout(pooled))
        return logits
