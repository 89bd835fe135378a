"""The summary of a labelled table: its rows, the shares of its labels, and doubtful texts."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sentikit.classifiers.classifier import Classifier
from sentikit.labelling.table_writer import TableWriter, kind_of
from sentikit.terminal import usd_text

if TYPE_CHECKING:
    from sentikit.classifiers.encoder_classifier import EncoderClassifier

#: Number of labels whose shares are shown.
_MOST_SHARES = 6


@dataclass
class TableSummary:
    """Counts of a labelled table or of a part of it.

    Attributes:
        labelled: class to the number of rows with its label.
        counts: rows by what is said of them.
        cut: what was ignored of texts that are too long, to the number of texts.
        paid: USD paid for LLMs; None once an amount is unknown.
    """

    labelled: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    paid: float | None = 0.0

    @classmethod
    def of(cls, table: TableWriter, classifier: Classifier) -> Self:
        """Return the summary of the rows that a writer and its classifier counted."""
        totals, cut = table.totals, Counter[str]()
        names = ("rows", "without_text", "answers", "invalid", "misread", "failed")
        counts = Counter({name: getattr(totals, name) for name in names})
        counts["without_words"] = table.without_words
        for encoder in encoders(classifier):
            left = "middle" if encoder.long_texts == "head_tail" else "end"
            cut[f"more than {encoder.max_length} word pieces; the {left}"] += encoder.cut
            counts["unknown"] += encoder.unknown
        return cls(Counter(table.labelled), counts, cut, totals.paid)

    def lines(
        self, output: Path | None, kind: str | None = None, text_columns: Sequence[str] = ()
    ) -> list[str]:
        """Return the sentences about all rows but the failed ones.

        Args:
            output: the table's path.
            kind: its format, if that is not told by its name.
            text_columns: the columns of its texts that the user named.
        """
        table = "LABELLED" if output is None else shlex.quote(str(output))
        if output is not None and kind is not None and kind_of(output) != kind:
            table += f" --input-format {kind}"
        table += "".join(f" --text-column {shlex.quote(column)}" for column in text_columns)
        lines = self._shares(table)
        if empty := self.counts["without_text"]:
            rows_have = "1 row has" if empty == 1 else f"{empty:,} rows have"
            lines.append(f"{rows_have} no text and got no label.")
        lines += [
            f"{_texts(count)} {what} was ignored." for what, count in self.cut.items() if count
        ]
        if unknown := self.counts["unknown"]:
            lines.append(
                f"{_texts(unknown)} mostly characters that the model does not know; their labels "
                "are unreliable."
            )
        if answers := self.counts["answers"]:
            texts = self.counts["rows"] - self.counts["without_text"]
            cost = "an unknown amount" if self.paid is None else f"${usd_text(self.paid)}"
            lines.append(f"{answers:,} of {texts:,} rows answered by an LLM, {cost} paid.")
        if misread := self.counts["misread"]:
            lines.append(
                f"{misread:,} rows have no label, because the answer has none (see error)."
            )
        return lines

    def failed(self) -> str:
        """Return the beginning of the sentence about failed rows."""
        failed, without = self.counts["failed"], self.counts["invalid"] - self.counts["misread"]
        rows_have = "1 row has" if failed == 1 else f"{failed:,} rows have"
        label = " and no label" if without == failed else f", {without:,} without a label"
        return f"{rows_have} failed{label} (see error)."

    def _shares(self, table: str) -> list[str]:
        """Return the number of rows, the shares of the labels, and how to correct them."""
        count, words = sum(self.labelled.values()), self.counts["without_words"]
        counts = f"{count:,} of {self.counts['rows']:,} rows labelled"
        counts += f", {words:,} of them without words" if words else ""
        if not count:
            return [f"{counts}."]
        most = sorted(self.labelled, key=lambda label: -self.labelled[label])[:_MOST_SHARES]
        shares = [f"{self.labelled[c] / count:.1%} {c}" for c in self.labelled if c in most]
        if len(self.labelled) > len(most):
            shares.append(f"{len(self.labelled) - len(most)} more")
        return [
            f"{counts}: {', '.join(shares)} (uncorrected).",
            "To correct the shares with checked texts: "
            f"sentikit estimate {table} --checked CHECKED.csv",
        ]


def encoders(classifier: Classifier) -> list[EncoderClassifier]:
    """Return the encoders among a classifier and its members."""
    from sentikit.classifiers.encoder_classifier import EncoderClassifier

    own = [classifier] if isinstance(classifier, EncoderClassifier) else []
    return own + [one for member in classifier.members.values() for one in encoders(member)]


def _texts(count: int) -> str:
    return "1 text has" if count == 1 else f"{count:,} texts have"
