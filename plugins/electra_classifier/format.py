"""The folder format of the study's published classifiers.

``config.json`` is an ElectraConfig with the keys of `HeadConfig`; ``model.safetensors`` has
``electra.*`` and ``classifier.layers.{i}.*``. The package electra-classifier loads such folders
(https://pypi.org/project/electra-classifier/).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit import InputError
from sentikit.extension import (
    EncoderClassifier,
    ExportSource,
    ModelFormat,
    choose_device,
    choose_precision,
    read_weights,
    refuse_foreign_code,
    refuse_impossible_sizes,
    scheme_for_classes,
    set_weights,
    write_json,
    write_weights,
)

from .config import (
    ACTIVATIONS,
    ARCHITECTURE,
    CONFIG,
    HeadConfig,
    OwnSettings,
    is_of_format,
    read_config,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .layers import ClassifierLayers, HeadParts

WEIGHTS = "model.safetensors"
_TOKENIZER_FILES = (
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


class ElectraClassifierFormat(ModelFormat):
    """The format ``electra-classifier``."""

    def recognises(self, folder: Path) -> bool:
        """Return whether ``config.json`` names the architecture ElectraClassifier."""
        return is_of_format(folder)

    def load(self, folder: Path, device: str, precision: str) -> EncoderClassifier:
        """Load a folder as published, with any of the names of its shared tensors."""
        from sentikit.extension import SentimentModel, TorchPredictor

        from .layers import build_layers

        where = choose_device(device)
        head_config, values = read_config(folder)
        tokenizer, backbone = _backbone(folder, values)
        head = build_layers(head_config, backbone.config.hidden_size, len(head_config.classes))
        model = SentimentModel(backbone, head, head_config.pooling)
        stored = read_weights(folder / WEIGHTS)
        set_weights(model, _native_names(stored, head, folder / WEIGHTS), folder / WEIGHTS)
        own, longest = head_config.sentikit, _longest(tokenizer, backbone)
        return EncoderClassifier(
            TorchPredictor(model, where, choose_precision(precision, where)),
            tokenizer,
            scheme_for_classes(head_config.classes, own.threshold, own.ordered),
            min(own.max_length or longest, longest),
            own.temperature,
        )

    def export(self, source: ExportSource, folder: Path) -> list[str]:
        """Write an ELECTRA with a head of hidden layers.

        Raises:
            InputError: the format cannot represent the encoder or the head.
        """
        from .layers import ClassifierLayers

        model = source.model
        parts = _exportable_components(source)
        layers = ClassifierLayers(parts)
        encoder = {f"electra.{name}": t for name, t in model.encoder.state_dict().items()}
        again = {name for names in layers.shared_names() for name in names[1:]}
        head = {f"classifier.{n}": t for n, t in layers.state_dict().items() if n not in again}
        write_weights(folder / WEIGHTS, encoder | head)
        if is_of_format(source.folder):
            write_json(folder / CONFIG, read_config(source.folder)[1])
            _copy_tokenizer(source.folder, folder)
        else:
            source.classifier.tokenizer.save_pretrained(folder)
            write_json(folder / CONFIG, _config(source, parts))
        return []


def _backbone(
    folder: Path, values: dict[str, Any]
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Return the tokenizer, and an ELECTRA with random weights."""
    from transformers import AutoTokenizer, ElectraConfig, ElectraModel
    from transformers.initialization import no_init_weights

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        # Without these files, transformers would silently make an empty tokenizer.
        raise InputError(f"{folder} has no tokenizer: neither tokenizer.json nor vocab.txt.")
    refuse_foreign_code(folder)
    refuse_impossible_sizes(folder, folder / WEIGHTS)
    own = {*HeadConfig.model_fields, "label2id", "architectures", "dtype", "torch_dtype"}
    try:
        config = ElectraConfig(**{key: v for key, v in values.items() if key not in own})
        with no_init_weights():
            backbone = ElectraModel(config)
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    # For wrong values in a configuration, transformers raises unrelated exceptions.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{folder} is damaged, or its tokenizer cannot be read: {reason}"
        ) from error
    return tokenizer, backbone


def _native_names(
    stored: dict[str, Tensor], head: ClassifierLayers, path: Path
) -> dict[str, Tensor]:
    """Rename the format's tensors to `SentimentModel`'s and fill in shared ones.

    Raises:
        InputError: two names of one shared tensor have different values.
    """
    import torch

    weights = {}
    for name, tensor in stored.items():
        if name != "electra.embeddings.position_ids":  # a buffer that older versions saved
            own = name.replace("electra.", "encoder.", 1).replace("classifier.", "head.", 1)
            weights[own] = tensor.float()
    for names in head.shared_names():
        here = [weights[f"head.{name}"] for name in names if f"head.{name}" in weights]
        if any(not torch.equal(here[0], other) for other in here[1:]):
            raise InputError(
                f"{path}: the hidden layers share one activation, but classifier.{names[0]} and "
                f"classifier.{names[-1]} differ. The file is damaged or of another format."
            )
        weights |= {f"head.{name}": here[0] for name in names if here}
    return weights


def _longest(tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel) -> int:
    return min(tokenizer.model_max_length, int(backbone.config.max_position_embeddings))


def _exportable_components(source: ExportSource) -> HeadParts:
    from .layers import parts_of

    model = source.model
    kind = model.encoder.config.model_type
    elsewhere = "Export it with --format onnx or hub."
    if kind != "electra":
        raise InputError(
            "The format electra-classifier supports only ELECTRA encoders; "
            f"the encoder of {source.path} is of type {kind!r}. {elsewhere}"
        )
    if model.pooling in ("last", "head"):
        raise InputError(
            f"The format electra-classifier has no pooling {model.pooling!r}, which "
            f"{source.path} uses. {elsewhere}"
        )
    parts = parts_of(model.head)
    if parts is None:
        raise InputError(
            "The format electra-classifier supports only a head of hidden layers (head mlp); "
            f"{source.path} has another. {elsewhere}"
        )
    activation = type(parts.activation).__name__
    if activation not in ACTIVATIONS:
        raise InputError(
            f"The format electra-classifier has no activation {activation!r}. {elsewhere}"
        )
    return parts


def _config(source: ExportSource, parts: HeadParts) -> dict[str, Any]:
    classifier, model = source.classifier, source.model
    inherited = model.encoder.config.to_dict()
    inherited.pop("_name_or_path", None)
    own = OwnSettings(
        max_length=classifier.max_length,
        temperature=classifier.temperature,
        ordered=classifier.scheme.ordered,
        threshold=classifier.scheme.threshold,
    )
    return {
        **inherited,
        "architectures": [ARCHITECTURE],
        "hidden_activation": type(parts.activation).__name__,
        "hidden_dim": parts.output.in_features,
        "num_layers": len(parts.hidden),
        "dropout_rate": parts.dropout,
        "pooling": model.pooling,
        "id2label": {str(number): name for number, name in enumerate(classifier.labels)},
        "label2id": {name: number for number, name in enumerate(classifier.labels)},
        "sentikit": own.model_dump(),
    }


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
