"""The layouts of result files that other programs write, and what each column holds."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sentikit.components import Part
from sentikit.datasets.rows import Rows, usual_column
from sentikit.errors import InputError, did_you_mean
from sentikit.registry import Registry


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


#: What ``sentikit predict`` calls the column that it adds.
LABEL_COLUMN = "predicted_label"

_HOOK = "register_result_formats"


@dataclass(frozen=True)
class ColumnChoice:
    """Columns that a user names instead of those a format finds.

    Attributes:
        label: the column with the labels.
        probabilities: the column with the probabilities.
    """

    label: str | None = None
    probabilities: str | None = None


def choose_columns(rows: Rows, choice: ColumnChoice, registry: Registry) -> ResultColumns:
    """Find out what each column of a file holds.

    Raises:
        InputError: no format knows the file, two claim it, or a named column is not there.
    """
    found = _recognised(rows, registry)
    if choice.label is not None:
        label = _named(rows, choice.label, "label_column")
        # What the format made of the other columns belongs to the label it found.
        gold = found.gold if found and found.gold != label else None
        gold = gold or (found.label if found and found.label != label else None)
        found = ResultColumns(label=label, gold=gold)
    if found is None:
        listed = ", ".join(repr(column) for column in rows.columns)
        raise InputError(
            f"{rows.name}: which column holds the predicted labels? It has {listed}. Rename "
            "it to 'prediction'; a recipe that names the file can set label_column instead."
        )
    if choice.probabilities is not None:
        column = _named(rows, choice.probabilities, "probabilities_column")
        found = dataclasses.replace(found, probabilities=column)
    return _with_usual(found, rows)


def _recognised(rows: Rows, registry: Registry) -> ResultColumns | None:
    """Ask every format; the last resorts only where no other knows the file."""
    claims: dict[str, tuple[ResultFormat, ResultColumns]] = {}
    for registration in registry.registrations(_HOOK):
        try:
            format_class: type[ResultFormat] = registration.load()
            result_format = format_class(format_class.Settings())
            columns = result_format.columns(rows.columns)
        # A broken plugin must not keep others from reading their files.
        except Exception as error:
            problem = f"result format {registration.name!r}: {type(error).__name__}: {error}"
            registry.note_problem(registration.plugin, problem)
            continue
        if columns is not None:
            claims[registration.qualified_name] = (result_format, columns)
    special = {name: claim for name, claim in claims.items() if not claim[0].last_resort}
    if len(special) > 1:
        raise InputError(
            f"{rows.name}: the result formats {' and '.join(special)} both claim this file. Switch "
            "one plugin off with SENTIKIT_DISABLE_PLUGINS."
        )
    chosen = list((special or claims).values())
    return chosen[0][1] if chosen else None


def _named(rows: Rows, column: str, key: str) -> str:
    if column not in rows.columns:
        raise InputError(
            f"{rows.name} has no column {column!r} ({key}). {did_you_mean(column, rows.columns)}"
        )
    return column


def _with_usual(columns: ResultColumns, rows: Rows) -> ResultColumns:
    """Find the columns of text, id and source that the format left open."""
    values = dataclasses.asdict(columns)
    taken = _taken(values)
    free = [column for column in rows.columns if column not in taken]
    for what in ("text", "id", "source"):
        if values[what] is None:
            values[what] = usual_column(free, what)
    if values["text"] is None and values["id"] is None:
        if columns.label != LABEL_COLUMN or len(free) != 1:
            raise _no_texts(rows, free)
        # As when the texts were labelled: where no name is usual, the only column holds them.
        values["text"] = free[0]
    return ResultColumns(**values)


def _taken(values: Mapping[str, Any]) -> set[str]:
    """Return the columns that hold something, those of each class included."""
    single = {value for value in values.values() if isinstance(value, str)}
    by_class = [value.values() for value in values.values() if isinstance(value, Mapping)]
    return single.union(*by_class)


def _no_texts(rows: Rows, free: Sequence[str]) -> InputError:
    question = f"{rows.name}: which column holds the texts, or their ids?"
    if not free:
        return InputError(f"{question} It has none but the labels. Add one called 'text' or 'id'.")
    listed = ", ".join(repr(column) for column in free)
    which = listed if len(free) == 1 else f"the right one of {listed}"
    return InputError(f"{question} Rename {which} to 'text' or 'id' in the file.")
