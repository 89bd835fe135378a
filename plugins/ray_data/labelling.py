"""Labelling of Parquet files by Ray Data actors, in parts that are written once and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from sentikit import InputError, SentikitError
from sentikit.extension import (
    LiveBar,
    RunFolder,
    TableSummary,
    atomic_writer,
    disk_errors,
    spent_usd,
)

from .job import BATCH, Job, Part, parts_of, reading, tables_of
from .labeller import Labeller

_JOB, _CACHE, _STARTS, _LOCK = "job.json", "answers.sqlite", ".starts", ".lock"
#: Most deaths of a worker's process at the same part, or at the start.
_MOST_DEATHS = 3
#: Metadata key of a part: its `TableSummary`.
_SUMMARY = b"sentikit.summary"
#: Increments of a part's budget below this share of the whole are not worth a call.
_SMALLEST_SHARE = 1e-4


@dataclass(frozen=True)
class Done:
    """The result of a job.

    Attributes:
        rows: of all parts.
        parts: written now or before.
        summary: of all parts.
    """

    rows: int
    parts: int
    summary: TableSummary


def run(
    job: Job, workers: int, address: str | None, resume: bool, stop_requested: Callable[[], bool]
) -> Done:
    """Label all parts.

    Args:
        job: the job.
        workers: number of actors.
        address: of a cluster, or None: one is started on this machine.
        resume: whether to keep finished parts of the job.
        stop_requested: whether to stop after the next finished part.

    Raises:
        InputError: the input is not Parquet or has no texts, the classifier cannot be loaded, the
            output belongs to another job, or another process labels into it.
        SentikitError: a part failed, or the budget is spent; finished parts are kept.
        KeyboardInterrupt: a stop was requested.
    """
    parts = parts_of(job)
    with RunFolder(job.output).locked():
        todo = _open_job(job, parts, resume)
        if todo:
            # A killed job cannot clean up, and its starts are not deaths of workers.
            _clean(job.output, ".part-*.attempts")
            try:
                with _cluster(address, workers):
                    _label(job, todo, workers, stop_requested)
            except InputError:
                _clean(job.output)
                if not resume and _files(job.output) == [_JOB]:
                    (job.output / _JOB).unlink()  # The corrected command can use the same folder.
                raise
            finally:
                _clean(job.output)
        summary = _summary(job.output, parts)
    return Done(sum(part.stop - part.start for part in parts), len(parts), summary)


def _summary(output: Path, parts: list[Part]) -> TableSummary:
    summary = TableSummary()
    for part in parts:
        counted = _counted(output / part.name) or {}
        for name in ("labelled", "counts", "cut"):
            getattr(summary, name).update(counted.get(name, {}))
        if counted.get("paid", 0.0) is None:
            summary.paid = None
    if summary.paid is not None:
        # A part that was labelled again has paid more than its rows cost.
        cache = output / _CACHE
        summary.paid = sum(spent_usd(_run_of(part.number), cache) for part in parts)
    return summary


def _files(output: Path) -> list[str]:
    """Return the names of what a job keeps in its folder."""
    return [path.name for path in output.iterdir() if path.name != _LOCK]


def _clean(output: Path, parts: str = ".part-*") -> None:
    """Remove counter files and, by default, incomplete parts of killed workers."""
    for left in [*output.glob(parts), output / _STARTS]:
        left.unlink(missing_ok=True)


@contextmanager
def _cluster(address: str | None, workers: int) -> Iterator[None]:
    """Connect to a cluster, or start one that only this machine can reach.

    No key is put into a runtime environment.

    Raises:
        SentikitError: the cluster cannot be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {}
    if address is None:
        # Without clusters of several machines Ray stays on the loopback address, which it replaces
        # where it is merely given as the node's own.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # A busy machine must not make Ray lose this process's own node.
        patient = {"health_check_timeout_ms": 60_000, "health_check_failure_threshold": 20}
        local = {"num_cpus": workers, "include_dashboard": False, "_system_config": patient}
    # Ray's own lines would hide the error message; its log files have most of them.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data
    from ray._private import ray_constants
    from ray.exceptions import RayError

    logging.getLogger("ray").addHandler(logging.NullHandler())
    if address is None:
        # Ray reads the variable when it is imported, which a plugin may have done before.
        ray_constants.ENABLE_RAY_CLUSTER = False
    local |= {"log_to_driver": False, "configure_logging": False}
    what = f"The cluster at {address} cannot be reached" if address else "Ray does not start"
    with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stdout(nothing):
        try:
            if address is not None:
                _refuse_unreachable(address)
            with _standard_error_into(nothing):
                ray.init(address=address or "local", **local)
        except (RayError, RuntimeError, ValueError, OSError) as error:
            raise SentikitError(f"{what}: {str(error).splitlines()[-1]}") from error
        for handler in logging.getLogger("ray.data").handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            ray.shutdown()


def _refuse_unreachable(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would retry for minutes.

    Raises:
        OSError: nothing listens there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=20):
            pass


@contextmanager
def _standard_error_into(nothing: IO[str]) -> Iterator[None]:
    """Hide the lines that Ray's compiled code writes at start-up."""
    kept = os.dup(2)
    os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _open_job(job: Job, parts: list[Part], resume: bool) -> list[Part]:
    """Return the parts to label, after checking that the folder belongs to this job.

    Parts with failed rows are labelled again; paid answers are in the journal.

    Raises:
        InputError: the folder is not empty, or belongs to a job with other settings.
    """
    described = json.dumps(
        {key: str(value) for key, value in asdict(job).items() if key not in ("max_cost", "device")}
        | {"input": hashlib.sha256(repr(parts).encode()).hexdigest()},
        indent=2,
    )
    known = job.output / _JOB
    if not resume:
        if _files(job.output):
            raise InputError(
                f"--output {job.output} is not empty. Resume with --resume, or choose another one."
            )
        with atomic_writer(known) as stream:
            stream.write(described)
    elif not known.is_file() or known.read_text(encoding="utf-8") != described:
        raise InputError(
            f"{job.output} was started with another classifier, input or settings. Choose another "
            "--output."
        )
    return [part for part in parts if failed_rows(job.output / part.name) != 0]


def _counted(written: Path) -> dict[str, Any] | None:
    """Return the summary of a part, None if it is not written."""
    import pyarrow.parquet as pq

    if not written.exists():
        return None
    return dict(json.loads((pq.read_metadata(written).metadata or {}).get(_SUMMARY, b"{}")))


def failed_rows(written: Path) -> int | None:
    """Return the number of failed rows of a part, None if it is not written."""
    counted = _counted(written)
    return None if counted is None else int(counted.get("counts", {}).get("failed", 0))


def _label(job: Job, todo: list[Part], workers: int, stop_requested: Callable[[], bool]) -> None:
    """Label parts."""
    import ray
    from ray.exceptions import RayError

    workers = min(workers, len(todo))
    budget = None
    if job.max_cost is not None:
        cache = job.output / _CACHE
        spent = sum(spent_usd(_run_of(number), cache) for number in _numbers(job.output, todo))
        budget = ray.remote(num_cpus=0)(Budget).remote(job.max_cost, spent, workers)
    ray.data.DataContext.get_current().enable_progress_bars = False
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    dataset = ray.data.from_items([asdict(part) for part in todo], override_num_blocks=len(todo))
    labelled = dataset.map(
        PartLabeller,  # type: ignore[arg-type]  # a class of callables, as map documents
        fn_constructor_args=[_anywhere(job), budget, workers],
        # A part that waits for a busy worker cannot move to an idle one.
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        num_gpus=gpus_per_worker(job.device, workers, resources),
    )
    done = 0
    try:
        with LiveBar("rows") as bar:
            bar.update(total=sum(part.stop - part.start for part in todo))
            for row in labelled.iter_rows():
                if row["error"]:
                    kind = InputError if row["wrong_input"] else SentikitError
                    # Ray may pass on an error before the parts that were finished earlier.
                    kept = " Finished parts are kept: resume with --resume."
                    kept = kept if done or not row["wrong_input"] else ""
                    raise kind(row["error"] + kept)
                done += 1
                bar.advance(row["rows"])
                if done < len(todo) and stop_requested():
                    raise KeyboardInterrupt
    except RayError as error:
        raise SentikitError(f"Ray stopped: {str(error).splitlines()[-1]}") from error


def _anywhere(job: Job) -> Job:
    """Return the job with absolute paths."""
    named = Path(job.classifier).expanduser()
    classifier = str(named.resolve()) if named.exists() else job.classifier
    return replace(job, classifier=classifier, output=job.output.resolve())


def gpus_per_worker(device: str, workers: int, resources: dict[str, float]) -> int | None:
    """Return the GPUs of each worker: Ray hides GPUs that a worker does not request."""
    wanted = device.startswith("cuda")
    return 1 if wanted or (device == "auto" and resources.get("GPU", 0) >= workers) else None


def _numbers(output: Path, todo: list[Part]) -> range:
    """Return the numbers of all parts that may have spent money."""
    finished = [int(path.stem.removeprefix("part-")) for path in output.glob("part-*.parquet")]
    return range(max([*finished, *(part.number for part in todo)], default=-1) + 1)


def _run_of(number: int) -> str:
    return f"part {number}"


class Budget:
    """One budget for all actors: a part gets some of it, and returns what it does not spend."""

    def __init__(self, ceiling: float, spent: float, workers: int) -> None:
        self._ceiling, self._left, self._workers = ceiling, max(0.0, ceiling - spent), workers

    def grant(self) -> float:
        """Return USD for a part, 0 if too little is left."""
        share = self._left / (2 * self._workers)
        if share < self._ceiling * _SMALLEST_SHARE:
            return 0.0
        self._left -= share
        return share

    def give_back(self, unspent: float) -> None:
        """Take back what a part did not spend."""
        self._left += unspent


class PartLabeller:
    """An actor with a classifier that labels part after part.

    Failures are returned, not raised: Ray would retry what fails again.
    """

    def __init__(self, job: Job, budget: Any, workers: int) -> None:
        self._job, self._budget = job, budget
        self._refusal: SentikitError | None = None
        starts = job.output / _STARTS
        try:
            if not _may_begin(starts, _MOST_DEATHS * workers):
                raise SentikitError(
                    "Every worker died while loading the classifier: memory may be short."
                )
            device = "cuda" if job.device.startswith("cuda") else job.device
            self._labeller = Labeller(job.classifier, job.text_column, device)
        except SentikitError as error:
            self._refusal = error
        starts.unlink(missing_ok=True)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Label a part and write it; return the reason of a failure."""
        part = Part(**row)
        target, error = self._job.output / part.name, self._refusal
        # Another actor may have written the part before it was killed.
        if error is None and failed_rows(target) != 0:
            try:
                self._write_once(part, target)
            except SentikitError as raised:
                error = type(raised)(f"Part {part.number}: {raised.message}")
        return {
            "rows": part.stop - part.start,
            "error": error.message if error else "",
            "wrong_input": isinstance(error, InputError),
        }

    def _write_once(self, part: Part, target: Path) -> None:
        """Write a part; Ray restarts a worker that dies, but only a few times."""
        attempts = self._job.output / part.attempts
        if not _may_begin(attempts, _MOST_DEATHS):
            raise SentikitError(
                f"{_MOST_DEATHS} workers died labelling it: memory may be short, or the classifier "
                "ends the process."
            )
        with disk_errors(part.file), reading(part.file):
            self._write(part, target)
        attempts.unlink(missing_ok=True)

    def _write(self, part: Part, target: Path) -> None:
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

    def _written(self, part: Part, target: Path, run: str, cache: Path, max_cost: float) -> bool:
        """Label and write a part; return False if its share of the budget is spent."""
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
                self._labeller.count_anew()
                for table in tables_of(part):
                    labelled = self._labeller.label(table, session)
                    if writer is None:
                        writer = stack.enter_context(pq.ParquetWriter(stream, labelled.schema))
                    writer.write_table(labelled, row_group_size=BATCH)
                if writer is not None:
                    summary = self._labeller.summary
                    if summary.paid:  # The same rows give the same bytes, whoever paid for them.
                        summary.paid = 0.0
                    writer.add_key_value_metadata({_SUMMARY: json.dumps(vars(summary))})
        except SentikitError as error:
            if isinstance(error.__cause__, BudgetSpentError):
                return False
            raise
        return True


def _may_begin(marks: Path, most: int) -> bool:
    """Count a start in a file that survives the process; return False after `most` deaths."""
    with marks.open("ab") as stream:
        stream.write(b".")
        return stream.tell() <= most
