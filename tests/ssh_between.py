"""Connects two machines by ssh without a password, as in a cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from two_machines import Machine

_PRIVILEGES = Path("/run/sshd")


@contextlib.contextmanager
def ssh_between(machines: Sequence[Machine], folder: Path) -> Iterator[Path]:
    """Serve ssh on the machines while the block runs; skip the test where that is not allowed.

    Args:
        machines: each gets a server.
        folder: for keys and settings.

    Yields:
        The client's settings, to stand in for /etc/ssh/ssh_config.
    """
    server, keygen = (
        shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin"),
        shutil.which("ssh-keygen"),
    )
    if not (server and keygen and shutil.which("pdsh")) or os.getuid():
        pytest.skip("ssh between machines needs sshd, ssh-keygen and pdsh, and root's rights")
    _PRIVILEGES.mkdir(exist_ok=True)
    for name in ("host", "user"):
        words = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    settings = folder / "ssh_config"
    settings.write_text(
        f"IdentityFile {folder / 'user'}\nStrictHostKeyChecking no\n"
        "UserKnownHostsFile /dev/null\nLogLevel ERROR\n"
    )
    options = {
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PermitRootLogin": "yes",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
    }
    given = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    command = [server, "-D", "-e", "-f", "/dev/null", *given]
    servers = [subprocess.Popen(machine.words(command)) for machine in machines]
    try:
        yield settings
    finally:
        for process in servers:
            process.terminate()
            process.wait()
