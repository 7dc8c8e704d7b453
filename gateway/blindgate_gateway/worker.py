"""Gunicorn's threaded worker, quicker for a caller that asks again, and not held up by one that stalls.

A client of the gateway sends a handful of requests in a row. Gunicorn hands a connection back to its event loop after each
answer, and from there to a thread again: four changes of thread a request, and a quarter of its processor time. Here the thread
that answered waits for the next request on the same connection: a tenth of a second while half of the threads have nothing to do,
else a few milliseconds, and not at all when other connections wait for a thread. And headers and body of an answer leave in one
packet, so that the client is woken once.

A caller who falls silent in the middle of a request, or takes nothing of an answer, would hold a thread for as long as its
connection stands. The kernel ends both waits after `stall_ms`; in between, a connection costs no thread. And a worker that has no
descriptor left for another connection leaves it waiting instead of ending. How it stops is in `server`.

Bytes that are no request are refused in the form of every other refusal, and not repeated: gunicorn writes the line that it could
not read into the log and into its answer, and that line may be a credential that was folded, or the rest of a body whose length
was wrong.
"""

import errno
import secrets
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from gunicorn.http.errors import (  # type: ignore[import-untyped]
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from blindgate_gateway.logs import log
from blindgate_protocol.messages import REQUEST_HEADER, Problem

LINGER_MS = 100
LINGER_BUSY_MS = 5
DRAIN_SECONDS = 5.0
DRAIN_BYTES = 16 << 20
"""What is read of a body that was refused: a part of the usual size."""
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NO_ROOM_PAUSE_SECONDS = 0.05
_STATUS: Final = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
_ANSWERS: Final = (InvalidResponseHeader, InvalidResponseHeaderName)
"""Faults of the application's answer, not of the request."""


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A `ThreadWorker` that lingers.

    Attributes:
        stall_ms: how long a caller may send nothing of a request that it began, or take nothing of its answer.
    """

    stall_ms = 30_000
    _busy = 0
    _count = threading.Lock()

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._answering: set[Any] = set()

    def accept(self, listener: Any) -> None:
        """Take a connection, or leave it in the queue while there are no descriptors."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self.log.warning("no room for another connection: %s", error.strerror)
            time.sleep(_NO_ROOM_PAUSE_SECONDS)

    def keep_no_more(self) -> None:
        """Close every connection after its next answer, and say so in it; also after those that are being made."""
        self.max_keepalived = 0
        for request in list(self._answering):
            request.force_close()

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001  (gunicorn's own)
        """Accept connections or not. A worker that stops accepts those that are complete, and closes its door behind them."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            before = -1
            while before != self.nr_conns:
                before = self.nr_conns
                self.accept(listener)
            listener.close()

    def handle(self, conn: Any) -> Any:
        """Serve a connection's request, and those that follow at once."""
        if not conn.initialized:
            _bound_waits(conn.sock, self.stall_ms)
        with self._count:
            self._busy += 1
        try:
            kept = super().handle(conn)
            while kept is True and self.alive and not self._others_wait() and _readable(conn.sock, self._patience()):
                kept = super().handle(conn)
            return kept
        finally:
            with self._count:
                self._busy -= 1

    def _keepalive_after(self, conn: Any, keepalive: Any) -> bool:
        """Keep the promise to serve another request, after one that was refused before its body was read.

        Gunicorn reads 64 KiB more and then hangs up; the next request, which may be another's, would fail.
        """
        if not keepalive:
            return False
        try:
            return bool(conn.parser.finish_body(deadline=time.monotonic() + DRAIN_SECONDS, max_bytes=DRAIN_BYTES))
        except ParseException:
            return False  # it was answered already: a second answer would be taken for another request's

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer one request, in as few packets as it takes."""
        self._answering.add(req)  # before gunicorn decides whether the connection is kept
        try:
            return self._answer(req, conn)
        finally:
            self._answering.discard(req)

    def _answer(self, req: Any, conn: Any) -> Any:
        if any(name == "EXPECT" for name, _ in req.headers):
            return super().handle_request(req, conn)  # 100 Continue must leave before the answer
        conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        kept = super().handle_request(req, conn)
        conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        return kept

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Say that these bytes are no request, and nothing of what they were."""
        if not isinstance(exc, ParseException) or isinstance(exc, _ANSWERS):
            super().handle_error(req, client, addr, exc)
            return
        status = _STATUS.get(type(exc), HTTPStatus.BAD_REQUEST)
        problem = Problem(
            type="/docs#bad-request",
            title=status.phrase,
            status=status,
            detail="these bytes are not an HTTP request that this server takes",
            code="bad-request",
            request=secrets.token_hex(8),
        )
        log.info("refused", request=problem.request, code=problem.code, why=type(exc).__name__, status=status.value)
        body = problem.model_dump_json()
        with suppress(OSError):
            client.sendall(
                f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
                f"Content-Type: application/problem+json\r\n{REQUEST_HEADER}: {problem.request}\r\n\r\n{body}".encode()
            )

    def _patience(self) -> int:
        return LINGER_MS if 2 * self._busy <= self.cfg.threads else LINGER_BUSY_MS

    def _others_wait(self) -> bool:
        return bool(self.tpool._work_queue.qsize())  # noqa: SLF001  (the executor has no other way to tell)


def _bound_waits(connection: socket.socket, most_ms: int) -> None:
    seconds, rest = divmod(most_ms, 1000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, rest * 1000))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, most_ms)


def _readable(connection: socket.socket, patience_ms: int) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(patience_ms))
