"""Safetensors files, and what is refused beside them: pickled weights and foreign code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sentikit.errors import InputError, SentikitError
from sentikit.files import disk_errors, read_json

if TYPE_CHECKING:
    from torch import Tensor

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")

_MAY_NAME_CODE = ("config.json", "tokenizer_config.json")


def refuse_foreign_code(folder: Path) -> None:
    """Refuse a model folder that names Python code of its own for transformers to run.

    Raises:
        InputError: its ``config.json`` or ``tokenizer_config.json`` has an ``auto_map``.
    """
    for name in _MAY_NAME_CODE:
        config = read_json(folder / name) if (folder / name).is_file() else None
        if isinstance(config, dict) and config.get("auto_map"):
            raise InputError(
                f"{folder} needs Python code that comes with the model (auto_map in {name}), and "
                "sentikit does not run such code. Use a model whose architecture transformers "
                "itself has."
            )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: missing, damaged, or only pickled weights are there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    pickled = [p.name for pattern in _PICKLED for p in sorted(path.parent.glob(pattern))]
    if not path.is_file() and pickled:
        raise InputError(
            f"{path.parent} holds only pickled weights ({pickled[0]}), which can run code when "
            "opened and are refused. Convert them to safetensors where you trust them."
        )
    with disk_errors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is damaged or truncated ({error}). Copy it again.") from error


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file; the file is complete only when this returns.

    Raises:
        SentikitError: the disk is full or fails.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    with disk_errors(path):
        try:
            save_file(contiguous, path, metadata={"format": "pt"})
        except SafetensorError as error:
            if "os error 28" in str(error):
                raise SentikitError(
                    f"The disk is full: {path} could not be written. Free some space and try "
                    "again; what was written before is intact."
                ) from error
            raise SentikitError(f"{path} could not be written ({error}).") from error
