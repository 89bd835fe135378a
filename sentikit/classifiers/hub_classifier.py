"""Text classifiers of transformers (``*ForSequenceClassification``), from a folder or the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.datasets.labels import SCHEMES, LabelScheme, scheme_for_classes
from sentikit.errors import InputError, SentikitError, did_you_mean
from sentikit.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sentikit.classifiers.encoder_classifier import EncoderClassifier

_ARCHITECTURE = "ForSequenceClassification"
#: Any of these makes a tokenizer; without one transformers makes an empty one from config.json.
_TOKENIZERS = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "spm.model"),
    *("sentencepiece.bpe.model", "tokenizer.model"),
)
#: What is downloaded; neither Python code nor pickled weights.
_DOWNLOADED = ("*.json", "*.safetensors", "*.txt", "*.model", "model.onnx", "model.int8.onnx")
_NOT_DOWNLOADED = ("onnx/*", "openvino/*", "checkpoint-*", "runs/*")


def is_text_classifier(folder: Path) -> bool:
    """Tell whether `folder` holds a text classifier as transformers writes it."""
    if (folder / "model.onnx").is_file() and not list(folder.glob("*.safetensors")):
        return False  # The same config.json beside a graph, as other exporters write it.
    return any(name.endswith(_ARCHITECTURE) for name in _architectures(folder))


def _architectures(folder: Path) -> list[str]:
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else None
    names = config.get("architectures") if isinstance(config, dict) else None
    return [str(name) for name in names or []]


def load_text_classifier(
    folder: Path,
    device: str,
    precision: str,
    label_map: Mapping[str, str] | None = None,
) -> EncoderClassifier:
    """Load a text classifier of transformers; no code that comes with it is run.

    Args:
        folder: as ``save_pretrained`` writes it.
        device: auto, cpu, cuda, …
        precision: auto, fp32, bf16 or fp16.
        label_map: the model's label to a class; several may mean one class.

    Raises:
        InputError: the folder is damaged or incomplete, the weights do not fit its config, or the
            labels are not known to mean classes.
    """
    from sentikit.classifiers.encoder import most_positions
    from sentikit.classifiers.encoder_classifier import EncoderClassifier
    from sentikit.classifiers.torch_model import TextClassifier, TorchPredictor
    from sentikit.devices import choose_device, choose_precision

    if precision == "int8":
        raise InputError(
            "precision int8 is for ONNX folders: sentikit export MODEL DIR --format onnx --int8"
        )
    where = choose_device(device)
    labels = _labels(folder)
    scheme, groups = map_labels(labels, label_map, str(folder))
    tokenizer, model = _read(folder)
    longest = min(tokenizer.model_max_length, most_positions(model) or _positions(model))
    return EncoderClassifier(
        TorchPredictor(TextClassifier(model, groups), where, choose_precision(precision, where)),
        tokenizer,
        scheme,
        longest,
    )


def _labels(folder: Path) -> tuple[str, ...]:
    """Return the model's labels in logit order, LABEL_0 and so on where it names none."""
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
    """Return the scheme of a model's labels, and the logits that make up each of its classes.

    Args:
        labels: as the model names them, in logit order.
        label_map: a label, whatever its case, to a class.
        name: of the model, for messages.

    Raises:
        InputError: the labels mean nothing and no map is given, or the map misses one.
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
    scheme = scheme_for_classes(_in_scheme_order(list(dict.fromkeys(classes))))
    if len(scheme.classes) < 2:
        raise InputError(f"The label map of {name} leaves one class; a classifier needs two.")
    names = {label.casefold(): number for number, label in enumerate(scheme.classes)}
    groups: list[list[int]] = [[] for _ in scheme.classes]
    for place, label in enumerate(classes):
        groups[names[label.casefold()]].append(place)
    return scheme, groups


def _meant(labels: Sequence[str], name: str) -> list[str]:
    """Return the class that each label means by its name alone."""
    if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        raise InputError(
            f"{name} names its classes {', '.join(labels)}, which does not tell what they mean. "
            "See its model card, and map them: --label-map LABEL_0=negative,…, in Python "
            f"label_map={{{labels[0]!r}: 'negative', …}}."
        )
    polarity = SCHEMES["neg_neu_pos"]
    meant = [polarity.class_of(label) for label in labels]
    if None not in meant and len(set(meant)) == len(labels):
        return [str(label) for label in meant]
    return list(labels)


def _in_scheme_order(classes: list[str]) -> list[str]:
    """Return classes in the order of the scheme that has them, where one does."""
    folded = [label.casefold() for label in classes]
    for scheme in SCHEMES.values():
        if set(folded) == set(scheme.classes):
            return list(scheme.classes)
    return classes


def _read(folder: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from sentikit.weights import load_pretrained

    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise InputError(f"{folder} has no tokenizer: tokenizer.json is missing.")
    if not list(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} has no safetensors weights, and pickled ones, which can run code when "
            "opened, are refused. Look for a revision or a conversion with model.safetensors."
        )
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
    # What a wrong configuration or a damaged file makes transformers raise has no common ancestor.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} cannot be read: {reason[:300]}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model


def _positions(model: PreTrainedModel) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or 512)


def is_hub_id(name: str) -> bool:
    """Tell whether a name that is no path here may be a model on the hub, as ``owner/name``."""
    return re.fullmatch(r"(?!runs/)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def fetch_model(name: str, revision: str | None = None) -> Path:
    """Return the folder of a model in the hub's cache, downloaded where it is not there yet.

    On a terminal the library shows a progress bar.

    Args:
        name: on the hub, as ``owner/name``.
        revision: branch, tag or commit.

    Raises:
        InputError: there is no such model or revision, it is gated, or no text classifier.
        SentikitError: the hub cannot be reached or fails, and the cache does not have the model.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    from sentikit.classifiers.pretrained import hub_answers

    options: dict[str, Any] = {"revision": revision, "local_files_only": not hub_answers()}
    try:
        folder = Path(hf_hub_download(name, "config.json", **options)).parent
        _refuse_other_architecture(folder, name)
        return Path(
            snapshot_download(
                name,
                allow_patterns=list(_DOWNLOADED),
                ignore_patterns=list(_NOT_DOWNLOADED),
                **options,
            )
        )
    except SentikitError:
        raise
    # The HTTP library's errors come through as they are.
    except Exception as error:
        raise _explained(name, revision, error) from error


def _refuse_other_architecture(folder: Path, name: str) -> None:
    """Refuse a model without a classifier before its weights are downloaded."""
    architectures = _architectures(folder)
    config = read_json(folder / "config.json")
    own = isinstance(config, dict) and ("format" in config or "hidden_activation" in config)
    if architectures and not own and not is_text_classifier(folder):
        raise InputError(
            f"{name} is no text classifier: its config.json is for {', '.join(architectures)}. To "
            f"train a classifier on it: --set encoder.name=transformers --set encoder.model={name}"
        )


def _explained(name: str, revision: str | None, error: Exception) -> SentikitError:
    from huggingface_hub import errors

    at = f" at revision {revision!r}" if revision else ""
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"{name} is gated: accept its terms at https://huggingface.co/{name}, and set HF_TOKEN."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"There is no folder {name} here and no such model on the hub; a private one needs "
            "HF_TOKEN. Check the spelling."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"{name} has no revision {revision!r} on the hub.")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return SentikitError(
            f"{name}{at} is neither a folder here nor in the hub's cache, and the hub cannot be "
            f"reached. With a network: hf download {name} --local-dir DIR; then give DIR."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return InputError(f"{name}{at} has no config.json on the hub, so it is no text classifier.")
    reason = " ".join(str(error).split())
    return SentikitError(f"{name}{at} could not be fetched from the hub: {reason[:200]}")
