"""Heads of linear layers, with the study's activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sentikit.extension import ComponentSettings, Head

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Dropout = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal[
    "tanh", "relu", "sigmoid", "leaky_relu", "gelu", "silu", "swish", "swishglu", "elu", "mish"
]

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


class LinearHead(Head):
    """Dropout and one linear layer."""

    class Settings(ComponentSettings):
        """Settings of ``linear``."""

        dropout: Dropout = 0.1

    settings: Settings

    def build(self, hidden_size: int, classes: int) -> nn.Module:
        """Return a module from (texts, hidden_size) to (texts, classes)."""
        return nn.Sequential(nn.Dropout(self.settings.dropout), nn.Linear(hidden_size, classes))


class MlpHead(Head):
    """[Linear, activation, Dropout] for each hidden layer, then Linear.

    All hidden layers share one activation module, as in the study, also its weights (SwishGLU has
    some).
    """

    class Settings(ComponentSettings):
        """Settings of ``mlp``; the defaults are the study's."""

        layers: Annotated[int, Field(ge=1, le=16)] = 2
        width: Annotated[int, Field(ge=1)] = 1024
        activation: Activation = "swishglu"
        dropout: Dropout = 0.3

    settings: Settings

    def build(self, hidden_size: int, classes: int) -> nn.Module:
        """Return a module from (texts, hidden_size) to (texts, classes)."""
        chosen = self.settings
        if chosen.activation == "swishglu":
            activation: nn.Module = SwishGLU(chosen.width)
        else:
            activation = _ACTIVATIONS[chosen.activation]()
        return MlpLayers(
            hidden_size, chosen.width, chosen.layers, classes, activation, chosen.dropout
        )


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


class NativeHead(Head):
    """The head of transformers' ``*ForSequenceClassification`` for BERT, RoBERTa and ELECTRA.

    It is [Dropout, Linear, activation, Dropout, Linear] over the first token, which
    ``sentikit export --format transformers`` can write as a model of transformers.
    """

    only_pooling: ClassVar[Literal["cls"]] = "cls"
    #: Activations by type of encoder; BERT's and RoBERTa's is tanh.
    _ACTIVATIONS: ClassVar[dict[str, type[nn.Module]]] = {
        "electra": nn.GELU,
        "deberta-v2": nn.GELU,
        "distilbert": nn.ReLU,
    }

    class Settings(ComponentSettings):
        """Settings of ``native``."""

        dropout: Dropout = 0.1

    settings: Settings

    def build(self, hidden_size: int, classes: int) -> nn.Module:
        """Return BERT's head, from (texts, hidden_size) to (texts, classes)."""
        return NativeLayers(hidden_size, classes, nn.Tanh(), self.settings.dropout)

    def build_on(self, config: PretrainedConfig, classes: int) -> nn.Module:
        """Return the head that transformers uses for the backbone."""
        activation = self._ACTIVATIONS.get(config.model_type, nn.Tanh)()
        hidden_size = int(config.hidden_size)
        return NativeLayers(hidden_size, classes, activation, self.settings.dropout)


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


class AttentionHead(Head):
    """Pooling by learnt attention (Yang et al. 2016, section 2.2), then one linear layer."""

    only_pooling: ClassVar[Literal["head"]] = "head"

    class Settings(ComponentSettings):
        """Settings of ``attention``."""

        dropout: Dropout = 0.1

    settings: Settings

    def build(self, hidden_size: int, classes: int) -> nn.Module:
        """Return a module that pools and maps (texts, hidden_size) to (texts, classes)."""
        return AttentionLayers(hidden_size, classes, self.settings.dropout)


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
