"""Inference with ONNX Runtime (https://onnxruntime.ai/docs/api/python/)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit import InputError
from sentikit.extension import BatchLimits

from .requirement import needed

#: Batch limits by precision: small batches stay in the CPU's cache, int8 ones even more so.
BATCH_LIMITS = {"fp32": BatchLimits(1024, 32, 0.1), "int8": BatchLimits(256, 8, 0.1)}
_ERRORS_ONLY = 3
#: After int8 products on a CPU, the fused kernel takes twice as long as separate addition and
#: normalisation: 9 % against 4.5 % of a pass of MiniLM with ONNX Runtime 1.32 and AVX2.
SLOW_FUSIONS = {("int8", "cpu"): ["SkipLayerNormFusion"]}


class OnnxPredictor:
    """A predictor that computes logits with a graph."""

    def __init__(self, path: Path, device: str, precision: str) -> None:
        """Load the graph at `path`.

        Raises:
            InputError: onnxruntime is not installed, the graph is damaged, or the device is not
                available.
        """
        runtime = needed("onnxruntime")
        self._path, self._precision = path, precision
        providers, self._device = _providers(runtime, device)
        try:
            self._session = runtime.InferenceSession(
                path,
                _options(runtime),
                providers=providers,
                disabled_optimizers=SLOW_FUSIONS.get((precision, self._device)),
            )
        # ONNX Runtime's exceptions have no public base class below Exception.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path} cannot be read by ONNX Runtime: {reason[:300]}") from error
        self._inputs = [value.name for value in self._session.get_inputs()]

    @property
    def width(self) -> int:
        """The number of logits per text, found by labelling one text if the graph does not say."""
        one = np.ones((1, 2), np.int64)
        return int(self._run(one, one).shape[-1])

    @property
    def device(self) -> str:
        """Where the graph runs."""
        return self._device

    @property
    def precision(self) -> str:
        """The weights' precision: fp32 or int8."""
        return self._precision

    @property
    def batch_limits(self) -> BatchLimits:
        """The limits of a batch."""
        return BATCH_LIMITS[self._precision]

    def logits(
        self, batches: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]
    ) -> list[NDArray[np.float32]]:
        """Return the logits, (texts, classes), of each batch of ids and mask."""
        return [self._run(ids, mask) for ids, mask in batches]

    def _run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        offered = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids) if "token_type_ids" in self._inputs else None,
        }
        try:
            outputs = self._session.run(None, {name: offered[name] for name in self._inputs})
        # ONNX Runtime's exceptions have no public base class below Exception.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{self._path} cannot label a text of {ids.shape[1]} word pieces, although "
                f"config.json allows them, or it is not a text classifier: {reason[:300]}"
            ) from error
        return np.asarray(outputs[0], np.float32)


def _options(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = _cpu_threads()
    options.log_severity_level = _ERRORS_ONLY
    return options


def _cpu_threads() -> int:
    """Return the number of CPU threads to use; 0 leaves it to the runtime."""
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def _providers(runtime: Any, device: str) -> tuple[list[Any], str]:
    """Return the execution providers to try, and sentikit's name of the device."""
    kind, _, number = device.partition(":")
    has_cuda = "CUDAExecutionProvider" in runtime.get_available_providers()
    if kind == "cpu" or (kind == "auto" and not has_cuda):
        return ["CPUExecutionProvider"], "cpu"
    if kind in ("auto", "cuda") and has_cuda:
        number = number or "0"
        cuda = ("CUDAExecutionProvider", {"device_id": number})
        return [cuda, "CPUExecutionProvider"], f"cuda:{number}"
    raise InputError(
        f"--device {device}: this ONNX Runtime does not offer it. Use cpu, or install "
        "onnxruntime-gpu for cuda."
    )
