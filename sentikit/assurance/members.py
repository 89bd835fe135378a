"""Members that label a pile: their answers under one budget, and one confidence from several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentikit.assurance.checked import Check
from sentikit.assurance.pile import Labels, Pile
from sentikit.classifiers.classifier import Classifier, Example
from sentikit.classifiers.prediction import Prediction
from sentikit.errors import InputError
from sentikit.labelling.file_job import FileRows
from sentikit.labelling.job import LabellingOptions, label, say_estimate
from sentikit.llm.classifier import DEFAULT_CACHE, language_models
from sentikit.llm.prices import usd
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.session import RequestSession
from sentikit.llm.settings import Limits
from sentikit.runs.writer import Row

#: How often a label without probabilities is assumed to be right. Chosen, as the weight 1 of the
#: log-probabilities, on validation predictions: ELECTRA Large's probabilities with Base's labels.
ASSUMED_ACCURACY = 0.8
_LEAST_PROBABILITY = 1e-12
#: Rows combined at a time, so that memory stays flat.
_PIECE = 100_000

Floats = NDArray[np.float64]
Combination = Callable[[Sequence[ArrayLike]], Floats]


def combine(members: Sequence[ArrayLike], assumed_accuracy: float = ASSUMED_ACCURACY) -> Floats:
    """Return probabilities, (rows, classes), from what several members say, without any labels.

    The product of the members' probabilities, scaled to 1 in each row (naive Bayes under equal
    class shares). A member's row that is one-hot, as of an LLM without log-probabilities, counts
    as right with `assumed_accuracy`, else as any other class; a row of NaN, where a member has no
    answer, counts for nothing.

    Args:
        members: of each, (rows, classes).
        assumed_accuracy: of a one-hot row.

    Raises:
        InputError: there is no member, or their shapes differ.
    """
    tables = [np.asarray(member, np.float64) for member in members]
    if not tables or any(t.ndim != 2 or t.shape != tables[0].shape for t in tables):
        raise InputError("Members are combined row by row: all need the same rows and classes.")
    total = np.zeros(tables[0].shape)
    for table in tables:
        total += _log_likelihood(table, assumed_accuracy)
    exponents = np.exp(total - total.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def _log_likelihood(table: Floats, accuracy: float) -> Floats:
    others = (1 - accuracy) / max(1, table.shape[1] - 1)
    ordered = np.sort(table, axis=1)
    one_hot = (ordered[:, -1:] == 1) & (ordered[:, -2:-1] == 0)
    softened = np.where(one_hot, np.where(table == 1, accuracy, others), table)
    logs = np.log(np.maximum(softened, _LEAST_PROBABILITY))
    return np.where(np.isnan(table).any(axis=1, keepdims=True), 0.0, logs)


class FittedCombination:
    """A combination fitted on labels: multinomial logistic regression on the members' answers.

    The labels must not be those that certify: they are spent.
    """

    def __init__(self, members: Sequence[ArrayLike], labels: ArrayLike) -> None:
        from sklearn.linear_model import LogisticRegression

        truth = np.asarray(labels, np.int64)
        self.classes = np.asarray(members[0]).shape[1]
        if len(np.unique(truth)) < 2:
            raise InputError("A combination is fitted on labels of at least two classes.")
        self.labels_used = len(truth)
        self._model = LogisticRegression(max_iter=1000).fit(_features(members), truth)

    def __call__(self, members: Sequence[ArrayLike]) -> Floats:
        """Return probabilities, (rows, classes); a class never seen in fitting gets 0."""
        found = np.zeros((len(np.asarray(members[0])), self.classes))
        found[:, self._model.classes_] = self._model.predict_proba(_features(members))
        return found


def _features(members: Sequence[ArrayLike]) -> Floats:
    columns = []
    for member in members:
        table = np.asarray(member, np.float64)
        known = ~np.isnan(table).any(axis=1, keepdims=True)
        columns.append(np.where(known, np.log(np.clip(table, 1e-6, 1)) / 7, 0.0))
    return np.hstack(columns)


class Answers:
    """A member's answers about a pile, or about some of its rows: a sink of the labelling job.

    Attributes:
        labels: of the rows; none where nothing was asked or answered.
        paid: USD that the answers were billed; None: unknown.
        cost: USD that they cost when they were first paid; None: unknown.
    """

    def __init__(self, rows: int, classes: tuple[str, ...], only: NDArray[np.int64] | None) -> None:
        table = np.full((rows, len(classes)), np.nan, np.float32)
        self.labels = Labels(classes, np.full(rows, -1, np.int16), np.full(rows, np.nan), table)
        self.paid: float | None = 0.0
        self.cost: float | None = 0.0
        self._places: Iterator[int] = iter(range(rows) if only is None else only.tolist())

    def add(self, example: Example, gold: str | None, prediction: Prediction) -> None:
        """Take in the next row's prediction."""
        place, labels = next(self._places), self.labels
        self.paid, self.cost = _sum(self.paid, prediction.paid), _sum(self.cost, prediction.cost)
        if prediction.label is None or not example.text.strip():
            return
        number = labels.classes.index(prediction.label)
        labels.labels[place] = number
        if prediction.probabilities is not None:
            labels.probabilities[place] = [prediction.probabilities[c] for c in labels.classes]
        else:
            labels.probabilities[place] = np.arange(len(labels.classes)) == number
        sure = prediction.certainty
        labels.confidence[place] = ASSUMED_ACCURACY if sure is None else sure


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


class PileJob:
    """Puts a pile through classifiers with one journal and one budget; use as a context manager.

    All are made ready, and what their LLMs cost is estimated, before any is asked. Paid answers are
    kept in the journal of the working folder: labelling again after a kill pays for none twice.

    Attributes:
        costs: USD that each classifier's answers were billed by this job, by name; None: unknown.
    """

    def __init__(
        self, pile: Pile, classifiers: Mapping[str, Classifier], options: LabellingOptions
    ) -> None:
        self.pile, self._classifiers = pile, classifiers
        self.costs: dict[str, float | None] = {}
        self._fitting: dict[str, float | None] = {}
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
        with self.pile.source.open() as opened:
            wanted = np.ones(self.pile.rows, np.bool_)
            if only is not None:
                wanted[:] = False
                wanted[only] = True
            rows = compress(FileRows(self.pile.source, opened), wanted)
            answers = self._ask(name, rows, self.pile.rows, only)
        # Earlier answers about these rows are in the journal, and counted once more here.
        self.costs[name] = _sum(self._fitting.get(name, 0.0), answers.paid)
        return answers

    def fit(self, members: Sequence[str], checks: Sequence[Check]) -> FittedCombination:
        """Put labelled texts through the members, and fit how their answers combine.

        Raises:
            InputError: members' classes differ, or the labels are of one class.
        """
        texts = [Row(Example(check.text)) for check in checks]
        answers = {name: self._ask(name, iter(texts), len(texts), None) for name in members}
        self._fitting = {name: one.paid for name, one in answers.items()}
        found = [one.labels for one in answers.values()]
        classes = found[0].classes
        truth = [classes.index(check.label or "") for check in checks]
        return FittedCombination(_tables(found, slice(None)), truth)

    def _ask(
        self, name: str, given: Iterator[Row], rows: int, only: NDArray[np.int64] | None
    ) -> Answers:
        classifier, session = self._classifiers[name], self._session
        session.reporter = RequestReporter(rows if only is None else len(only))
        for member in session.members:
            member.begin()
        answers = Answers(rows, classifier.labels, only)
        with session.reporter:
            label(classifier, given, answers.add, session)
        return answers

    @property
    def paid(self) -> float | None:
        """USD that this job paid, calls that were lost at their worst; None: unknown."""
        if not self._session.members:
            return 0.0
        spent = self._session.spent
        return None if spent is None else usd(spent)


def combined(members: Sequence[Labels], rule: Combination = combine) -> Labels:
    """Return the labels that members give together; one member's own where there is one.

    Raises:
        InputError: their classes differ.
    """
    if len(members) == 1:
        return members[0]
    classes = members[0].classes
    table = np.empty_like(members[0].probabilities)
    for start in range(0, len(table), _PIECE):
        piece = slice(start, start + _PIECE)
        said = _tables(members, piece)
        joined = rule(said)
        joined[np.stack([np.isnan(one).any(axis=1) for one in said]).all(axis=0)] = np.nan
        table[piece] = joined
    silent: NDArray[np.bool_] = np.asarray(np.isnan(table).any(axis=1))
    known = np.nan_to_num(table)
    labels = np.where(silent, -1, known.argmax(axis=1)).astype(np.int16)
    confidence = np.where(silent, np.nan, known.max(axis=1)).astype(np.float64)
    return Labels(classes, labels, confidence, table)


def _tables(members: Sequence[Labels], piece: slice) -> list[NDArray[np.float32]]:
    """Return members' probabilities of some rows, with their classes in the first one's order."""
    classes = members[0].classes
    for other in members[1:]:
        if set(other.classes) != set(classes):
            raise InputError(
                f"--with: members label with the same classes. One has {', '.join(classes)}, "
                f"another {', '.join(other.classes)}."
            )
    return [m.probabilities[piece][:, [m.classes.index(c) for c in classes]] for m in members]
