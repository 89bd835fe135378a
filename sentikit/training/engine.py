"""The interface of an engine, which runs training steps, and the memory that one needs."""

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
from sentikit.devices import find_hardware
from sentikit.errors import InputError, SentikitError
from sentikit.processes.group import ProcessGroup
from sentikit.registry import Registry, default_registry

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from sentikit.devices import Hardware
    from sentikit.training.parameters import ParameterGroup
    from sentikit.training.settings import LoopSettings, Optimizer


FLOAT32 = 4


@dataclass(frozen=True)
class ModelSize:
    """What the memory of a training depends on.

    Attributes:
        parameters: of the whole model.
        trained: those that are not frozen.
        moments: numbers the optimizer keeps for each trained parameter; Adam two.
    """

    parameters: int
    trained: int
    moments: int


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one process with its gradients; everything is kept in float32.

    Attributes:
        weights: parameters, and copies of them that the optimizer works on.
        gradients: of the trained parameters.
        optimizer: its moments.
        buffers: what the exchange between processes needs besides.
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
    """Return what a process needs that keeps everything itself."""
    trained = FLOAT32 * size.trained
    return MemoryNeed(FLOAT32 * size.parameters, trained, size.moments * trained)


def out_of_memory(error: BaseException) -> SentikitError | None:
    """Return what to tell the user where the memory of the device or machine was full."""
    said = str(error).lower()
    full = "out of memory" in said or "can't allocate memory" in said
    if not isinstance(error, MemoryError) and not (isinstance(error, RuntimeError) and full):
        return None
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    graphs = " With the engine torch, engine.graphs=false needs less." if "cuda" in said else ""
    return SentikitError(
        f"There is not enough memory ({reason}). Lower training.micro_batch_size or "
        f"training.micro_batch_tokens, and resume with --resume.{graphs}"
    )


@dataclass(frozen=True)
class StepPlan:
    """What an engine needs to know of the steps to come.

    Attributes:
        optimizer: which one, with its arguments.
        clip_norm: limit of the gradient norm, or None.
        precision: fp32, bf16 or fp16.
        batch_size: texts per optimizer step, over all processes.
        micro_batch_size: most texts in one forward pass of one process.
        micro_batch_tokens: most word pieces in it, padding counted.
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
        processes: how many take part.
        device: where this process computes.
    """

    rank: int = 0
    processes: int = 1
    device: torch.device

    @classmethod
    @abstractmethod
    def suits(cls, hardware: Hardware) -> int:
        """Return how well the engine fits the machine; ``auto`` takes the highest, 0 is never."""

    @abstractmethod
    def start(self, device: str) -> None:
        """Join the other processes, if any, and set `rank`, `processes` and `device`."""

    @abstractmethod
    def prepare(self, model: nn.Module, groups: Sequence[ParameterGroup], plan: StepPlan) -> None:
        """Take over the model: move it to the device and build the optimizer over `groups`."""

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """Return float32 logits of inputs given on the CPU; dropout as set by `training_mode`."""

    @abstractmethod
    def training_mode(self, on: bool) -> None:
        """Switch dropout on or off."""

    @abstractmethod
    def micro_step(self, last: bool) -> AbstractContextManager[object]:
        """Surround the forward and backward pass of one micro-batch; `last` of its step or not."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients; the last micro-batch of a step also exchanges them.

        The gradients of a step are the mean over the processes of their losses' gradients.
        """

    @abstractmethod
    def step(self, rates: Sequence[float]) -> Tensor | float:
        """Clip, apply the gradients with one rate a group, clear them; return their norm."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return all weights by name in float32, whole, on the CPU.

        Every process must call it; only the main process gets them, the others nothing.
        """

    @abstractmethod
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set all weights, given to every process; the inverse of `weights`."""

    @abstractmethod
    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimizer's tensors as ``parameter/key``, whole, on the CPU; as `weights`."""

    @abstractmethod
    def load_optimizer_state(self, state: dict[str, Tensor]) -> None:
        """Set the optimizer's tensors, given to every process; after `load_weights`."""

    @abstractmethod
    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of `values` over all processes, on each of them."""

    @abstractmethod
    def gather(self, array: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return every process's array, in rank order, on each of them."""

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Return the JSON-like value that process 0 has."""

    @abstractmethod
    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return, on the CPU, the tensors by name that process 0 has; what others give is ignored.

        Only process 0 reads checkpoints: the machines of a job may share no disk.
        """

    def memory(self, size: ModelSize, processes: int) -> dict[str, MemoryNeed]:
        """Return what one of the processes would need, by the engine's ways to spread the state.

        Asked by ``--dry-run``, before `start`.
        """
        return {"every process": replicated(size)}

    def remarks(self) -> list[str]:
        """Return what the user should know of how the steps run; asked once, after `prepare`."""
        return []

    def finish(self) -> None:
        """Release what the training held; the process may go on and train again."""

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0


#: Texts and word pieces a process passes forward at once where the recipe leaves it open.
_MICRO_BATCH = {"cpu": (32, 4096), "cuda": (1024, 16_384), "mps": (64, 4096)}


def check_alike(engine: Engine, identity: str) -> None:
    """Refuse processes that would train on other data than the first: machines may differ."""
    if engine.broadcast(identity) != identity:
        raise InputError(
            f"{socket.gethostname()}: the data or the recipe of process {engine.rank} are not "
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
            f"{section}.batch_size is {training.batch_size}, fewer than the {processes} "
            "processes. Raise it or start fewer processes."
        )


class DistributedEngine(ProcessGroup, Engine):
    """An engine that exchanges numbers, arrays, tensors and JSON over torch.distributed.

    Attributes:
        needs_group: whether a process on its own joins a group too, as some libraries ask.
    """

    needs_group: ClassVar[bool] = False
    device: torch.device

    def start(self, device: str) -> None:
        """Choose the device, join the group and meet the others.

        Raises:
            InputError: no such device, or one that several processes cannot share.
        """
        self.join(device, self.needs_group)


AUTO = "auto"


def check_engine(
    registry: Registry, raw: Any, prefix: Path
) -> tuple[Component | None, list[Problem]]:
    """Make the engine of a recipe's section, or say what is wrong with it."""
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


def _passed_on(name: str) -> Any:
    def method(self: EngineWrapper, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.inner, name)(*args, **kwargs)

    return method


class EngineWrapper(Engine):
    """An engine around another one: a subclass overrides what it changes, the rest is passed on.

    Attributes:
        inner: the engine that does the work; its settings are the key ``wraps``.
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
        """Never be chosen by ``auto``."""
        return 0

    def start(self, device: str) -> None:
        """Start the inner engine, and take over its rank, processes and device."""
        self.inner.start(device)
        self.rank, self.processes = self.inner.rank, self.inner.processes
        self.device = self.inner.device

    prepare = _passed_on("prepare")
    forward = _passed_on("forward")
    training_mode = _passed_on("training_mode")
    micro_step = _passed_on("micro_step")
    backward = _passed_on("backward")
    step = _passed_on("step")
    weights = _passed_on("weights")
    load_weights = _passed_on("load_weights")
    optimizer_state = _passed_on("optimizer_state")
    load_optimizer_state = _passed_on("load_optimizer_state")
    sum = _passed_on("sum")
    gather = _passed_on("gather")
    broadcast = _passed_on("broadcast")
    broadcast_tensors = _passed_on("broadcast_tensors")
    memory = _passed_on("memory")
    remarks = _passed_on("remarks")
    finish = _passed_on("finish")
