"""Datasets opened from a recipe: their splits, with gold labels mapped to classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field

from sentikit.components import Component, ComponentSettings, Path, Problem, check_section, refuse
from sentikit.datasets.examples import Examples, as_numpy, strings, text_hashes
from sentikit.datasets.labels import (
    OWN,
    SCHEMES,
    LabelScheme,
    absent_classes,
    folded_label,
    label_scheme,
)
from sentikit.datasets.rows import Rows
from sentikit.errors import InputError, did_you_mean
from sentikit.registry import Registry, default_registry


class DatasetLoader(Component, ABC):
    """Loads the splits of one dataset.

    Keep labels as the data spell them; the recipe's label scheme maps them to classes.
    """

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Return the splits that can be loaded with these settings, cheaply.

        Raises:
            sentikit.InputError: the settings name nothing that can be read.
        """

    @abstractmethod
    def load(self, split: str) -> Examples:
        """Load one of `splits`.

        Raises:
            sentikit.InputError: a file is missing or malformed; the message says which and where.
            sentikit.SentikitError: the disk or the network failed.
        """

    def rows(self, split: str) -> Rows:
        """Open the table of a split with all its columns, if it is read from a table.

        Raises:
            sentikit.InputError: there is no table, or it cannot be read.
        """
        raise InputError(f"The split {split!r} of this dataset is not read from a table.")

    def label_origin(self) -> str | None:
        """Return the source of labels that people did not give, or None for gold labels."""
        return None

    def locate(self, split: str, row: int) -> str:
        """Return the place of row `row` (from 0) of `split`, for error messages."""
        return f"row {row + 1} of split {split!r}"


SPLITS = ("train", "validation", "test")
#: With this many texts for each class, a class is hardly absent by chance.
TEXTS_PER_CLASS = 20
_MOST_SHOWN = 6
#: Keys that state or map the labels of data.
STATING_LABELS = frozenset({"labels", "label_map"})


def _share(value: object) -> object:
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip().rstrip("%")) / 100
    return value


class ListedLabels(ComponentSettings):
    """Classes listed in a recipe."""

    classes: tuple[str, ...] = Field(description="the classes, from low to high if ordered")
    ordered: bool = Field(False, description="whether the classes are ordered")

    def scheme(self, threshold: float | None = None) -> LabelScheme:
        return label_scheme(self.classes, threshold, self.ordered)


def _known_scheme(labels: str | tuple[str, ...] | ListedLabels) -> str | ListedLabels:
    if isinstance(labels, str):
        if labels not in SCHEMES:
            hint = did_you_mean(labels, SCHEMES)
            raise ValueError(f"unknown label scheme {labels!r}. {hint} Or list the classes.")
        return labels
    listed = labels if isinstance(labels, ListedLabels) else ListedLabels(classes=labels)
    try:
        listed.scheme()
    except InputError as error:
        raise ValueError(error.message.removeprefix("dataset.labels: ")) from error
    return listed


def _holdout(value: object) -> object:
    share = _share(value)
    if isinstance(value, str) and isinstance(share, float) and share >= 1:
        raise ValueError("the share to hold out must be below 100%")
    return share


def _whole(amount: float) -> float:
    if amount >= 1 and not amount.is_integer():
        raise ValueError("a count must be a whole number, and a share below 1 or in %")
    return amount


def _known_splits(splits: dict[str, str | None]) -> dict[str, str | None]:
    for name in splits:
        if name not in SPLITS:
            raise ValueError(f"unknown split {name!r}. {did_you_mean(name, SPLITS)}")
    return splits


class DatasetOptions(ComponentSettings):
    """Keys that work with every dataset."""

    labels: Annotated[str | tuple[str, ...] | ListedLabels, AfterValidator(_known_scheme)] = Field(
        "neg_neu_pos",
        description="label scheme (neg_neu_pos, five, stars, bin_neg, bin_neu, bin_pos), a list of "
        "classes, or {classes: […], ordered: true}",
    )
    label_map: dict[str, str] = Field(
        default_factory=dict,
        description="gold label to class; ignores case and spaces, and reads 5.0 as 5",
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="for two classes: predict the second from this probability on"
    )
    splits: Annotated[dict[str, str | None], AfterValidator(_known_splits)] = Field(
        default_factory=dict,
        description="the dataset's splits to use as train, validation or test; null for none",
    )
    sample: Annotated[float, BeforeValidator(_share)] = Field(
        1.0, gt=0, le=1, description="share of the training split to keep, such as 0.1 or '10%'"
    )
    validation_holdout: Annotated[float, BeforeValidator(_holdout), AfterValidator(_whole)] = Field(
        0,
        ge=0,
        description="training examples to move to validation, stratified by class and source: a "
        "number, or a share below 1 or in %",
    )
    seed: int = Field(42, ge=0, description="seed of the sample and of the held-out examples")

    @property
    def scheme(self) -> LabelScheme:
        if isinstance(self.labels, ListedLabels):
            return self.labels.scheme(self.threshold)
        return label_scheme(self.labels, self.threshold)


@dataclass(frozen=True)
class OpenedDataset:
    """A dataset with its options applied; splits are loaded on demand.

    Attributes:
        name: its name in the recipe.
        loader: the component that reads the data.
        options: the keys that every dataset has.
    """

    name: str
    loader: DatasetLoader
    options: DatasetOptions

    @cached_property
    def scheme(self) -> LabelScheme:
        return self.options.scheme

    @cached_property
    def splits(self) -> tuple[str, ...]:
        own = [s for s in self.loader.splits() if s not in self.options.splits]
        mapped = [target for target, origin in self.options.splits.items() if origin]
        held_out = ["validation"] if self.options.validation_holdout else []
        return tuple(dict.fromkeys([*own, *mapped, *held_out]))

    @cached_property
    def _spellings(self) -> dict[str, frozenset[str]]:
        """The labels of each split read so far."""
        return {}

    def warnings(self) -> list[str]:
        """Warn about keys of the label map that are one label, or that no split has so far."""
        keys = list(self.options.label_map)
        folded = [folded_label(key) for key in keys]
        warnings = [
            f"dataset.label_map: {keys[folded.index(label)]!r} and {key!r} are one label. Keep one."
            for number, (key, label) in enumerate(zip(keys, folded, strict=True))
            if label in folded[:number]
        ]
        known = frozenset[str]().union(*self._spellings.values())
        unused = [key for key, label in zip(keys, folded, strict=True) if label not in known]
        if not unused or not known:
            return warnings
        named, splits = ", ".join(map(repr, unused)), " or ".join(map(repr, self._spellings))
        hint = did_you_mean(unused[0], sorted(known))
        return [*warnings, f"dataset.label_map: no label of {splits} is {named}. {hint}"]

    def split(self, name: str, labelled: bool = True, empty_texts: bool = False) -> Examples:
        """Load a split with its labels mapped to the scheme's classes.

        Args:
            name: one of `splits`.
            labelled: whether every example needs a gold label.
            empty_texts: whether to keep examples without text.

        Raises:
            InputError: the split is unknown or empty, a text is empty, or a label has no class.
        """
        self.check_split(name)
        examples = self._sampled(name, labelled, empty_texts)
        if not len(examples):
            raise InputError(f"The split {name!r} of the dataset {self.name!r} is empty.")
        return examples

    def check_split(self, name: str) -> None:
        """Refuse a name that is none of `splits`."""
        if name not in self.splits:
            raise InputError(
                f"The dataset {self.name!r} has no split {name!r}. "
                f"{did_you_mean(name, self.splits)}"
            )

    def _sampled(self, name: str, labelled: bool, empty_texts: bool) -> Examples:
        complete = not self.options.validation_holdout and self.options.sample == 1
        if name == "train" and not complete:
            kept: Examples = self._train_and_holdout[0]
            return kept
        if name == "validation" and self.options.validation_holdout:
            there = self.options.splits.get(name, name if name in self.loader.splits() else None)
            own = [self._folded(name, labelled, empty_texts)] if there is not None else []
            return Examples.concatenate([*own, self._train_and_holdout[1]])
        return self._folded(name, labelled, empty_texts)

    @cached_property
    def _train_and_holdout(self) -> tuple[Examples, Examples]:
        train = self._folded("train", labelled=True, empty_texts=False)
        generator = np.random.default_rng(self.options.seed)
        held = np.zeros(len(train), np.bool_)
        moved = np.empty(0, np.intp)
        if self.options.validation_holdout:
            # By text instead of id, because a repeated text has several ids.
            hashes = text_hashes(train.values("text"))
            _, first, texts = np.unique(hashes, return_index=True, return_inverse=True)
            chosen = self._held_out(train.select(first), generator)
            held, moved = chosen[texts], np.sort(first[chosen])
        kept = generator.permutation(np.flatnonzero(~held))
        if self.options.sample < 1:
            kept = kept[: max(1, round(self.options.sample * len(kept)))]
        return train.select(np.sort(kept)), train.select(moved)

    def _held_out(self, examples: Examples, generator: np.random.Generator) -> NDArray[np.bool_]:
        """Return a mask of the examples to hold out, stratified by class and source.

        The texts are ordered by stratum, randomly within one, and every n-th is chosen.
        """
        amount, distinct = self.options.validation_holdout, len(examples)
        wanted = round(amount * distinct) if amount < 1 else int(amount)
        if wanted >= distinct:
            raise InputError(
                f"dataset.validation_holdout is {wanted:,} examples, but the training split of "
                f"{self.name!r} has {distinct:,} different texts. Lower it."
            )
        pairs = zip(examples.labels, examples.sources, strict=True)
        strata = np.unique([f"{label}\0{source}" for label, source in pairs], return_inverse=True)[
            1
        ]
        shuffled = generator.permutation(distinct)
        ordered = shuffled[np.argsort(strata[shuffled], kind="stable")]
        places = (np.arange(wanted) + generator.random()) * (distinct / max(wanted, 1))
        chosen = np.zeros(distinct, np.bool_)
        chosen[ordered[places.astype(np.intp)]] = True
        return chosen

    def _folded(self, name: str, labelled: bool, empty_texts: bool) -> Examples:
        origin = self.options.splits.get(name) or name
        if origin not in self.loader.splits():
            raise InputError(
                f"The dataset {self.name!r} has no split {origin!r}. "
                f"{did_you_mean(origin, self.loader.splits())}"
            )
        examples = self.loader.load(origin)
        if not empty_texts:
            self._refuse_empty_texts(origin, examples)
        if labelled:
            self._refuse_missing_labels(origin, examples)
        elif len(self.splits) == 1 and examples.table.column("label").null_count == len(examples):
            self.refuse_unused_map()
        return self._fold_labels(origin, examples)

    def _refuse_empty_texts(self, split: str, examples: Examples) -> None:
        # Chunk by chunk, so that no copy of all texts is made.
        chunks = examples.table.column("text").chunks
        blank = [as_numpy(pc.utf8_length(pc.utf8_trim_whitespace(c))) == 0 for c in chunks]
        empty = _positions(examples, np.concatenate([np.empty(0, np.bool_), *blank]))
        if len(empty):
            raise InputError(
                f"{self.loader.locate(split, int(empty[0]))}: the text is empty "
                f"({len(empty):,} in split {split!r}). Remove or complete these rows."
            )

    def _fold_labels(self, split: str, examples: Examples) -> Examples:
        encoded = examples.table.column("label").combine_chunks().dictionary_encode()
        spellings = encoded.dictionary.to_pylist()
        self._spellings.setdefault(split, frozenset(map(folded_label, spellings)))
        classes = [self._class_of(spelling) for spelling in spellings]
        if None in classes:
            self._refuse_labels(split, examples, encoded, classes)
        folded = strings(classes).take(encoded.indices)
        return examples.replace_column("label", folded)

    def _class_of(self, spelling: str) -> str | None:
        return self.scheme.class_of(self._label_map.get(folded_label(spelling), spelling))

    @cached_property
    def _label_map(self) -> dict[str, str]:
        return {folded_label(key): name for key, name in self.options.label_map.items()}

    def _refuse_labels(
        self,
        split: str,
        examples: Examples,
        encoded: pa.DictionaryArray,
        classes: Sequence[str | None],
    ) -> None:
        unknown = pa.array([name is None for name in classes]).take(encoded.indices)
        wrong = _positions(examples, as_numpy(unknown))
        if not len(wrong):
            return
        spelling = str(examples.select(wrong[:1]).labels[0])
        known = zip(encoded.dictionary.to_pylist(), classes, strict=True)
        others = sorted({label for label, name in known if label and not name} - {spelling})
        raise InputError(
            f"{self.loader.locate(split, int(wrong[0]))}: the label {spelling!r} is not one of "
            f"{', '.join(self.scheme.classes)}. Map labels to classes with "
            f"{_map_to_give([spelling, *others])}, or choose another label scheme "
            "(dataset.labels)."
        )

    def refuse_other_scheme(self, split: str, examples: Examples, section: str = "dataset") -> None:
        """Refuse gold labels of an assumed scheme if a class is absent beyond chance."""
        absent = absent_classes(self.scheme.classes, examples.values("label"))
        if not absent or len(examples) < TEXTS_PER_CLASS * len(self.scheme.classes):
            return
        spelled = sorted(frozenset[str]().union(*self._spellings.values()))
        own = self.options.labels
        named = own if isinstance(own, str) else f"[{', '.join(self.scheme.classes)}]"
        raise InputError(
            f"None of the {len(examples):,} texts of {self.name}/{split} is "
            f"{' or '.join(map(repr, absent))}, so they seem to have another label scheme, and "
            f"such a class would count as F1 0. Map their labels with "
            f"{_map_to_give(spelled, section)}, or, if the scheme is the same, state it with "
            f"{section}.labels={named}."
        )

    def refuse_unused_map(self) -> None:
        """Refuse a ``label_map`` for data without labels, whose column was not found."""
        if self.options.label_map:
            raise InputError(
                f"The dataset {self.name!r} has a label_map but no labels. Name their column with "
                "dataset.label=COLUMN, or leave out label_map."
            )

    def _refuse_missing_labels(self, split: str, examples: Examples) -> None:
        missing = _positions(examples, as_numpy(examples.table.column("label").is_null()))
        if len(missing):
            raise InputError(
                f"{self.loader.locate(split, int(missing[0]))}: the label is missing "
                f"({len(missing):,} of {len(examples):,} in split {split!r}). "
                "Label or remove these rows."
            )


def _map_to_give(labels: Sequence[str], section: str = "dataset") -> str:
    shown = [f"{label!r}: CLASS" for label in labels[:_MOST_SHOWN]]
    return f"{section}.label_map={{{', '.join(shown)}{', …' if labels[_MOST_SHOWN:] else ''}}}"


def _positions(examples: Examples, marked: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the positions of the examples whose rows of the table are marked."""
    return np.flatnonzero(marked if examples.order is None else marked[examples.order])


def open_dataset(
    section: Mapping[str, Any] | str, registry: Registry | None = None
) -> OpenedDataset:
    """Open the dataset of a recipe's section, or of a name alone.

    Raises:
        InputError: an unknown dataset or key; the message lists every problem.
    """
    raw = {"name": section} if isinstance(section, str) else section
    dataset, problems = check_dataset(registry or default_registry(), raw)

    def described(problem: Problem) -> str:
        key = problem.path[0] if len(problem.path) == 1 else None
        # Outside of a recipe, the prefix `name:` would only confuse.
        if key is None or key in raw:
            return problem.message if key == "name" else str(problem)
        return f"{problem} Add --set {key}=VALUE."

    refuse(problems, described)
    assert dataset is not None
    return dataset


def with_path(
    section: Mapping[str, Any], path: str | None, registry: Registry | None = None
) -> dict[str, Any]:
    """Add the option ``--path`` to a dataset's section.

    Raises:
        InputError: there is no such dataset, or it has no path.
    """
    if path is None:
        return dict(section)
    name = str(section["name"])
    loader = (registry or default_registry()).load("register_datasets", name)
    known = loader.Settings.model_fields
    if "path" not in known:
        own = f"; its own settings are {', '.join(known)}" if known else ""
        raise InputError(f"The dataset {name!r} has no --path; leave it out{own}.")
    return {**section, "path": path}


def check_dataset(
    registry: Registry, raw: Any, prefix: Path = ()
) -> tuple[OpenedDataset | None, list[Problem]]:
    """Open the dataset of a recipe's section, or return every problem with it."""
    if not isinstance(raw, Mapping):
        return None, [Problem(prefix, "must be a section with a name.")]
    loader, options, problems = check_section(
        registry, "register_datasets", DatasetOptions, raw, prefix, DatasetLoader
    )
    if options is not None:
        problems += _unknown_classes(options, prefix)
    if options is None or loader is None or problems:
        return None, problems
    return OpenedDataset(str(raw["name"]), loader, options), []


def _unknown_classes(options: DatasetOptions, prefix: Path) -> list[Problem]:
    try:
        scheme = options.scheme
    except InputError as error:
        return [Problem((*prefix, "threshold"), error.message)]
    name = "dataset.labels" if scheme.name == OWN else scheme.name
    problems = []
    seen: dict[str, str] = {}
    for spelling, target in options.label_map.items():
        path = (*prefix, "label_map", spelling)
        if scheme.class_of(target) is None:
            hint = did_you_mean(target, scheme.classes)
            problems.append(Problem(path, f"{target!r} is not a class of {name}. {hint}"))
        first = seen.setdefault(folded_label(spelling), spelling)
        if scheme.class_of(options.label_map[first]) != scheme.class_of(target):
            message = f"{first!r} and {spelling!r} are one label, mapped to two classes. Keep one."
            problems.append(Problem(path, message))
    return problems
