"""Loading of transformers' text classifiers (``*ForSequenceClassification``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sentikit import InputError, LabelScheme, SentikitError
from sentikit.extension import (
    EncoderClassifier,
    choose_device,
    choose_precision,
    did_you_mean,
    label_scheme,
    load_pretrained,
    read_json,
    refuse_impossible_sizes,
    scheme_for_classes,
)

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ARCHITECTURE = "ForSequenceClassification"
#: One of these files is needed; without, transformers makes an empty tokenizer.
_TOKENIZERS = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "spm.model"),
    *("sentencepiece.bpe.model", "tokenizer.model"),
)


def is_text_classifier(folder: Path) -> bool:
    """Return whether `folder` holds a text classifier of transformers."""
    path = folder / "config.json"
    if (folder / "model.onnx").is_file() and not list(folder.glob("*.safetensors")):
        return False  # Other exporters write the same config.json beside a graph.
    config = read_json(path) if path.is_file() else None
    names = config.get("architectures") if isinstance(config, dict) else None
    return any(str(name).endswith(_ARCHITECTURE) for name in names or [])


def load_text_classifier(
    folder: Path, device: str, precision: str, label_map: Mapping[str, str] | None = None
) -> EncoderClassifier:
    """Load a text classifier of transformers, without running code from its folder.

    Args:
        folder: as ``save_pretrained`` writes it.
        device: auto, cpu, cuda, …
        precision: auto, fp32, bf16 or fp16.
        label_map: the model's labels to classes; several may map to one class.

    Raises:
        InputError: the folder is damaged or incomplete, the weights do not fit its config, or the
            labels are not known to mean classes.
    """
    from sentikit.extension import TorchPredictor, most_positions

    if precision == "int8":
        raise InputError(
            "precision int8 is for ONNX folders: sentikit export MODEL DIR --format onnx --int8"
        )
    where = choose_device(device)
    scheme, groups = map_labels(_labels(folder), label_map, str(folder))
    tokenizer, model = _read(folder)
    positions = getattr(model.config, "max_position_embeddings", None) or 512
    return EncoderClassifier(
        TorchPredictor(_module(model, groups), where, choose_precision(precision, where)),
        tokenizer,
        scheme,
        min(tokenizer.model_max_length, most_positions(model) or int(positions)),
    )


def _module(model: PreTrainedModel, groups: list[list[int]]) -> nn.Module:
    """Return a module that maps ids and mask to the classes' logits."""
    import torch
    from torch import Tensor, nn

    class TextClassifier(nn.Module):
        """A classifier of transformers whose labels may be merged into classes."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = model

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            found: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).logits
            found = found.float()
            if all(len(group) == 1 for group in groups):
                return found[:, [group[0] for group in groups]]
            return torch.stack([found[:, group].logsumexp(1) for group in groups], 1)

    return TextClassifier()


def _labels(folder: Path) -> tuple[str, ...]:
    """Return the model's labels in logit order: LABEL_0 and so on if it names none."""
    config = read_json(folder / "config.json")
    named = config.get("id2label")
    if not isinstance(named, dict):
        named = {str(n): f"LABEL_{n}" for n in range(int(config.get("num_labels") or 2))}
    labels = [named.get(str(number)) for number in range(len(named))]
    if None in labels:
        raise InputError(f"{folder}/config.json: id2label does not count from 0.")
    if len(labels) < 2 or config.get("problem_type") in (
        "regression",
        "multi_label_classification",
    ):
        kind = config.get("problem_type") or "regression"
        raise InputError(
            f"{folder} is a model for {str(kind).replace('_', ' ')}; a classifier gives one of "
            "several classes."
        )
    return tuple(map(str, labels))


def map_labels(
    labels: Sequence[str], label_map: Mapping[str, str] | None, name: str
) -> tuple[LabelScheme, list[list[int]]]:
    """Return the label scheme of a model, and the logits of each class.

    Args:
        labels: as the model names them, in logit order.
        label_map: a label, whatever its case, to a class.
        name: of the model, for messages.

    Raises:
        InputError: the labels are ambiguous without a map, or the map misses one.
    """
    if label_map is None:
        classes = _meant(labels, name)
    else:
        known = {label.strip().casefold(): label for label in labels}
        for key in label_map:
            if key.strip().casefold() not in known:
                raise InputError(
                    f"The label map names {key!r}, which {name} does not have. "
                    f"{did_you_mean(key, labels)}"
                )
        folded = {key.strip().casefold(): value.strip() for key, value in label_map.items()}
        missed = [label for label in labels if label.strip().casefold() not in folded]
        if missed:
            raise InputError(
                f"The label map misses {', '.join(missed)} of {name}. Map every label to a class."
            )
        classes = [folded[label.strip().casefold()] for label in labels]
    different = list(dict.fromkeys(classes))
    scheme = scheme_for_classes(different)
    if scheme.name != "own":  # A known scheme defines the order of its classes.
        scheme = label_scheme(scheme.name)
    if len(scheme.classes) < 2:
        raise InputError(f"The label map of {name} has only one class; a classifier needs two.")
    names = {label.casefold(): number for number, label in enumerate(scheme.classes)}
    groups: list[list[int]] = [[] for _ in scheme.classes]
    for place, label in enumerate(classes):
        groups[names[label.casefold()]].append(place)
    return scheme, groups


def _meant(labels: Sequence[str], name: str) -> list[str]:
    """Return the class of each label, by its name."""
    if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        raise InputError(
            f"{name} names its classes {', '.join(labels)}, which do not say what they mean. "
            "See its model card, and map them: --label-map LABEL_0=negative,…, in Python "
            f"label_map={{{labels[0]!r}: 'negative', …}}."
        )
    polarity = label_scheme("neg_neu_pos")
    meant = [polarity.class_of(label) for label in labels]
    if None not in meant and len(set(meant)) == len(labels):
        return [str(label) for label in meant]
    return list(labels)


def _read(folder: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise InputError(f"{folder} has no tokenizer: tokenizer.json is missing.")
    if not list(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} has no safetensors weights, and pickled ones, which can run code when "
            "opened, are refused. Look for a revision or a conversion with model.safetensors."
        )
    refuse_impossible_sizes(folder, folder / "model.safetensors")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        model: PreTrainedModel = load_pretrained(
            AutoModelForSequenceClassification,
            str(folder),
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except SentikitError:
        raise
    # For wrong configurations and damaged files, transformers raises unrelated exceptions.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} cannot be read: {reason[:300]}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model
