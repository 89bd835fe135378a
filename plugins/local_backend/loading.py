"""Loads a causal language model and its tokenizer, with the library's errors made clear."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit import InputError, SentikitError

from .settings import LocalSettings

if TYPE_CHECKING:
    import torch

_GGUF = ".gguf"
_FOR_GGUF = ("gguf", "accelerate")


def load_language_model(
    settings: LocalSettings, device: torch.device, dtype: torch.dtype
) -> tuple[Any, Any]:
    """Return the model, in inference mode on `device`, and its tokenizer.

    Raises:
        InputError: no such model, or one that is not a causal language model.
        SentikitError: the hub cannot be reached.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    name, options = _source(settings)
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        model = _weights(name, options, dtype)
    except (OSError, ValueError, KeyError) as error:
        raise _explain(settings, error) from error
    return model.to(device).eval(), tokenizer


def _weights(name: str, options: dict[str, Any], dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    load: Any = AutoModelForCausalLM.from_pretrained
    if "gguf_file" not in options:
        return load(name, dtype=dtype, use_safetensors=True, **options)
    # Dequantising draws a bar of its own whatever it is told.
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        return load(name, dtype=dtype, **options)


def _source(settings: LocalSettings) -> tuple[str, dict[str, Any]]:
    """Return where the model is, and how it is read."""
    options: dict[str, Any] = {"trust_remote_code": False}
    path = Path(settings.model).expanduser()
    if path.suffix == _GGUF:
        if not path.is_file():
            raise InputError(f"{path} does not exist. Check llm.model.")
        missing = [name for name in _FOR_GGUF if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(f"A GGUF file needs more packages: pip install {' '.join(missing)}")
        return str(path.parent), {**options, "gguf_file": path.name}
    if path.is_dir():
        return str(path), options
    if path.is_absolute() or settings.model.startswith((".", "~")):
        raise InputError(f"There is no model folder {settings.model}. Check llm.model.")
    return settings.model, {**options, "revision": settings.revision or "main"}


def _explain(settings: LocalSettings, error: Exception) -> SentikitError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    causes = [error, error.__cause__, error.__context__]
    reason = " ".join(str(error).split())[:300]
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return InputError(f"The model {settings.model!r} is gated: accept its terms, set HF_TOKEN.")
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return InputError(
            f"There is no model {settings.model!r} on the hub, and no folder of that name."
        )
    if Path(settings.model).expanduser().exists():
        return InputError(f"{settings.model} is no causal language model: {reason}")
    return SentikitError(
        f"The model {settings.model!r} could not be fetched from the hub ({reason}). Without a "
        "network: download its folder elsewhere and give the folder's path as llm.model."
    )
