"""Says in one clear sentence what huggingface_hub and datasets mean by their exceptions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sentikit.errors import InputError, SentikitError
from sentikit.files import disk_errors

CONVERSION = "refs/convert/parquet"


@contextlib.contextmanager
def hub_errors(repository: str, revision: str | None = None) -> Iterator[None]:
    """Explain whatever goes wrong inside the block with the dataset `repository`.

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
    """Build the error for a dataset that only a script of its authors can load."""
    return InputError(
        f"The dataset {repository!r} is loaded by a script of its authors, and scripts are never "
        f"run here. Use the hub's own conversion to Parquet: revision: {CONVERSION}, with config: "
        f"one of the folders at https://huggingface.co/datasets/{repository}/tree/{CONVERSION}."
    )


def _refusal(error: Exception, repository: str, revision: str | None) -> SentikitError | None:
    """Explain what the hub answered with an HTTP error."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError) or "is a gated dataset" in str(error):
        return InputError(
            f"The dataset {repository!r} is gated: ask for access at "
            f"https://huggingface.co/datasets/{repository} and log in (hf auth login)."
        )
    if isinstance(error, errors.HFValidationError):
        return InputError(f"{repository!r} is not a repository id (owner/name) nor a folder.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"There is no dataset {repository!r} on the Hugging Face hub, or it is private. "
            "Check the id (owner/name), or log in (hf auth login)."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"The dataset {repository!r} has no revision {revision!r} on the hub.")
    if isinstance(error, errors.HfHubHTTPError):
        return SentikitError(
            f"The Hugging Face hub failed on the dataset {repository!r} "
            f"(HTTP {error.response.status_code}). Try again in a while."
        )
    return None


def _absence(error: Exception, repository: str, revision: str | None) -> SentikitError | None:
    """Explain that there is no network, and nothing in the cache either."""
    from huggingface_hub import errors

    transport = any(ancestor.__name__ == "TransportError" for ancestor in type(error).__mro__)
    absent = (ConnectionError, errors.LocalEntryNotFoundError)
    if not transport and not isinstance(error, absent):
        return None
    return SentikitError(
        f"The dataset {repository!r} is not on this machine and the Hugging Face hub cannot be "
        f"reached ({_first_line(error)}). Without a network, download the files elsewhere and "
        "give their folder (dataset.path); if this machine has loaded it before, set "
        "HF_HUB_OFFLINE=1."
    )


def _content(error: Exception, repository: str, revision: str | None) -> SentikitError | None:
    """Explain that the repository or folder holds nothing that can be read as a dataset."""
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
