"""Any dataset of the Hugging Face hub that has a text column."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sentikit import Examples, InputError
from sentikit.extension import ComponentSettings, DatasetLoader, ExamplesBuilder, Rows, did_you_mean

from .loading import hub_splits, load_from_hub

if TYPE_CHECKING:
    from datasets import Dataset

# Common names, best first. A column of label names is better than one of numbers.
_USUAL_NAMES = {
    "text": ("text", "sentence", "review", "content", "tweet", "comment", "review_text", "body"),
    "label": ("label_text", "label", "labels", "sentiment", "gold_label", "polarity", "class"),
    "source": ("source", "domain"),
}
_SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "val", "valid", "development"),
    "test": ("test", "testing"),
}
_ROWS_PER_BATCH = 1000


class HubRows(Rows):
    """Rows of a split, with classes by name; only the requested columns are read."""

    unit = "row"

    def __init__(self, name: str, dataset: Dataset) -> None:
        super().__init__(name, dataset.column_names)
        self.dataset = dataset

    def at(self, where: int) -> str:
        """Describe a row by its number in the split."""
        return f"row {where} of {self.name}"

    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the number of each row, from 1, and its values."""
        named = [_namer(self.dataset, column) for column in columns]
        chosen = self.dataset.select_columns(list(dict.fromkeys(columns)))
        number = 0
        for batch in chosen.iter(_ROWS_PER_BATCH):
            for cells in zip(*(batch[column] for column in columns), strict=True):
                number += 1
                yield number, tuple([name(cell) for name, cell in zip(named, cells, strict=True)])


def _namer(dataset: Dataset, column: str) -> Callable[[Any], Any]:
    """Return a function from a class number to its name; it keeps other values."""
    from datasets import ClassLabel

    feature = dataset.features[column]
    if isinstance(feature, ClassLabel):
        names = feature.names
        # -1 means that the hub withholds the gold label.
        return lambda value: names[value] if value is not None and value >= 0 else None
    return lambda value: value


class HubDataset(DatasetLoader):
    """A dataset of the hub, or a local folder in the hub's layout."""

    class Settings(ComponentSettings):
        """The dataset and its columns."""

        path: str = Field(description="repository id, such as owner/name, or a local folder")
        config: str | None = Field(None, description="configuration, if there are several")
        revision: str | None = Field(None, description="branch, tag, commit, refs/convert/parquet")
        text: str | None = Field(None, description="column of the texts")
        label: str | None = Field(None, description="column of the gold labels")
        source: str | None = Field(None, description="column of the sources")

    settings: Settings

    def splits(self) -> tuple[str, ...]:
        """Return the hub's splits, the usual ones as train, validation and test."""
        return tuple(self._names)

    def load(self, split: str) -> Examples:
        """Load a split; ids are made from the texts."""
        builder = ExamplesBuilder()
        with self.rows(split) as rows:
            text, *others = self._columns(rows)
            found = [column for column in others if column]
            for _, (value, *cells) in rows.cells(text, *found):
                known = dict(zip(found, cells, strict=True))
                label, source = (known.get(column or "") or None for column in others)
                builder.add(value or "", label=label, source=source)
        return builder.finish()

    def rows(self, split: str) -> HubRows:
        """Open a split with all its columns.

        Raises:
            InputError: there is no such split.
        """
        settings = self.settings
        name = self._names.get(split, split)
        dataset = load_from_hub(
            settings.path, name, config=settings.config, revision=settings.revision
        )
        return HubRows(f"{settings.path} ({name})", dataset)

    def locate(self, split: str, row: int) -> str:
        """Describe a row by its number in the split."""
        return f"row {row + 1} of {self.settings.path} ({self._names[split]})"

    @cached_property
    def _names(self) -> dict[str, str]:
        """The hub's name of each split."""
        settings = self.settings
        known = hub_splits(settings.path, config=settings.config, revision=settings.revision)
        names = {
            split: name
            for split, spellings in _SPELLINGS.items()
            for name in _first(spellings, known)
        }
        return names | {name: name for name in known if name not in names.values()}

    def _columns(self, rows: HubRows) -> tuple[str, str | None, str | None]:
        """Return the columns of text, label and source."""
        text, label, source = (self._column(rows, key) for key in _USUAL_NAMES)
        if text is None:
            raise InputError(
                f"No text column in {self.settings.path}. Name one with text: "
                f"{', '.join(sorted(rows.columns))}."
            )
        if getattr(rows.dataset.features[text], "dtype", None) not in ("string", "large_string"):
            raise InputError(f"The column {text!r} of {self.settings.path} does not hold texts.")
        return text, label, source

    def _column(self, rows: Rows, key: str) -> str | None:
        """Return the column the settings name under `key`, or one of the usual names."""
        wanted: str | None = getattr(self.settings, key)
        if wanted is None:
            return next(iter(_first(_USUAL_NAMES[key], rows.columns)), None)
        if wanted not in rows.columns:
            raise InputError(
                f"{self.settings.path} has no column {wanted!r} ({key}). "
                f"{did_you_mean(wanted, rows.columns)}"
            )
        return wanted


def _first(wanted: tuple[str, ...], known: Any) -> list[str]:
    """Return the first of `wanted` that is known, ignoring case, as a list of at most one."""
    by_folded = {name.casefold(): name for name in known}
    return [by_folded[name] for name in wanted if name in by_folded][:1]
