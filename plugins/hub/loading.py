"""Datasets of the Hugging Face hub, and local folders in the hub's layout.

Dataset scripts are never run. If a repository has one, the hub's conversion to Parquet can be used
(revision ``refs/convert/parquet``, https://huggingface.co/docs/dataset-viewer/parquet).
"""

from __future__ import annotations

import contextlib
import glob
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sentikit import InputError, SentikitError
from sentikit.extension import did_you_mean, disk_errors, hub_refusal

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

CONVERSION = "refs/convert/parquet"
_REACH_TIMEOUT = 10.0  # seconds
_COMMIT = re.compile(r"[0-9a-f]{40}")


def load_from_hub(
    repository: str,
    split: str,
    *,
    config: str | None = None,
    revision: str | None = None,
) -> Dataset:
    """Load a split of a hub dataset, memory-mapped from the cache of ``datasets``.

    Args:
        repository: repository id, as ``stanfordnlp/imdb``, or a local folder in the hub's layout.
        split: the split's name there.
        config: configuration (subset), if the dataset has several.
        revision: branch, tag or commit; ``refs/convert/parquet`` for the hub's own conversion.

    Raises:
        InputError: there is no such repository, configuration, split or revision, it is gated, it
            needs a script, or its files are broken.
        SentikitError: the hub cannot be reached or fails, the disk is full.
    """
    with hub_errors(repository, revision), _bars_on_terminals_only():
        if revision == CONVERSION and not _is_folder(repository):
            return _load_conversion(repository, config, split)
        return _load(repository, config, revision, split)


def hub_splits(
    repository: str, *, config: str | None = None, revision: str | None = None
) -> tuple[str, ...]:
    """Return the names of a hub dataset's splits without loading it.

    Args:
        repository: as for `load_from_hub`.
        config: as for `load_from_hub`.
        revision: as for `load_from_hub`.

    Raises:
        InputError: as for `load_from_hub`.
        SentikitError: as for `load_from_hub`.
    """
    with hub_errors(repository, revision), _bars_on_terminals_only():
        if revision == CONVERSION and not _is_folder(repository):
            files = _converted_files(repository)
            return _converted_splits(files, _converted_config(repository, config, files))
        builder = _builder(repository, config, revision)
        return tuple(str(split) for split in builder.config.data_files or builder.info.splits)


def _load(repository: str, config: str | None, revision: str | None, split: str) -> Dataset:
    builder = _builder(repository, config, revision)
    if revision and _COMMIT.fullmatch(revision) and builder.hash != revision:
        # Offline, datasets uses the version that it loaded last.
        raise InputError(
            f"The dataset {repository!r} was last loaded at revision {builder.hash}; {revision} "
            "is not available offline. Load it once with a network, or ask for the other revision."
        )
    builder.download_and_prepare()
    if split not in builder.info.splits:
        raise _unknown("split", split, repository, builder.info.splits)
    return builder.as_dataset(split)


def _builder(repository: str, config: str | None, revision: str | None) -> DatasetBuilder:
    from datasets import get_dataset_config_names, load_dataset_builder

    path, options = _address(repository, config, revision)
    try:
        return load_dataset_builder(path, **options)
    except ValueError:
        known = get_dataset_config_names(path, revision=revision)
        if config in known or (config is None and len(known) < 2):
            raise
        raise _unknown("config", config, repository, known) from None


def _address(
    repository: str, config: str | None, revision: str | None
) -> tuple[str, dict[str, Any]]:
    """Return the arguments for ``load_dataset_builder``."""
    if _is_folder(repository):
        folder = str(Path(repository).expanduser())
        if config and Path(folder, config).is_dir():
            return folder, {"data_dir": config}
        return folder, {"name": config}
    # Listing the files first reports the reason of a failure at once: datasets retries for half a
    # minute, then uses any version in its cache.
    if f"{PurePosixPath(repository).name}.py" in _files_on_hub(repository, revision):
        raise needs_script(repository)
    return repository, {"name": config, "revision": revision}


def _is_folder(repository: str) -> bool:
    """Return whether `repository` is a local folder.

    Raises:
        InputError: it looks like a path, and there is no such folder.
    """
    path = Path(repository).expanduser()
    if path.is_dir():
        return True
    if path.is_file() or repository.startswith((".", "/", "~")):
        raise InputError(
            f"{repository} is not a folder. Give a folder in the hub's layout, or a repository id."
        )
    return False


def _files_on_hub(repository: str, revision: str | None) -> list[str]:
    """List a repository's files; none in offline mode."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        info = HfApi().dataset_info(repository, revision=revision, timeout=_REACH_TIMEOUT)
    except OfflineModeIsEnabled:
        return []
    return [sibling.rfilename for sibling in info.siblings or ()]


def _load_conversion(repository: str, config: str | None, split: str) -> Dataset:
    """Load the files ``CONFIG/SPLIT/*.parquet`` of the conversion.

    ``load_dataset`` cannot: it treats all configurations as one, and finds nothing offline.
    """
    from datasets import load_dataset
    from huggingface_hub import snapshot_download

    files = _converted_files(repository)
    folder = _converted_config(repository, config, files)
    splits = _converted_splits(files, folder)
    if split not in splits:
        raise _unknown("split", split, repository, splits)
    snapshot = snapshot_download(
        repository,
        repo_type="dataset",
        revision=CONVERSION,
        allow_patterns=f"{folder}/{split}/*.parquet",
    )
    paths = sorted(Path(snapshot, folder, split).glob("*.parquet"))
    return load_dataset("parquet", data_files={split: [glob.escape(str(p)) for p in paths]})[split]


def _converted_files(repository: str) -> list[PurePosixPath]:
    """List the conversion's files; in offline mode those in the cache."""
    names = _files_on_hub(repository, CONVERSION)
    if not names:
        snapshot = _cached_snapshot(repository)
        names = [p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*.parquet")]
    return [PurePosixPath(name) for name in names if name.endswith(".parquet")]


def _cached_snapshot(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                repository, repo_type="dataset", revision=CONVERSION, local_files_only=True
            )
        )
    except LocalEntryNotFoundError as error:
        # Some of the files are enough; recent versions report the path of an incomplete snapshot.
        snapshot: str | None = getattr(error, "snapshot_path", None)
        if snapshot is None:
            raise
        return Path(snapshot)


def _converted_config(repository: str, config: str | None, files: Sequence[PurePosixPath]) -> str:
    known = sorted({path.parts[0] for path in files})
    if config is None and (len(known) == 1 or "default" in known):
        return known[0] if len(known) == 1 else "default"
    if config is None or config not in known:
        raise _unknown("config", config, repository, known)
    return config


def _converted_splits(files: Sequence[PurePosixPath], config: str) -> tuple[str, ...]:
    names = [path.parts[1] for path in files if path.parts[0] == config]
    return tuple(dict.fromkeys(names))


def _unknown(what: str, name: str | None, repository: str, known: Iterable[str]) -> InputError:
    if name is None:
        return InputError(
            f"The dataset {repository!r} has several configurations; choose one with "
            f"config: {', '.join(sorted(known))}."
        )
    return InputError(
        f"The dataset {repository!r} has no {what} {name!r}. {did_you_mean(name, known)}"
    )


@contextlib.contextmanager
def _bars_on_terminals_only() -> Iterator[None]:
    """Show both libraries' progress bars only on a terminal."""
    from datasets import utils as datasets_utils
    from huggingface_hub import utils as hub_utils

    silenced = [
        library
        for library in (datasets_utils, hub_utils)
        if not sys.stderr.isatty() and not library.are_progress_bars_disabled()
    ]
    for library in silenced:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for library in silenced:
            library.enable_progress_bars()


@contextlib.contextmanager
def hub_errors(repository: str, revision: str | None = None) -> Iterator[None]:
    """Translate errors about the dataset `repository` into clear ones.

    Raises:
        InputError: the repository or revision does not exist, is gated, holds a script, no data
            or broken data.
        SentikitError: the hub cannot be reached or fails, the disk is full.
    """
    try:
        yield
    except SentikitError:
        raise
    except Exception as error:
        for explain in (_refusal, _absence, _content):
            explained = explain(error, repository, revision)
            if explained:
                raise explained from error
        disk_error = error if isinstance(error, OSError) else error.__cause__
        if isinstance(disk_error, OSError):
            with disk_errors(f"The Hugging Face cache (HF_HOME), needed for {repository!r},"):
                raise disk_error from error
        raise SentikitError(
            f"The dataset {repository!r} could not be loaded: {_first_line(error)}"
        ) from error


def needs_script(repository: str) -> InputError:
    """Return the error for a dataset that only its authors' script can load."""
    return InputError(
        f"The dataset {repository!r} is loaded by a script of its authors, and scripts are never "
        f"run here. Use the hub's own conversion to Parquet: revision: {CONVERSION}, with config: "
        f"one of the folders at https://huggingface.co/datasets/{repository}/tree/{CONVERSION}."
    )


def _refusal(error: Exception, repository: str, revision: str | None) -> SentikitError | None:
    """Return the error for an HTTP error of the hub."""
    from huggingface_hub import errors

    refusal = hub_refusal("dataset", repository, revision, error)
    if refusal is None and isinstance(error, errors.HfHubHTTPError):
        return SentikitError(
            f"The Hugging Face hub failed on the dataset {repository!r} "
            f"(HTTP {error.response.status_code}). Try again later."
        )
    return refusal


def _absence(error: Exception, repository: str, revision: str | None) -> SentikitError | None:
    """Return the error for a missing network and an empty cache."""
    from huggingface_hub import constants, errors

    transport = any(ancestor.__name__ == "TransportError" for ancestor in type(error).__mro__)
    absent = (ConnectionError, errors.LocalEntryNotFoundError)
    if not transport and not isinstance(error, absent):
        return None
    advice = "download the files elsewhere and give their folder (dataset.path)"
    if constants.HF_HUB_OFFLINE:
        advice = f"Unset HF_HUB_OFFLINE, or {advice}."
    else:
        advice = (
            f"Without a network, {advice}; if this machine has loaded it before, set "
            "HF_HUB_OFFLINE=1."
        )
    return SentikitError(
        f"The dataset {repository!r} is not on this machine and the Hugging Face hub cannot be "
        f"reached ({_first_line(error)}). {advice}"
    )


def _content(error: Exception, repository: str, revision: str | None) -> SentikitError | None:
    """Return the error for a repository or folder without a readable dataset."""
    from datasets import exceptions

    if "Dataset scripts are no longer supported" in str(error):
        return needs_script(repository)
    if isinstance(error, exceptions.DatasetGenerationError):
        cause = error.__cause__ or error
        if isinstance(cause, OSError):
            return None
        return InputError(
            f"A file of the dataset {repository!r} is malformed: {_first_line(cause)}"
        )
    if isinstance(error, ValueError | exceptions.DatasetsError | FileNotFoundError):
        return InputError(f"{repository!r} cannot be read as a dataset: {_first_line(error)}")
    return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
