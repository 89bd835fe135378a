"""Reads any dataset of the Hugging Face hub that has a text column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from sentikit import Examples, InputError
from sentikit.extension import (
    DatasetLoader,
    ExamplesBuilder,
    PartSettings,
    did_you_mean,
    hub_splits,
    load_from_hub,
)

if TYPE_CHECKING:
    from datasets import Dataset

# Usual names, the best first. A column of label names is better than one of numbers.
_TEXTS = ("text", "sentence", "review", "content", "tweet", "comment", "review_text", "body")
_LABELS = ("label_text", "label", "labels", "sentiment", "gold_label", "polarity", "class")
_SOURCES = ("source", "domain")
_SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "val", "valid", "development"),
    "test": ("test", "testing"),
}
_ROWS_PER_BATCH = 1000


class _Columns(NamedTuple):
    text: str
    label: str | None
    source: str | None


class _Row(NamedTuple):
    text: str
    label: str | None
    source: str | None


class HubDataset(DatasetLoader):
    """A dataset of the hub, or a local folder in the hub's layout."""

    class Settings(PartSettings):
        """Which dataset, and which of its columns."""

        path: str = Field(description="repository id, as owner/name, or a local folder")
        config: str | None = Field(None, description="configuration, where there are several")
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
        for row in self._rows(split):
            builder.add(row.text, label=row.label, source=row.source)
        return builder.finish()

    def locate(self, split: str, row: int) -> str:
        """Name the row as the hub counts it."""
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

    def _rows(self, split: str) -> Iterator[_Row]:
        settings = self.settings
        dataset = load_from_hub(
            settings.path, self._names[split], config=settings.config, revision=settings.revision
        )
        columns = self._columns(dataset)
        name_of = _namer(dataset, columns.label)
        chosen = dataset.select_columns([column for column in columns if column])
        for batch in chosen.iter(_ROWS_PER_BATCH):
            for position, text in enumerate(batch[columns.text]):
                yield _Row(
                    text or "",
                    name_of(batch[columns.label][position]) if columns.label else None,
                    _name(batch[columns.source][position]) if columns.source else None,
                )

    def _columns(self, dataset: Dataset) -> _Columns:
        text = self._column(dataset, "text", _TEXTS)
        if text is None:
            raise InputError(
                f"No text column in {self.settings.path}. Name one with text: "
                f"{', '.join(sorted(dataset.column_names))}."
            )
        if getattr(dataset.features[text], "dtype", None) not in ("string", "large_string"):
            raise InputError(f"The column {text!r} of {self.settings.path} does not hold texts.")
        return _Columns(
            text,
            self._column(dataset, "label", _LABELS),
            self._column(dataset, "source", _SOURCES),
        )

    def _column(self, dataset: Dataset, key: str, usual: tuple[str, ...]) -> str | None:
        """Return the column the settings name under `key`, or one of the usual names."""
        wanted: str | None = getattr(self.settings, key)
        if wanted is None:
            return next(iter(_first(usual, dataset.column_names)), None)
        if wanted not in dataset.column_names:
            raise InputError(
                f"{self.settings.path} has no column {wanted!r} ({key}). "
                f"{did_you_mean(wanted, dataset.column_names)}"
            )
        return wanted


def _first(wanted: tuple[str, ...], known: Any) -> list[str]:
    """Return the first of `wanted` that is known, whatever its case; none or one."""
    by_folded = {name.casefold(): name for name in known}
    return [by_folded[name] for name in wanted if name in by_folded][:1]


def _namer(dataset: Dataset, label: str | None) -> Callable[[Any], str | None]:
    """Return what turns a label cell into its name."""
    from datasets import ClassLabel

    feature = dataset.features[label] if label else None
    if isinstance(feature, ClassLabel):
        names = feature.names
        # The hub writes -1 where a gold label is withheld.
        return lambda value: names[value] if value is not None and value >= 0 else None
    return _name


def _name(value: Any) -> str | None:
    """Return a cell as a name; what is missing or empty has none."""
    return None if value is None or value == "" else str(value)
