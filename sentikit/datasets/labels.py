"""Label schemes: the classes of a task, and the gold labels that map to each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sentikit.errors import InputError, unknown_name

NEGATIVE, NEUTRAL, POSITIVE = "negative", "neutral", "positive"
FIVE_CLASSES = ("very negative", NEGATIVE, NEUTRAL, POSITIVE, "very positive")

_POLARITY = {
    "very negative": NEGATIVE,
    "negative": NEGATIVE,
    "neg": NEGATIVE,
    "neutral": NEUTRAL,
    "neu": NEUTRAL,
    "positive": POSITIVE,
    "pos": POSITIVE,
    "very positive": POSITIVE,
}


#: The name of every scheme made from a list of classes.
OWN = "own"
_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]+)\.0+")


def folded_label(spelling: str) -> str:
    """Return a label with its case and spaces normalised, and ``5.0`` as ``5``."""
    folded = " ".join(spelling.casefold().split())
    number = _WHOLE_NUMBER.fullmatch(folded)
    return number[1] if number else folded


@dataclass(frozen=True)
class LabelScheme:
    """The classes of a task in logit order, and the gold labels that map to each.

    Attributes:
        name: the scheme's name in recipes; `OWN` for a list of classes.
        classes: class names in the order of the logits.
        meanings: gold label, folded by `folded_label`, to class.
        threshold: for two classes, the lowest probability at which the second is predicted; None
            predicts the likelier class.
        ordered: whether the classes are ordered, from low to high.
        unit: the unit of a number without one, such as ``stars``.
    """

    name: str
    classes: tuple[str, ...]
    meanings: Mapping[str, str]
    threshold: float | None = None
    ordered: bool = False
    unit: str = ""

    def class_of(self, label: str) -> str | None:
        """Return the class of a gold label, or None if it has none."""
        folded = folded_label(label)
        found = self.meanings.get(folded)
        return self.meanings.get(f"{folded} {self.unit}") if found is None and self.unit else found

    def numbers(self, labels: Iterable[str | None]) -> NDArray[np.int64]:
        """Return the class number of each class name; -1 for None."""
        known: dict[str | None, int] = {name: number for number, name in enumerate(self.classes)}
        known[None] = -1
        return np.fromiter((known[label] for label in labels), np.int64)


def _binary(name: str, target: str) -> LabelScheme:
    """Return the study's one-against-rest scheme: {non-target 0, target 1}."""
    rest = f"non-{target}"
    meanings = {spelling: target if c == target else rest for spelling, c in _POLARITY.items()}
    return LabelScheme(name, (rest, target), {**meanings, rest: rest})


def _stars() -> LabelScheme:
    names = ("1 star", *(f"{number} stars" for number in range(2, 6)))
    spellings = {f"{number} stars": name for number, name in enumerate(names, 1)}
    spellings |= {"\u2605" * number: name for number, name in enumerate(names, 1)}
    meanings = {**spellings, "1 star": "1 star"}
    return LabelScheme("stars", names, meanings, ordered=True, unit="stars")


SCHEMES: dict[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        LabelScheme("neg_neu_pos", (NEGATIVE, NEUTRAL, POSITIVE), _POLARITY, ordered=True),
        LabelScheme("five", FIVE_CLASSES, {name: name for name in FIVE_CLASSES}, ordered=True),
        _stars(),
        _binary("bin_neg", NEGATIVE),
        _binary("bin_neu", NEUTRAL),
        _binary("bin_pos", POSITIVE),
    )
}


def absent_classes(classes: Sequence[str], labels: Iterable[str | None]) -> list[str]:
    """Return the classes that no gold label has; none if there are no gold labels at all."""
    present = set(labels) - {None}
    return [name for name in classes if present and name not in present]


def absence_warnings(
    split: str, classes: Sequence[str], labels: Iterable[str | None], from_recipe: bool = True
) -> Iterator[str]:
    """Yield a warning if gold labels lack a class, which a recipe could leave out."""
    if absent := absent_classes(classes, labels):
        named = " or ".join(map(repr, absent))
        advice = " If the data have no such class, list theirs in dataset.labels."
        yield (
            f"No {split} text is labelled {named}, so such a class counts as 0 in macro-F1."
            f"{advice if from_recipe else ''}"
        )


def label_scheme(
    labels: str | Sequence[str], threshold: float | None = None, ordered: bool = False
) -> LabelScheme:
    """Return the scheme that a recipe names, or makes from a list of classes.

    Raises:
        InputError: no such scheme, fewer than two classes or two that fold alike, or a threshold
            for more than two classes.
    """
    if isinstance(labels, str):
        if labels not in SCHEMES:
            raise unknown_name("label scheme", labels, SCHEMES)
        scheme = SCHEMES[labels]
    else:
        scheme = _listed(labels, ordered)
    if threshold is not None and len(scheme.classes) != 2:
        raise InputError(
            f"A threshold needs two classes, but the label scheme {scheme.name!r} has "
            f"{len(scheme.classes)}. Remove it, or use bin_neg, bin_neu or bin_pos."
        )
    return replace(scheme, threshold=threshold)


def scheme_for_classes(
    classes: Sequence[str], threshold: float | None = None, ordered: bool = False
) -> LabelScheme:
    """Return the scheme of another tool's model from its classes in logit order.

    If they are the classes of a known scheme, in any order and case, it gives their meanings, and
    they are ordered if they follow its order or the reverse. Other classes mean themselves;
    `ordered` applies to them.

    Raises:
        InputError: a threshold for more than two classes.
    """
    names = tuple(name.strip() for name in classes)
    folded = tuple(folded_label(name) for name in names)
    if threshold is not None and len(names) != 2:
        raise InputError(f"A threshold needs two classes, but the model has {len(names)}.")
    for scheme in SCHEMES.values():
        if sorted(folded) == sorted(scheme.classes):
            in_order = scheme.ordered and folded in (scheme.classes, scheme.classes[::-1])
            return replace(scheme, classes=folded, threshold=threshold, ordered=in_order)
    return LabelScheme(OWN, names, dict(zip(folded, names, strict=True)), threshold, ordered)


def _listed(classes: Sequence[str], ordered: bool) -> LabelScheme:
    names = tuple(" ".join(name.split()) for name in classes)
    meanings: dict[str, str] = {}
    for name in names:
        alike = meanings.get(folded_label(name))
        if not name or alike is not None:
            wrong = f"{alike!r} and {name!r} are the same class" if name else "a class has no name"
            raise InputError(f"dataset.labels: {wrong}. Give each class its own name.")
        meanings[folded_label(name)] = name
    if len(names) < 2:
        raise InputError("dataset.labels: a list of classes needs at least two.")
    return LabelScheme(OWN, names, meanings, ordered=ordered)
