"""A pile: a table of texts, what classifiers say of each row, and the labelled table."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sentikit.assurance.combination import combine
from sentikit.classifiers.classifier import Classifier, Example
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.rows import Rows
from sentikit.datasets.tables import InputFile
from sentikit.errors import InputError
from sentikit.labelling.file_job import FileRows
from sentikit.labelling.job import LabellingOptions, label, say_estimate
from sentikit.labelling.table_writer import AddedColumns, open_table
from sentikit.llm.classifier import DEFAULT_CACHE, language_models
from sentikit.llm.prices import usd
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.session import Limits, RequestSession

CONFIDENCE, STATUS = "confidence", "status"
CERTIFIED, REVIEW = "certified", "review"
#: In a review queue, the row of the pile, from 0.
PILE_ROW = "row"
#: Rows whose words are counted, and the common words that are kept.
_ALL_ROWS, _EVERY, _COMMON = 20_000, 50, 2000
_WORD = re.compile(r"\w+")
#: Rows of a review queue: more than anybody reads.
MOST_QUEUED = 10_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pile:
    """What one pass over a pile finds.

    Attributes:
        source: the file.
        rows: how many there are.
        fingerprint: of all texts in their order.
        duplicates: rows whose text an earlier row has.
        places: of the wanted texts, their rows.
        by_id: of the wanted ids, their row.
        language: what its texts look like, for a later comparison.
    """

    source: InputFile
    rows: int
    fingerprint: str
    duplicates: int
    places: Mapping[str, Sequence[int]]
    by_id: Mapping[str, int]
    language: Language


@dataclass
class Language:
    """Lengths and words of some rows of a pile: all at first, later every fiftieth.

    Attributes:
        lengths: in characters.
        words: how often each word occurs.
    """

    lengths: list[int] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)

    def add(self, number: int, text: str) -> None:
        """Take in a row."""
        if number < _ALL_ROWS or not number % _EVERY:
            self.lengths.append(len(text))
            self.words.update(_WORD.findall(text.lower()))

    def reference(self) -> dict[str, Any]:
        """Return what a later pile is compared with."""
        common = [word for word, _ in self.words.most_common(_COMMON)]
        total = self.words.total()
        unknown = total - sum(self.words[word] for word in common)
        step = max(1, len(self.lengths) // _COMMON)
        return {
            "length": sorted(self.lengths[::step]),
            "words": common,
            "unknown_words": unknown,
            "all_words": total,
        }


def scan_pile(source: InputFile, texts: Collection[str] = (), ids: Collection[str] = ()) -> Pile:
    """Read a pile once, in memory that grows by eight bytes a row.

    Raises:
        InputError: it cannot be read, or holds no rows.
    """
    wanted, known = frozenset(texts), frozenset(ids)
    places: dict[str, list[int]] = {}
    by_id: dict[str, int] = {}
    whole, hashes, number, language = hashlib.sha256(), [], 0, Language()
    with source.open() as rows:
        text_of = source.reader(rows)
        has_ids = "id" in rows.columns
        for number, (where, row) in enumerate(rows, 1):
            text = text_of(where, row)
            digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
            whole.update(digest)
            language.add(number - 1, text)
            hashes.append(int.from_bytes(digest, "little"))
            if text in wanted:
                places.setdefault(text, []).append(number - 1)
            if has_ids and known and (identifier := _text(row.get("id"))) in known:
                by_id.setdefault(identifier, number - 1)
    distinct = len(np.unique(np.array(hashes, np.uint64)))
    fingerprint = whole.hexdigest()[:16]
    return Pile(source, number, fingerprint, number - distinct, places, by_id, language)


@dataclass
class Answers:
    """What a classifier says of every row: a sink of the labelling job.

    Attributes:
        probabilities: (rows, classes); one-hot where there are none, NaN where there is no label.
        labels: class numbers; -1 where there is none.
        confidence: of the label; NaN where there is none.
        paid: USD, None where a price is unknown.
        asked: rows that an LLM was asked about.
        has_probabilities: whether any row has.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int16]
    confidence: Floats
    classes: tuple[str, ...]
    rows: NDArray[np.int64] | None = None
    paid: float | None = 0.0
    cost: float | None = 0.0
    asked: int = 0
    failed: int = 0
    has_probabilities: bool = False

    @classmethod
    def empty(
        cls, rows: int, classes: tuple[str, ...], only: NDArray[np.int64] | None = None
    ) -> Answers:
        """Return answers to be filled in; `only`: the rows that will be asked about, in order."""
        table = np.full((rows, len(classes)), np.nan, np.float32)
        return cls(table, np.full(rows, -1, np.int16), np.full(rows, np.nan), classes, only)

    def add(self, example: Example, gold: str | None, prediction: Prediction) -> None:
        """Take the next row's prediction."""
        place = self.asked if self.rows is None else int(self.rows[self.asked])
        self.asked += 1
        self.paid = _sum(self.paid, prediction.paid)
        self.cost = _sum(self.cost, prediction.cost)
        self.failed += prediction.error is not None
        if prediction.label is None or not example.text.strip():
            return
        number = self.classes.index(prediction.label)
        self.labels[place] = number
        if prediction.probabilities is not None:
            self.has_probabilities = True
            self.probabilities[place] = [prediction.probabilities[c] for c in self.classes]
        else:
            self.probabilities[place] = np.eye(len(self.classes))[number]
        sure = prediction.certainty
        self.confidence[place] = 1.0 if sure is None else sure


class PileJob:
    """Puts a pile through classifiers with one journal and one budget; use as a context manager.

    Paid answers are kept in the journal of the working folder: labelling again after a kill pays
    for none of them twice.

    Args:
        pile: the rows.
        classifiers: all that will be asked, by name; made ready, and what their LLMs cost for all
            rows is estimated, before any is asked.
        options: budget, and what the user may stop.

    Attributes:
        pile: the same.
        costs: USD that each classifier's answers were billed by this job, by name; None: unknown.
    """

    def __init__(
        self, pile: Pile, classifiers: Mapping[str, Classifier], options: LabellingOptions
    ) -> None:
        self.pile, self._classifiers = pile, classifiers
        self.costs: dict[str, float | None] = {}
        described = {name: one.describe() for name, one in classifiers.items()}
        text = json.dumps([described, pile.fingerprint], sort_keys=True, default=str)
        models = [m for one in classifiers.values() for m in language_models(one)]
        named = (model.parts.llm_options.cache for model in models)
        self._session = RequestSession(
            hashlib.sha256(text.encode()).hexdigest()[:32],
            next((path for path in named if path is not None), DEFAULT_CACHE),
            Limits(options.max_cost, options.failure_limit, pile.rows),
            stop_requested=options.stop_requested,
        )

    def __enter__(self) -> Self:
        self._session.__enter__()
        try:
            for classifier in self._classifiers.values():
                classifier.prepare(self._session)
            for classifier in filter(language_models, self._classifiers.values()):
                # Before the first question: an estimate opens and closes backends itself.
                with self.pile.source.open() as opened:
                    rows = FileRows(self.pile.source, opened)
                    say_estimate(classifier, rows, self.pile.rows, self._session)
        except BaseException:
            self._session.close()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self._session.close()

    def ask(self, name: str, only: NDArray[np.int64] | None = None) -> Answers:
        """Put the pile, or some of its rows in ascending order, through a classifier.

        Raises:
            Interrupted: the user asked to stop.
            SentikitError: an outage, no money left; paid answers are kept.
        """
        classifier, session, source = self._classifiers[name], self._session, self.pile.source
        total = self.pile.rows if only is None else len(only)
        session.reporter = RequestReporter(total)
        for member in session.members:
            member.begin()
        answers = Answers.empty(self.pile.rows, classifier.labels, only)
        with source.open() as opened:
            given = _Some(FileRows(source, opened), only)
            with session.reporter:
                label(classifier, given, answers, session)
        self.costs[name] = answers.paid
        return answers

    @property
    def paid(self) -> float | None:
        """USD that this job paid, calls that were lost at their worst; None: unknown."""
        if not self._session.members:
            return 0.0
        spent = self._session.spent
        return None if spent is None else usd(spent)


@dataclass(frozen=True)
class _Some:
    """The rows to ask about, from the first each time."""

    rows: FileRows
    only: NDArray[np.int64] | None

    def __iter__(self) -> Any:
        if self.only is None:
            yield from self.rows
            return
        wanted = iter(self.only.tolist())
        next_row = next(wanted, None)
        for number, row in enumerate(self.rows):
            if number == next_row:
                yield row
                next_row = next(wanted, None)


@dataclass(frozen=True)
class Labels:
    """The labels of a pile.

    Attributes:
        classes: their names.
        labels: class numbers; -1 where there is none.
        confidence: NaN where there is no label.
        probabilities: (rows, classes).
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int16]
    confidence: Floats
    probabilities: NDArray[np.float32]


def combined(members: Sequence[Answers]) -> Labels:
    """Return the labels that members give together.

    Raises:
        InputError: their classes differ.
    """
    first = members[0]
    if len(members) == 1:
        return Labels(first.classes, first.labels, first.confidence, first.probabilities)
    for other in members[1:]:
        if set(other.classes) != set(first.classes):
            raise InputError(
                f"--with: members label with the same classes. One has "
                f"{', '.join(first.classes)}, another {', '.join(other.classes)}."
            )
    orders = [[member.classes.index(c) for c in first.classes] for member in members]
    table = np.empty_like(first.probabilities)
    for start in range(0, len(table), 100_000):  # in pieces: memory stays flat
        piece = slice(start, start + 100_000)
        said = [m.probabilities[piece][:, o] for m, o in zip(members, orders, strict=True)]
        joined = combine(said)
        joined[np.stack([np.isnan(one).any(axis=1) for one in said]).all(axis=0)] = np.nan
        table[piece] = joined
    silent: NDArray[np.bool_] = np.asarray(np.isnan(table).any(axis=1))
    known = np.nan_to_num(table)
    labels = np.where(silent, -1, known.argmax(axis=1))
    confidence = np.where(silent, np.nan, known.max(axis=1)).astype(np.float64)
    return Labels(first.classes, labels.astype(np.int16), confidence, table)


def write_labelled(
    source: InputFile, output: Path, kind: str, labels: Labels, status: Sequence[str] | None = None
) -> None:
    """Write the pile's table with label, probabilities, confidence and status.

    Args:
        source: the pile.
        output: the file.
        kind: csv, tsv, jsonl or parquet.
        labels: of its rows.
        status: of each row; None leaves the column out.

    Raises:
        InputError: the pile has a column of a name that is added.
    """
    added = [CONFIDENCE, *([STATUS] if status is not None else [])]
    with source.open() as rows:
        _refuse_taken(rows, added)
        text_of = source.reader(rows)
        with open_table(output, kind, [*rows.columns, *added], AddedColumns(labels.classes)) as out:
            for number, (where, row) in enumerate(rows):
                sure = float(labels.confidence[number])
                more: dict[str, Any] = {CONFIDENCE: None if np.isnan(sure) else round(sure, 6)}
                if status is not None:
                    more[STATUS] = status[number]
                example = Example(text_of(where, row), columns={**row, **more})
                out.add(example, None, prediction_of(labels, number))


def write_queue(
    source: InputFile,
    output: Path,
    kind: str,
    labels: Labels,
    status: Sequence[str],
    most: int = MOST_QUEUED,
) -> int:
    """Write the rows that are for review, least sure first, and return how many.

    The least sure are those whose labels a person most probably corrects.
    """
    waiting = np.flatnonzero(np.array(status) == REVIEW)
    sure = np.nan_to_num(labels.confidence[waiting], nan=-1.0)
    order = waiting[np.argsort(sure, kind="stable")][:most]
    wanted, kept = frozenset(order.tolist()), {}
    with source.open() as rows:
        _refuse_taken(rows, [CONFIDENCE, PILE_ROW])
        text_of = source.reader(rows)
        columns = [*rows.columns, PILE_ROW, CONFIDENCE]
        for number, (where, row) in enumerate(rows):
            if number in wanted:
                kept[number] = text_of(where, row), dict(row)
        with open_table(output, kind, columns, AddedColumns(labels.classes)) as out:
            for number in order.tolist():
                (text, row), sure_of = kept[number], float(labels.confidence[number])
                row |= {
                    PILE_ROW: number,
                    CONFIDENCE: None if np.isnan(sure_of) else round(sure_of, 6),
                }
                example = Example(text, columns=row)
                out.add(example, None, prediction_of(labels, number))
    return len(order)


def prediction_of(labels: Labels, number: int) -> Prediction:
    """Return what is said of a row."""
    said = int(labels.labels[number])
    if said < 0:
        return Prediction(None)
    shares = labels.probabilities[number].astype(float)
    known = None if np.isnan(shares).any() else dict(zip(labels.classes, shares, strict=True))
    return Prediction(labels.classes[said], known, float(labels.confidence[number]))


def _refuse_taken(rows: Rows, added: Sequence[str]) -> None:
    taken = [column for column in rows.columns if column in added]
    if taken:
        raise InputError(f"The pile already has a column {taken[0]!r}. Rename it first.")


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _text(value: Any) -> str:
    return "" if value is None else str(value)
