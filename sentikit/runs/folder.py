"""Run folders: their files, manifest, lock and choice."""

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
        examples: in order, with gold labels mapped to `classes`.
        classes: the labels to choose from.
        dataset: name of the dataset.
        split: name of the split.
        ordered: whether the user's own classes are ordered.
        has_texts: False if examples have only ids.
    """

    examples: Examples
    classes: tuple[str, ...]
    dataset: str
    split: str
    ordered: bool = False
    has_texts: bool = True

    def has_text(self, text: str) -> bool:
        """Return whether an example with this text can be labelled."""
        return bool(text.strip()) or not self.has_texts

    @property
    def name(self) -> str:
        """Its name in messages, such as ``merged/test``."""
        return f"{self.dataset}/{self.split}"


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python, sentikit and the libraries that results depend on."""
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
    # Several processes are started with `python -m sentikit`.
    return ["sentikit" if program == "__main__.py" else program, *given[1:]]


def describe_split(
    name: str, split: str, examples: int, fingerprint: str, label_origin: str | None = None
) -> dict[str, Any]:
    """Return a manifest's description of a split; gold labels have no `label_origin`."""
    known = {"dataset": name, "split": split, "examples": examples, "fingerprint": fingerprint}
    return known if label_origin is None else {**known, "label_origin": label_origin}


#: The default folder of runs.
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


def recorded_manifest(path: str | Path) -> dict[str, Any]:
    """Return the manifest of the run at a path, or {} if there is none."""
    file = Path(path).expanduser() / MANIFEST
    found = read_json(file) if file.is_file() else {}
    return found if isinstance(found, dict) else {}


class RunFolder:
    """The folder of one run: manifest, predictions, metrics, log, model."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def manifest(self) -> dict[str, Any]:
        """The current manifest."""
        values = read_json(self.path / MANIFEST)
        if not isinstance(values, dict):
            raise InputError(f"{self.path / MANIFEST} is not the manifest of a run.")
        return values

    def update_manifest(self, **changes: Any) -> None:
        """Set keys of the manifest; a recipe also sets its components."""
        known = self.manifest if (self.path / MANIFEST).exists() else {}
        if "recipe" in changes:
            changes["components"] = default_registry().components(changes["recipe"])
        if changes.get("status") in (RUNNING, FINISHED):
            known.pop("failure", None)
        write_json(self.path / MANIFEST, known | changes)

    def end(self, error: BaseException) -> None:
        """Record in the manifest how the run ended and, after a failure, why."""
        status = end_status(error)
        reason = {"failure": redacted(one_line(error))} if status == FAILED else {}
        self.update_manifest(status=status, **reason)

    def write_recipe(self, text: str) -> None:
        """Write the resolved recipe, which can be run again."""
        write_text(self.path / RECIPE, text)

    @property
    def status(self) -> str:
        """The manifest's status, or "" if there is no run."""
        if not (self.path / MANIFEST).is_file():
            return ""
        return str(self.manifest.get("status", ""))

    @contextlib.contextmanager
    def locked(self, new: bool = False) -> Iterator[None]:
        """Lock this run against other processes.

        Args:
            new: whether the folder must still be empty.

        Raises:
            InputError: another process uses the run, or the folder is not empty.
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
        """Remove the folder of a run that ended before it wrote anything."""
        try:
            yield
        finally:
            if made and {entry.name for entry in self.path.iterdir()} <= {_LOCK}:
                # Windows cannot remove an open file, so there the empty folder stays.
                with contextlib.suppress(OSError):
                    (self.path / _LOCK).unlink(missing_ok=True)
                    self.path.rmdir()


def near_runs(path: Path) -> str:
    """Return a question that names the runs in a folder, else runs with a similar path, or ""."""
    if path.is_dir():
        held = sorted(str(entry.parent) for entry in path.glob(f"*/{MANIFEST}"))[:3]
        return f"Did you mean {' or '.join(held)}?" if held else ""
    beside = [*RUNS.glob(f"*/{MANIFEST}"), *path.parent.glob(f"*/{MANIFEST}")]
    runs = {entry.parent.name: str(entry.parent) for entry in beside}
    meant = " or ".join(runs[name] for name in nearest(path.name, runs))
    return f"Did you mean {meant}?" if meant else ""


def choose_run_folder(
    output: Path | None, name: str, resume: bool, root: Path = RUNS, job: str | None = None
) -> RunFolder:
    """Return the folder of a command's run: an empty one, or that of a run to resume.

    Without `output` it is ``root/name``, with a number appended if that is taken.

    Args:
        output: the user's choice.
        name: the recipe's name.
        resume: resume an unfinished run.
        root: the folder of runs.
        job: the launcher's job, whose own unfinished run is resumed automatically.

    Raises:
        InputError: the folder is not empty, or there is nothing to resume.
    """
    if resume:
        return _resumable(output or _newest(root, name))
    for path in [output] if output else _unfinished(root, name):
        run = RunFolder(path)
        if job is not None and run.status not in ("", FINISHED) and run.manifest.get("job") == job:
            return run
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
        raise InputError(f"{path} has no run to resume. Leave out --resume to start one.")
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
    """Return the unfinished run of a recipe that was updated last."""
    unfinished = _unfinished(root, name)
    if not unfinished:
        raise InputError(
            f"There is no unfinished run of {name!r} under {root}/. Name it with --output, or "
            "leave out --resume."
        )
    return max(unfinished, key=lambda path: (path / MANIFEST).stat().st_mtime)


def _unfinished(root: Path, name: str) -> list[Path]:
    own = re.compile(rf"{re.escape(name)}(-\d+)?")
    found = sorted(root.iterdir()) if root.is_dir() else []
    candidates = [path for path in found if own.fullmatch(path.name) and path.is_dir()]
    return [path for path in candidates if RunFolder(path).status not in ("", FINISHED)]


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
        """Delete records that will be written again: those after `step`, and half a line of a kill.

        An epoch's record has the number of its last step, but is written after its validation.

        Args:
            step: optimizer steps done.
            epochs: epochs done, validation included.
        """
        if not self._path.exists():
            return
        # Texts may contain other line separators, which JSON does not escape.
        *lines, _half = self._path.read_text(encoding="utf-8", errors="replace").split("\n")
        kept = [
            f"{line}\n"
            for line, record in zip(lines, map(json.loads, lines), strict=True)
            if record.get("step", 0) <= step
            and (record["kind"] != "epoch" or record["epoch"] <= epochs)
        ]
        write_text(self._path, "".join(kept))

    def close(self) -> None:
        if self._stream is not None:
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._stream = None
