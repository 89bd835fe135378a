"""Models on the Hugging Face hub, and their folders in its cache."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sentikit.errors import InputError, SentikitError
from sentikit.files import read_json

#: Files to download; neither Python code nor pickled weights.
_DOWNLOADED = ("*.json", "*.safetensors", "*.txt", "*.model", "model.onnx", "model.int8.onnx")
_NOT_DOWNLOADED = ("onnx/*", "openvino/*", "checkpoint-*", "runs/*")
_CLASSIFIER = "ForSequenceClassification"


def is_hub_id(name: str) -> bool:
    return re.fullmatch(r"(?!runs/)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def hub_answers(seconds: float = 10) -> bool:
    """Return whether the hub's address accepts connections; True behind a proxy."""
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY")):
        return True
    address = urlsplit(endpoint())
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=seconds):
            return True
    except OSError:
        return False


def endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def architectures(folder: Path) -> list[str]:
    """Return the architectures in a folder's ``config.json``."""
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else None
    names = config.get("architectures") if isinstance(config, dict) else None
    return [str(name) for name in names or []]


def fetch_model(name: str, revision: str | None = None) -> Path:
    """Return the folder of a model in the hub's cache, downloading it if necessary."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    options: dict[str, Any] = {"revision": revision, "local_files_only": not hub_answers()}
    try:
        folder = Path(hf_hub_download(name, "config.json", **options)).parent
        _refuse_other_architecture(folder, name)
        kept: dict[str, Any] = {"allow_patterns": [*_DOWNLOADED]}
        kept["ignore_patterns"] = [*_NOT_DOWNLOADED]
        return Path(snapshot_download(name, **kept, **options))
    except SentikitError:
        raise
    # The HTTP library may raise any error.
    except Exception as error:
        raise _explained(name, revision, error) from error


def _refuse_other_architecture(folder: Path, name: str) -> None:
    """Refuse a model without a classifier before its weights are downloaded."""
    made_for, config = architectures(folder), read_json(folder / "config.json")
    own = isinstance(config, dict) and ("format" in config or "hidden_activation" in config)
    if made_for and not own and not any(name.endswith(_CLASSIFIER) for name in made_for):
        raise InputError(
            f"{name} is not a text classifier: its config.json is for {', '.join(made_for)}. To "
            f"train a classifier on it: --set encoder.name=transformers --set encoder.model={name}"
        )


def hub_refusal(
    kind: str, name: str, revision: str | None, error: BaseException
) -> InputError | None:
    """Return the error for the hub's refusal of a model, encoder or dataset; None for others."""
    from huggingface_hub import errors

    causes = (error, error.__cause__, error.__context__)

    def is_any(refusal: type[Exception]) -> bool:
        return any(isinstance(cause, refusal) for cause in causes)

    if is_any(errors.GatedRepoError) or f"is a gated {kind}" in str(error):
        path = f"datasets/{name}" if kind == "dataset" else name
        return InputError(
            f"The {kind} {name!r} is gated. Request access at https://huggingface.co/{path} and "
            "set HF_TOKEN."
        )
    if is_any(errors.HFValidationError):
        return InputError(f"{name!r} is neither a repository id (owner/name) nor a folder.")
    if is_any(errors.RepositoryNotFoundError):
        return InputError(
            f"There is no {kind} {name!r} on the hub, and no folder of that name. Check the "
            "spelling (owner/name), or set HF_TOKEN for a private one."
        )
    if is_any(errors.RevisionNotFoundError):
        return InputError(f"The {kind} {name!r} has no revision {revision!r} on the hub.")
    return None


def _explained(name: str, revision: str | None, error: Exception) -> SentikitError:
    from huggingface_hub import errors

    refusal = hub_refusal("model", name, revision, error)
    if refusal:
        return refusal
    at = f" at revision {revision!r}" if revision else ""
    if isinstance(error, errors.LocalEntryNotFoundError):
        return SentikitError(
            f"{name}{at} is neither a folder nor in the hub's cache, and the hub cannot be "
            f"reached. With a network, run hf download {name} --local-dir DIR, then give DIR."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return InputError(f"{name}{at} is not a text classifier: it has no config.json on the hub.")
    reason = " ".join(str(error).split())
    return SentikitError(f"{name}{at} could not be fetched from the hub: {reason[:200]}")
