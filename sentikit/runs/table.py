"""A run as columns: what was asked, what is right, what was answered, at what cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentikit.datasets.examples import Examples
from sentikit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Labelling:
    """What one classifier says of every row.

    Attributes:
        labels: class numbers, (rows,); -1 where the answer is invalid or missing.
        probabilities: (rows, classes), a row of NaN where unknown; None where all are.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None = None

    def select(self, rows: NDArray[np.int64]) -> Labelling:
        """Return some rows, in the order given."""
        chosen = None if self.probabilities is None else self.probabilities[rows]
        return Labelling(self.labels[rows], chosen)

    def in_classes(self, own: Sequence[str], wanted: Sequence[str]) -> Labelling:
        """Return it with the same classes in another order."""
        order = [own.index(label) for label in wanted]
        shares = None if self.probabilities is None else self.probabilities[:, order]
        return Labelling(_renumbered(self.labels, own, wanted), shares)


@dataclass(frozen=True, repr=False)
class RunTable:
    """A finished run, or a results file, row by row.

    Attributes:
        name: as the user gave it.
        classes: what class numbers stand for.
        examples: ids, texts, gold labels as class names, sources.
        gold: class numbers, (rows,); -1 where unknown.
        answers: labels and probabilities.
        opinion: what the encoder said that the LLM was shown, or None.
        raw: the LLM's answers as they came (strings, null where there is none), or None.
        cost: USD of each row, NaN where unknown; None where all are.
        tokens: prompt, cached and completion tokens, (rows, 3); None where unknown.
        has_texts: False for a results file with ids alone; its texts are empty.
        manifest: of a run; empty for a file.
        ordered: whether the classes stand in an order, as stars do.
    """

    name: str
    classes: tuple[str, ...]
    examples: Examples
    gold: NDArray[np.int64]
    answers: Labelling
    opinion: Labelling | None = None
    raw: pa.Array | None = None
    cost: NDArray[np.float64] | None = None
    tokens: NDArray[np.int64] | None = None
    has_texts: bool = True
    manifest: Mapping[str, Any] = field(default_factory=dict)
    ordered: bool = False

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def invalid(self) -> int:
        """How many answers are invalid."""
        return int((self.answers.labels < 0).sum())

    def of_encoder(self, name: str) -> RunTable:
        """Return the encoder's recorded opinion as a run of its own.

        Raises:
            InputError: none is recorded.
        """
        if self.opinion is None:
            raise InputError(
                f"{self.name} holds no encoder's opinion: it is not an augmented run, or its "
                f"columns do not show one. Leave #encoder out."
            )
        return dataclasses.replace(
            self,
            name=name,
            answers=self.opinion,
            opinion=None,
            raw=None,
            cost=None,
            tokens=None,
            manifest={},
        )

    def in_classes(self, classes: tuple[str, ...], reference: str) -> RunTable:
        """Return it with its classes in another order.

        Args:
            classes: the order.
            reference: whose they are.

        Raises:
            InputError: they are other classes.
        """
        own = self.classes
        if own == classes:
            return self
        if sorted(own) != sorted(classes):
            raise InputError(
                f"{self.name} has the classes {', '.join(own)}; {reference} has "
                f"{', '.join(classes)}. Runs go together only over the same classes."
            )
        return dataclasses.replace(
            self,
            classes=classes,
            gold=_renumbered(self.gold, own, classes),
            answers=self.answers.in_classes(own, classes),
            opinion=None if self.opinion is None else self.opinion.in_classes(own, classes),
            ordered=self.ordered and classes == own[::-1],
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a table of pandas with a row for each example.

        Its columns are id, text, gold, label, source, and where they are known ``p CLASS`` with the
        probability of each class, and cost in USD.
        """
        import pandas as pd

        examples = self.examples
        names = np.array([*self.classes, None], object)
        columns: dict[str, Any] = {"id": examples.ids, "text": examples.texts}
        columns |= {"gold": names[self.gold], "label": names[self.answers.labels]}
        columns["source"] = examples.sources
        if self.answers.probabilities is not None:
            shares = zip(self.classes, self.answers.probabilities.T, strict=True)
            columns |= {f"p {name}": own for name, own in shares}
        return pd.DataFrame(columns | ({} if self.cost is None else {"cost": self.cost}))

    def __repr__(self) -> str:
        return f"<RunTable {self.name}: {len(self):,} texts>"

    def _repr_html_(self) -> str:
        from markupsafe import escape

        known = self.gold >= 0
        facts = f"{len(self):,} texts"
        if known.any():
            right = (self.answers.labels == self.gold)[known].mean()
            facts += f", accuracy {right:.4f} on {int(known.sum()):,} with a gold label"
        frame = self.select(np.arange(min(10, len(self)))).to_frame()
        return f"<h4>{escape(self.name)}</h4><p>{facts}</p>{frame.to_html(border=0)}"

    def select(self, rows: NDArray[np.int64]) -> RunTable:
        """Return some rows, in the order given."""
        return dataclasses.replace(
            self,
            examples=self.examples.select(rows),
            gold=self.gold[rows],
            answers=self.answers.select(rows),
            opinion=None if self.opinion is None else self.opinion.select(rows),
            raw=None if self.raw is None else self.raw.take(pa.array(rows)),
            cost=None if self.cost is None else self.cost[rows],
            tokens=None if self.tokens is None else self.tokens[rows],
        )


def _renumbered(
    numbers: NDArray[np.int64], own: Sequence[str], wanted: Sequence[str]
) -> NDArray[np.int64]:
    """Return class numbers as another order of the classes has them; -1 stays."""
    places = np.array([*(wanted.index(label) for label in own), -1], np.int64)
    return places[numbers]


def class_numbers(names: pa.Array, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the class number of each name, -1 where it is null or no class."""
    import pyarrow.compute as pc

    found = pc.index_in(names, value_set=pa.array(classes, names.type))
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)
