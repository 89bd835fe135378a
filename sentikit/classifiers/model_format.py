"""The interface of model formats: layouts of model folders of other tools."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sentikit.components import Component
from sentikit.errors import InputError
from sentikit.files import read_json

if TYPE_CHECKING:
    from torch import nn

    from sentikit.classifiers.encoder_classifier import EncoderClassifier
    from sentikit.classifiers.model_folder import ModelDescription
    from sentikit.classifiers.torch_model import SentimentModel


@dataclass(frozen=True)
class ExportSource:
    """A trained model to export to another format.

    Attributes:
        path: the run or model folder, as the user named it.
        folder: the model folder itself.
        description: the ``config.json`` of a native model folder; None for other formats.
        load: loads the model in fp32 on the CPU, with transformers' backbone.
    """

    path: Path
    folder: Path
    description: ModelDescription | None
    load: Callable[[], EncoderClassifier]

    @cached_property
    def classifier(self) -> EncoderClassifier:
        """The model, loaded on first use."""
        return self.load()

    @property
    def model(self) -> SentimentModel:
        """The classifier's torch module: encoder, pooling and head.

        Raises:
            InputError: as for `module`, or the module is a transformers model with its own head.
        """
        from sentikit.classifiers.torch_model import SentimentModel

        module = self.module
        if not isinstance(module, SentimentModel):
            raise InputError(
                f"{self.path} is a transformers model with its own head, which only --format onnx "
                "supports."
            )
        return module

    @property
    def module(self) -> nn.Module:
        """The classifier's torch module, whatever its format; its ``encoder`` is the backbone.

        Raises:
            InputError: the source has a format from which no torch module can be rebuilt.
        """
        from sentikit.classifiers.torch_model import TorchPredictor

        predictor = self.classifier.predictor
        if not isinstance(predictor, TorchPredictor):
            raise InputError(
                f"{self.path} cannot be exported, because its weights are compiled. Export the run "
                "or model folder that it was made from."
            )
        return predictor.model

    @property
    def run(self) -> Path | None:
        """The run that the model belongs to, or None."""
        for candidate in (self.path, self.folder.parent):
            if (candidate / "manifest.json").is_file():
                return candidate
        return None

    def run_file(self, name: str) -> dict[str, Any] | None:
        """Return the content of a JSON file of the run, or None if there is none."""
        if self.run is None or not (self.run / name).is_file():
            return None
        values: dict[str, Any] = read_json(self.run / name)
        return values


class ModelFormat(Component, ABC):
    """Recognises, loads and writes model folders of one layout.

    Its settings are the options of ``sentikit export``; all have defaults, which are used to
    recognise and load. The module of a format must import nothing heavy at the top, because every
    format is called for a folder that is not a native one.

    Attributes:
        takes_label_map: whether `load` has the further argument ``label_map``, a dictionary from
            the model's label to a class or None, because its labels may have any meaning.
    """

    takes_label_map: ClassVar[bool] = False

    @abstractmethod
    def recognises(self, folder: Path) -> bool:
        """Return whether `folder` has this format, by names and small files, without torch."""

    @abstractmethod
    def load(self, folder: Path, device: str, precision: str) -> EncoderClassifier:
        """Load a folder that `recognises` accepted.

        Args:
            folder: the model folder.
            device: the user's choice: auto, cpu, cuda, …
            precision: auto, fp32, bf16, fp16 or int8.

        Raises:
            InputError: the folder is damaged, or the device or precision is not available.
        """

    @abstractmethod
    def export(self, source: ExportSource, folder: Path) -> list[str]:
        """Write the model into `folder`, which exists and is empty.

        Returns:
            Notes for the user, one sentence each.

        Raises:
            InputError: the format does not support this model; the message says why and what does.
        """
