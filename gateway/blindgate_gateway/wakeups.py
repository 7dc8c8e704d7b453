"""How a request that waits learns that something happened, within a millisecond, in whichever process it happened.

A room that waits first watches its topics, then looks, then waits, then looks again, so nothing between the look and the wait
is lost:

    with parts.wakeups.watch("jobs") as watch:
        while (found := look()) is None and watch.wait(until):
            pass

Inside one process `wake` sets the watchers' events. Other processes hear of it through the file system: each process owns one
file in a folder, touches it after a commit, and has one thread that reads inotify for the others' files. What inotify carries
has no topic, so it wakes everybody in the process to look again. Where there is no inotify, and in any case, a wait ends by
itself every quarter of a second and looks again: a lost wake-up costs time, never an answer.

At most `most_waiting` requests wait at once, so that threads are left for those who work; beyond that a wait is over at once.
"""

import ctypes
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

QUEUE = "queue"
"""The topic of whoever waits for work; a job's own id is the topic of whoever waits for it."""
FALLBACK_SECONDS = 0.25
_IN_ATTRIB = 0x4
_IN_CREATE = 0x100
_IN_CLOEXEC = 0o2000000
_EVENT = struct.Struct("iIII")


class Watch:
    """One request's view of its topics."""

    def __init__(self, owner: "Wakeups", *, patient: bool) -> None:
        self._owner = owner
        self._patient = patient
        self.happened = threading.Event()

    def wait(self, until: float) -> bool:
        """Wait for something to happen, not past `until` (monotonic seconds). False when waiting is over."""
        left = until - time.monotonic()
        if left <= 0 or not self._patient or self._owner.stopping:
            return False
        self.happened.wait(min(left, FALLBACK_SECONDS))
        self.happened.clear()
        return True


class Wakeups:
    """Who waits for what in this process, and the way to the other processes.

    Attributes:
        stopping: set when the process is about to end: whoever waits gets their answer now.
    """

    def __init__(self, folder: Path, *, most_waiting: int) -> None:
        self.stopping = False
        self._folder = folder
        self._most_waiting = most_waiting
        self._waiting = 0
        self._watches: dict[str, set[Watch]] = {}
        self._lock = threading.Lock()
        self._process = 0
        self._closed = False

    @contextmanager
    def watch(self, *topics: str) -> Iterator[Watch]:
        """Watch `topics` until the block ends."""
        self._listen()
        with self._lock:
            patient = self._waiting < self._most_waiting
            self._waiting += patient
            watch = Watch(self, patient=patient)
            for topic in topics:
                self._watches.setdefault(topic, set()).add(watch)
        try:
            yield watch
        finally:
            with self._lock:
                self._waiting -= patient
                for topic in topics:
                    watching = self._watches[topic]
                    watching.discard(watch)
                    if not watching:
                        del self._watches[topic]

    def wake(self, *topics: str) -> None:
        """Tell everybody who watches one of `topics`. Call it after the commit."""
        with self._lock:
            for topic in topics:
                for watch in self._watches.get(topic, ()):
                    watch.happened.set()
        own = self._folder / str(os.getpid())
        try:
            os.utime(own)
        except FileNotFoundError:
            with suppress(OSError):
                own.touch()

    def close(self) -> None:
        """End the thread that hears other processes. Nobody may be waiting."""
        self._closed = True
        self.wake()  # its own file tells it, too

    def _listen(self) -> None:
        # A forked child starts a thread of its own on its first wait.
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._process = os.getpid()
                    threading.Thread(target=self._hear, name="wakeups", daemon=True).start()

    def _hear(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        descriptor = library.inotify_init1(_IN_CLOEXEC)
        if descriptor < 0:
            return  # no inotify here: waits end by themselves
        try:
            if library.inotify_add_watch(descriptor, os.fsencode(self._folder), _IN_ATTRIB | _IN_CREATE) < 0:
                return
            own = str(os.getpid()).encode()
            while not self._closed:
                if any(name != own for name in _names(os.read(descriptor, 1 << 16))):
                    with self._lock:
                        for watching in self._watches.values():
                            for watch in watching:
                                watch.happened.set()
        finally:
            os.close(descriptor)


def _names(events: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(events):
        _, _, _, length = _EVENT.unpack_from(events, position)
        position += _EVENT.size
        yield events[position : position + length].rstrip(b"\0")
        position += length
