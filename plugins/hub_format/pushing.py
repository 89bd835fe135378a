"""Upload of a folder to the Hugging Face hub, with clear messages for the library's errors."""

from __future__ import annotations

import sys
from pathlib import Path

from sentikit import InputError, SentikitError
from sentikit.extension import find_key, without_secrets

_FORBIDDEN = (401, 403)


def needed_token(repository: str) -> str:
    """Return the token for a push, and check the repository's name.

    It comes from HF_TOKEN, in the environment or in ``.env``, or from ``hf auth login``.

    Raises:
        InputError: the repository's name is malformed, or there is no token.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(
            f"--push {repository!r} is not a repository name. Write owner/name, such as "
            "jane/reviews."
        ) from error
    if "/" not in repository:
        raise InputError(f"--push {repository!r} lacks the owner. Write owner/name.")
    token = find_key("HF_TOKEN") or get_token()
    if not token:
        raise InputError(
            "Pushing needs a Hugging Face token with write access: set HF_TOKEN "
            "(https://huggingface.co/settings/tokens) or run: hf auth login"
        )
    return token


def push(folder: Path, repository: str, token: str, private: bool) -> str:
    """Upload `folder` in one commit; return the repository's address.

    Raises:
        InputError: the token may not write there.
        SentikitError: the hub cannot be reached or fails.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    hub = HfApi(token=token, library_name="sentikit")
    try:
        address = hub.create_repo(repository, private=private or None, exist_ok=True)
        hub.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload a model with sentikit"
        )
    except HfHubHTTPError as error:
        raise _explain(error.response.status_code, repository) from error
    # Without a network, the library's HTTP client raises unrelated exceptions.
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = without_secrets(first_line, {"HF_TOKEN": token})
        raise SentikitError(
            f"Uploading to {repository!r} failed: the Hugging Face hub cannot be reached "
            f"({reason}). Try again later, or export without --push and then: "
            f"hf upload {repository} DIR"
        ) from error
    return str(address)


def _explain(status: int, repository: str) -> SentikitError:
    if status in _FORBIDDEN:
        return InputError(
            f"The Hugging Face hub refuses {repository!r} (HTTP {status}): the token in HF_TOKEN "
            "is wrong, or may not write there. Make one with write access at "
            "https://huggingface.co/settings/tokens"
        )
    return SentikitError(
        f"The Hugging Face hub failed on {repository!r} (HTTP {status}). Nothing was uploaded; "
        "try again later."
    )
