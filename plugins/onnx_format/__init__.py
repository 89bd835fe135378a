"""Export to ONNX, and classification with ONNX Runtime without torch weights."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_formats(register: Any) -> None:
    """Register ``onnx``."""
    register(
        "onnx",
        f"{__name__}.format:OnnxFormat",
        summary="a graph for ONNX Runtime, in fp32 and, with --int8, quantised per channel",
    )
