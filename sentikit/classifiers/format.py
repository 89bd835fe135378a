"""The interface of a format: a layout of model folders that others read or write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from sentikit.components import Part

if TYPE_CHECKING:
    from sentikit.classifiers.encoder_classifier import EncoderClassifier
    from sentikit.classifiers.export_source import ExportSource


class ModelFormat(Part, ABC):
    """Recognises, loads and writes model folders of one layout.

    Its settings are the options of ``sentikit export`` and all have defaults; to recognise and
    load, a format is made from the defaults. The module of a format imports nothing heavy at the
    top: every format is asked about a folder that is not a native one.
    """

    @abstractmethod
    def recognises(self, folder: Path) -> bool:
        """Say whether `folder` is of this format, by names and small files, without torch."""

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
            Remarks for the user, one sentence each.

        Raises:
            InputError: the format cannot hold this model; says which part and what can.
        """
