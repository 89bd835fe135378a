"""Opens runs and results files alike: ``RUN``, ``FILE``, and ``PATH#encoder`` inside either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentikit.datasets.labels import label_scheme
from sentikit.errors import InputError
from sentikit.registry import Registry, default_registry
from sentikit.runs.folder import FINISHED, MANIFEST, PREDICTIONS, RunFolder
from sentikit.runs.result_columns import ColumnChoice
from sentikit.runs.result_files import read_results
from sentikit.runs.run_rows import read_run_rows
from sentikit.runs.table import RunTable

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
