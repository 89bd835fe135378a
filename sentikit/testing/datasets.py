"""What is expected of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sentikit.datasets.examples import SCHEMA, Examples
from sentikit.datasets.opening import DatasetLoader, DatasetOptions
from sentikit.testing.parts import check_part, require


def check_dataset(loader_class: type[DatasetLoader], settings: Mapping[str, Any]) -> None:
    """Load every split twice and check what comes.

    Raises:
        AssertionError: splits, ids, texts or labels are not as the core needs them.
    """
    loader = check_part(loader_class, settings, DatasetOptions.model_fields)
    name = loader_class.__name__
    splits = loader.splits()
    require(
        isinstance(splits, tuple) and splits and all(isinstance(s, str) and s for s in splits),
        f"{name}.splits() must return a tuple of names, not {splits!r}.",
    )
    require(len(set(splits)) == len(splits), f"{name}.splits() names one twice: {splits!r}.")
    for split in splits:
        examples = loader.load(split)
        _check_examples(f"{name}.load({split!r})", examples)
        again = loader_class(loader.settings).load(split)
        require(
            again.fingerprint() == examples.fingerprint(),
            f"{name}.load({split!r}) gives other examples the second time.",
        )
        place = loader.locate(split, len(examples) - 1)
        require(
            isinstance(place, str) and place,
            f"{name}.locate({split!r}, row) must say where a row stands, not {place!r}.",
        )


def _check_examples(where: str, examples: object) -> None:
    if not isinstance(examples, Examples):
        raise AssertionError(
            f"{where} must return sentikit.Examples, not {type(examples).__name__}."
        )
    require(
        examples.table.schema.equals(SCHEMA),
        f"{where} has other columns than ExamplesBuilder makes: {examples.table.schema}.",
    )
    require(len(examples), f"{where} is empty; leave an empty split out of splits().")
    ids, texts = examples.ids, examples.texts
    require(all(ids), f"{where} has an empty id.")
    repeated = next((name for name, count in Counter(ids).items() if count > 1), None)
    require(repeated is None, f"{where} has an id twice: {repeated!r}.")
    blank = next((row for row, text in enumerate(texts) if not text or text.isspace()), None)
    require(blank is None, f"{where} has an empty text, at row {blank}.")
    for column in ("label", "source"):
        require("" not in examples.column(column), f"{where} has an empty {column}; give None.")
