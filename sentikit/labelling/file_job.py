"""The job of `predict`, which labels a file or a pipe and can resume jobs with LLMs."""

from __future__ import annotations

import io
import os
import select
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.classifiers.classifier import Classifier, Example, Session, asks_llms
from sentikit.datasets.rows import Rows
from sentikit.datasets.tables import InputFile
from sentikit.errors import InputError
from sentikit.labelling.rows import LabellingOptions, predicted
from sentikit.labelling.table_writer import AddedColumns, TableWriter, open_table
from sentikit.runs.writer import Row
from sentikit.stopping import Interrupted
from sentikit.terminal import LiveBar

if TYPE_CHECKING:
    from sentikit.llm.requests.journal import AnswerJournal

#: Seconds between two updates of the progress bar.
_SHOWN_EVERY = 0.2
#: Seconds without input after which the rows so far are answered.
_PAUSE = 0.05


@dataclass(frozen=True)
class FileRows:
    """The rows of a table for a job; each iteration starts at the first row, except for a pipe."""

    source: InputFile
    opened: Rows

    def __iter__(self) -> Iterator[Row]:
        rows = self.opened if self.source.piped else self.source.open()
        text = self.source.reader(rows)
        with rows:
            for where, row in rows:
                yield Row(Example(text(where, row), columns=row))

    @property
    def pauses(self) -> Callable[[], bool] | None:
        """Whether a pipe has no further row for a moment; None for a file, which never pauses."""
        return self._pauses if self.source.piped else None

    def _pauses(self) -> bool:
        stream: object = sys.stdin.buffer
        # Windows cannot tell.
        if not isinstance(stream, io.BufferedReader) or sys.platform == "win32":
            return False
        descriptor = stream.fileno()
        if select.select([descriptor], [], [], 0)[0]:
            return False
        # No data is waiting, but whole lines may be in the buffer.
        os.set_blocking(descriptor, False)
        try:
            if b"\n" in stream.peek():
                return False
        finally:
            os.set_blocking(descriptor, True)
        return not select.select([descriptor], [], [], _PAUSE)[0]


def label_file(
    classifier: Classifier,
    source: InputFile,
    rows: Rows,
    output: Path | None,
    kind: str,
    options: LabellingOptions,
    spreadsheet_safe: bool = False,
) -> TableWriter:
    """Label the open table `rows` into a file, or standard output if `output` is None.

    `kind` is csv, tsv, jsonl or parquet; `spreadsheet_safe` as for `open_table`.
    """
    asks = asks_llms(classifier)
    added = AddedColumns.of(classifier)
    table = open_table(output, kind, rows.columns, added, spreadsheet_safe)
    given = FileRows(source, rows)
    if source.piped and output is None and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    state = None
    with table as writer:
        if asks:
            state = _label_by_llms(classifier, given, output, options, writer)
        else:
            try:
                _label_free(classifier, given, options, writer)
            except Interrupted as stopped:
                stopped.resumable = False
                raise
    # The file exists only now.
    if state and not writer.totals.failed:
        state.end()
    return writer


def _label_free(
    classifier: Classifier, given: FileRows, options: LabellingOptions, writer: TableWriter
) -> None:
    """Label rows without an LLM, and without importing the code for LLMs."""
    session = Session()
    session.stop_requested = options.stop_requested
    classifier.prepare(session)
    with LiveBar() as bar:
        bar.update(0, given.source.count())
        shown = 0.0
        for number, (row, prediction) in enumerate(predicted(classifier, given, session), 1):
            writer.add(row.example, row.gold, prediction)
            if (now := time.monotonic()) - shown > _SHOWN_EVERY:
                bar.update(number)
                shown = now


def _label_by_llms(
    classifier: Classifier,
    given: FileRows,
    output: Path | None,
    options: LabellingOptions,
    writer: TableWriter,
) -> _State | None:
    from sentikit.labelling.job import label_rows, say_estimate
    from sentikit.llm.requests.progress import RequestReporter
    from sentikit.llm.session import RequestSession
    from sentikit.llm.settings import Limits

    source, total, cache = given.source, given.source.count(), cache_of(classifier)
    state = _State(cache, output, source, classifier) if output else None
    identity = state.resumed() if state and options.resume else uuid.uuid4().hex
    reporter = RequestReporter(total)
    batches = cache.with_name(f"batches-{identity[:12]}") if options.batch else None
    limits = Limits(options.max_cost, options.failure_limit, total)
    session = RequestSession(identity, cache, limits, reporter, options.stop_requested, batches)
    with session:
        classifier.prepare(session)
        if total is not None:
            say_estimate(classifier, given, total, session, options.batch)
        if state:
            state.begin(identity)
        with reporter:
            try:
                label_rows(classifier, given, writer.add, session)
            except Interrupted as stopped:
                stopped.resumable = state is not None
                raise
        if not writer.totals.failed:
            session.forget()
    return state


def cache_of(*classifiers: Classifier) -> Path:
    """Return the file of answers that the recipe of an LLM names, or the default one."""
    from sentikit.llm.classifier import DEFAULT_CACHE, language_models

    models = [model for one in classifiers for model in language_models(one)]
    named = (model.components.llm_options.cache for model in models)
    return next((path for path in named if path is not None), DEFAULT_CACHE)


class _State:
    """The settings of a job in the answer journal, from which it resumes."""

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
                f"There is nothing to resume: {self._output} is finished or was never begun "
                f"(according to {self._cache}). Leave out --resume."
            )
        from sentikit.labelling.job import other_settings
        from sentikit.recipe.resolving import differing_keys

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
        from sentikit.llm.requests.journal import AnswerJournal

        with AnswerJournal(self._cache) as journal:
            return use(journal)
