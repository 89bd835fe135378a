"""The head of the format: layers that share one activation module."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from .config import SWISHGLU, HeadConfig


@dataclass(frozen=True)
class HeadParts:
    """The modules of a head of hidden layers.

    Attributes:
        hidden: linear layers of one width.
        activation: the module after each of them, shared.
        output: the layer to the logits.
        dropout: probability after each activation.
    """

    hidden: tuple[nn.Linear, ...]
    activation: nn.Module
    output: nn.Linear
    dropout: float


class ClassifierLayers(nn.Module):
    """[Linear, activation, Dropout] for each hidden layer, then Linear.

    Tensors are named ``layers.{i}.*`` as in the format: Dropout only counts if its probability is
    above 0, and the shared activation's tensors have a name for each position.
    """

    def __init__(self, parts: HeadParts) -> None:
        super().__init__()
        self.parts = parts
        dropout = [nn.Dropout(parts.dropout)] if parts.dropout > 0 else []
        hidden = [m for layer in parts.hidden for m in (layer, parts.activation, *dropout)]
        self.layers = nn.Sequential(*hidden, parts.output)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits, (texts, classes), of pooled texts, (texts, hidden size)."""
        logits: Tensor = self.layers(pooled)
        return logits

    def shared_names(self) -> list[list[str]]:
        """Return all names in the state dict of each of the activation's tensors."""
        places = [str(i) for i, m in enumerate(self.layers) if m is self.parts.activation]
        tensors = [name for name, _ in self.parts.activation.named_parameters()]
        return [[f"layers.{place}.{name}" for place in places] for name in tensors]


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


def build_layers(config: HeadConfig, inputs: int, outputs: int) -> ClassifierLayers:
    """Build the head that a ``config.json`` describes."""
    sizes = [inputs] + [config.hidden_dim] * config.num_layers
    if config.hidden_activation == SWISHGLU:
        activation: nn.Module = SwishGLU(config.hidden_dim)
    else:
        activation = getattr(nn, config.hidden_activation)()
    hidden = tuple(nn.Linear(size, config.hidden_dim) for size in sizes[:-1])
    output = nn.Linear(config.hidden_dim, outputs)
    return ClassifierLayers(HeadParts(hidden, activation, output, config.dropout_rate))


def parts_of(head: nn.Module) -> HeadParts | None:
    """Return the modules of a head of hidden layers, such as ``mlp``; None for other heads."""
    if isinstance(head, ClassifierLayers):
        return head.parts
    hidden, output = getattr(head, "hidden", None), getattr(head, "output", None)
    activation, dropout = getattr(head, "activation", None), getattr(head, "dropout", None)
    if not isinstance(hidden, nn.ModuleList) or not isinstance(output, nn.Linear):
        return None
    if not isinstance(activation, nn.Module) or not isinstance(dropout, nn.Dropout):
        return None
    layers = tuple(layer for layer in hidden if isinstance(layer, nn.Linear))
    return HeadParts(layers, activation, output, dropout.p) if layers else None
