"""How processes tell each other that something happened: through a folder on one machine, through PostgreSQL among several.

A bell that was not heard costs whoever waits a quarter of a second (`wakeups`), never an answer: nothing here has to be right for
what the gateway promises to hold. It is rung after the commit, by nobody who waits for it.
"""

import ctypes
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from blindgate_gateway.database import database_fault

Heard = Callable[[tuple[str, ...] | None], None]
"""Called with the topics of a bell, or with `None` where a bell carries none and anything may have happened."""

_IN_ATTRIB: Final = 0x4
_IN_CREATE: Final = 0x100
_IN_CLOEXEC: Final = 0o2000000
_EVENT: Final = struct.Struct("iIII")
_CHANNEL: Final = "blindgate"
_MOST_TOPICS: Final = 100
"""In one notification: its payload may have 8,000 bytes, and a topic is a word or a job's id."""
_RETRY_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 5.0


class Bell(Protocol):
    """What rings in the other processes."""

    def ring(self, topics: tuple[str, ...]) -> None:
        """Tell the other processes that something happened about `topics`."""
        ...

    def hear(self, heard: Heard) -> None:
        """Call `heard` for every bell of another process, until the process ends or the bell is closed. Blocks."""
        ...

    def close(self) -> None:
        """End `hear`."""
        ...


class FolderBell:
    """Each process owns one file in a folder, touches it, and reads inotify for the others' files.

    What inotify carries has no topic. Where there is no inotify, nothing is heard until there is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._closed = False

    def ring(self, topics: tuple[str, ...]) -> None:  # noqa: ARG002
        """Touch this process's file."""
        own = self._folder / str(os.getpid())
        try:
            os.utime(own)
        except FileNotFoundError:
            with suppress(OSError):
                own.touch()

    def hear(self, heard: Heard) -> None:
        """See `Bell`. Begins again where the kernel had no room for it."""
        while not self._closed:
            with suppress(OSError):
                self._serve(heard)
            time.sleep(_RETRY_SECONDS)

    def close(self) -> None:
        """See `Bell`."""
        self._closed = True
        self.ring(())  # its own file wakes the thread that hears

    def _serve(self, heard: Heard) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        descriptor = library.inotify_init1(_IN_CLOEXEC)
        if descriptor < 0:
            return
        try:
            if library.inotify_add_watch(descriptor, os.fsencode(self._folder), _IN_ATTRIB | _IN_CREATE) < 0:
                return
            heard(None)  # what happened while nobody listened
            own = str(os.getpid()).encode()
            while not self._closed:
                if any(name != own for name in _names(os.read(descriptor, 1 << 16))):
                    heard(None)
        finally:
            os.close(descriptor)


class PostgresqlBell:
    """NOTIFY and LISTEN over one connection of each process's own.

    A NOTIFY inside the transaction that it tells of would make all commits wait for each other, since PostgreSQL sends
    notifications in the order of commits. So the thread that hears also rings, for whatever happened since it last did, without
    waiting for the disk.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        """`connect` opens a connection of the bell's own."""
        self._connect = connect
        self._lock = threading.Lock()
        self._untold: set[str] = set()
        self._pipe: tuple[int, int] | None = None
        self._process = 0
        self._closed = False

    def ring(self, topics: tuple[str, ...]) -> None:
        """Let the thread that hears, if there is one, tell of `topics`."""
        with suppress(OSError):  # a full pipe has been heard; without a descriptor for one, nobody hears yet
            with self._lock:
                self._untold.update(topics)
                pipe = self._own_pipe()
            os.write(pipe[1], b".")

    def hear(self, heard: Heard) -> None:
        """See `Bell`. Connects again when the connection breaks."""
        while not self._closed:
            try:
                with self._lock:
                    pipe = self._own_pipe()
                with self._connect() as connection:
                    connection.execute(f"LISTEN {_CHANNEL}".encode())
                    connection.execute(b"SET synchronous_commit = off")
                    heard(None)  # what happened while nobody listened
                    self._serve(connection, pipe[0], heard)
            except Exception as error:
                if database_fault(error) is None and not isinstance(error, OSError):
                    raise
                time.sleep(_RETRY_SECONDS)

    def close(self) -> None:
        """See `Bell`."""
        self._closed = True
        self.ring(())

    def _serve(self, connection: Any, pipe: int, heard: Heard) -> None:
        own = connection.info.backend_pid
        poll = select.poll()  # select() knows no descriptor above 1023
        for descriptor in (connection.fileno(), pipe):
            poll.register(descriptor, select.POLLIN)
        while not self._closed:
            ready = dict(poll.poll(_LOOK_SECONDS * 1000))
            if pipe in ready:
                os.read(pipe, 1 << 12)
                with self._lock:
                    untold, self._untold = sorted(self._untold), set()
                for start in range(0, len(untold), _MOST_TOPICS):
                    told = ",".join(untold[start : start + _MOST_TOPICS])
                    connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, told))
            for notice in connection.notifies(timeout=0):
                if notice.pid != own:
                    heard(tuple(notice.payload.split(",")))

    def _own_pipe(self) -> tuple[int, int]:
        # A forked child has a pipe of its own.
        if self._pipe is None or self._process != os.getpid():
            self._process = os.getpid()
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return self._pipe


def _names(events: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(events):
        _, _, _, length = _EVENT.unpack_from(events, position)
        position += _EVENT.size
        yield events[position : position + length].rstrip(b"\0")
        position += length
