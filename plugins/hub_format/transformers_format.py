"""The format ``transformers``: a folder that transformers loads without sentikit.

Most architectures have a hidden layer with an activation between the first token and the logits,
as the head ``native`` has. A linear head is written with a hidden layer that acts as the identity:
scaled into the linear part of tanh, or shifted to where GELU and ReLU return their input.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sentikit import InputError, SentikitError
from sentikit.extension import ExportSource

from .format import PublishedFormat
from .text_classifier import is_text_classifier, load_text_classifier

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from sentikit.extension import EncoderClassifier, SentimentModel

#: The largest difference that an export may make to a probability.
TOLERANCE = 1e-5
#: Types that text-embeddings-inference serves as classifiers: those whose `load` in its
#: backends/candle/src/models takes `ModelType::Classifier`, looked up in version 1.9.3
#: (https://github.com/huggingface/text-embeddings-inference).
SERVED = frozenset(
    {"bert", "camembert", "deberta-v2", "distilbert", "modernbert", "roberta", "xlm-roberta"}
)
_FITTING_HEADS = (
    "Train with --set 'head={name: native}' or --set 'head={name: linear, pooling: cls}'."
)
_SCALE = 2.0**-12
_SHIFT = 32.0
_SAMPLE = (
    "I love it.",
    "The food was cold, the waiter rude, and we shall not go back.",
    "They open at nine on weekdays.",
    "Not bad at all, though the second half of the film drags on and on before it ends well.",
    "?!",
    "never again " * 400,
)


@dataclass(frozen=True)
class _Architecture:
    """The places of a head's layers in transformers' model.

    Attributes:
        hidden: the layer after the first token.
        output: the layer before the logits.
        activation: between them.
    """

    hidden: str
    output: str
    activation: str


_ROBERTA = _Architecture("classifier.dense", "classifier.out_proj", "tanh")
_ARCHITECTURES = {
    "bert": _Architecture("bert.pooler.dense", "classifier", "tanh"),
    "camembert": _ROBERTA,
    "deberta-v2": _Architecture("pooler.dense", "classifier", "gelu"),
    "distilbert": _Architecture("pre_classifier", "classifier", "relu"),
    "electra": _Architecture("classifier.dense", "classifier.out_proj", "gelu"),
    "mpnet": _ROBERTA,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}


class TransformersFormat(PublishedFormat):
    """The format ``transformers``."""

    library = "transformers"

    takes_label_map = True

    def recognises(self, folder: Path) -> bool:
        """Return whether ``config.json`` names a ``*ForSequenceClassification``."""
        return is_text_classifier(folder)

    def load(
        self,
        folder: Path,
        device: str,
        precision: str,
        label_map: Mapping[str, str] | None = None,
    ) -> EncoderClassifier:
        """Load a text classifier of transformers, labels mapped to classes by name or `label_map`.

        Raises:
            InputError: the folder is damaged or incomplete, the weights do not fit its config, or
                the labels cannot be mapped to classes.
        """
        return load_text_classifier(folder, device, precision, label_map)

    def write(self, source: ExportSource, folder: Path) -> list[str]:
        """Write ``*ForSequenceClassification``, and compare its probabilities.

        Raises:
            InputError: no architecture of transformers computes the same.
            SentikitError: the written model gives different probabilities.
        """
        # Saving may import DeepSpeed, which writes its warnings to standard output.
        with _no_bars(), contextlib.redirect_stdout(sys.stderr):
            return self._write(source, folder)

    def _write(self, source: ExportSource, folder: Path) -> list[str]:
        classifier, model = source.classifier, source.model
        architecture = _architecture(source, model)
        target = _target(source, model)
        hidden, output = _layers(source, model, architecture)
        target.get_submodule(architecture.hidden).load_state_dict(hidden)
        target.get_submodule(architecture.output).load_state_dict(output)
        target.save_pretrained(folder)
        tokenizer = classifier.tokenizer
        tokenizer.model_max_length = classifier.max_length
        tokenizer.save_pretrained(folder)
        notes = [_compare(source, folder)]
        if classifier.scheme.threshold is not None:
            notes.append(
                "transformers predicts the likelier class; compare the probabilities with the "
                f"threshold {classifier.scheme.threshold:g} yourself."
            )
        served = "serves" if model.encoder.config.model_type in SERVED else "does not serve"
        notes.append(f"text-embeddings-inference {served} classifiers of this architecture.")
        return notes


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Hide transformers' progress bars, which last fractions of a second."""
    from transformers.utils import logging

    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if had_bars:
            logging.enable_progress_bar()


def _architecture(source: ExportSource, model: SentimentModel) -> _Architecture:
    kind = model.encoder.config.model_type
    elsewhere = "Or export it with --format onnx or hub."
    if kind not in _ARCHITECTURES:
        raise InputError(
            f"transformers has no classifier that computes what {source.path} does on an encoder "
            f"of type {kind!r}. Train on one of {', '.join(sorted(_ARCHITECTURES))}. {elsewhere}"
        )
    if model.pooling != "cls":
        raise InputError(
            f"transformers' {kind} classifiers read the first token, and {source.path} pools by "
            f"{model.pooling}. {_FITTING_HEADS} {elsewhere}"
        )
    return _ARCHITECTURES[kind]


def _target(source: ExportSource, model: SentimentModel) -> PreTrainedModel:
    """Return transformers' classifier with the encoder's weights and an unset head."""
    import copy

    import torch
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(model.encoder.config)
    config.id2label = dict(enumerate(source.classifier.labels))
    config.label2id = {name: number for number, name in config.id2label.items()}
    config.problem_type = "single_label_classification"
    target: PreTrainedModel = AutoModelForSequenceClassification.from_config(
        config, dtype=torch.float32, trust_remote_code=False
    )
    missing, unexpected = target.base_model.load_state_dict(
        model.encoder.state_dict(), strict=False
    )
    missing = [name for name in missing if not name.startswith("pooler.")]
    if missing or unexpected:
        raise SentikitError(
            f"The encoder of {source.path} does not fit into transformers' classifier: "
            f"{', '.join([*missing, *unexpected][:3])}."
        )
    target.eval()
    return target


def _layers(
    source: ExportSource, model: SentimentModel, architecture: _Architecture
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights of the hidden and of the output layer."""
    from torch import nn

    head = model.head
    if isinstance(head, nn.Sequential) and isinstance(head[-1], nn.Linear) and len(head) == 2:
        return _passed_through(head[-1], architecture)
    hidden, output = getattr(head, "dense", None), getattr(head, "out_proj", None)
    activation = type(getattr(head, "activation", None)).__name__.casefold()
    fits = activation == architecture.activation
    if fits and isinstance(hidden, nn.Linear) and isinstance(output, nn.Linear):
        return hidden.state_dict(), output.state_dict()
    raise InputError(
        f"transformers has no classifier with the head of {source.path}. {_FITTING_HEADS} Or "
        "export it with --format onnx or hub."
    )


def _passed_through(
    linear: nn.Linear, architecture: _Architecture
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return two layers that together compute the linear one."""
    import torch

    size = linear.in_features
    weight, bias = linear.weight.detach().double(), linear.bias.detach().double()
    unchanged, offset = torch.eye(size), torch.zeros(size)
    if architecture.activation == "tanh":
        unchanged, weight = unchanged * _SCALE, weight / _SCALE
    else:
        offset, bias = offset + _SHIFT, bias - _SHIFT * weight.sum(1)
    return (
        {"weight": unchanged, "bias": offset},
        {"weight": weight.float(), "bias": bias.float()},
    )


def _compare(source: ExportSource, folder: Path) -> str:
    """Compare the written model's probabilities, and return a message.

    Raises:
        SentikitError: they differ from the source model's.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    expected = source.classifier.predict_proba(list(_SAMPLE))
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    ).eval()
    largest = 0.0
    for text, wanted in zip(_SAMPLE, expected, strict=True):
        given = tokenizer(text, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            found = model(**given).logits.double().softmax(-1)[0]
        largest = max(largest, float((found - torch.from_numpy(wanted)).abs().max()))
    if largest > TOLERANCE:
        raise SentikitError(
            f"The exported model gives other probabilities than {source.path} (by up to "
            f"{largest:.1e}); this model cannot be exported faithfully. Use --format onnx or hub."
        )
    return (
        f"transformers gives the same probabilities for {len(_SAMPLE)} texts (largest difference "
        f"{largest:.1e})."
    )
