"""The interface of engines, which run training steps, and their memory needs."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from pydantic import Field

from sentikit.components import (
    Component,
    ComponentSettings,
    Path,
    Problem,
    Section,
    check_component,
    refuse,
)
from sentikit.devices import Hardware, find_hardware
from sentikit.errors import InputError, SentikitError
from sentikit.processes.group import ProcessGroup
from sentikit.registry import Registry, default_registry

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from sentikit.training.model import ParameterGroup
    from sentikit.training.settings import LoopSettings, Optimizer


FLOAT32 = 4


@dataclass(frozen=True)
class ModelSize:
    """The sizes that determine the memory of training.

    Attributes:
        parameters: number of parameters of the model.
        trained: number of parameters that are not frozen.
        moments: numbers that the optimizer keeps per trained parameter; 2 for Adam.
    """

    parameters: int
    trained: int
    moments: int


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that one process needs, with everything in float32.

    Attributes:
        weights: parameters, and the optimizer's copies of them.
        gradients: gradients of the trained parameters.
        optimizer: moments of the optimizer.
        buffers: buffers for the exchange between processes.
    """

    weights: int
    gradients: int
    optimizer: int
    buffers: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.gradients + self.optimizer + self.buffers


def replicated(size: ModelSize) -> MemoryNeed:
    """Return the need of a process that keeps a full copy of everything."""
    trained = FLOAT32 * size.trained
    return MemoryNeed(FLOAT32 * size.parameters, trained, size.moments * trained)


def out_of_memory(error: BaseException) -> SentikitError | None:
    """Return the user's error if the memory of the device or machine was full, else None."""
    message = str(error).lower()
    full = "out of memory" in message or "can't allocate memory" in message
    if not isinstance(error, MemoryError) and not (isinstance(error, RuntimeError) and full):
        return None
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    graphs = " With the engine torch, engine.graphs=false needs less." if "cuda" in message else ""
    return SentikitError(
        f"There is not enough memory ({reason}). Lower training.micro_batch_size or "
        f"training.micro_batch_tokens, and resume with --resume.{graphs}"
    )


@dataclass(frozen=True)
class StepPlan:
    """The settings of an engine's steps.

    Attributes:
        optimizer: name and arguments.
        clip_norm: limit of the gradient norm, or None.
        precision: fp32, bf16 or fp16.
        batch_size: texts per optimizer step, over all processes.
        micro_batch_size: maximum texts in one forward pass of one process.
        micro_batch_tokens: maximum word pieces in one forward pass, padding included.
    """

    optimizer: Optimizer
    clip_norm: float | None
    precision: str
    batch_size: int
    micro_batch_size: int
    micro_batch_tokens: int = 16_384


class Engine(Component, ABC):
    """Runs training steps.

    Attributes:
        rank: this process's number, from 0.
        processes: the number of processes.
        device: this process's device.
    """

    rank: int = 0
    processes: int = 1
    device: torch.device

    @classmethod
    @abstractmethod
    def suits(cls, hardware: Hardware) -> int:
        """Return how well the engine suits the machine; ``auto`` chooses the highest above 0."""

    @abstractmethod
    def start(self, device: str) -> None:
        """Join the other processes, if any, and set `rank`, `processes` and `device`."""

    @abstractmethod
    def prepare(self, model: nn.Module, groups: Sequence[ParameterGroup], plan: StepPlan) -> None:
        """Move the model to the device and build the optimizer over `groups`."""

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """Return float32 logits of inputs on the CPU; `training_mode` decides about dropout."""

    @abstractmethod
    def training_mode(self, on: bool) -> None:
        """Switch dropout on or off."""

    @abstractmethod
    def micro_step(self, last: bool) -> AbstractContextManager[object]:
        """Wrap the forward and backward pass of one micro-batch; `last` if it ends the step."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Accumulate the loss's gradients; the last micro-batch of a step also exchanges them.

        A step's gradients are the mean over the processes.
        """

    @abstractmethod
    def step(self, rates: Sequence[float]) -> Tensor | float:
        """Clip and apply the gradients with one rate per group; clear them, return their norm."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return all weights by name, unsharded, in float32 on the CPU.

        Every process must call it; only the main process gets the weights.
        """

    @abstractmethod
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set all weights, which every process passes; the inverse of `weights`."""

    @abstractmethod
    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimizer's tensors as ``parameter/key``, like `weights`."""

    @abstractmethod
    def load_optimizer_state(self, state: dict[str, Tensor]) -> None:
        """Set the optimizer's tensors, which every process passes; after `load_weights`."""

    @abstractmethod
    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of `values` over all processes, on each of them."""

    @abstractmethod
    def gather(self, array: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return every process's array, in rank order, on each of them."""

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Return the JSON-like value of process 0."""

    @abstractmethod
    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the named tensors of process 0, on the CPU, and ignore those of the others.

        Only process 0 reads checkpoints, because the machines of a job may not share a disk.
        """

    def memory(self, size: ModelSize, processes: int) -> dict[str, MemoryNeed]:
        """Return the need of one process, by the engine's ways to distribute the state.

        ``--dry-run`` calls it before `start`.
        """
        return {"every process": replicated(size)}

    def warnings(self) -> list[str]:
        """Return warnings about how the steps run; called once, after `prepare`."""
        return []

    def finish(self) -> None:
        """Release the resources; the process may train again."""

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and shows messages."""
        return self.rank == 0


#: Default texts and word pieces per forward pass.
_MICRO_BATCH = {"cpu": (32, 4096), "cuda": (1024, 16_384), "mps": (64, 4096)}


def check_alike(engine: Engine, identity: str) -> None:
    """Refuse processes with other data than the first, as machines may have different files."""
    if engine.broadcast(identity) != identity:
        raise InputError(
            f"{socket.gethostname()}: the data or recipe of process {engine.rank} differ from "
            "those of process 0. Give every machine the same files and start the same command."
        )


def step_plan(
    training: LoopSettings, engine: Engine, precision: str, section: str = "training"
) -> StepPlan:
    check_processes(training, engine.processes, section)
    share = -(-training.batch_size // engine.processes)
    rows, tokens = _MICRO_BATCH[engine.device.type]
    return StepPlan(
        training.optimizer,
        training.clip_norm,
        precision,
        training.batch_size,
        training.micro_batch_size or min(share, rows),
        training.micro_batch_tokens or tokens,
    )


def check_processes(training: LoopSettings, processes: int, section: str = "training") -> None:
    if processes > training.batch_size:
        raise InputError(
            f"{section}.batch_size is {training.batch_size}, less than the number of processes "
            f"({processes}). Raise it or start fewer processes."
        )


class DistributedEngine(ProcessGroup, Engine):
    """An engine that exchanges numbers, arrays, tensors and JSON over torch.distributed.

    Attributes:
        needs_group: whether a single process joins a group too, as some libraries require.
    """

    needs_group: ClassVar[bool] = False
    device: torch.device

    def start(self, device: str) -> None:
        """Choose the device and join the group.

        Raises:
            InputError: no such device, or one that several processes cannot share.
        """
        self.join(device, self.needs_group)


AUTO = "auto"


def check_engine(
    registry: Registry, raw: Any, prefix: Path
) -> tuple[Component | None, list[Problem]]:
    """Make the engine of a recipe's section, or return its problems."""
    if not isinstance(raw, Mapping):
        return None, [Problem(prefix, "must be a section with a name.")]
    if raw.get("name", AUTO) != AUTO:
        return check_component(registry, "register_engines", raw, prefix)
    return check_component(registry, "register_engines", {**raw, "name": _best(registry)}, prefix)


def _best(registry: Registry) -> str:
    hardware = find_hardware()
    ranks = {
        name: registry.load("register_engines", name).suits(hardware)
        for name in registry.names("register_engines")
    }
    return max(ranks, key=lambda name: ranks[name], default=AUTO)


def _delegated(name: str) -> Any:
    def method(self: EngineWrapper, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.inner, name)(*args, **kwargs)

    return method


class EngineWrapper(Engine):
    """An engine that delegates to another one; a subclass overrides what it changes.

    Attributes:
        inner: the wrapped engine; its settings are the key ``wraps``.
    """

    class Settings(ComponentSettings):
        """Settings of an engine that wraps another."""

        wraps: Section = Field(
            default_factory=lambda: {"name": AUTO}, description="the engine that does the work"
        )

    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__(settings)
        wraps = getattr(settings, "wraps", {"name": AUTO})
        inner, problems = check_engine(default_registry(), wraps, ("engine", "wraps"))
        refuse(problems)
        self.inner = cast("Engine", inner)

    @classmethod
    def suits(cls, hardware: Hardware) -> int:
        """Return 0: ``auto`` never chooses a wrapper."""
        return 0

    def start(self, device: str) -> None:
        """Start the inner engine and copy its rank, processes and device."""
        self.inner.start(device)
        self.rank, self.processes = self.inner.rank, self.inner.processes
        self.device = self.inner.device

    prepare = _delegated("prepare")
    forward = _delegated("forward")
    training_mode = _delegated("training_mode")
    micro_step = _delegated("micro_step")
    backward = _delegated("backward")
    step = _delegated("step")
    weights = _delegated("weights")
    load_weights = _delegated("load_weights")
    optimizer_state = _delegated("optimizer_state")
    load_optimizer_state = _delegated("load_optimizer_state")
    sum = _delegated("sum")
    gather = _delegated("gather")
    broadcast = _delegated("broadcast")
    broadcast_tensors = _delegated("broadcast_tensors")
    memory = _delegated("memory")
    warnings = _delegated("warnings")
    finish = _delegated("finish")
