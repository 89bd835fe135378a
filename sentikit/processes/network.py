"""Finds the network interface by which the processes of several machines reach one another."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys

#: Read by gloo, which otherwise asks what address this machine's own name stands for: often none,
#: or one of the loopback that no other machine can reach.
_VARIABLE = "GLOO_SOCKET_IFNAME"
#: ``SIOCGIFADDR`` of Linux, see netdevice(7).
_GET_ADDRESS = 0x8915


def name_interface() -> None:
    """Let gloo use the interface that leads to the first process, unless the user has chosen."""
    if _VARIABLE in os.environ or not sys.platform.startswith("linux"):
        return
    address = _own_address(os.environ.get("MASTER_ADDR", "localhost"))
    name = _interface_of(address) if address and not address.startswith("127.") else None
    if name:
        os.environ[_VARIABLE] = name


def _own_address(host: str) -> str | None:
    """Return the IPv4 address from which this machine speaks to `host`; nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])
    return None


def _interface_of(address: str) -> str | None:
    """Return the interface that bears an IPv4 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(asking.fileno(), _GET_ADDRESS, request)
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None
