"""Loading of causal language models and tokenizers, with clear messages for errors."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from sentikit import InputError, SentikitError
from sentikit.extension import hub_answers, load_pretrained

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_GGUF = ".gguf"
_FOR_GGUF = ("gguf", "accelerate")
#: The assumed limit of tokens, if a model does not state one.
_MUCH = 2**20

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class ModelSource:
    """The place of a model.

    Attributes:
        name: hub id, a folder, or a GGUF file.
        revision: branch, tag or commit on the hub, or None.
        key: the recipe's key that names it, for messages.
    """

    name: str
    revision: str | None
    key: str

    @property
    def path(self) -> Path | None:
        """The folder or file, or None for a model of the hub."""
        path = Path(self.name).expanduser()
        local = path.is_absolute() or self.name.startswith((".", "~")) or path.suffix == _GGUF
        return path if local or path.is_dir() else None

    def fingerprint(self) -> str:
        """Return a hash of a local model's file names, sizes and times, or the revision."""
        if self.path is None or not self.path.exists():
            return self.revision or "main"
        files = sorted(self.path.glob("*")) if self.path.is_dir() else [self.path]
        digest = hashlib.sha256()
        for file in files:
            status = file.stat()
            digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def named_source(name: str, revision: str | None, key: str) -> ModelSource:
    """Return the place of the model that a recipe names.

    Raises:
        InputError: a revision of a local model, which would be ignored.
    """
    source = ModelSource(name, revision, key)
    if revision is not None and source.path is not None and source.path.exists():
        other = f"{key.removesuffix('.model')}.revision"
        raise InputError(f"{key} {name} is local. Leave out {other}, which is for the hub.")
    return source


def load_config(source: ModelSource) -> Any:
    """Load a model's configuration.

    Raises:
        InputError: no such model, or one that is not a causal language model.
        SentikitError: the hub cannot be reached.
    """
    from transformers import AutoConfig

    name, options = _place(source)
    return _loaded(
        source, lambda: AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
    )


def load_tokenizer(source: ModelSource) -> Any:
    """Load a model's tokenizer; raises as `load_config`."""
    from transformers import AutoTokenizer

    name, options = _place(source)
    return _loaded(
        source, lambda: AutoTokenizer.from_pretrained(name, trust_remote_code=False, **options)
    )


def load_model(source: ModelSource, dtype: torch.dtype) -> Any:
    """Load a model on the CPU; raises as `load_config`."""
    name, options = _place(source)
    return _loaded(source, lambda: _weights(name, options, dtype))


def context_of(config: Any) -> int:
    """Return a model's limit of tokens."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or _MUCH)


def _loaded(source: ModelSource, load: Callable[[], Loaded]) -> Loaded:
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return load()
    except (OSError, ValueError, KeyError) as error:
        raise _explain(source, error) from error


def _weights(name: str, options: dict[str, Any], dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM, GgufConfig

    if "gguf_file" not in options:
        options = {**options, "use_safetensors": True}
        return load_pretrained(
            AutoModelForCausalLM, name, dtype=dtype, trust_remote_code=False, **options
        )
    # Dequantising shows a progress bar in any case.
    nowhere = Path(os.devnull)
    with nowhere.open("w", encoding="utf-8") as stream, contextlib.redirect_stderr(stream):
        options = {**options, "quantization_config": GgufConfig(dequantize=True)}
        model = load_pretrained(
            AutoModelForCausalLM, name, dtype=dtype, trust_remote_code=False, **options
        )
    # The weights are no longer quantised, so they can be saved; the model does not record that.
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)
    return model


def _place(source: ModelSource) -> tuple[str, dict[str, Any]]:
    """Return the model's place, and the options for reading it."""
    options: dict[str, Any] = {}
    path = source.path
    if path is None:
        # The library would retry for half a minute; a warm cache does not need the hub.
        options = {"local_files_only": not hub_answers()}
        return source.name, {**options, "revision": source.revision or "main"}
    if path.suffix == _GGUF:
        if not path.is_file():
            raise InputError(f"{path} does not exist. Check {source.key}.")
        missing = [name for name in _FOR_GGUF if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(f"A GGUF file needs more packages: pip install {' '.join(missing)}")
        return str(path.parent), {**options, "gguf_file": path.name}
    if not path.is_dir():
        raise InputError(f"There is no model folder {source.name}. Check {source.key}.")
    if any(path.glob("*.bin")) and not any(path.glob("*.safetensors")):
        raise InputError(
            f"{path} holds only pickled weights, which can run code when opened and are refused. "
            "If you trust them, convert them to safetensors."
        )
    return str(path), options


def _explain(source: ModelSource, error: Exception) -> SentikitError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    causes = [error, error.__cause__, error.__context__]
    reason = " ".join(str(error).split())[:300]
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return InputError(f"The model {source.name!r} is gated: accept its terms, set HF_TOKEN.")
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return InputError(
            f"There is no model {source.name!r} on the hub, and no folder of that name."
        )
    if "custom code" in reason:
        return InputError(
            f"The model {source.name!r} needs Python code that comes with it, which is not run. "
            "Use a model whose architecture transformers itself has."
        )
    if source.path is not None:
        return InputError(f"{source.name} is not a causal language model: {reason}")
    return SentikitError(
        f"The model {source.name!r} could not be fetched from the hub ({reason}). Without a "
        f"network: download its folder elsewhere and give the folder's path as {source.key}."
    )
