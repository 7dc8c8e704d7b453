"""The gateway as running processes: one master that prepares and forks, workers that answer.

The application is built before the fork, so a worker that was killed is replaced within tens of milliseconds. Nothing that
does not survive a fork exists by then: connections and threads come with a worker's first request (`parts`, `wakeups`).

On SIGTERM nothing that was accepted is dropped, and nobody who comes in between is:

1. for the setting `drain`, everything is answered as before, but `/readyz` says 503 and every answer closes its connection: a
   balancer that asks turns elsewhere, and the idle connections of one that does not ask (nginx) run out on its own side;
2. the kernel drops further connection requests without a word, as if they were lost on the way. Closing the socket at once would
   reset the connections that are complete and not yet accepted, some with a request in them; who is dropped tries again a
   second later, and is refused then, which a balancer may always answer by going to another gateway;
3. each worker accepts what is left, closes its socket, tells those who wait that waiting is over, and finishes what it has begun.
"""

import ctypes
import os
import shutil
import signal
import socket
import struct
import time
from contextlib import suppress
from queue import Empty
from types import FrameType
from typing import Any, Final

from apiflask import APIFlask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]

from blindgate_gateway.log.starting import tell_start, tell_stop
from blindgate_gateway.logs import configure_logs, log
from blindgate_gateway.opening import prepare
from blindgate_gateway.settings import Settings

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 30
FLUSH_SECONDS = 3.0
"""What a worker that ends gives the collector of traces, if there is one, to take the last spans."""
SETTLE_SECONDS = 0.1
"""How long a connection that has begun to open may take to be complete."""
_PR_SET_PDEATHSIG = 1
_SO_ATTACH_FILTER: Final = 26
_NO_NEW: Final = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
"""For the kernel's packet filter: load the byte of TCP's flags; with SYN in it drop the packet, without it keep all of it."""
_LEAVE: Final = signal.SIGUSR2


def serve(settings: Settings) -> None:
    """Serve until a signal ends it. Raises `BlindgateError` when the data folder cannot be used."""
    configure_logs(file=settings.log_file, level=settings.log_level)
    lock = prepare(settings)
    counts = settings.data / "metrics"
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counts)
    try:
        # Imported here: the metrics look for that folder when they are imported.
        from blindgate_gateway.app import create_app  # noqa: PLC0415

        app = create_app(settings)
        tell_start(settings)
        master = os.getpid()
        try:
            Server(settings, app).run()
        finally:
            if os.getpid() == master:
                with suppress(Exception):  # a database that is gone keeps no gateway from ending
                    tell_stop(settings)
    finally:
        lock.close()


def _die_with_parent(parent: int) -> None:
    # A worker whose master was killed would keep the port and the data folder for as long as somebody is connected.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def refuse_new(listener: socket.socket) -> None:
    """Let the kernel drop requests for further connections; those that are there go on."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_NEW)
    held = ctypes.create_string_buffer(code)
    with suppress(OSError):  # a kernel that cannot do it resets a few connections instead
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_NEW), ctypes.addressof(held))
        )


class Master(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's master process, which leaves in the steps that this module's head names."""

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002  (gunicorn's own)
        """Stop the workers."""
        if graceful and self.LISTENERS:
            self._leave(self.app.drain_seconds)
        super().stop(graceful)

    def _leave(self, drain: float) -> None:
        # 1.
        log.info("leaving", drain=round(drain * 1000))
        self.kill_workers(_LEAVE)
        until = time.monotonic() + drain
        while time.monotonic() < until and not self._is_hurried():
            time.sleep(0.05)
        # 2. A socket that systemd holds for the next process must go on taking connections.
        if not self.systemd:
            for listener in self.LISTENERS:
                refuse_new(listener.sock)
            time.sleep(SETTLE_SECONDS)

    def _is_hurried(self) -> bool:
        try:
            return self.SIG_QUEUE.get_nowait() in {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
        except Empty:
            return False


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn, configured by the gateway's settings instead of a file."""

    def __init__(self, settings: Settings, app: APIFlask) -> None:
        self._settings = settings
        self._app = app
        super().__init__()

    @property
    def drain_seconds(self) -> float:
        """How long a gateway that was told to stop goes on."""
        return self._settings.drain / 1000

    def run(self) -> None:
        """Serve until a signal ends it."""
        Master(self).run()

    def load_config(self) -> None:
        """Give gunicorn its configuration."""
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        options: dict[str, Any] = {
            "bind": f"{host}:{settings.port}",
            "workers": settings.workers,
            "worker_class": "blindgate_gateway.worker.Worker",
            "threads": settings.threads,
            "worker_connections": 1000 + settings.threads,
            "keepalive": KEEP_ALIVE_SECONDS,
            "graceful_timeout": GRACE_SECONDS,
            "timeout": 120,
            "preload_app": True,
            "accesslog": None,
            "logger_class": "blindgate_gateway.gunicorn_logs.Logger",
            "proc_name": "blindgate-gateway",
            "when_ready": self._say_ready,
            "post_worker_init": self._begin_worker,
            "worker_exit": self._leave_worker,
            "child_exit": self._end_worker,
        }
        if (
            "control_socket_disable" in self.cfg.settings
        ):  # from gunicorn 25 on: signals steer this one, and nothing else does
            options["control_socket_disable"] = True
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> APIFlask:
        """Give gunicorn the application."""
        return self._app

    def _say_ready(self, _arbiter: Any) -> None:
        settings = self._settings
        log.info(
            "listening",
            address=f"http://{settings.host}:{settings.port}",
            data=str(settings.data.resolve()),
            workers=settings.workers,
            threads=settings.threads,
            process=os.getpid(),
        )

    def _begin_worker(self, worker: Any) -> None:
        from blindgate_gateway import metrics  # noqa: PLC0415
        from blindgate_gateway.sweep import start_sweeping  # noqa: PLC0415

        worker.stall_ms = self._settings.stall
        metrics.reserve()
        _die_with_parent(worker.ppid)
        parts = self._app.extensions["blindgate"]
        start_sweeping(parts)
        parts.log.start()

        def leave(_number: int, _frame: FrameType | None) -> None:
            parts.leaving.told = True
            worker.keep_no_more()

        def stop(number: int, frame: FrameType | None) -> None:
            leave(number, frame)
            parts.wakeups.stopping = True
            worker.handle_exit(number, frame)

        signal.signal(_LEAVE, leave)
        signal.signal(signal.SIGTERM, stop)

    def _leave_worker(self, _arbiter: Any, _worker: Any) -> None:
        self._app.extensions["blindgate"].traces.close(seconds=FLUSH_SECONDS)

    def _end_worker(self, _arbiter: Any, worker: Any) -> None:
        from blindgate_gateway import metrics  # noqa: PLC0415

        self._app.extensions["blindgate"].blobs.drop_incoming_of(worker.pid)
        (self._settings.data / "wakeups" / str(worker.pid)).unlink(missing_ok=True)
        metrics.forget_process(worker.pid)
