"""Whether a caller that was made to wait is still there: a node that was killed must not be given what it cannot take.

A server notices that its caller is gone when it writes, and by then a lease is given away, for half a minute. So whoever waited is
looked at first. One that has closed its sending side counts as gone: no node does that while it waits. Where the connection
cannot be looked at, the caller is there; one that vanished without a word (a machine without power) is, too, until its lease ends.
"""

import select
import socket
from collections.abc import Mapping
from typing import Any, Final

_SOCKET: Final = "gunicorn.socket"
_GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


def is_gone(environ: Mapping[str, Any]) -> bool:
    """Whether who sent the request of this WSGI environment has closed its connection."""
    connection: socket.socket | None = environ.get(_SOCKET)
    if connection is None:
        return False
    poll = select.poll()
    try:
        poll.register(connection, select.POLLRDHUP)
        return any(event & _GONE for _, event in poll.poll(0))
    except (OSError, ValueError):  # closed on this side
        return True
