"""The adviser of a prompt: predictions recorded in a run or a file, or a model to ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sentikit.classifiers.classifier import Classifier, Example, Session
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.labels import LabelScheme
from sentikit.errors import InputError
from sentikit.llm.settings import StrategyOptions
from sentikit.llm.strategy import Needs
from sentikit.registry import Registry
from sentikit.runs.alignment import align_all
from sentikit.runs.folder import MANIFEST, PREDICTIONS, LabelledSplit
from sentikit.runs.reading import read_run, split_suffix
from sentikit.runs.table import Labelling, RunTable

if TYPE_CHECKING:
    from sentikit.classifiers.encoder_classifier import EncoderClassifier


def recorded_predictions(
    options: StrategyOptions, split: LabelledSplit, needs: Needs, registry: Registry
) -> Labelling | None:
    """Return an adviser's recorded predictions, or None where a model must be asked.

    A file and ``PATH#encoder`` must hold every example. A run that labelled other texts is asked
    through its model, if it has one.

    Args:
        options: of the strategy; names the encoder.
        split: the examples to label.
        needs: what the strategy shows.
        registry: where to look for result formats.

    Raises:
        InputError: the records do not belong to the split, or lack what is needed.
    """
    assert options.adviser is not None
    if not _is_recorded(options.adviser):
        return None
    table = read_run(
        options.adviser,
        label_column=options.label_column,
        probabilities_column=options.probabilities_column,
        registry=registry,
    )
    if not _must_be_recorded(options.adviser) and _has_model(options.adviser, registry):
        rows = _rows_or_none(split, table)
        if rows is None:
            return None
    else:
        rows = align_all(split.examples, table.examples, (split.name, table.name), _by_id(table))
    return _complete(table.answers.select(rows), table, split, needs)


def _is_recorded(name: str) -> bool:
    """Say whether there are recorded answers: a file, a run with predictions, or ``#encoder``."""
    return _must_be_recorded(name) or (Path(name).expanduser() / PREDICTIONS).is_file()


def _must_be_recorded(name: str) -> bool:
    plain, of_encoder = split_suffix(name)
    return of_encoder or Path(plain).expanduser().is_file()


def _has_model(name: str, registry: Registry) -> bool:
    from sentikit.classifiers.loading import find_model_folder

    try:
        find_model_folder(Path(name).expanduser(), registry)
    except InputError:
        return False
    return True


def _rows_or_none(split: LabelledSplit, table: RunTable) -> NDArray[np.int64] | None:
    try:
        return align_all(split.examples, table.examples, (split.name, table.name), _by_id(table))
    except InputError:
        return None


def _by_id(table: RunTable) -> bool:
    return not table.has_texts


def _complete(answers: Labelling, table: RunTable, split: LabelledSplit, needs: Needs) -> Labelling:
    """Put the classes into the split's order, and refuse gaps in what the strategy shows."""
    found = in_classes(answers, table.classes, split.classes, table.name)
    lacking = np.flatnonzero(found.labels < 0)
    if needs.label and len(lacking):
        raise InputError(
            f"{table.name} has no valid label for {len(lacking):,} of {len(split.examples):,} "
            f"examples of {split.name}, the first in row {int(lacking[0]) + 1}. Take records "
            "without gaps."
        )
    if not needs.probabilities:
        return found
    if found.probabilities is None:
        raise InputError(
            f"{table.name} records labels without probabilities, and the strategy shows "
            "probabilities. Name their column (strategy.probabilities_column), a model or "
            "another run."
        )
    unknown = np.flatnonzero(np.isnan(found.probabilities).any(1))
    if len(unknown):
        raise InputError(
            f"{table.name} has no probabilities for {len(unknown):,} of "
            f"{len(split.examples):,} examples, the first in row {int(unknown[0]) + 1}."
        )
    return found


def in_classes(
    answers: Labelling, own: tuple[str, ...], wanted: tuple[str, ...], name: str
) -> Labelling:
    """Renumber an encoder's classes as the split has them.

    Raises:
        InputError: they are not the same classes.
    """
    if own == wanted:
        return answers
    if sorted(own) != sorted(wanted):
        raise InputError(
            f"{name} knows the classes {', '.join(own)}; the dataset has {', '.join(wanted)}. Take "
            "an encoder of the same classes, or another label scheme (dataset.labels)."
        )
    return answers.in_classes(own, wanted)


def load_encoder(name: str, registry: Registry) -> EncoderClassifier:
    """Load the model of an encoder that a strategy names.

    Raises:
        InputError: there is no model.
    """
    from sentikit.classifiers.loading import load_encoder

    if _must_be_recorded(name):
        raise InputError(
            f"{name} is recorded answers, not a model, and examples are found with a model's "
            "embeddings. Name the model with strategy.examples.encoder."
        )
    path = Path(name).expanduser()
    if not path.exists():
        raise InputError(
            f"The encoder {name} does not exist. Train it (sentikit train leaves runs/RECIPE), or "
            "name another model, run or results file with strategy.adviser."
        )
    return load_encoder(path, registry=registry)


def encoder_cost(name: str | None) -> float:
    """Return what training the encoder cost in USD, as far as its run's manifest says."""
    from sentikit.files import read_json

    path = Path(name).expanduser() / MANIFEST if name else None
    if path is None or not path.is_file():
        return 0.0
    costs = read_json(path).get("cost_usd") or {}
    return float(sum(value for value in costs.values() if value))


class SplitPredictions(Classifier):
    """Recorded predictions of a split, given in its order.

    Args:
        scheme: the classes.
        recorded: of each row of the split.
    """

    def __init__(self, scheme: LabelScheme, recorded: Labelling) -> None:
        self._scheme, self._recorded = scheme, recorded

    @property
    def scheme(self) -> LabelScheme:
        """The classes."""
        return self._scheme

    def classify(
        self, examples: Iterable[str | Example], session: Session | None = None
    ) -> Iterator[Prediction]:
        """Yield the recorded prediction of each row; `examples` are the split from its start."""
        classes, recorded = self.labels, self._recorded
        for row, _ in enumerate(examples):
            number = int(recorded.labels[row])
            known = None
            if (
                recorded.probabilities is not None
                and not np.isnan(recorded.probabilities[row]).any()
            ):
                known = dict(zip(classes, recorded.probabilities[row].tolist(), strict=True))
            yield Prediction(classes[number] if number >= 0 else None, known)
