"""The reader of runs and results files: ``RUN``, ``FILE`` and ``PATH#encoder`` of either."""

from __future__ import annotations

import dataclasses
import json
import math
from abc import ABC, abstractmethod
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentikit.classifiers.label_reader import plain_label
from sentikit.classifiers.prediction import LABEL_COLUMN
from sentikit.components import Component
from sentikit.datasets.examples import ExamplesBuilder, class_names, strings
from sentikit.datasets.labels import SCHEMES, LabelScheme, label_scheme, scheme_for_classes
from sentikit.datasets.rows import Rows, cell_text, usual_column
from sentikit.datasets.tables import read_rows
from sentikit.errors import InputError, did_you_mean, quoted
from sentikit.registry import Registry, default_registry
from sentikit.runs.folder import FINISHED, MANIFEST, PREDICTIONS, RunFolder, near_runs
from sentikit.runs.table import Labelling, RunTable, are_distributions, read_run_rows

#: Suffix of a path, for the encoder's prediction recorded inside a run or file.
ENCODER_SUFFIX = "#encoder"
_HOOK = "register_result_formats"


@dataclass(frozen=True)
class ResultColumns:
    """The columns of a results file.

    Attributes:
        label: the predicted label.
        gold: the gold label.
        text: the text; None chooses a column with a usual name.
        id: the example's id; None as for `text`.
        source: the example's source; None as for `text`.
        probabilities: one column with lists in the order of the classes or mappings by class; or a
            mapping of class to column.
        raw: the answer as received.
        cost: USD.
        adviser_label: the label of the encoder that the LLM was shown.
        adviser_probabilities: that encoder's probabilities, like `probabilities`.
    """

    label: str
    gold: str | None = None
    text: str | None = None
    id: str | None = None
    source: str | None = None
    probabilities: str | Mapping[str, str] | None = None
    raw: str | None = None
    cost: str | None = None
    adviser_label: str | None = None
    adviser_probabilities: str | Mapping[str, str] | None = None


class ResultFormat(Component, ABC):
    """Recognises a layout of result files by its columns; the core reads the rows.

    A complete format::

        class Acme(sentikit.extension.ResultFormat):
            def columns(self, columns):
                if "acme_verdict" in columns:
                    return sentikit.extension.ResultColumns(label="acme_verdict", gold="truth")

    Attributes:
        last_resort: whether any other format that recognises a file has precedence.
    """

    last_resort: ClassVar[bool] = False

    @abstractmethod
    def columns(self, columns: Sequence[str]) -> ResultColumns | None:
        """Return the columns of a file, or None if it is not of this format."""


def read_run(
    path: str | Path,
    *,
    label_column: str | None = None,
    probabilities_column: str | None = None,
    registry: Registry | None = None,
) -> RunTable:
    """Read the rows of a finished run or of a results file.

    Args:
        path: a run's folder, or a CSV, TSV, JSON Lines or Parquet file; the suffix ``#encoder``
            selects the prediction of the encoder that the LLM was shown.
        label_column: the column of labels in a file, if no format recognises it.
        probabilities_column: the column of probabilities in a file.
        registry: the registry of result formats.

    Raises:
        InputError: the run or file is missing, unfinished or malformed, has an unknown layout, or
            has no prediction of an encoder.
    """
    name = str(path)
    plain, of_encoder = split_suffix(name)
    chosen = (label_column, probabilities_column)
    table = _read(Path(plain).expanduser(), plain, chosen, registry or default_registry())
    return table.of_encoder(name) if of_encoder else table


def split_suffix(name: str) -> tuple[str, bool]:
    """Split ``PATH#encoder`` into the path and whether it has the suffix."""
    plain = name.removesuffix(ENCODER_SUFFIX)
    meant = plain != name and not Path(name).exists()
    return (plain, True) if meant else (name, False)


#: The columns of labels and probabilities that the user names; None leaves one to a format.
_Chosen = tuple[str | None, str | None]


def _read(path: Path, name: str, chosen: _Chosen, registry: Registry) -> RunTable:
    if path.name == PREDICTIONS and (path.parent / MANIFEST).is_file():
        path = path.parent
    if path.is_file():
        with read_rows(path) as rows:
            collected = _Collected(rows, _choose_columns(rows, chosen, registry))
            for where, row in rows:
                collected.add(where, row)
        return collected.table(name)
    if not path.exists():
        advice = near_runs(path) or "Give a run's folder or a results file."
        raise InputError(f"{name} does not exist. {advice}")
    if chosen != (None, None):
        raise InputError(f"{name} is a run; only results files need the names of columns.")
    if not (path / MANIFEST).is_file():
        raise InputError(f"{name} is not a run: it has no {MANIFEST}. See: sentikit runs list")
    if RunFolder(path).manifest.get("kind") == "finetune":
        raise InputError(
            f"{name} is a fine-tuned model without predictions. Label with it: sentikit prompt "
            f"--recipe RECIPE --set llm.model={name}"
        )
    manifest, status = RunFolder(path).manifest, RunFolder(path).status
    if not (path / PREDICTIONS).is_file():
        if status == FINISHED:
            raise InputError(
                f"{name} is finished, but its {PREDICTIONS} is missing. Put the file back, or make "
                "the run again in another folder."
            )
        raise InputError(
            f"{name} has no predictions yet: its status is {status or 'unknown'}. Finish it with "
            "--resume, or choose another run."
        )
    # The manifests of old runs have no classes.
    classes = tuple(manifest.get("classes") or label_scheme("neg_neu_pos").classes)
    return read_run_rows(path / PREDICTIONS, name, classes, manifest)


def _choose_columns(rows: Rows, chosen: _Chosen, registry: Registry) -> ResultColumns:
    for column, key in zip(chosen, ("label_column", "probabilities_column"), strict=True):
        if column is not None and column not in rows.columns:
            meant = did_you_mean(column, rows.columns)
            raise InputError(f"{rows.name} has no column {column!r} ({key}). {meant}")
    found, (label, probabilities) = _recognised(rows, registry), chosen
    if label is not None:
        # The format's choice of other columns belongs to the label that it found.
        gold = found.gold if found and found.gold != label else None
        gold = gold or (found.label if found and found.label != label else None)
        found = ResultColumns(label=label, gold=gold)
    if found is None:
        listed = ", ".join(repr(column) for column in rows.columns)
        raise InputError(
            f"{rows.name}: which column holds the predicted labels? It has {listed}. Rename "
            "it to 'prediction', or set label_column in a recipe that names the file."
        )
    if probabilities is not None:
        found = dataclasses.replace(found, probabilities=probabilities)
    return _with_usual(found, rows)


def _recognised(rows: Rows, registry: Registry) -> ResultColumns | None:
    """Return the columns from the format that recognises a file; last resorts come last."""
    claims: dict[str, tuple[bool, ResultColumns]] = {}
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
            claims[registration.qualified_name] = (result_format.last_resort, columns)
    special = {name: columns for name, (is_last, columns) in claims.items() if not is_last}
    if len(special) > 1:
        raise InputError(
            f"{rows.name}: the result formats {' and '.join(special)} both claim this file. Switch "
            "one plugin off with SENTIKIT_DISABLE_PLUGINS."
        )
    chosen = [*special.values(), *(columns for _, columns in claims.values())]
    return chosen[0] if chosen else None


def _with_usual(columns: ResultColumns, rows: Rows) -> ResultColumns:
    """Find the columns of text, id and source that the format does not name."""
    values = dataclasses.asdict(columns)
    taken = {value for value in values.values() if isinstance(value, str)}
    taken = taken.union(*(v.values() for v in values.values() if isinstance(v, Mapping)))
    free = [column for column in rows.columns if column not in taken]
    for what in ("text", "id", "source"):
        if values[what] is None:
            values[what] = usual_column(free, what)
    if values["text"] is not None or values["id"] is not None:
        return ResultColumns(**values)
    if columns.label == LABEL_COLUMN and len(free) == 1:
        # As in labelling, the only remaining column holds the texts.
        return ResultColumns(**values | {"text": free[0]})
    question = f"{rows.name}: which column holds the texts, or their ids?"
    if not free:
        raise InputError(f"{question} It has only labels. Add a column named 'text' or 'id'.")
    listed = ", ".join(repr(column) for column in free)
    which = listed if len(free) == 1 else f"the right one of {listed}"
    raise InputError(f"{question} Rename {which} to 'text' or 'id' in the file.")


class SpelledLabels:
    """A column of labels, spelled as in the file; blank ones are None."""

    def __init__(self) -> None:
        self._codes = array("q")
        self._known: dict[str | None, int] = {}
        self._first: list[int] = []

    def add(self, label: str | None, where: int) -> None:
        spelled = label.strip() if label else None
        code = self._known.setdefault(spelled or None, len(self._known))
        if code == len(self._first):
            self._first.append(where)
        self._codes.append(code)

    @property
    def spellings(self) -> list[str]:
        """The distinct labels, in the order of their first rows."""
        return [label for label in self._known if label is not None]

    def first(self, label: str) -> int:
        return self._first[self._known[label]]

    def numbers(self, scheme: LabelScheme) -> NDArray[np.int64]:
        """Return the class number of each row; -1 if its label has no class."""
        numbers = {name: number for number, name in enumerate(scheme.classes)}
        means = [
            spelled and (scheme.class_of(spelled) or scheme.class_of(plain_label(spelled)))
            for spelled in self._known
        ]
        table = np.asarray([numbers.get(name or "", -1) for name in means] or [-1], np.int64)
        return table[np.frombuffer(self._codes, np.int64)]


class SpelledProbabilities:
    """A column of probabilities, or one for each class.

    Args:
        columns: a column of JSON lists in the order of the classes, or of mappings by class; or a
            mapping of class to column; or None.
    """

    def __init__(self, columns: str | Mapping[str, str] | None) -> None:
        self._columns = columns
        self._what = repr(columns) if isinstance(columns, str) else "the columns of probabilities"
        self._flat, self._where = array("d"), array("q")
        self.names: tuple[str, ...] = ()
        self._width = 0

    def add(self, row: Mapping[str, Any], where: int, place: str) -> None:
        if self._columns is None:
            return
        numbers = self._numbers(row, place)
        if numbers is None:
            self._where.append(-1)
            return
        self._width = self._width or len(numbers)
        if len(numbers) != self._width:
            raise InputError(
                f"{place}: {len(numbers)} probabilities in {self._what}, but earlier rows have "
                f"{self._width}."
            )
        self._flat.extend(numbers)
        self._where.append(where)

    def array(self, classes: Sequence[str], name: str) -> NDArray[np.float64] | None:
        """Return (rows, classes), NaN for rows without any; None if no row has any."""
        if not self._width:
            return None
        where = np.frombuffer(self._where, np.int64)
        given = np.frombuffer(self._flat, np.float64).reshape(-1, self._width)
        given = given[:, self._order(classes, name)]
        odd = np.flatnonzero(~are_distributions(given))
        if len(odd):
            raise InputError(
                f"{name}, line {int(where[where >= 0][odd[0]])}: {given[odd[0]].tolist()} in "
                f"{self._what} are not probabilities, which lie between 0 and 1 and add up to 1."
            )
        result = np.full((len(where), len(classes)), np.nan)
        result[where >= 0] = given
        return result

    def _order(self, classes: Sequence[str], name: str) -> list[int]:
        """Return which of the given numbers belongs to each class."""
        if not self.names and self._width == len(classes):
            return list(range(self._width))
        folded = [key.strip().casefold() for key in self.names]
        try:
            return [folded.index(label.casefold()) for label in classes]
        except ValueError:
            listed = ", ".join(self.names) or f"{self._width} numbers"
            raise InputError(
                f"{name}: {self._what} has {listed}, but needs one for each of "
                f"{', '.join(classes)}."
            ) from None

    def _numbers(self, row: Mapping[str, Any], place: str) -> list[float] | None:
        if isinstance(self._columns, str):
            value = row[self._columns]
        else:
            cells = {name: row[column] for name, column in (self._columns or {}).items()}
            value = None if all(map(_is_blank, cells.values())) else _numeric(cells)
        wrong = f"{place}: {{}} in {self._what} is not a list of numbers, such as [0.1, 0.2, 0.7]."
        if _is_blank(value):
            return None
        try:
            parsed = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError) as error:
            raise InputError(wrong.format(quoted(value))) from error
        if isinstance(parsed, Mapping):
            if not self.names and not self._width:
                self.names = tuple(map(str, parsed))
            if set(parsed) != set(self.names):
                raise InputError(f"{place}: {self._what} names other classes than the rows before.")
            parsed = [parsed[key] for key in self.names]
        if parsed is None:
            return None
        is_list = isinstance(parsed, list | tuple) and len(parsed) > 1
        if not is_list or not all(type(number) in (int, float) for number in parsed):
            raise InputError(wrong.format(quoted(value)))
        return [float(number) for number in parsed]


def _is_blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _numeric(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Read cells of a CSV as numbers, ``0,7`` as ``0.7``; what is none stays as it is."""
    found: dict[str, Any] = {}
    for name, cell in cells.items():
        try:
            found[name] = float(cell.replace(",", ".")) if isinstance(cell, str) else cell
        except ValueError:
            found[name] = cell
    return found


_KNOWN = {spelling for scheme in SCHEMES.values() for spelling in scheme.meanings}


def scheme_of(
    gold: SpelledLabels,
    answered: SpelledLabels,
    columns: ResultColumns,
    rows: Rows,
    named: Sequence[str] = (),
) -> LabelScheme:
    """Return the scheme of the classes that probabilities name, else of gold labels or answers.

    Gold labels of no scheme are classes themselves.
    """
    if named:
        found = scheme_for_classes(named)
        if all(map(found.class_of, gold.spellings)):
            return SCHEMES.get(found.name, found)
    spelled = {label.casefold() for label in gold.spellings}
    if not spelled:
        spelled = {plain_label(label).casefold() for label in answered.spellings} & _KNOWN
    for scheme in SCHEMES.values():
        if spelled and spelled <= set(scheme.classes):
            return scheme
    for scheme in SCHEMES.values():
        if spelled and spelled <= set(scheme.meanings):
            return scheme
    if not gold.spellings:
        raise InputError(
            f"{rows.name}: none of the labels in {columns.label!r} is a sentiment "
            f"({', '.join(map(repr, answered.spellings[:3]))}). Write them out, such as positive; "
            "or, where they are classes of your own, add a column 'gold' that names each class at "
            "least once."
        )
    odd = [label for label in gold.spellings if label.casefold() not in _KNOWN]
    # Emotions may have a neutral among them.
    if 2 * len(odd) > len(gold.spellings):
        return scheme_for_classes(sorted(gold.spellings))
    if not odd:
        raise InputError(
            f"{rows.name}: the labels in {columns.gold!r} mix several label schemes "
            f"({', '.join(gold.spellings)})."
        )
    raise InputError(
        f"{rows.at(gold.first(odd[0]))}: the label {odd[0]!r} in {columns.gold!r} is not of the "
        f"same kind as {next(label for label in gold.spellings if label not in odd)!r}. Remove "
        "such rows or label them otherwise."
    )


class _Collected:
    def __init__(self, rows: Rows, columns: ResultColumns) -> None:
        self._rows, self._columns = rows, columns
        self._builder = ExamplesBuilder()
        self._gold, self._labels, self._adviser = SpelledLabels(), SpelledLabels(), SpelledLabels()
        self._probabilities = SpelledProbabilities(columns.probabilities)
        self._adviser_probabilities = SpelledProbabilities(columns.adviser_probabilities)
        self._cost = array("d")
        self._raw: list[pa.Array] = []
        self._raw_open: list[str | None] = []

    def add(self, where: int, row: Mapping[str, Any]) -> None:
        columns, place = self._columns, self._rows.at(where)

        def cell(column: str | None) -> str | None:
            if column is None:
                return None
            try:
                return cell_text(row[column])
            except TypeError as error:
                raise InputError(
                    f"{place}: the column {column!r} holds {error}; a text is needed."
                ) from error

        gold = cell(columns.gold)
        text, source = cell(columns.text) or "", cell(columns.source) or None
        self._builder.add(text, label=gold, source=source, id=cell(columns.id))
        self._gold.add(gold, where)
        self._labels.add(cell(columns.label), where)
        self._adviser.add(cell(columns.adviser_label), where)
        self._probabilities.add(row, where, place)
        self._adviser_probabilities.add(row, where, place)
        if columns.cost is not None:
            self._cost.append(self._amount(cell(columns.cost), place))
        if columns.raw is not None:
            self._raw_open.append(cell(columns.raw))
            if len(self._raw_open) >= 10_000:
                self._raw.append(strings(self._raw_open, pa.large_string()))
                self._raw_open = []

    def table(self, name: str) -> RunTable:
        """Return the columns, labels folded into classes."""
        known = self._probabilities.names
        scheme = scheme_of(self._gold, self._labels, self._columns, self._rows, known)
        gold = self._gold.numbers(scheme)
        named = class_names(gold, scheme.classes)
        raw = pa.concat_arrays([*self._raw, strings(self._raw_open, pa.large_string())])
        return RunTable(
            name=name,
            classes=scheme.classes,
            examples=self._builder.finish().replace_column("label", named),
            gold=gold,
            answers=Labelling(
                self._answered(self._labels, scheme, self._columns.label, name),
                self._probabilities.array(scheme.classes, name),
            ),
            adviser=self._of_adviser(scheme, name),
            raw=None if self._columns.raw is None else raw,
            cost=np.frombuffer(self._cost, np.float64) if len(self._cost) else None,
            has_texts=self._columns.text is not None,
            ordered=scheme.ordered,
        )

    def _amount(self, cell: str | None, place: str) -> float:
        try:
            amount = float(cell) if cell and cell.strip() else float("nan")
        except ValueError:
            amount = -1.0
        # pandas writes an unknown amount as NaN.
        if amount < 0 or math.isinf(amount):
            raise InputError(
                f"{place}: {cell!r} in {self._columns.cost!r} is not an amount in USD. "
                "Give 0 or more, or leave it empty if it is unknown."
            )
        return amount

    def _answered(
        self, labels: SpelledLabels, scheme: LabelScheme, column: str, name: str
    ) -> NDArray[np.int64]:
        found = labels.numbers(scheme)
        if labels.spellings and (found < 0).all():
            shown = ", ".join(map(repr, labels.spellings[:3]))
            raise InputError(
                f"{name}: no label in {column!r} ({shown}, …) is one of "
                f"{', '.join(scheme.classes)}."
            )
        return found

    def _of_adviser(self, scheme: LabelScheme, name: str) -> Labelling | None:
        probabilities = self._adviser_probabilities.array(scheme.classes, name)
        column = self._columns.adviser_label
        if column is not None:
            return Labelling(self._answered(self._adviser, scheme, column, name), probabilities)
        if probabilities is None:
            return None
        known = ~np.isnan(probabilities).any(1)
        labels = np.where(known, np.nan_to_num(probabilities).argmax(1), -1)
        return Labelling(labels, probabilities)
