"""A run's folder: made, locked, written to and found again, with what its manifest says."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sentikit import __version__
from sentikit.errors import InputError, nearest, one_line
from sentikit.files import disk_errors, read_json, refuse_unwritable, write_json, write_text
from sentikit.keys import redacted
from sentikit.registry import default_registry
from sentikit.stopping import Interrupted

if TYPE_CHECKING:
    from sentikit.datasets.examples import Examples


_RECORDED = ("torch", "transformers", "tokenizers", "datasets", "deepspeed", "openai")


@dataclass(frozen=True)
class LabelledSplit:
    """The examples that a run labels.

    Attributes:
        examples: in order, gold labels folded into `classes`.
        classes: the labels to choose from.
        dataset: name of the dataset.
        split: name of the split.
        ordered: whether classes of the user's own stand in an order.
        has_texts: False where examples are known by their ids alone.
    """

    examples: Examples
    classes: tuple[str, ...]
    dataset: str
    split: str
    ordered: bool = False
    has_texts: bool = True

    def has_text(self, text: str) -> bool:
        """Return whether an example with this text has something to label."""
        return bool(text.strip()) or not self.has_texts

    @property
    def name(self) -> str:
        """What messages call it, as ``merged/test``."""
        return f"{self.dataset}/{self.split}"


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python, sentikit and what results may depend on."""
    found = {"sentikit": __version__, "python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command_line(arguments: Sequence[str] | None = None) -> list[str]:
    """Return the command as typed, without the program's folder."""
    given = sys.argv if arguments is None else arguments
    program = Path(given[0]).name
    # As `python -m sentikit`, which is how several processes are started.
    return ["sentikit" if program == "__main__.py" else program, *given[1:]]


def describe_split(
    name: str, split: str, examples: int, fingerprint: str, label_origin: str | None = None
) -> dict[str, Any]:
    """Return what a manifest says of a split; `label_origin` of labels that are not gold."""
    said = {"dataset": name, "split": split, "examples": examples, "fingerprint": fingerprint}
    return said if label_origin is None else {**said, "label_origin": label_origin}


#: Where runs go unless a user names another folder.
RUNS = Path("runs")
MANIFEST = "manifest.json"
PREDICTIONS = "predictions.jsonl"
#: The rows of a run that has not finished.
PARTIAL = "predictions.partial.jsonl"
METRICS = "metrics.json"
LOG = "log.jsonl"
MODEL = "model"
CHECKPOINTS = "checkpoints"
RECIPE = "recipe.yaml"
_LOCK = ".lock"

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"


def end_status(error: BaseException | None) -> str:
    if error is None:
        return FINISHED
    interrupted = isinstance(error, Interrupted | KeyboardInterrupt)
    return INTERRUPTED if interrupted else FAILED


class RunFolder:
    """The files of one run; design: manifest, predictions, metrics, log, model."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands."""
        values = read_json(self.path / MANIFEST)
        if not isinstance(values, dict):
            raise InputError(f"{self.path / MANIFEST} is not the manifest of a run.")
        return values

    def update_manifest(self, **changes: Any) -> None:
        """Set some of the manifest's keys; the components of a recipe come with it."""
        known = self.manifest if (self.path / MANIFEST).exists() else {}
        if "recipe" in changes:
            changes["components"] = default_registry().components(changes["recipe"])
        if changes.get("status") in (RUNNING, FINISHED):
            known.pop("failure", None)
        write_json(self.path / MANIFEST, known | changes)

    def end(self, error: BaseException) -> None:
        """Let the manifest say how the run ended and, where it failed, why."""
        status = end_status(error)
        reason = {"failure": redacted(one_line(error))} if status == FAILED else {}
        self.update_manifest(status=status, **reason)

    def write_recipe(self, text: str) -> None:
        """Write the resolved recipe, ready to run again."""
        write_text(self.path / RECIPE, text)

    @property
    def status(self) -> str:
        """The manifest's status, or "" where there is no run."""
        if not (self.path / MANIFEST).is_file():
            return ""
        return str(self.manifest.get("status", ""))

    @contextlib.contextmanager
    def locked(self, new: bool = False) -> Iterator[None]:
        """Keep other processes away from this run while working on it.

        Args:
            new: whether the folder must be empty, also of what came since it was chosen.

        Raises:
            InputError: another process is at work here, or the folder holds something.
        """
        from filelock import FileLock, Timeout

        made = not self.path.exists()
        try:
            with disk_errors(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                held = FileLock(self.path / _LOCK).acquire(blocking=False)
        except Timeout as error:
            raise InputError(
                f"{self.path} is in use by another sentikit process. Wait for it, or choose "
                "another --output."
            ) from error
        with held, self._removed_if_empty(made):
            if new:
                _refuse_taken(self)
            yield

    @contextlib.contextmanager
    def _removed_if_empty(self, made: bool) -> Iterator[None]:
        """Leave no folder behind a run that ended before it wrote anything."""
        try:
            yield
        finally:
            if made and {entry.name for entry in self.path.iterdir()} <= {_LOCK}:
                # Windows removes no file that is open: there the empty folder stays.
                with contextlib.suppress(OSError):
                    (self.path / _LOCK).unlink(missing_ok=True)
                    self.path.rmdir()


def near_runs(path: Path) -> str:
    """Return a question that names the runs whose path is most like one that does not exist."""
    beside = [*RUNS.glob(f"*/{MANIFEST}"), *path.parent.glob(f"*/{MANIFEST}")]
    runs = {entry.parent.name: str(entry.parent) for entry in beside}
    meant = " or ".join(runs[name] for name in nearest(path.name, runs))
    return f"Did you mean {meant}?" if meant else ""


def choose_run_folder(
    output: Path | None, name: str, resume: bool, root: Path = RUNS, job: str | None = None
) -> RunFolder:
    """Return the folder a command should work in; it holds a run only where one is resumed.

    Without `output` it is ``root/name``, or with a number behind it where that is taken.

    Args:
        output: what the user asked for.
        name: the recipe's name.
        resume: resume an unfinished run.
        root: where runs live.
        job: of the launcher; its own unfinished run is resumed automatically.

    Raises:
        InputError: the folder holds something already, or there is nothing to resume.
    """
    if resume:
        return _resumable(output or _newest(root, name))
    for path in [output] if output else _unfinished(root, name):
        if job is not None and _is_of_job(RunFolder(path), job):
            return RunFolder(path)
    run = RunFolder(output or _free(root, name))
    _refuse_taken(run)
    return run


def _refuse_taken(run: RunFolder) -> None:
    path = run.path
    if path.is_file():
        raise InputError(f"{path} is a file; --output needs a folder.")
    if path.is_dir() and any(entry.name != _LOCK for entry in path.iterdir()):
        held = "another run" if run.status else "other files"
        advice = " Resume it with --resume, or" if run.status not in ("", FINISHED) else " Please"
        raise InputError(f"{path} already holds {held}.{advice} choose another --output.")
    refuse_unwritable(path)


def _resumable(path: Path) -> RunFolder:
    run = RunFolder(path)
    if not run.status:
        raise InputError(f"{path} holds no run to resume. Leave --resume out to start one.")
    if run.status == FINISHED and not run.manifest.get("failed"):
        raise InputError(f"{path} is finished; there is nothing to resume.")
    return run


def _free(root: Path, name: str) -> Path:
    path, number = root / name, 1
    while path.exists():
        number += 1
        path = root / f"{name}-{number}"
    return path


def _newest(root: Path, name: str) -> Path:
    """Return the unfinished run of a recipe that was touched last."""
    unfinished = _unfinished(root, name)
    if not unfinished:
        raise InputError(
            f"There is no unfinished run of {name!r} under {root}/. Name it with --output, or "
            "leave --resume out."
        )
    return max(unfinished, key=lambda path: (path / MANIFEST).stat().st_mtime)


def _unfinished(root: Path, name: str) -> list[Path]:
    own = re.compile(rf"{re.escape(name)}(-\d+)?")
    found = sorted(root.iterdir()) if root.is_dir() else []
    candidates = [path for path in found if own.fullmatch(path.name) and path.is_dir()]
    return [path for path in candidates if RunFolder(path).status not in ("", FINISHED)]


def _is_of_job(run: RunFolder, job: str) -> bool:
    return run.status not in ("", FINISHED) and run.manifest.get("job") == job


class JsonLinesLog:
    """A log of JSON objects, one a line, each handed to the system as soon as it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: IO[str] | None = None

    def write(self, record: dict[str, Any]) -> None:
        with disk_errors(self._path):
            if self._stream is None:
                self._stream = self._path.open("a", encoding="utf-8", newline="\n")
            self._stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            self._stream.flush()

    def keep(self, step: int, epochs: int) -> None:
        """Forget what will come again: what is after `step`, and half a line left by a kill.

        An epoch's record bears the number of its last step, but comes after its validation.

        Args:
            step: optimizer steps done.
            epochs: epochs done, validation included.
        """
        if not self._path.exists():
            return
        # Text may hold other characters that part lines, which JSON leaves as they are.
        *whole, _half = self._path.read_text(encoding="utf-8", errors="replace").split("\n")
        kept = [
            f"{line}\n"
            for line, record in zip(whole, map(json.loads, whole), strict=True)
            if record.get("step", 0) <= step
            and (record["kind"] != "epoch" or record["epoch"] <= epochs)
        ]
        write_text(self._path, "".join(kept))

    def close(self) -> None:
        if self._stream is not None:
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._stream = None
