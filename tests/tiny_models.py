"""Encoders small enough for tests: real transformers architectures with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = (
    "the a i it was is not no very good great bad awful fine film food service room train book "
    "love hate slow fast warm cold never always again at nine monday opens here and but . , ! ?"
).split()
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 130,
}


def make_encoder(folder: Path, architecture: str = "electra", dropout: float = 0.1) -> Path:
    """Write a tiny encoder in the hub's layout and return its folder."""
    import torch
    from transformers import AutoConfig, AutoModel

    make_tokenizer(folder)
    sizes = dict(SIZES, vocab_size=len(WORDS) + 5, pad_token_id=0)
    if architecture == "electra":
        sizes["embedding_size"] = 16
    if architecture == "modernbert":
        sizes |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        sizes |= {
            "attention_dropout": dropout,
            "mlp_dropout": dropout,
            "embedding_dropout": dropout,
        }
    else:
        sizes |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = AutoConfig.for_model(architecture, **sizes)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def make_tokenizer(folder: Path) -> None:
    """Write a word-piece tokenizer that knows a few words and single letters of none."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    folder.mkdir(parents=True, exist_ok=True)
    wrapped.save_pretrained(folder)


def make_reviews(folder: Path, rows: int = 96) -> Path:
    """Write train, validation and test CSV files whose labels a tiny model can learn."""
    folder.mkdir(parents=True, exist_ok=True)
    subjects = ["the film", "the food", "the service", "the room", "the book"]
    verdicts = {
        "positive": ["was great", "was very good", "is warm and i love it", "was good !"],
        "negative": ["was awful", "was very bad", "is cold and i hate it", "was bad !"],
        "neutral": ["opens at nine", "is here", "opens again monday", "is at the train ."],
    }
    for split, count in (("train", rows), ("validation", rows // 3), ("test", rows // 2)):
        lines = ["text,label,source"]
        for row in range(count):
            label = ("negative", "neutral", "positive")[row % 3]
            verdict = verdicts[label][(row // 3) % 4]
            extra = " and again" * (row % 5)
            source = "shop" if row % 2 else "cinema"
            lines.append(f"{subjects[row % 5]} {verdict}{extra},{label},{source}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder
