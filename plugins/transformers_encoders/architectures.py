"""Architectures of hub models, to plan a recipe without a download."""

from __future__ import annotations

from typing import Any

_DEBERTA: dict[str, Any] = {
    "vocab_size": 128100,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_MODERNBERT: dict[str, Any] = {"vocab_size": 50368, "num_attention_heads": 12}
_BASE = {"hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22}
_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 2624,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
}

#: Hub id to transformers' model type, and the values that differ from its defaults.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "google/electra-small-discriminator": (
        "electra",
        {
            "embedding_size": 128,
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_attention_heads": 4,
            "num_hidden_layers": 12,
        },
    ),
    "google/electra-base-discriminator": (
        "electra",
        {
            "embedding_size": 768,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
        },
    ),
    "google/electra-large-discriminator": (
        "electra",
        {
            "embedding_size": 1024,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
        },
    ),
    "microsoft/deberta-v3-base": (
        "deberta-v2",
        {
            **_DEBERTA,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
        },
    ),
    "microsoft/deberta-v3-large": (
        "deberta-v2",
        {
            **_DEBERTA,
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
    ),
    "answerdotai/ModernBERT-base": ("modernbert", {**_MODERNBERT, **_BASE}),
    "answerdotai/ModernBERT-large": ("modernbert", {**_MODERNBERT, **_LARGE}),
    "jhu-clsp/ettin-encoder-150m": ("modernbert", {**_MODERNBERT, **_BASE}),
    "jhu-clsp/ettin-encoder-400m": ("modernbert", {**_MODERNBERT, **_LARGE}),
    "jhu-clsp/mmBERT-base": ("modernbert", {**_MODERNBERT, **_BASE, "vocab_size": 256000}),
    "jhu-clsp/mmBERT-small": (
        "modernbert",
        {**_BASE, "vocab_size": 256000, "hidden_size": 384, "num_attention_heads": 6},
    ),
    "Qwen/Qwen3-0.6B-Base": (
        "qwen3",
        {
            "vocab_size": 151936,
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 3072,
        },
    ),
    "google/gemma-3-270m": (
        "gemma3_text",
        {
            "vocab_size": 262144,
            "hidden_size": 640,
            "num_hidden_layers": 18,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "intermediate_size": 2048,
        },
    ),
}
