"""The proxy as a running process: gunicorn's master, one worker, many threads.

The client, and all that it keeps open, is made in the worker. On SIGTERM, what is being answered has `GRACE_SECONDS` to end;
what is left is cancelled, and its callers are told. Ctrl-C cancels at once.

A caller who sends nothing of a request that it began, or takes nothing of its answer, is let go by the kernel. Bytes that are no
request are refused and not repeated, neither in the answer nor in the log: they may be a part of a prompt.
"""

import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import FrameType
from typing import Any, Final

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger as GunicornLogger  # type: ignore[import-untyped]
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from blindgate.client import Client
from blindgate.proxy import journal
from blindgate.proxy.app import create_app
from blindgate.proxy.door import Door
from blindgate.proxy.failures import Failure
from blindgate.proxy.hangups import Hangups

THREADS: Final = 64
"""How many answers are in the making at once; who comes then waits."""
RECEIVE_SECONDS: Final = 5
SEND_SECONDS: Final = 30
GRACE_SECONDS: Final = 2.0
END_SECONDS: Final = 8


@dataclass(frozen=True)
class Place:
    """Where the proxy listens. Port 0 is one that is free."""

    address: str
    port: int

    @property
    def host(self) -> str:
        """The address as in a URL."""
        return f"[{self.address}]" if ":" in self.address else self.address


def serve(
    connect: Callable[[], Client], door: Door, place: Place, *, timeout: float, ready: Callable[[str], None]
) -> None:
    """Serve until a signal ends it.

    Args:
        connect: makes the client, in the worker.
        door: who may ask.
        place: where to listen.
        timeout: seconds that an answer may take.
        ready: is told the proxy's own URL, once connections are taken.
    """
    _Server(connect, door, place, timeout=timeout, ready=ready).run()


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's own warnings, on the one way out; no access log."""

    def setup(self, cfg: Any) -> None:
        """Forget gunicorn's handlers."""
        self.cfg = cfg
        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.handlers = [_Forward()]
        self.error_log.propagate = False
        self.error_log.setLevel(logging.WARNING)

    def exception(self, msg: str, *args: Any, **given: Any) -> None:  # noqa: ARG002  (what they hold is not for a log)
        """Write what went wrong, but not that a caller stalled or left, and nothing of what it sent."""
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, BlockingIOError | ConnectionError):
            journal.tell_error(error)

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Write nothing."""


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        journal.tell("server", level=record.levelname.lower(), message=record.getMessage())


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A `ThreadWorker` that repeats nothing of what it could not read."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ARG002  (gunicorn's own)
        """Say that these bytes are no request, or that answering one failed."""
        bad = isinstance(exc, ParseException)
        status = HTTPStatus.BAD_REQUEST if bad else HTTPStatus.INTERNAL_SERVER_ERROR
        message = "these bytes are not an HTTP request that this proxy takes" if bad else "the proxy failed"
        if bad:
            journal.tell("refused", why=type(exc).__name__, status=status.value)
        else:
            journal.tell_error(exc)
        body = json.dumps(Failure(status, "bad-request" if bad else "internal", message).body())
        with suppress(OSError):
            client.sendall(
                f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
                f"Content-Type: application/json\r\n\r\n{body}".encode()
            )


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(
        self,
        connect: Callable[[], Client],
        door: Door,
        place: Place,
        *,
        timeout: float,
        ready: Callable[[str], None],
    ) -> None:
        self._connect, self._door, self._place, self._timeout, self._ready = connect, door, place, timeout, ready
        self._hangups: Hangups | None = None
        super().__init__()

    def load_config(self) -> None:
        """Give gunicorn its configuration."""
        options: dict[str, Any] = {
            "bind": f"{self._place.host}:{self._place.port}",
            "workers": 1,
            "worker_class": Worker,
            "threads": THREADS,
            "worker_connections": 1000 + THREADS,
            "keepalive": 30,
            "timeout": 60,
            "graceful_timeout": END_SECONDS,
            "accesslog": None,
            "logger_class": Logger,
            "proc_name": "blindgate-proxy",
            "when_ready": self._say_ready,
            "post_worker_init": self._begin,
            "worker_int": self._interrupt,
        }
        if "control_socket_disable" in self.cfg.settings:  # from gunicorn 25 on: nobody steers this one
            options["control_socket_disable"] = True
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Give gunicorn the application, in the worker."""
        self._hangups = Hangups()
        return create_app(self._connect(), self._door, self._hangups, timeout=self._timeout)

    def _say_ready(self, arbiter: Any) -> None:
        # The kernel hands these down to each connection: callers that stall would otherwise hold every thread.
        for listener in arbiter.LISTENERS:
            for which, seconds in ((socket.SO_RCVTIMEO, RECEIVE_SECONDS), (socket.SO_SNDTIMEO, SEND_SECONDS)):
                listener.sock.setsockopt(socket.SOL_SOCKET, which, struct.pack("ll", seconds, 0))
        port = arbiter.LISTENERS[0].sock.getsockname()[1]
        url = f"http://{self._place.host}:{port}"
        self._ready(url)
        journal.tell("listening", address=url, process=os.getpid())

    def _begin(self, worker: Any) -> None:
        def leave(number: int, frame: FrameType | None) -> None:
            worker.handle_exit(number, frame)
            later = threading.Timer(GRACE_SECONDS, self._end)
            later.daemon = True
            later.start()

        signal.signal(signal.SIGTERM, leave)

    def _interrupt(self, _worker: Any) -> None:
        self._end()

    def _end(self) -> None:
        if self._hangups is not None:
            self._hangups.end_all()
