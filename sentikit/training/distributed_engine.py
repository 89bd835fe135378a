"""What engines share whose processes meet through torch.distributed, however they were started."""

from __future__ import annotations

from typing import ClassVar

from sentikit.processes.group import ProcessGroup
from sentikit.training.engine import Engine


class DistributedEngine(ProcessGroup, Engine):
    """An engine that exchanges numbers, arrays, tensors and JSON over torch.distributed.

    Attributes:
        needs_group: whether a process on its own joins a group too, as some libraries ask.
    """

    needs_group: ClassVar[bool] = False

    def start(self, device: str) -> None:
        """Choose the device, join the group and meet the others.

        Raises:
            InputError: no such device, or one that several processes cannot share.
        """
        self.join(device, self.needs_group)
