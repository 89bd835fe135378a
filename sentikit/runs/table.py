"""Runs as columns: examples, gold labels, predictions and costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from numpy.typing import NDArray

from sentikit.datasets.examples import SCHEMA, Examples, as_numpy, strings
from sentikit.datasets.json_lines import json_records
from sentikit.datasets.labels import scheme_for_classes
from sentikit.datasets.text_files import decoded_lines, open_binary
from sentikit.errors import InputError
from sentikit.files import disk_errors

if TYPE_CHECKING:
    import pandas as pd

_TOKENS = ("prompt", "cached", "completion")
# A row must fit into a block.
_BLOCK_BYTES = 64 * 2**20
# Files round probabilities; a row whose sum differs from 1 by more is not a distribution.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Labelling:
    """The predictions of one classifier.

    Attributes:
        labels: class numbers, (rows,); -1 for an invalid or missing answer.
        probabilities: (rows, classes), a row of NaN if unknown; None if all are.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None = None

    def select(self, rows: NDArray[np.int64]) -> Labelling:
        """Return some rows, in the order given."""
        chosen = None if self.probabilities is None else self.probabilities[rows]
        return Labelling(self.labels[rows], chosen)

    def in_classes(self, own: Sequence[str], wanted: Sequence[str]) -> Labelling:
        """Return the same predictions with the classes in another order."""
        order = [own.index(label) for label in wanted]
        shares = None if self.probabilities is None else self.probabilities[:, order]
        return Labelling(_renumbered(self.labels, own, wanted), shares)


@dataclass(frozen=True, repr=False)
class RunTable:
    """The rows of a finished run or a results file.

    Attributes:
        name: as the user gave it.
        classes: class names, indexed by class number.
        examples: ids, texts, gold labels as class names, sources.
        gold: class numbers, (rows,); -1 if unknown.
        answers: labels and probabilities.
        adviser: the predictions of the encoder that the LLM was shown, or None.
        raw: the LLM's answers as received (strings or null), or None.
        cost: USD of each row, NaN if unknown; None if all are.
        tokens: prompt, cached and completion tokens, (rows, 3); None if unknown.
        has_texts: False for a results file with only ids; its texts are empty.
        manifest: a run's manifest; empty for a file.
        ordered: whether the classes are ordered, such as stars.
        path: as the user gave it, if a comparison gave the run a short name.
    """

    name: str
    classes: tuple[str, ...]
    examples: Examples
    gold: NDArray[np.int64]
    answers: Labelling
    adviser: Labelling | None = None
    raw: pa.Array | None = None
    cost: NDArray[np.float64] | None = None
    tokens: NDArray[np.int64] | None = None
    has_texts: bool = True
    manifest: Mapping[str, Any] = field(default_factory=dict)
    ordered: bool = False
    path: str = ""

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def invalid(self) -> int:
        """The number of invalid answers."""
        return int((self.answers.labels < 0).sum())

    def of_encoder(self, name: str) -> RunTable:
        """Return the encoder's recorded predictions as a separate run; refuse if there are none."""
        if self.adviser is None:
            raise InputError(
                f"{self.name} has no predictions of an encoder: it is not an augmented run, or has "
                "no columns for them. Leave out #encoder."
            )
        return dataclasses.replace(
            self,
            name=name,
            answers=self.adviser,
            adviser=None,
            raw=None,
            cost=None,
            tokens=None,
            manifest={},
        )

    def in_classes(self, classes: tuple[str, ...], reference: str) -> RunTable:
        """Return the table with its classes in another order.

        Args:
            classes: the classes in the wanted order.
            reference: the run or dataset that sets the order, for messages.

        Raises:
            InputError: the classes differ.
        """
        own = self.classes
        if own == classes:
            return self
        if sorted(own) != sorted(classes):
            raise InputError(
                f"{self.name} has the classes {', '.join(own)}, but {reference} has "
                f"{', '.join(classes)}. Give only runs with the same classes."
            )
        return dataclasses.replace(
            self,
            classes=classes,
            gold=_renumbered(self.gold, own, classes),
            answers=self.answers.in_classes(own, classes),
            adviser=None if self.adviser is None else self.adviser.in_classes(own, classes),
            ordered=self.ordered and classes == own[::-1],
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas table with a row for each example.

        Its columns are id, text, gold, label, source and, if known, the probability of each class
        as ``p CLASS`` and the cost in USD.
        """
        import pandas as pd

        examples = self.examples
        names = np.array([*self.classes, None], object)
        columns: dict[str, Any] = {"id": examples.ids, "text": examples.texts}
        columns |= {"gold": names[self.gold], "label": names[self.answers.labels]}
        columns["source"] = examples.sources
        if self.answers.probabilities is not None:
            shares = zip(self.classes, self.answers.probabilities.T, strict=True)
            columns |= {f"p {name}": own for name, own in shares}
        return pd.DataFrame(columns | ({} if self.cost is None else {"cost": self.cost}))

    def without_answers(self, rows: NDArray[np.bool_]) -> RunTable:
        """Return a copy without labels and probabilities in the rows of a mask, (rows,)."""
        if not rows.any():
            return self
        labels, shares = self.answers.labels, self.answers.probabilities
        answers = Labelling(
            np.where(rows, -1, labels),
            None if shares is None else np.where(rows[:, None], np.nan, shares),
        )
        return dataclasses.replace(self, answers=answers)

    def __repr__(self) -> str:
        return f"<RunTable {self.name}: {len(self):,} texts>"

    def _repr_html_(self) -> str:
        from markupsafe import escape

        known = self.gold >= 0
        facts = f"{len(self):,} texts"
        if known.any():
            right = (self.answers.labels == self.gold)[known].mean()
            facts += f", accuracy {right:.4f} on {int(known.sum()):,} with a gold label"
        frame = self.select(np.arange(min(10, len(self)))).to_frame()
        return f"<h4>{escape(self.name)}</h4><p>{facts}</p>{frame.to_html(border=0)}"

    def select(self, rows: NDArray[np.int64]) -> RunTable:
        """Return some rows, in the order given."""
        return dataclasses.replace(
            self,
            examples=self.examples.select(rows),
            gold=self.gold[rows],
            answers=self.answers.select(rows),
            adviser=None if self.adviser is None else self.adviser.select(rows),
            raw=None if self.raw is None else self.raw.take(pa.array(rows)),
            cost=None if self.cost is None else self.cost[rows],
            tokens=None if self.tokens is None else self.tokens[rows],
        )


def _renumbered(
    numbers: NDArray[np.int64], own: Sequence[str], wanted: Sequence[str]
) -> NDArray[np.int64]:
    """Return class numbers in another order of the classes; -1 stays."""
    places = np.array([*(wanted.index(label) for label in own), -1], np.int64)
    return places[numbers]


def class_numbers(names: pa.Array, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the class number of each name, -1 if it is null or not a class."""
    found = pc.index_in(names, value_set=strings(classes, names.type))
    return as_numpy(found, -1).astype(np.int64)


def are_distributions(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each row whether its numbers lie between 0 and 1 and add up to 1."""
    inside = ((rows >= 0) & (rows <= 1)).all(1)
    return np.asarray(inside & (np.abs(rows.sum(1) - 1) <= _TOLERANCE))


def read_run_rows(
    path: Path, name: str, classes: tuple[str, ...], manifest: Mapping[str, Any]
) -> RunTable:
    """Read the predictions of a run, given its classes in the order of its probabilities."""
    table = _read_rows(path, classes)
    columns = [table.column(name) for name in ("id", "text", "gold", "source")]
    answer, cost, usage = (table.column(name) for name in ("answer", "cost", "usage"))
    tokens = [as_numpy(pc.struct_field(usage, name)) for name in _TOKENS]
    return RunTable(
        name=name,
        classes=classes,
        examples=Examples(pa.Table.from_arrays(columns, schema=SCHEMA)),
        gold=_classes(table, "gold", classes, path),
        answers=Labelling(
            _classes(table, "label", classes, path),
            _probabilities(table.column("probabilities"), classes, path),
        ),
        adviser=_of_adviser(table.column("encoder"), classes, path),
        raw=None if _is_null(answer) else answer.combine_chunks(),
        cost=None if _is_null(cost) else as_numpy(cost, np.nan),
        tokens=None if _is_null(usage) else np.column_stack(tokens),
        manifest=manifest,
        ordered=scheme_for_classes(classes, ordered=bool(manifest.get("ordered"))).ordered,
    )


def _read_rows(path: Path, classes: tuple[str, ...]) -> pa.Table:
    probabilities = pa.struct([(name, pa.float64()) for name in classes])
    schema = pa.schema(
        {
            "id": pa.string(),
            "text": pa.large_string(),
            "gold": pa.string(),
            "label": pa.string(),
            "probabilities": probabilities,
            "source": pa.string(),
            "answer": pa.large_string(),
            "cost": pa.float64(),
            "usage": pa.struct([(name, pa.int64()) for name in _TOKENS]),
            "encoder": pa.struct([("label", pa.string()), ("probabilities", probabilities)]),
        }
    )
    with disk_errors(path):
        size = path.stat().st_size
    try:
        options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        read = pj.ReadOptions(block_size=_BLOCK_BYTES)
        table = pj.read_json(path, read, options) if size else schema.empty_table()
    except pa.ArrowInvalid as error:
        raise _damaged(path, error) from error
    if not table.num_rows:
        raise InputError(f"{path} is empty; the run has no predictions.")
    for column in ("id", "text"):
        if table.column(column).null_count:
            raise InputError(f"{path} is damaged: a row has no {column}.")
    return table.combine_chunks()


def _damaged(path: Path, error: Exception) -> InputError:
    """Return the error with its line, because Arrow counts rows only within its blocks."""
    try:
        with open_binary(path) as stream:
            for _ in json_records(decoded_lines(stream, str(path)), str(path)):
                pass
    except InputError as located:
        return located
    reason = " ".join(str(error).split())
    return InputError(f"{path} is damaged: it has rows that sentikit does not write ({reason}).")


def _classes(
    table: pa.Table, column: str, classes: tuple[str, ...], path: Path
) -> NDArray[np.int64]:
    names = table.column(column)
    numbers = class_numbers(names, classes)
    odd = np.flatnonzero((numbers < 0) & as_numpy(names.is_valid()))
    if len(odd):
        row = int(odd[0])
        raise InputError(
            f"{path}, row {row + 1}: the {column} {names[row].as_py()!r} is not one of the run's "
            f"classes, {', '.join(classes)}."
        )
    return numbers


def _probabilities(
    structs: pa.ChunkedArray, classes: tuple[str, ...], path: Path
) -> NDArray[np.float64] | None:
    if _is_null(structs):
        return None
    shares = [as_numpy(pc.struct_field(structs, name), np.nan) for name in classes]
    found = np.column_stack(shares)
    odd = np.flatnonzero(~are_distributions(found) & as_numpy(structs.is_valid()))
    if len(odd):
        row = int(odd[0])
        raise InputError(
            f"{path}, row {row + 1}: {found[row].tolist()} are not probabilities, which lie "
            "between 0 and 1 and add up to 1."
        )
    return found


def _of_adviser(structs: pa.ChunkedArray, classes: tuple[str, ...], path: Path) -> Labelling | None:
    if _is_null(structs):
        return None
    labels = class_numbers(pc.struct_field(structs, "label"), classes)
    shares = pc.struct_field(structs, "probabilities")
    return Labelling(labels, _probabilities(shares, classes, path))


def _is_null(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count == len(column))
