"""The reading of runs and results files: ``RUN``, ``FILE``, and ``PATH#encoder`` inside either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
from numpy.typing import NDArray

from sentikit.datasets.examples import SCHEMA, Examples
from sentikit.datasets.json_lines import json_records
from sentikit.datasets.labels import label_scheme, scheme_for_classes
from sentikit.datasets.text_files import decoded_lines, open_binary
from sentikit.errors import InputError
from sentikit.files import disk_errors
from sentikit.registry import Registry, default_registry
from sentikit.runs.folder import FINISHED, MANIFEST, PREDICTIONS, RunFolder
from sentikit.runs.result_files import are_distributions, read_results
from sentikit.runs.result_format import ColumnChoice
from sentikit.runs.table import Labelling, RunTable, class_numbers

_TOKENS = ("prompt", "cached", "completion")
# A row must fit into a block; the longest text is far below this.
_BLOCK_BYTES = 64 * 2**20


def read_run_rows(
    path: Path, name: str, classes: tuple[str, ...], manifest: Mapping[str, Any]
) -> RunTable:
    """Read the predictions of a run.

    Args:
        path: ``predictions.jsonl``.
        name: the run, as the user gave it.
        classes: of the run, in the order of its probabilities.
        manifest: of the run.

    Raises:
        InputError: the file is missing or damaged; says which line.
    """
    table = _read_table(path, classes)
    gold = _classes(table, "gold", classes, path)
    return RunTable(
        name=name,
        classes=classes,
        examples=_examples(table),
        gold=gold,
        answers=Labelling(
            _classes(table, "label", classes, path),
            _probabilities(table.column("probabilities"), classes, path),
        ),
        opinion=_opinion(table.column("encoder"), classes, path),
        raw=_unless_null(table.column("answer")),
        cost=_numbers(table.column("cost")),
        tokens=_tokens(table.column("usage")),
        manifest=manifest,
        ordered=scheme_for_classes(classes, ordered=bool(manifest.get("ordered"))).ordered,
    )


def _schema(classes: tuple[str, ...]) -> pa.Schema:
    probabilities = pa.struct([(name, pa.float64()) for name in classes])
    return pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.large_string()),
            ("gold", pa.string()),
            ("label", pa.string()),
            ("probabilities", probabilities),
            ("source", pa.string()),
            ("answer", pa.large_string()),
            ("cost", pa.float64()),
            ("usage", pa.struct([(name, pa.int64()) for name in _TOKENS])),
            ("encoder", pa.struct([("label", pa.string()), ("probabilities", probabilities)])),
        ]
    )


def _read_table(path: Path, classes: tuple[str, ...]) -> pa.Table:
    with disk_errors(path):
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty: the run labelled nothing.")
    try:
        table = pj.read_json(
            path,
            read_options=pj.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pj.ParseOptions(
                explicit_schema=_schema(classes), unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid as error:
        raise _damaged(path, error) from error
    if not table.num_rows:
        raise InputError(f"{path} is empty: the run labelled nothing.")
    for column in ("id", "text"):
        if table.column(column).null_count:
            raise InputError(f"{path}: a row has no {column}; the file is damaged.")
    return table.combine_chunks()


def _damaged(path: Path, error: Exception) -> InputError:
    """Say on which line the file is no JSON; Arrow counts rows within its blocks only."""
    try:
        with open_binary(path) as stream:
            for _ in json_records(decoded_lines(stream, str(path)), str(path)):
                pass
    except InputError as located:
        return located
    reason = " ".join(str(error).split())
    return InputError(f"{path} holds rows that sentikit does not write ({reason}).")


def _examples(table: pa.Table) -> Examples:
    columns = [table.column(name) for name in ("id", "text", "gold", "source")]
    return Examples(pa.Table.from_arrays(columns, schema=SCHEMA))


def _classes(
    table: pa.Table, column: str, classes: tuple[str, ...], path: Path
) -> NDArray[np.int64]:
    names = table.column(column)
    numbers = class_numbers(names, classes)
    odd = np.flatnonzero((numbers < 0) & names.is_valid().to_numpy())
    if len(odd):
        row = int(odd[0])
        raise InputError(
            f"{path}, row {row + 1}: the {column} {names[row].as_py()!r} is none of the run's "
            f"classes, {', '.join(classes)}."
        )
    return numbers


def _probabilities(
    structs: pa.ChunkedArray, classes: tuple[str, ...], path: Path
) -> NDArray[np.float64] | None:
    if structs.null_count == len(structs):
        return None
    found = np.column_stack([_column(structs, name) for name in classes])
    odd = np.flatnonzero(~are_distributions(found) & structs.is_valid().to_numpy())
    if len(odd):
        row = int(odd[0])
        raise InputError(
            f"{path}, row {row + 1}: {found[row].tolist()} are no probabilities: each lies between "
            "0 and 1, and they add up to 1."
        )
    return found


def _column(structs: pa.ChunkedArray, name: str) -> NDArray[np.float64]:
    import pyarrow.compute as pc

    return _with_nan(pc.struct_field(structs, name))


def _with_nan(numbers: pa.ChunkedArray) -> NDArray[np.float64]:
    import pyarrow.compute as pc

    filled = pc.fill_null(numbers.cast(pa.float64()), float("nan"))
    return np.asarray(filled.to_numpy(), np.float64)


def _opinion(structs: pa.ChunkedArray, classes: tuple[str, ...], path: Path) -> Labelling | None:
    import pyarrow.compute as pc

    if structs.null_count == len(structs):
        return None
    labels = class_numbers(pc.struct_field(structs, "label"), classes)
    probabilities = pc.struct_field(structs, "probabilities")
    return Labelling(labels, _probabilities(probabilities, classes, path))


def _unless_null(column: pa.ChunkedArray) -> pa.Array | None:
    return None if column.null_count == len(column) else column.combine_chunks()


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    return None if column.null_count == len(column) else _with_nan(column)


def _tokens(structs: pa.ChunkedArray) -> NDArray[np.int64] | None:
    if structs.null_count == len(structs):
        return None
    columns = [np.nan_to_num(_column(structs, name)) for name in _TOKENS]
    return np.column_stack(columns).astype(np.int64)


#: Behind a path: the encoder's opinion recorded inside, as a run of its own.
ENCODER_SUFFIX = "#encoder"


def read_run(
    path: str | Path,
    *,
    label_column: str | None = None,
    probabilities_column: str | None = None,
    registry: Registry | None = None,
) -> RunTable:
    """Read the rows of a finished run or of a results file.

    Args:
        path: a run's folder, or a CSV, TSV, JSON Lines or Parquet file; with ``#encoder`` behind
            it, what the encoder said that the LLM was shown.
        label_column: of a file: the column with the labels, where no format finds it.
        probabilities_column: of a file: the column with the probabilities.
        registry: where to look for result formats.

    Raises:
        InputError: there is no such run or file, it is not finished, malformed or of no known
            layout, or holds no encoder's opinion; says what and where.
    """
    name = str(path)
    plain, of_encoder = split_suffix(name)
    choice = ColumnChoice(label_column, probabilities_column)
    table = _read(Path(plain).expanduser(), plain, choice, registry or default_registry())
    return table.of_encoder(name) if of_encoder else table


def split_suffix(name: str) -> tuple[str, bool]:
    """Part ``PATH#encoder`` into the path and whether the encoder's opinion is meant."""
    plain = name.removesuffix(ENCODER_SUFFIX)
    meant = plain != name and not Path(name).exists()
    return (plain, True) if meant else (name, False)


def _read(path: Path, name: str, choice: ColumnChoice, registry: Registry) -> RunTable:
    if path.name == PREDICTIONS and (path.parent / MANIFEST).is_file():
        path = path.parent
    if path.is_file():
        return read_results(path, name, choice, registry)
    if not path.exists():
        raise InputError(f"{name} does not exist. Give a run's folder or a results file.")
    if choice != ColumnChoice():
        raise InputError(f"{name} is a run; columns are named for results files alone.")
    if not (path / MANIFEST).is_file():
        raise InputError(f"{name} is not a run: it has no {MANIFEST}. See: sentikit runs list")
    if RunFolder(path).manifest.get("kind") == "finetune":
        raise InputError(
            f"{name} is a fine-tuned model and labelled no text. Let it: sentikit prompt --set "
            f"llm.model={name}, with a prompt recipe."
        )
    if not (path / PREDICTIONS).is_file():
        raise _no_predictions(name, RunFolder(path).status)
    manifest = RunFolder(path).manifest
    return read_run_rows(path / PREDICTIONS, name, run_classes(manifest), manifest)


def _no_predictions(name: str, status: str) -> InputError:
    if status == FINISHED:
        return InputError(
            f"{name} is finished, but its {PREDICTIONS} is missing. Put the file back, or make the "
            "run again in another folder."
        )
    return InputError(
        f"{name} has no predictions yet: it is {status or 'not finished'}. Finish it with "
        "--resume, or choose another run."
    )


def run_classes(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a run's classes, in the order of its probabilities."""
    return tuple(manifest.get("classes") or label_scheme("neg_neu_pos").classes)
