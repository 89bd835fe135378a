"""The torch module that is trained and saved, and the predictor that runs it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from sentikit.classifiers.batches import BATCH_LIMITS, BatchLimits
from sentikit.classifiers.encoder import pool

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SentimentModel(nn.Module):
    """Texts to logits.

    Attributes:
        encoder: the transformers backbone.
        pooling: cls, mean, max or last; head where the head pools itself.
        head: pooled text to logits.
    """

    def __init__(self, encoder: PreTrainedModel, head: nn.Module, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.pooling = pooling

    @property
    def is_capturable(self) -> bool:
        """Whether a GPU never waits in the encoder, so that a pass can become a CUDA graph."""
        return takes_ready_mask(self.encoder)

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the pooled texts, (texts, hidden)."""
        states = encode(self.encoder, input_ids, attention_mask).last_hidden_state
        return self.pooled(states, attention_mask)

    def pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return token states, (texts, tokens, hidden), as one vector a text."""
        if self.pooling == "head":
            return cast("Tensor", self.head.pool(states, mask))  # type: ignore[operator]
        return pool(states, mask, self.pooling)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the logits, (texts, classes), in float32 whatever the precision inside."""
        logits: Tensor = self.head(self.embed(input_ids, attention_mask))
        return logits.float()


#: Types of encoder in which every token attends to every other and padding is all that is masked.
_PADDING_ONLY = frozenset(
    ("albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
)


#: Word pieces up to which cuDNN's attention, which is prepared anew for every width, is the slower
#: one on a GPU (measured with ELECTRA on an H200).
_SHORT_TEXTS = 128


def encode(encoder: PreTrainedModel, input_ids: Tensor, mask: Tensor) -> Any:
    """Return the output of a transformers model for word pieces and their mask, 1 for a token.

    transformers asks the device whether anything is padded at all, which makes a GPU wait in every
    pass; it passes on a mask with four dimensions without reading it.
    """
    if mask.device.type != "cuda":
        return encoder(input_ids=input_ids, attention_mask=mask)
    ready = mask
    if takes_ready_mask(encoder):
        cast = torch.is_autocast_enabled("cuda")
        ready = additive_mask(mask, torch.get_autocast_dtype("cuda") if cast else encoder.dtype)
    if mask.shape[1] > _SHORT_TEXTS:
        return encoder(input_ids=input_ids, attention_mask=ready)
    kernels = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(kernels):
        return encoder(input_ids=input_ids, attention_mask=ready)


def takes_ready_mask(encoder: PreTrainedModel) -> bool:
    """Return whether `additive_mask` covers everything that the encoder's attention masks."""
    config = encoder.config
    if getattr(config, "is_decoder", False):  # It also masks later tokens.
        return False
    return config.model_type in _PADDING_ONLY and config._attn_implementation == "sdpa"


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what attention adds to its scores: (texts, 1, 1, tokens), the lowest for padding."""
    width = mask.shape[1]
    # The kernels want rows aligned to 8 numbers, and would copy the mask in every layer.
    lowest = torch.finfo(dtype).min
    added = torch.full(
        (len(mask), 1, 1, -(-width // 8) * 8), lowest, dtype=dtype, device=mask.device
    )
    return added[..., :width].masked_fill_(mask[:, None, None].bool(), 0.0)


#: One thread computes a pass on a CPU: larger ones are not faster (measured with MiniLM).
_CPU_LIMITS = BatchLimits(512, 32, 0.1, 32)

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


class TorchPredictor:
    """Runs a torch module, with its weights in the wanted precision.

    Weights in bf16 are faster than fp32 weights under autocast, which casts them in every pass. On
    a CPU each of torch's threads runs passes of its own: none waits for another, and logits are
    the same to the bit whatever the number of threads.

    Attributes:
        model: the module, in evaluation mode.
        device: where it is.
        precision: of its weights.
        batch_limits: the size of one pass.
    """

    def __init__(self, model: nn.Module, device: torch.device, precision: str) -> None:
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        self.model = model.to(device=device, dtype=kinds[precision]).eval()
        self.device, self.precision = str(device), precision
        on_cpu = device.type == "cpu"
        self.batch_limits: BatchLimits = _CPU_LIMITS if on_cpu else BATCH_LIMITS[device.type]
        self._device = device

    def logits(self, batches: Iterable[Batch]) -> list[NDArray[np.float32]]:
        """Return the logits of each batch; a GPU is waited for once, at the end."""
        if self._device.type == "cpu":
            return _in_threads(self._on_cpu, batches)
        with torch.inference_mode():
            results = [self.model(*self._moved(batch)) for batch in batches]
            return [logits.cpu().numpy() for logits in results]

    def _on_cpu(self, batch: Batch) -> NDArray[np.float32]:
        with torch.inference_mode(), fast_linear() if self.precision == "fp32" else nullcontext():
            logits: NDArray[np.float32] = self.model(*map(torch.from_numpy, batch)).numpy()
        return logits

    def _moved(self, batch: Batch) -> list[Tensor]:
        pinned = self._device.type == "cuda"
        return [
            (tensor.pin_memory() if pinned else tensor).to(self._device, non_blocking=True)
            for tensor in map(torch.from_numpy, batch)
        ]


#: Held while torch's number of threads for new threads differs from that of the process.
_starting = threading.Lock()


def _in_threads(
    compute: Callable[[Batch], NDArray[np.float32]], batches: Iterable[Batch]
) -> list[NDArray[np.float32]]:
    """Compute batches in as many threads as torch may use, each alone; an error ends all."""
    found: dict[int, NDArray[np.float32]] = {}
    waiting: Iterator[tuple[int, Batch]] = enumerate(batches)
    reading, started = threading.Lock(), threading.Semaphore(0)

    def upcoming() -> tuple[int, Batch] | None:
        with reading:
            return next(waiting, None)

    def work(item: tuple[int, Batch] | None) -> None:
        nonlocal waiting
        torch.get_num_threads()  # Otherwise torch takes the process's number later, once.
        torch.set_num_threads(1)
        started.release()
        try:
            while item is not None:
                found[item[0]] = compute(item[1])
                item = upcoming()
        except BaseException:
            waiting = iter(())
            raise

    with _starting:
        threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, "sentikit-pass") as pool:
        futures: list[Future[None]] = []
        with _starting:
            try:
                while len(futures) < threads and (item := upcoming()) is not None:
                    futures.append(pool.submit(work, item))
                    started.acquire()
            finally:
                torch.set_num_threads(threads)  # New threads take the number set last.
        for future in futures:
            future.result()
    return [found[number] for number in range(len(found))]


_CPU_INFORMATION = Path("/proc/cpuinfo")


def fast_linear() -> AbstractContextManager[Any]:
    """Return the context for float32 inference on this CPU; one that does nothing on most.

    On a CPU torch multiplies float32 matrices with Intel's MKL, which keeps its AVX-512 kernels for
    Intel's own processors; oneDNN, also inside torch, uses them on AMD's as well (measured: 14 %
    more texts a second on an EPYC 9004).
    """
    return _OneDnnLinear() if _onednn_is_faster() else nullcontext()


@functools.cache
def _onednn_is_faster() -> bool:
    try:
        vendor = _CPU_INFORMATION.read_text("utf-8", "replace")[:200]
    except OSError:
        return False
    return (
        "AuthenticAMD" in vendor
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class _OneDnnLinear(TorchFunctionMode):
    """Sends every float32 ``linear`` to the operation that torch.compile would choose."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is functional.linear and _suits(args, given):
            bias = args[2] if len(args) == 3 else given["bias"]
            return torch.ops.mkldnn._linear_pointwise(args[0], args[1], bias, "none", [], "")
        return func(*args, **given)


def _suits(args: tuple[Any, ...], given: Mapping[str, Any]) -> bool:
    """Return whether the arguments are float32 rows, weights and bias, as layers pass them."""
    complete = len(args) == 3 or (len(args) == 2 and "bias" in given)
    return complete and args[0].dtype == torch.float32 and args[0].ndim > 1 and args[0].numel() > 0
