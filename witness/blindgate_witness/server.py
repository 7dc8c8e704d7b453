"""The witness as a running process: gunicorn's master, one worker, a few threads.

The lines that it writes about itself are JSON, on standard error: sizes, origins and statuses. TLS is the work of what
stands in front.
"""

import logging
import os
import socket
import struct
import sys
import time
from typing import Any, Final

import structlog
from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger as GunicornLogger  # type: ignore[import-untyped]

from blindgate_witness.app import create_app
from blindgate_witness.records import Records
from blindgate_witness.signer import Signer
from blindgate_witness.witness import Witness, log

THREADS: Final = 8
STALL_SECONDS: Final = 5
"""How long a caller may send nothing of a request that it began."""


def serve(signer: Signer, records: Records, *, host: str, port: int) -> None:
    """Serve until a signal ends it."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    _Server(create_app(Witness(signer, records, time.time)), signer, host=host, port=port).run()


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's own warnings, on the one way out; no access log."""

    def setup(self, cfg: Any) -> None:
        """Forget gunicorn's handlers."""
        self.cfg = cfg
        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.handlers = [_Forward()]
        self.error_log.propagate = False
        self.error_log.setLevel(logging.WARNING)

    def exception(self, msg: str, *args: Any, **given: Any) -> None:
        """Write what went wrong, but not that a caller stalled: strangers could fill the log with it."""
        if not isinstance(sys.exc_info()[1], BlockingIOError):
            super().exception(msg, *args, **given)

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Write nothing."""


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info or None)


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, app: Flask, signer: Signer, *, host: str, port: int) -> None:
        self._app = app
        self._signer = signer
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        super().__init__()

    def load_config(self) -> None:
        """Give gunicorn its configuration."""
        options: dict[str, Any] = {
            "bind": self._address,
            "workers": 1,
            "worker_class": "gthread",
            "threads": THREADS,
            "keepalive": 30,
            "timeout": 60,
            "graceful_timeout": STALL_SECONDS,
            "preload_app": True,
            "accesslog": None,
            "logger_class": Logger,
            "proc_name": "blindgate-witness",
            "when_ready": self._say_ready,
        }
        if "control_socket_disable" in self.cfg.settings:  # from gunicorn 25 on: nobody steers this one
            options["control_socket_disable"] = True
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Give gunicorn the application."""
        return self._app

    def _say_ready(self, arbiter: Any) -> None:
        # The kernel hands these down to each connection: a few that stall would otherwise hold every thread.
        for listener in arbiter.LISTENERS:
            for wait in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                listener.sock.setsockopt(socket.SOL_SOCKET, wait, struct.pack("ll", STALL_SECONDS, 0))
        log.info("listening", address=f"http://{self._address}", key=str(self._signer.key), process=os.getpid())
