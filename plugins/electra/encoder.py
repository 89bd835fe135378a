"""ELECTRA by size; the architectures are known here, so that planning needs no download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from sentikit.extension import Encoder, PartSettings, PretrainedSource

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class _Electra(Encoder):
    """One size of ELECTRA (Clark et al. 2020, https://arxiv.org/abs/2003.10555)."""

    #: The hub's configuration, as far as it differs from transformers' defaults.
    architecture: ClassVar[dict[str, Any]]
    hub_id: ClassVar[str]

    class Settings(PartSettings):
        """Settings of ``electra-small``, ``electra-base`` and ``electra-large``."""

        path: str | None = Field(None, description="a local copy of the model's folder")
        revision: str | None = Field(None, description="branch, tag or commit on the hub")

    settings: Settings

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the fast tokenizer."""
        return self._source().tokenizer()

    def load_backbone(self) -> PreTrainedModel:
        """Return the pretrained backbone."""
        return self._source().backbone()

    def load_config(self) -> PretrainedConfig:
        """Return the architecture; the hub is not asked."""
        from transformers import ElectraConfig

        if self.settings.path:
            return self._source().config()
        return ElectraConfig(**self.architecture)

    def _source(self) -> PretrainedSource:
        return PretrainedSource(self.settings.path or self.hub_id, self.settings.revision)


class ElectraSmall(_Electra):
    """12 layers, hidden size 256, embeddings of 128."""

    hub_id = "google/electra-small-discriminator"
    architecture = {
        "embedding_size": 128,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_attention_heads": 4,
        "num_hidden_layers": 12,
    }


class ElectraBase(_Electra):
    """12 layers, hidden size 768."""

    hub_id = "google/electra-base-discriminator"
    architecture = {
        "embedding_size": 768,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
    }


class ElectraLarge(_Electra):
    """24 layers, hidden size 1024."""

    hub_id = "google/electra-large-discriminator"
    architecture = {
        "embedding_size": 1024,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
    }
