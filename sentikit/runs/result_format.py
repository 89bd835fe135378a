"""The interface of a result format: a layout of result files that other programs write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sentikit.components import Part


@dataclass(frozen=True)
class ResultColumns:
    """Which column of a file holds what.

    Attributes:
        label: the label that was answered.
        gold: the right label.
        text: the text; where None, a column with a usual name is taken.
        id: the example's id; as `text`.
        source: the example's source; as `text`.
        probabilities: a list in the order of the classes or a mapping by class, as JSON or as the
            format has it; or a column for each class.
        raw: the answer as it came.
        cost: USD.
        opinion_label: the label the encoder proposed to the LLM.
        opinion_probabilities: the encoder's probabilities, like `probabilities`.
    """

    label: str
    gold: str | None = None
    text: str | None = None
    id: str | None = None
    source: str | None = None
    probabilities: str | Mapping[str, str] | None = None
    raw: str | None = None
    cost: str | None = None
    opinion_label: str | None = None
    opinion_probabilities: str | Mapping[str, str] | None = None


class ResultFormat(Part, ABC):
    """Recognises a layout of result files by its columns; the core reads the rows.

    A whole format::

        class Acme(sentikit.extension.ResultFormat):
            def columns(self, columns):
                if "acme_verdict" in columns:
                    return sentikit.extension.ResultColumns(label="acme_verdict", gold="truth")

    Attributes:
        last_resort: whether other formats that recognise a file go before this one.
    """

    last_resort: ClassVar[bool] = False

    @abstractmethod
    def columns(self, columns: Sequence[str]) -> ResultColumns | None:
        """Say which column holds what, or None if the file is not of this format."""
