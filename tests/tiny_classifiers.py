"""Model folders with random weights, for tests that need no training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_models import SIZES, WORDS, make_encoder, make_tokenizer

TEXTS = ["the food was great", "awful", "opens at nine .", "", "never again ! " * 30, "so-so"]


def make_classifier(
    folder: Path,
    *,
    architecture: str = "electra",
    head: dict[str, Any] | None = None,
    pooling: str = "mean",
    scheme: str = "neg_neu_pos",
    threshold: float | None = None,
    temperature: float | None = None,
) -> Path:
    """Write a native model folder and return it; weights are spread, so that texts differ."""
    import torch

    from sentikit.classifiers.model_folder import ModelDescription, save_model
    from sentikit.classifiers.torch_model import SentimentModel
    from sentikit.datasets.labels import SCHEMES
    from sentikit.registry import default_registry

    registry = default_registry()
    section = head or {"name": "linear"}
    source = make_encoder(folder.with_name(f"{folder.name}-encoder"), architecture)
    encoder_class = registry.load("register_encoders", "transformers")
    encoder = encoder_class(encoder_class.Settings(model=str(source)))
    head_class = registry.load("register_heads", section["name"])
    settings = {key: value for key, value in section.items() if key != "name"}
    classes = SCHEMES[scheme].classes
    torch.manual_seed(1)
    backbone = encoder.load_backbone()
    layers = head_class(head_class.Settings(**settings)).build_on(backbone.config, len(classes))
    model = SentimentModel(backbone, layers, pooling)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    description = ModelDescription(
        label_scheme=scheme,
        classes=classes,
        threshold=threshold,
        encoder={"name": "transformers", "model": str(source)},
        head=section,
        pooling=pooling,
        max_length=64,
        temperature=temperature,
    )
    tokenizer = encoder.load_tokenizer()
    save_model(folder, description, model.state_dict(), encoder, tokenizer, backbone)
    return folder


POLARITY = {0: "Negative", 1: "Neutral", 2: "Positive"}


def make_text_classifier(
    folder: Path, labels: Mapping[int, str] | None = None, architecture: str = "bert", **more: Any
) -> Path:
    """Write a tiny random classifier as transformers does."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    make_tokenizer(folder)
    named = {} if labels is None else {"id2label": dict(labels)}
    sizes = dict(SIZES, vocab_size=len(WORDS) + 5, pad_token_id=0, initializer_range=0.5)
    config = AutoConfig.for_model(architecture, **sizes, **named, **more)
    torch.manual_seed(3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder
