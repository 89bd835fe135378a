"""Heads and their settings, which can be checked without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from sentikit.extension import ComponentSettings, Head

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

Dropout = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal[
    "tanh", "relu", "sigmoid", "leaky_relu", "gelu", "silu", "swish", "swishglu", "elu", "mish"
]


class LinearHead(Head):
    """Dropout and one linear layer."""

    class Settings(ComponentSettings):
        """Settings of ``linear``."""

        dropout: Dropout = 0.1

    settings: Settings

    def build(self, hidden_size: int, classes: int) -> nn.Module:
        """Return a module from (texts, hidden_size) to (texts, classes)."""
        from torch import nn

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
        from .layers import MlpLayers, activation_module

        chosen = self.settings
        activation = activation_module(chosen.activation, chosen.width)
        return MlpLayers(
            hidden_size, chosen.width, chosen.layers, classes, activation, chosen.dropout
        )


class NativeHead(Head):
    """The head of transformers' ``*ForSequenceClassification`` for BERT, RoBERTa and ELECTRA.

    It is [Dropout, Linear, activation, Dropout, Linear] over the first token, which
    ``sentikit export --format transformers`` can write as a model of transformers.
    """

    only_pooling: ClassVar[Literal["cls"]] = "cls"
    #: Activations by type of encoder; BERT's and RoBERTa's is tanh.
    _ACTIVATIONS: ClassVar[dict[str, Activation]] = {
        "electra": "gelu",
        "deberta-v2": "gelu",
        "distilbert": "relu",
    }

    class Settings(ComponentSettings):
        """Settings of ``native``."""

        dropout: Dropout = 0.1

    settings: Settings

    def build(self, hidden_size: int, classes: int) -> nn.Module:
        """Return BERT's head, from (texts, hidden_size) to (texts, classes)."""
        return self._layers("tanh", hidden_size, classes)

    def build_on(self, config: PretrainedConfig, classes: int) -> nn.Module:
        """Return the head that transformers uses for the backbone."""
        activation = self._ACTIVATIONS.get(config.model_type, "tanh")
        return self._layers(activation, int(config.hidden_size), classes)

    def _layers(self, activation: Activation, size: int, classes: int) -> nn.Module:
        from .layers import NativeLayers, activation_module

        module = activation_module(activation, size)
        return NativeLayers(size, classes, module, self.settings.dropout)


class AttentionHead(Head):
    """Pooling by learnt attention (Yang et al. 2016, section 2.2), then one linear layer."""

    only_pooling: ClassVar[Literal["head"]] = "head"

    class Settings(ComponentSettings):
        """Settings of ``attention``."""

        dropout: Dropout = 0.1

    settings: Settings

    def build(self, hidden_size: int, classes: int) -> nn.Module:
        """Return a module that pools and maps (texts, hidden_size) to (texts, classes)."""
        from .layers import AttentionLayers

        return AttentionLayers(hidden_size, classes, self.settings.dropout)
