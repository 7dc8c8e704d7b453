"""How a request that waits learns that something happened, within a millisecond, in whichever process it happened.

A room that waits first watches its topics, then looks, then waits, then looks again, so nothing between the look and the wait
is lost:

    with parts.wakeups.watch("jobs") as watch:
        while (found := look()) is None and watch.wait(until):
            pass

Inside one process `wake` sets the watchers' events; other processes hear a bell (`bells`), and so does this one theirs. In any
case, a wait ends by itself every quarter of a second and looks again: a lost wake-up costs time, never an answer.

At most `most_waiting` requests wait at once, so that threads are left for those who work; beyond that a wait is over at once.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from blindgate_gateway.bells import Bell

QUEUE = "queue"
"""The topic of whoever waits for work; a job's own id is the topic of whoever waits for it."""
QUESTIONS = "questions"
"""The topic of nodes that wait for a question about evidence; a question's own id is the topic of who asked it."""
LOG = "log"
"""The topic of whoever waits for a checkpoint."""
FALLBACK_SECONDS = 0.25


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

    def __init__(self, bell: Bell, *, most_waiting: int) -> None:
        self.stopping = False
        self._bell = bell
        self._most_waiting = most_waiting
        self._waiting = 0
        self._watches: dict[str, set[Watch]] = {}
        self._lock = threading.Lock()
        self._process = 0

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
        self._listen()
        with self._lock:
            for topic in topics:
                for watch in self._watches.get(topic, ()):
                    watch.happened.set()
        self._bell.ring(topics)

    def close(self) -> None:
        """End the thread that hears other processes. Nobody may be waiting."""
        self._bell.close()

    def _listen(self) -> None:
        # A forked child starts a thread of its own on its first wait.
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._process = os.getpid()
                    threading.Thread(target=self._bell.hear, args=(self._heard,), name="wakeups", daemon=True).start()

    def _heard(self, topics: tuple[str, ...] | None) -> None:
        with self._lock:
            for topic in list(self._watches) if topics is None else topics:
                for watch in self._watches.get(topic, ()):
                    watch.happened.set()
