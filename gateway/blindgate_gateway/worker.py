"""Gunicorn's threaded worker, quicker for a caller that asks again.

A client of the gateway sends a handful of requests in a row. Gunicorn hands a connection back to its event loop after each
answer, and from there to a thread again: four changes of thread a request. Here the thread that answered waits a few
milliseconds for the next request on the same connection, unless other connections wait for a thread. And headers and body of
an answer leave in one packet, so that the client is woken once.
"""

import select
import socket
from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

LINGER_MS = 5


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A `ThreadWorker` that lingers."""

    def handle(self, conn: Any) -> Any:
        """Serve a connection's request, and those that follow at once."""
        kept = super().handle(conn)
        while kept is True and self.alive and not self._others_wait() and _readable(conn.sock):
            kept = super().handle(conn)
        return kept

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer one request, in as few packets as it takes."""
        if any(name == "EXPECT" for name, _ in req.headers):
            return super().handle_request(req, conn)  # 100 Continue must leave before the answer
        conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        kept = super().handle_request(req, conn)
        conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        return kept

    def _others_wait(self) -> bool:
        return bool(self.tpool._work_queue.qsize())  # noqa: SLF001  (the executor has no other way to tell)


def _readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(LINGER_MS))
