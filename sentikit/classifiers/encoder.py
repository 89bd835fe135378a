"""The interface of an encoder: a tokenizer and a pretrained transformers backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sentikit.classifiers.batches import LongTexts
from sentikit.components import Part, PartSettings
from sentikit.errors import InputError
from sentikit.weights import refuse_foreign_code, refuse_impossible_sizes

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class Lora(PartSettings):
    """Low-rank adapters trained in place of the encoder's weights (arXiv:2106.09685), by peft."""

    rank: int = Field(16, ge=1, description="rank of each adapter")
    alpha: int = Field(32, gt=0, description="adapters are scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the adapters' inputs")
    layers: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="names of the linear layers that get one, as [q_proj, v_proj]"
    )


class EncoderOptions(PartSettings):
    """Keys of the encoder section that work with every encoder."""

    max_length: int = Field(
        256, ge=8, le=8192, description="most word pieces of a text, specials counted"
    )
    long_texts: LongTexts = Field(
        "cut",
        description="what happens to longer texts: cut (the end is left out), head_tail (the first "
        "quarter and the end are kept) or chunks (each is labelled, averaged by length)",
    )
    lora: Lora | None = Field(
        None, description="train low-rank adapters alone; they are merged into the saved model"
    )


class Encoder(Part, ABC):
    """Brings a tokenizer and a backbone.

    The backbone is a transformers model whose output has ``last_hidden_state`` of shape
    (texts, word pieces, hidden size).
    """

    @abstractmethod
    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the fast tokenizer.

        Raises:
            sentikit.InputError: no such model, or no such file.
            sentikit.SentikitError: the hub cannot be reached.
        """

    @abstractmethod
    def load_backbone(self) -> PreTrainedModel:
        """Return the pretrained backbone in fp32, without a pooler; errors as `load_tokenizer`."""

    @abstractmethod
    def load_config(self) -> PretrainedConfig:
        """Return the architecture's configuration, without any weights; errors as above."""

    def build_backbone(self, config: PretrainedConfig) -> PreTrainedModel:
        """Build the backbone with random weights, on whatever device is the default."""
        from transformers import AutoModel

        # A setting of encoders that load any model; off unless the user wrote it.
        trusted = bool(getattr(self.settings, "trust_remote_code", False))
        return without_pooler(AutoModel.from_config(config, trust_remote_code=trusted))

    def save(
        self, folder: Path, tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel
    ) -> None:
        """Write into `folder` what `restore` needs, except the weights."""
        tokenizer.save_pretrained(folder)
        backbone.config.save_pretrained(folder)

    @classmethod
    def restore(cls, folder: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
        """Rebuild tokenizer and backbone from `folder`; the weights are random until loaded.

        Raises:
            sentikit.InputError: there is no tokenizer in it, or it needs code of its own.
        """
        from transformers import AutoConfig, AutoModel, AutoTokenizer
        from transformers.initialization import no_init_weights

        if not (folder / "tokenizer.json").is_file():
            # transformers would silently make one without words from config.json alone.
            raise InputError(f"{folder} has no tokenizer: tokenizer.json is missing.")
        refuse_foreign_code(folder)
        refuse_impossible_sizes(folder, folder.parent / "model.safetensors")
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with no_init_weights():
            backbone = AutoModel.from_config(config, trust_remote_code=False)
        return tokenizer, without_pooler(backbone)


def without_pooler(backbone: PreTrainedModel) -> PreTrainedModel:
    """Drop a BERT-like pooler: heads here pool the tokens, and an idle layer gets no gradient."""
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None  # type: ignore[assignment]
    # Of a decoder, keys and values would be kept for tokens that never come.
    if getattr(backbone.config, "use_cache", False):
        backbone.config.use_cache = False
    return backbone


def most_positions(backbone: nn.Module) -> int | None:
    """Return how many word pieces learnt positions reach; None where there is no such limit."""
    from torch.nn import Embedding

    for name, module in backbone.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, Embedding):
            # RoBERTa and its like count positions from behind the padding's own.
            before = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - before
    return None
