"""BERT-like backbones for inference, so that a trained model does not need transformers.

Importing one architecture of transformers takes twice as long as torch and everything else that
labelling a few texts needs. Tensors have transformers' names, so both load the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sentikit.extension import read_json

#: Types whose positions begin after that of the padding.
_ROBERTA = ("roberta", "xlm-roberta", "camembert")
_TYPES = ("bert", "electra", *_ROBERTA)
_COUNTS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "max_position_embeddings", "type_vocab_size"),
)


class Bert(nn.Module):
    """The backbone of transformers' BertModel, ElectraModel or RobertaModel, without a pooler."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config
        self._starts = config.pad_token_id + 1 if config.model_type in _ROBERTA else 0
        width = config.embedding_size if config.model_type == "electra" else config.hidden_size
        padding = config.pad_token_id if self._starts else None
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": _embedding(config.vocab_size, width),
                "position_embeddings": _embedding(config.max_position_embeddings, width, padding),
                "token_type_embeddings": _embedding(config.type_vocab_size, width),
                "LayerNorm": nn.LayerNorm(width, eps=config.layer_norm_eps),
            }
        )
        if width != config.hidden_size:
            self.embeddings_project = nn.Linear(width, config.hidden_size)
        layers = nn.ModuleList(_layer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """Return ``last_hidden_state``, (texts, tokens, hidden).

        The mask, (texts, tokens), is 1 for tokens; or it is what attention adds to its scores.
        """
        mask = attention_mask if attention_mask.ndim == 4 else attention_mask[:, None, None].bool()
        states = self._embedded(input_ids)
        for layer in self.encoder["layer"]:  # type: ignore[attr-defined]
            states = self._through(layer, states, mask)
        return SimpleNamespace(last_hidden_state=states)

    def _embedded(self, ids: Tensor) -> Tensor:
        known: Mapping[str, Any] = self.embeddings  # type: ignore[assignment]
        if self._starts:
            tokens = ids.ne(self._starts - 1).int()
            places = (tokens.cumsum(1) * tokens).long() + self._starts - 1
        else:
            places = torch.arange(ids.shape[1], device=ids.device)
        summed = known["word_embeddings"](ids) + known["token_type_embeddings"].weight[0]
        states: Tensor = known["LayerNorm"](summed + known["position_embeddings"](places))
        project = getattr(self, "embeddings_project", None)
        return states if project is None else project(states)

    def _through(self, layer: Any, states: Tensor, mask: Tensor) -> Tensor:
        texts, tokens, hidden = states.shape
        shape = (texts, tokens, self.config.num_attention_heads, -1)
        own, after = layer["attention"]["self"], layer["attention"]["output"]
        query, key, value = (
            own[name](states).view(shape).transpose(1, 2) for name in ("query", "key", "value")
        )
        found = functional.scaled_dot_product_attention(query, key, value, mask)
        found = found.transpose(1, 2).reshape(texts, tokens, hidden)
        states = after["LayerNorm"](after["dense"](found) + states)
        wide = functional.gelu(layer["intermediate"]["dense"](states))
        result: Tensor = layer["output"]["LayerNorm"](layer["output"]["dense"](wide) + states)
        return result


def _embedding(rows: int, width: int, padding: int | None = None) -> nn.Embedding:
    # Initialising values, even on the meta device, would import torch's compiler.
    table: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        torch.empty(rows, width), freeze=False, padding_idx=padding
    )
    return table


def _layer(config: SimpleNamespace) -> nn.ModuleDict:
    hidden, wide = config.hidden_size, config.intermediate_size

    def back(size: int) -> nn.ModuleDict:
        norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        return nn.ModuleDict({"dense": nn.Linear(size, hidden), "LayerNorm": norm})

    own = {name: nn.Linear(hidden, hidden) for name in ("query", "key", "value")}
    return nn.ModuleDict(
        {
            "attention": nn.ModuleDict({"self": nn.ModuleDict(own), "output": back(hidden)}),
            "intermediate": nn.ModuleDict({"dense": nn.Linear(hidden, wide)}),
            "output": back(wide),
        }
    )


def light_backbone(folder: Path) -> Bert | None:
    """Build a folder's backbone without values; None if a setting is not supported here."""
    values = read_json(folder / "config.json")
    values.setdefault("pad_token_id", None)
    kind = values.get("model_type")
    counts = (*_COUNTS, *(("embedding_size",) if kind == "electra" else ()))
    known = (
        kind in _TYPES
        and values.get("hidden_act") == "gelu"
        and values.get("position_embedding_type", "absolute") == "absolute"
        and not values.get("is_decoder")
        and isinstance(values.get("layer_norm_eps"), float)
        and all(isinstance(values.get(name), int) for name in counts)
        and (kind not in _ROBERTA or isinstance(values["pad_token_id"], int))
        and values["hidden_size"] % values["num_attention_heads"] == 0
    )
    if not known:
        return None
    with torch.device("meta"):
        return Bert(SimpleNamespace(**values, _attn_implementation="sdpa"))
