"""A trained model on its way into another format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.classifiers.predictor import TorchPredictor
from sentikit.errors import InputError
from sentikit.files import read_json
from sentikit.runs import folder as run_folder

if TYPE_CHECKING:
    from sentikit.classifiers.encoder_classifier import EncoderClassifier
    from sentikit.classifiers.model import SentimentModel
    from sentikit.classifiers.saving import ModelDescription


@dataclass(frozen=True)
class ExportSource:
    """A trained model on its way into another format.

    Attributes:
        path: the run or model folder, as the user named it.
        folder: the model folder itself.
        description: what ``config.json`` of a native model folder says; None for other formats.
        load: loads the model in fp32 on the CPU.
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
        """The classifier's torch module.

        Raises:
            InputError: the source is of a format that no torch module can be rebuilt from.
        """
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
            if (candidate / run_folder.MANIFEST).is_file():
                return candidate
        return None

    def run_file(self, name: str) -> dict[str, Any] | None:
        """Return what a JSON file of the run holds, or None where there is none."""
        if self.run is None or not (self.run / name).is_file():
            return None
        values: dict[str, Any] = read_json(self.run / name)
        return values
