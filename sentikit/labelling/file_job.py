"""The job of `predict`: a file or a pipe labelled into another file, resumable where it pays."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentikit.classifiers.classifier import Classifier, Example
from sentikit.datasets.rows import Rows
from sentikit.datasets.tables import InputFile
from sentikit.errors import InputError
from sentikit.labelling.job import LabellingOptions, label, other_settings, say_estimate
from sentikit.labelling.table_writer import AddedColumns, TableWriter, open_table
from sentikit.llm.classifier import DEFAULT_CACHE, language_models
from sentikit.llm.requests.journal import AnswerJournal
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.session import RequestSession
from sentikit.llm.settings import Limits
from sentikit.recipe.resolving import differing_keys
from sentikit.runs.writer import Row
from sentikit.stopping import Interrupted


@dataclass(frozen=True)
class FileRows:
    """The rows of an open table as a job reads them, from the first each time."""

    source: InputFile
    opened: Rows

    def __iter__(self) -> Iterator[Row]:
        rows = self.opened if self.source.piped else self.source.open()
        text = self.source.reader(rows)
        with rows:
            for where, row in rows:
                yield Row(Example(text(where, row), columns=row))


def label_file(
    classifier: Classifier,
    source: InputFile,
    rows: Rows,
    output: Path | None,
    kind: str,
    options: LabellingOptions,
    spreadsheet_safe: bool = False,
) -> TableWriter:
    """Label a table, open as `rows`, into a file or, where `output` is None, standard output.

    `kind` is csv, tsv, jsonl or parquet; `spreadsheet_safe` as for `open_table`.
    """
    models, cache = language_models(classifier), cache_of(classifier)
    _check_options(source, output, models, options)
    total = None if source.piped else source.count()
    state = _State(cache, output, source, classifier) if models and output else None
    identity = state.resumed() if state and options.resume else uuid.uuid4().hex
    reporter = RequestReporter(total)
    batches = cache.with_name(f"batches-{identity[:12]}") if options.batch else None
    limits = Limits(options.max_cost, options.failure_limit, total)
    session = RequestSession(identity, cache, limits, reporter, options.stop_requested, batches)
    given = FileRows(source, rows)
    with ExitStack() as stack:
        added = AddedColumns.of(classifier)
        table = open_table(output, kind, rows.columns, added, spreadsheet_safe)
        writer = stack.enter_context(table)
        stack.enter_context(session)
        classifier.prepare(session)
        if models and total is not None:
            say_estimate(classifier, given, total, session, options.batch)
        if state:
            state.begin(identity)
        with reporter:
            try:
                label(classifier, given, writer.add, session)
            except Interrupted as stopped:
                stopped.resumable = state is not None
                raise
        if not writer.totals.failed:
            session.forget()
    if state and not writer.totals.failed:
        state.end()
    return writer


def cache_of(classifier: Classifier) -> Path:
    named = (model.parts.llm_options.cache for model in language_models(classifier))
    return next((path for path in named if path is not None), DEFAULT_CACHE)


def _check_options(
    source: InputFile, output: Path | None, models: Sequence[Any], options: LabellingOptions
) -> None:
    """Refuse options that a pipe, standard output or a free classifier cannot have."""
    if options.resume and output is None:
        raise InputError("--resume needs --output: what went to standard output is not kept.")
    if options.resume and not models:
        raise InputError(
            "There is nothing to resume: this classifier asks no LLM, and nothing of it is kept. "
            "Leave --resume out."
        )
    if source.piped and options.batch:
        raise InputError("--batch reads the texts several times. Save them in a file and name it.")
    if options.batch and not models:
        raise InputError("--batch is for LLMs; this classifier asks none. Leave it out.")


class _State:
    """What the journal keeps of a job, so that it can be resumed."""

    def __init__(
        self, cache: Path, output: Path, source: InputFile, classifier: Classifier
    ) -> None:
        self._cache, self._output = cache, output
        self._key = f"predict {output.resolve()}"
        self._settings = {"classifier": classifier.describe(), **source.describe()}

    def resumed(self) -> str:
        kept = self._with_journal(lambda j: j.recall(self._key)) if self._cache.exists() else None
        if kept is None:
            raise InputError(
                f"There is nothing to resume: {self._output} is finished, or was never begun "
                f"({self._cache} knows nothing of it). Leave --resume out."
            )
        changed = differing_keys(kept["settings"], self._settings)
        if changed:
            raise other_settings(self._output, changed)
        return str(kept["run"])

    def begin(self, identity: str) -> None:
        value = {"run": identity, "settings": self._settings}
        self._with_journal(lambda j: j.remember(self._key, value))

    def end(self) -> None:
        self._with_journal(lambda j: j.forget(self._key))

    def _with_journal(self, use: Callable[[AnswerJournal], Any]) -> Any:
        with AnswerJournal(self._cache) as journal:
            return use(journal)
