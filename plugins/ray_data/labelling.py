"""Parts of Parquet files labelled by Ray Data actors, each written once and kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit import InputError, SentikitError
from sentikit.extension import atomic_writer, spent_usd

from .labeller import Labeller

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows labelled together, and a row group of the output.
_BATCH = 8192
_JOB, _CACHE = "job.json", "answers.sqlite"
#: Key in the metadata of a part: how many of its rows failed.
_FAILED = b"sentikit.failed_rows"
#: Increments of a part's budget below this share of the whole are not worth a call.
_SMALLEST_SHARE = 1e-4


@dataclass(frozen=True)
class Job:
    """What is labelled, and how.

    Attributes:
        classifier: whatever `sentikit.load` takes.
        path: a Parquet file, or a folder of them.
        output: the folder of the parts.
        text_column: the column of the texts, or None.
        rows_per_part: rows of one output file.
        max_cost: USD of all workers together, or None.
        device: of every actor.
    """

    classifier: str
    path: Path
    output: Path
    text_column: str | None
    rows_per_part: int
    max_cost: float | None
    device: str


@dataclass(frozen=True)
class Component:
    """Rows of one input file that become one output file.

    Attributes:
        number: in the order of the input.
        file: the input.
        start: its first row.
        stop: the row behind its last.
    """

    number: int
    file: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The file name of the output."""
        return f"part-{self.number:06d}.parquet"


@dataclass(frozen=True)
class Done:
    """What a job came to.

    Attributes:
        rows: of all parts.
        parts: that were written, now or before.
        failed: rows that could not be labelled; asking again may help.
    """

    rows: int
    parts: int
    failed: int


def run(job: Job, workers: int, address: str | None, resume: bool) -> Done:
    """Label all parts.

    Raises:
        InputError: the input is not Parquet, or the output belongs to another job.
        SentikitError: a part failed, or the budget is spent; finished parts are kept.
    """
    parts = list(parts_of(job.path, job.rows_per_part))
    todo = _open_job(job, parts, resume)
    failed = 0
    if todo:
        with _cluster(address, workers):
            failed = _label(job, todo, workers)
    return Done(sum(part.stop - part.start for part in parts), len(parts), failed)


@contextmanager
def _cluster(address: str | None, workers: int) -> Iterator[None]:
    """Connect to a cluster, or start one that nothing beyond this machine can reach.

    No key is put into a runtime environment.

    Raises:
        SentikitError: the cluster cannot be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {}
    if address is None:
        # Read when Ray is imported: without clusters of several machines it stays on the loopback
        # address, which Ray replaces where it is merely given as the node's own.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # A node of this very process is not lost because the machine is busy.
        patient = {"health_check_timeout_ms": 60_000, "health_check_failure_threshold": 20}
        local = {"num_cpus": workers, "include_dashboard": False, "_system_config": patient}
    import ray
    from ray.exceptions import RayError

    try:
        ray.init(address=address or "local", log_to_driver=False, configure_logging=False, **local)
    except (RayError, ConnectionError, RuntimeError) as error:
        what = f"The cluster at {address} cannot be reached" if address else "Ray does not start"
        raise SentikitError(f"{what}: {str(error).splitlines()[-1]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def parts_of(path: Path, rows: int) -> Iterator[Component]:
    """Yield the parts of a Parquet file or of the files of a folder, in order.

    Raises:
        InputError: there is no Parquet there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .parquet file.")
    number = 0
    for file in files:
        try:
            total = pq.read_metadata(file).num_rows
        except FileNotFoundError as error:
            raise InputError(f"{file} does not exist.") from error
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{file} is not Parquet, which is all that Ray labels here. Write it as Parquet, "
                "or leave --on ray out."
            ) from error
        for start in range(0, total, rows):
            yield Component(number, str(file.resolve()), start, min(total, start + rows))
            number += 1


def _open_job(job: Job, parts: list[Component], resume: bool) -> list[Component]:
    """Return the parts to label, having checked that the folder is this job's.

    A part is labelled again where rows of it failed; what was answered is in the journal.

    Raises:
        InputError: the folder is taken, or was begun with other settings.
    """
    described = json.dumps(
        {key: str(value) for key, value in asdict(job).items() if key not in ("max_cost", "device")}
        | {"input": hashlib.sha256(repr(parts).encode()).hexdigest()},
        indent=2,
    )
    known = job.output / _JOB
    if not resume:
        if job.output.exists() and any(job.output.iterdir()):
            raise InputError(
                f"--output {job.output} is not empty. Resume with --resume, or choose another one."
            )
        job.output.mkdir(parents=True, exist_ok=True)
        with atomic_writer(known) as stream:
            stream.write(described)
    elif not known.is_file() or known.read_text(encoding="utf-8") != described:
        raise InputError(
            f"{job.output} was begun with another classifier, input or settings. Choose another "
            "--output."
        )
    return [part for part in parts if failed_rows(job.output / part.name) != 0]


def failed_rows(written: Path) -> int | None:
    """Return how many rows of a written part failed, None where it is not written."""
    import pyarrow.parquet as pq

    if not written.exists():
        return None
    return int((pq.read_metadata(written).metadata or {}).get(_FAILED, b"0"))


def _label(job: Job, todo: list[Component], workers: int) -> int:
    """Label parts and return how many of their rows failed."""
    import ray
    from ray.exceptions import RayError

    budget = None
    if job.max_cost is not None:
        cache = job.output / _CACHE
        spent = sum(spent_usd(_run_of(number), cache) for number in _numbers(job.output, todo))
        budget = ray.remote(num_cpus=0)(Budget).remote(job.max_cost, spent, workers)
    data = ray.data.DataContext.get_current()
    data.enable_progress_bars = False
    dataset = ray.data.from_items([asdict(part) for part in todo], override_num_blocks=len(todo))
    labelled = dataset.map(
        PartLabeller,  # type: ignore[arg-type]  # a class of callables, as map documents
        fn_constructor_args=[job, budget],
        compute=ray.data.ActorPoolStrategy(size=workers),
        max_restarts=-1,
        max_task_retries=-1,
    )
    failed = 0
    try:
        for row in labelled.iter_rows():
            if row["error"]:
                raise SentikitError(
                    f"{row['error']} Finished parts are kept: resume with --resume."
                )
            failed += row["failed"]
    except RayError as error:
        raise SentikitError(f"Ray stopped: {str(error).splitlines()[-1]}") from error
    return failed


def _numbers(output: Path, todo: list[Component]) -> range:
    """Return the numbers of all parts that may have paid."""
    finished = [int(path.stem.removeprefix("part-")) for path in output.glob("part-*.parquet")]
    return range(max([*finished, *(part.number for part in todo)], default=-1) + 1)


def _run_of(number: int) -> str:
    return f"part {number}"


class Budget:
    """One budget for all actors: a part is granted some, returns what it did not spend."""

    def __init__(self, ceiling: float, spent: float, workers: int) -> None:
        self._ceiling, self._left, self._workers = ceiling, max(0.0, ceiling - spent), workers

    def grant(self) -> float:
        """Return USD for a part, 0 where too little is left."""
        share = self._left / (2 * self._workers)
        if share < self._ceiling * _SMALLEST_SHARE:
            return 0.0
        self._left -= share
        return share

    def give_back(self, unspent: float) -> None:
        """Take back what a part did not spend."""
        self._left += unspent


class PartLabeller:
    """The actor: one classifier, which labels part after part."""

    def __init__(self, job: Job, budget: Any) -> None:
        self._job, self._budget = job, budget
        self._labeller = Labeller(job.classifier, job.text_column, job.device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Label a part and write it; say why where that fails."""
        part = Component(**row)
        target = self._job.output / part.name
        error = ""
        # A part that another actor wrote before it was killed is not written again.
        if failed_rows(target) != 0:
            try:
                self._write(part, target)
            except SentikitError as raised:
                error = f"Component {part.number}: {raised.message}"
        return {"number": part.number, "error": error, "failed": failed_rows(target) or 0}

    def _write(self, part: Component, target: Path) -> None:
        run, cache = _run_of(part.number), self._job.output / _CACHE
        before = spent_usd(run, cache) if self._budget is not None else 0.0
        granted = self._granted(0.0)
        try:
            while not self._written(part, target, run, cache, before + granted):
                more = self._granted(granted)
                if more <= granted:
                    raise SentikitError("The budget is spent.")
                granted = more
        finally:
            if self._budget is not None:
                spent = spent_usd(run, cache) - before
                self._budget.give_back.remote(max(0.0, granted - spent))

    def _granted(self, before: float) -> float:
        import ray

        if self._budget is None:
            return before
        return before + float(ray.get(self._budget.grant.remote()))

    def _written(
        self, part: Component, target: Path, run: str, cache: Path, max_cost: float
    ) -> bool:
        """Label and write a part; False where its share of the budget is spent."""
        import pyarrow.parquet as pq

        from sentikit.extension import BudgetSpentError, Limits, RequestSession

        limits = Limits(max_cost=max_cost if self._budget is not None else None)
        try:
            with (
                RequestSession(run, cache, limits) as session,
                atomic_writer(target, "wb") as stream,
                ExitStack() as stack,
            ):
                writer: pq.ParquetWriter | None = None
                before = self._labeller.failed
                for table in tables_of(part):
                    labelled = self._labeller.label(table, session)
                    if writer is None:
                        writer = stack.enter_context(pq.ParquetWriter(stream, labelled.schema))
                    writer.write_table(labelled, row_group_size=_BATCH)
                failed = self._labeller.failed - before
                if writer is not None and failed:
                    writer.add_key_value_metadata({_FAILED: str(failed)})
        except SentikitError as error:
            if isinstance(error.__cause__, BudgetSpentError):
                return False
            raise
        return True


def tables_of(part: Component) -> Iterator[pa.Table]:
    """Yield the rows of a part as tables of equal size, reading only its row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(part.file) as file:
        groups, first, begins = [], 0, None
        for number in range(file.num_row_groups):
            size = file.metadata.row_group(number).num_rows
            if first < part.stop and first + size > part.start:
                groups.append(number)
                begins = first if begins is None else begins
            first += size
        skip, left = part.start - (begins or 0), part.stop - part.start
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for batch in file.iter_batches(_BATCH, row_groups=groups):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            batch = batch.slice(skip, left)
            skip, left = 0, left - batch.num_rows
            waiting.append(batch)
            rows += batch.num_rows
            while rows >= _BATCH or (left == 0 and rows):
                table = pa.Table.from_batches(waiting)
                yield table.slice(0, _BATCH)
                rest = table.slice(_BATCH)
                waiting, rows = rest.to_batches(), rest.num_rows
            if left == 0:
                return
