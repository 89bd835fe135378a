"""Forward and backward passes as CUDA graphs, one for each shape of a batch.

A step of short texts consists of a thousand small kernels, which the CPU launches more slowly than
the GPU runs them; a graph launches them at once. On an H200, a step of ELECTRA base is 2.7 times as
fast. See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentikit import SentikitError

#: Passes of a shape before it is recorded.
_USUAL_PASSES = 1
#: Most graphs; each takes some megabytes in addition to the shared memory.
_MOST_GRAPHS = 256


class PassGraphs:
    """The graphs of one model's passes.

    Gradients are added to those of `wholes`, which must be zeroed and never set to None.
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        parameters: Sequence[nn.Parameter],
        wholes: Sequence[nn.Parameter],
        device: torch.device,
    ) -> None:
        """Prepare to record.

        Args:
            model: from inputs on the device to logits.
            parameters: the trained ones it computes with.
            wholes: their float32 weights, or themselves.
            device: a GPU.
        """
        self._model, self._parameters, self._wholes = model, parameters, wholes
        self._device = device
        self._graphs: dict[tuple[Any, ...], _PassGraph] = {}
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._pool = torch.cuda.graph_pool_handle()
        # The default stream cannot record, and gradients belong to the stream of their pass.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(device))
        torch.cuda.set_stream(self._stream)
        self._anchor = torch.zeros((), device=device, requires_grad=True)
        self._possible = True
        # Larger inputs need memory that is not allocated yet, or never available.
        self._largest, self._too_large = 0, sys.maxsize

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the logits of inputs on the CPU; a backward pass adds the gradients."""
        key = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        graph = self._graphs.get(key)
        if graph is None:
            self._seen[key] += 1
            if self._seen[key] <= _USUAL_PASSES or not self._may_record(inputs):
                return self._as_usual(inputs)
            graph = self._graphs[key] = self._record(inputs)
            self._largest = max(self._largest, _size(inputs))
        logits: Tensor = _Replay.apply(  # type: ignore[no-untyped-call]
            self._anchor, graph, *inputs
        )
        return logits

    def _may_record(self, inputs: Sequence[Tensor]) -> bool:
        if self._possible and not self._graphs:
            self._possible = all(whole.grad is not None for whole in self._wholes)
        size = _size(inputs)
        if not self._possible or len(self._graphs) >= _MOST_GRAPHS or size >= self._too_large:
            return False
        if size > self._largest:
            # All graphs share the activations' memory, but not with other passes.
            torch.cuda.empty_cache()
            free, _ = torch.cuda.mem_get_info(self._device)
            if free <= torch.cuda.max_memory_allocated(self._device):
                self._too_large = size
                return False
        return True

    def _as_usual(self, inputs: Sequence[Tensor]) -> Tensor:
        moved = [tensor.to(self._device, non_blocking=True) for tensor in inputs]
        if not self._possible or self._graphs:
            return self._model(*moved)
        generator = torch.cuda.default_generators[self._device.index or 0]
        offset = generator.get_offset()
        try:
            with _refusing_to_wait():
                return self._model(*moved)
        except RuntimeError as error:
            if "synchronizing" not in str(error):
                raise
            # A model that reads numbers from the device cannot be recorded.
            self._possible = False
            generator.set_offset(offset)
            return self._model(*moved)

    def _record(self, inputs: Sequence[Tensor]) -> _PassGraph:
        fixed = [tensor.to(self._device, non_blocking=True) for tensor in inputs]
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        try:
            with self._recorded(forward):
                logits = self._model(*fixed)
            gradient = torch.zeros_like(logits)
            with self._recorded(backward):
                gradients = torch.autograd.grad(logits, self._parameters, gradient)
                with torch.no_grad():
                    held = [w.grad for w in self._wholes if w.grad is not None]
                    torch._foreach_add_(held, list(gradients))
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            # An incomplete recording leaves the random number generator unusable.
            reason = " ".join(str(error).split())[:200]
            raise SentikitError(
                f"CUDA cannot record this model's passes ({reason}). Set engine.graphs=false and "
                "resume with --resume."
            ) from error
        return _PassGraph(fixed, logits.detach(), gradient, forward, backward)

    @contextlib.contextmanager
    def _recorded(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        # The garbage collector could call functions that are forbidden while recording.
        collects = gc.isenabled()
        gc.disable()
        # Threads that prepare batches continue to pin memory.
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            try:
                yield
            finally:
                graph.capture_end()
        finally:
            if collects:
                gc.enable()

    def close(self) -> None:
        """Return to the default stream."""
        self._stream.synchronize()
        torch.cuda.set_stream(torch.cuda.default_stream(self._device))


def _size(inputs: Sequence[Tensor]) -> int:
    return max(tensor.numel() for tensor in inputs)


class _PassGraph:
    """A forward and a backward pass of one shape, with the memory they read and write."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        logits: Tensor,
        gradient: Tensor,
        forward: torch.cuda.CUDAGraph,
        backward: torch.cuda.CUDAGraph,
    ) -> None:
        self._inputs, self._logits, self._gradient = inputs, logits, gradient
        self._forward, self._backward = forward, backward

    def run_forward(self, inputs: Sequence[Tensor]) -> Tensor:
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed.copy_(given, non_blocking=True)
        self._forward.replay()
        return self._logits.clone()

    def run_backward(self, gradient: Tensor) -> None:
        self._gradient.copy_(gradient)
        self._backward.replay()


class _Replay(torch.autograd.Function):
    """The logits of a graph; their gradient runs its backward pass."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, graph: _PassGraph, *inputs: Tensor) -> Tensor:
        ctx.graph, ctx.inputs = graph, len(inputs)
        return graph.run_forward(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        ctx.graph.run_backward(gradients[0])
        nothing: tuple[None, ...] = (None,) * (2 + ctx.inputs)
        return nothing


@contextlib.contextmanager
def _refusing_to_wait() -> Iterator[None]:
    """Make operations that wait for the GPU raise a RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(action="ignore"):
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
