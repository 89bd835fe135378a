"""What is expected of an encoder."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.classifiers.encoder import Encoder, EncoderOptions
from sentikit.testing.parts import check_part, require

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SHORT, _LONG = "I love it.", "The plot is thin, the jokes are old, and yet I laughed all evening."


def check_encoder(encoder_class: type[Encoder], settings: Mapping[str, Any]) -> None:
    """Load tokenizer and backbone, run two texts through them, save and restore both.

    Weights are needed: give settings that name a small local model.

    Raises:
        AssertionError: tokenizer, backbone or configuration do not go together.
    """
    encoder = check_part(encoder_class, settings, EncoderOptions.model_fields)
    name = encoder_class.__name__
    tokenizer, backbone = encoder.load_tokenizer(), encoder.load_backbone().eval()
    _check_tokenizer(name, tokenizer, int(backbone.config.vocab_size))
    _check_backbone(name, tokenizer, backbone)
    _check_planned(name, encoder, backbone)
    _check_restored(name, encoder, tokenizer, backbone)


def _check_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
    require(tokenizer.is_fast, f"{name}.load_tokenizer() must return a fast tokenizer.")
    require(tokenizer.pad_token_id is not None, f"{name}: the tokenizer has no padding token.")
    ids = tokenizer([_SHORT, _LONG], truncation=True, max_length=8)["input_ids"]
    require(max(map(len, ids)) <= 8, f"{name}: the tokenizer does not cut texts at max_length.")
    highest = max(max(pieces) for pieces in ids)
    require(highest < vocabulary, f"{name}: the tokenizer gives ids the backbone does not know.")


def _check_backbone(
    name: str, tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel
) -> None:
    import torch

    kinds = {str(weights.dtype) for weights in backbone.parameters()}
    require(kinds == {"torch.float32"}, f"{name}.load_backbone() must be in float32, not {kinds}.")
    require(getattr(backbone, "pooler", None) is None, f"{name}: the backbone must have no pooler.")
    alone = _states(tokenizer, backbone, [_SHORT])
    padded = _states(tokenizer, backbone, [_SHORT, _LONG])
    hidden = int(backbone.config.hidden_size)
    require(
        padded.ndim == 3 and padded.shape[0] == 2 and padded.shape[2] == hidden,
        f"{name}: last_hidden_state must be (texts, word pieces, {hidden}), "
        f"not {tuple(padded.shape)}.",
    )
    require(
        torch.allclose(alone[0], padded[0, : alone.shape[1]], atol=1e-4),
        f"{name}: a text's states change with the padding of its batch.",
    )


def _states(
    tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel, texts: list[str]
) -> Tensor:
    import torch

    inputs = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        states: Tensor = backbone(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).last_hidden_state
    return states


def _check_planned(name: str, encoder: Encoder, backbone: PreTrainedModel) -> None:
    """A dry run knows the model by its configuration, without any weights."""
    import torch

    with torch.device("meta"):
        planned = encoder.build_backbone(encoder.load_config())
    require(
        _shapes(planned) == _shapes(backbone),
        f"{name}.build_backbone(load_config()) has other parameters than load_backbone().",
    )


def _check_restored(
    name: str, encoder: Encoder, tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel
) -> None:
    import torch

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        encoder.save(folder, tokenizer, backbone)
        other_tokenizer, other = type(encoder).restore(folder)
    require(
        tokenizer(_LONG)["input_ids"] == other_tokenizer(_LONG)["input_ids"],
        f"{name}: the restored tokenizer cuts texts differently.",
    )
    require(_shapes(other) == _shapes(backbone), f"{name}: the restored backbone is another one.")
    other.load_state_dict(backbone.state_dict())
    ours = _states(tokenizer, backbone, [_LONG])
    theirs = _states(other_tokenizer, other.eval(), [_LONG])
    require(
        torch.allclose(ours, theirs, atol=1e-5), f"{name}: the restored model answers otherwise."
    )


def _shapes(backbone: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weights.shape) for name, weights in backbone.named_parameters()}
