"""The interface of an engine: how training steps run, on one process or many.

The loop asks an engine for a forward pass, a backward pass and a step, and to sum or gather what
processes know. Weights and optimizer state cross this border whole and by parameter name, so that
a checkpoint fits any engine, any ZeRO stage and any number of processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sentikit.components import Part
from sentikit.training.memory import MemoryNeed, ModelSize, replicated

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from sentikit.devices import Hardware
    from sentikit.training.optimizers import Optimizer
    from sentikit.training.parameter_groups import ParameterGroup


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


class Engine(Part, ABC):
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

        Every process must call it; only the one that speaks gets them, the others nothing.
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
    def speaks(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0
