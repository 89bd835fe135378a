"""Two machines: network namespaces of Linux joined by a virtual cable.

Each has an address, a loopback and a host name of its own, which only itself can resolve, to its
loopback, as Debian has it (``127.0.1.1``). They share no other network. See ip-netns(8), veth(4).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PORT = 29500


@dataclass(frozen=True)
class Machine:
    """One end of the cable."""

    name: str
    address: str
    hosts: Path

    def words(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs `command` on this machine."""
        inside = f'hostname {self.name}; mount --bind {self.hosts} /etc/hosts; exec "$@"'
        return [
            *("ip", "netns", "exec", self.name),
            *("unshare", "--uts", "--mount", "sh", "-e", "-c", inside, "sh", *command),
        ]


@contextlib.contextmanager
def two_machines(folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """Make two machines and take them down again; skip the test where that is not allowed.

    Args:
        folder: for their lists of hosts.
    """
    if not (shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("two machines need the commands ip (iproute2) and unshare")
    # Several checkouts may be tested at once: names and addresses depend on the process.
    number = os.getpid()
    network = f"10.{number // 256 % 256}.{number % 256}"
    names = (f"sk{number}-1", f"sk{number}-2")
    first, second = (
        Machine(name, f"{network}.{end}", folder / name) for end, name in enumerate(names, 1)
    )
    cable = ("link", "add", "cable", "netns", first.name, "type", "veth", "peer", "name", "cable")
    try:
        for machine in (first, second):
            machine.hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n")
            _ip("netns", "add", machine.name)
        _ip(*cable, "netns", second.name)
        for machine in (first, second):
            _ip("-n", machine.name, "address", "add", f"{machine.address}/24", "dev", "cable")
            for interface in ("lo", "cable"):
                _ip("-n", machine.name, "link", "set", interface, "up")
        yield first, second
    finally:
        for machine in (first, second):
            subprocess.run(["ip", "netns", "del", machine.name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"network namespaces cannot be made here: {done.stderr.strip()}")
