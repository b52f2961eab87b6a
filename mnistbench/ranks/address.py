"""The address at which the ranks' processes find each other where a backend exchanges by itself."""

from __future__ import annotations

import socket

_ANY_PORT = 9
"""Port for asking for a route; nothing is sent to it."""


def free_address(other: str | None) -> str:
    """Return "host:port", a free port of this machine, under the address at which another machine reaches it.

    Args:
        other: Name of another machine; None if all ranks are on this one.
    """
    host = "127.0.0.1"
    if other is not None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((other, _ANY_PORT))
            host = probe.getsockname()[0]
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind((host, 0))
        return f"{host}:{listening.getsockname()[1]}"
