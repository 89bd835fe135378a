"""The interface of a model format: a layout of model folders that others read or write."""

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
    """A trained model on its way into another format.

    Attributes:
        path: the run or model folder, as the user named it.
        folder: the model folder itself.
        description: what ``config.json`` of a native model folder says; None for other formats.
        load: loads the model in fp32 on the CPU, its backbone of transformers' own classes.
    """

    path: Path
    folder: Path
    description: ModelDescription | None
    load: Callable[[], EncoderClassifier]

    @cached_property
    def classifier(self) -> EncoderClassifier:
        """The model, loaded when first asked for."""
        return self.load()

    @property
    def model(self) -> SentimentModel:
        """The classifier's torch module: encoder, pooling and head.

        Raises:
            InputError: as `module`, or the module is a model of transformers with a head of its
                own.
        """
        from sentikit.classifiers.torch_model import SentimentModel

        module = self.module
        if not isinstance(module, SentimentModel):
            raise InputError(
                f"{self.path} is a model of transformers with its own head, which only "
                "--format onnx can take over."
            )
        return module

    @property
    def module(self) -> nn.Module:
        """The classifier's torch module, whatever its format; its ``encoder`` is the backbone.

        Raises:
            InputError: the source is of a format that no torch module can be rebuilt from.
        """
        from sentikit.classifiers.torch_model import TorchPredictor

        predictor = self.classifier.predictor
        if not isinstance(predictor, TorchPredictor):
            raise InputError(
                f"{self.path} cannot be turned into another format: its weights are compiled. "
                "Export the run or model folder that it was made from."
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
        """Return what a JSON file of the run holds, or None where there is none."""
        if self.run is None or not (self.run / name).is_file():
            return None
        values: dict[str, Any] = read_json(self.run / name)
        return values


class ModelFormat(Component, ABC):
    """Recognises, loads and writes model folders of one layout.

    Its settings are the options of ``sentikit export`` and all have defaults; to recognise and
    load, a format is made from the defaults. The module of a format imports nothing heavy at the
    top: every format is asked about a folder that is not a native one.

    Attributes:
        takes_label_map: whether `load` takes the further argument ``label_map``, a dictionary from
            the model's label to a class or None, because its labels may mean anything.
    """

    takes_label_map: ClassVar[bool] = False

    @abstractmethod
    def recognises(self, folder: Path) -> bool:
        """Tell whether `folder` is of this format, by names and small files, without torch."""

    @abstractmethod
    def load(self, folder: Path, device: str, precision: str) -> EncoderClassifier:
        """Load a folder that `recognises` accepted.

        Args:
            folder: the model folder.
            device: as the user gave it: auto, cpu, cuda, …
            precision: auto, fp32, bf16, fp16 or int8.

        Raises:
            InputError: the folder is damaged, or the device or precision cannot be had.
        """

    @abstractmethod
    def export(self, source: ExportSource, folder: Path) -> list[str]:
        """Write the model into `folder`, which is there and empty.

        Returns:
            Notes for the user, one sentence each.

        Raises:
            InputError: the format cannot hold this model; says which part and what can.
        """
