"""Label schemes: which classes a task has and how gold labels fold into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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


#: The name of a scheme that a model brings with it.
OWN = "own"


@dataclass(frozen=True)
class LabelScheme:
    """The classes of a task, in logit order, and the gold labels that mean each.

    Attributes:
        name: what a recipe calls the scheme.
        classes: class names; a label's position is its index in the logits.
        meanings: gold label, case-folded, to class.
        threshold: for two classes, the probability of the second from which it is predicted;
            None predicts the likelier class.
        ordered: whether the classes have an order, from one end to the other.
    """

    name: str
    classes: tuple[str, ...]
    meanings: Mapping[str, str]
    threshold: float | None = None
    ordered: bool = True

    def class_of(self, label: str) -> str | None:
        """Return the class a gold label folds into, or None if it is not one."""
        return self.meanings.get(label.strip().casefold())

    def numbers(self, labels: Iterable[str | None]) -> NDArray[np.int64]:
        """Return the class number of each class name; -1 for None."""
        known: dict[str | None, int] = {name: number for number, name in enumerate(self.classes)}
        known[None] = -1
        return np.fromiter((known[label] for label in labels), np.int64)


def _binary(name: str, target: str) -> LabelScheme:
    """Build the study's one-against-rest view: {non-target 0, target 1}."""
    rest = f"non-{target}"
    meanings = {spelling: target if c == target else rest for spelling, c in _POLARITY.items()}
    return LabelScheme(name, (rest, target), {**meanings, rest: rest})


SCHEMES: dict[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        LabelScheme("neg_neu_pos", (NEGATIVE, NEUTRAL, POSITIVE), _POLARITY),
        LabelScheme("five", FIVE_CLASSES, {name: name for name in FIVE_CLASSES}),
        _binary("bin_neg", NEGATIVE),
        _binary("bin_neu", NEUTRAL),
        _binary("bin_pos", POSITIVE),
    )
}


def label_scheme(name: str, threshold: float | None = None) -> LabelScheme:
    """Return the scheme a recipe names.

    Raises:
        InputError: no such scheme, or a threshold for more than two classes.
    """
    if name not in SCHEMES:
        raise unknown_name("label scheme", name, SCHEMES)
    scheme = SCHEMES[name]
    if threshold is None:
        return scheme
    if len(scheme.classes) != 2:
        raise InputError(
            f"dataset.threshold is for two classes; the label scheme {name!r} has "
            f"{len(scheme.classes)}. Remove it or use bin_neg, bin_neu or bin_pos."
        )
    return LabelScheme(scheme.name, scheme.classes, scheme.meanings, threshold)


def scheme_for_classes(classes: Sequence[str], threshold: float | None = None) -> LabelScheme:
    """Return the scheme of a model made elsewhere, its classes in the given (logit) order.

    Classes of a known scheme, in any order and case, mean what they mean there; others mean
    themselves.

    Raises:
        InputError: a threshold for more than two classes.
    """
    names = tuple(name.strip() for name in classes)
    folded = tuple(name.casefold() for name in names)
    if threshold is not None and len(names) != 2:
        raise InputError(f"A threshold is for two classes; the model has {len(names)}.")
    for scheme in SCHEMES.values():
        if sorted(folded) == sorted(scheme.classes):
            return LabelScheme(scheme.name, folded, scheme.meanings, threshold)
    meanings = dict(zip(folded, names, strict=True))
    return LabelScheme(OWN, names, meanings, threshold, ordered=False)
