"""The packages of the extra ``onnx``."""

from __future__ import annotations

import importlib
import os
from typing import Any

from sentikit import InputError


def needed(package: str) -> Any:
    """Import a package.

    Raises:
        InputError: it is not installed.
    """
    # Otherwise ONNX Runtime (seen with 1.32) writes an identifier for usage data into the home
    # directory as soon as it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"The format 'onnx' needs the package {package.split('.', maxsplit=1)[0]}. "
            "Install it with: pip install 'sentikit[onnx]'"
        ) from error
