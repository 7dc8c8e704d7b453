"""Sockets that lead nowhere: the pair that an event loop wakes itself with is given, every other one is refused."""

import socket
from typing import Any


class LocalSocket(socket.socket):
    """Stands in for `socket.socket` where a test allows none to anywhere else."""

    def __init__(self, family: int = -1, *rest: Any, **named: Any) -> None:
        if family != socket.AF_UNIX:
            message = "a socket was asked for"
            raise AssertionError(message)
        super().__init__(family, *rest, **named)

    def connect(self, address: Any) -> None:
        """Refused."""
        message = f"a connection was asked for, to {address!r}"
        raise AssertionError(message)
