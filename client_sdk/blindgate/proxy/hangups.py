"""Jobs that nobody waits for any more: their callers hung up, or the proxy ends. They are cancelled, so that no node works in vain.

A server notices that its caller is gone when it writes. An answer that is in the making writes nothing for seconds or minutes, so
the connections of all that wait are looked at five times a second. A caller that has closed its sending side counts as gone:
clients of HTTP do not do that while they wait.

Cancelling is a request to the gateway, on a thread of its own. Whoever reads the job's answer then hears that it was cancelled.
"""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from blindgate_protocol.errors import BlindgateError

LOOK_SECONDS: Final = 0.2
_GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Cancellable(Protocol):
    """A job under way."""

    def cancel(self) -> None:
        """Stop it."""


class Hangups:
    """Watches over the jobs of one process."""

    def __init__(self) -> None:
        self._waiting: dict[object, tuple[socket.socket | None, Cancellable]] = {}
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._look, name="hangups", daemon=True).start()

    @contextmanager
    def watching(self, connection: socket.socket | None, job: Cancellable) -> Iterator[None]:
        """Cancel `job` if the caller at `connection` hangs up meanwhile, or everything ends."""
        place = object()
        with self._changed:
            ended = self._ended
            self._waiting[place] = connection, job
            self._changed.notify()
        if ended:
            _cancel(job)
        try:
            yield
        finally:
            with self._changed:  # from here on the connection's number may be another's
                self._waiting.pop(place, None)

    def end_all(self) -> None:
        """Cancel every job, and those that come. Returns at once. Takes no lock: a signal may have come while one was held."""
        self._ended = True
        threading.Thread(target=self._end, name="ending", daemon=True).start()

    def _end(self) -> None:
        with self._changed:
            jobs = [job for _, job in self._waiting.values()]
        for job in jobs:
            _cancel(job)

    def _look(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                gone = [place for place, (connection, _) in self._waiting.items() if _is_gone(connection)]
                jobs = [self._waiting.pop(place)[1] for place in gone]
                if not jobs:
                    self._changed.wait(LOOK_SECONDS)
            for job in jobs:
                _cancel(job)


def _is_gone(connection: socket.socket | None) -> bool:
    if connection is None:
        return False
    poll = select.poll()
    try:
        poll.register(connection, select.POLLRDHUP)
        return any(event & _GONE for _, event in poll.poll(0))
    except (OSError, ValueError):  # closed on this side
        return True


def _cancel(job: Cancellable) -> None:
    threading.Thread(target=_cancel_quietly, args=(job,), name="cancelling", daemon=True).start()


def _cancel_quietly(job: Cancellable) -> None:
    with suppress(BlindgateError):  # what has ended stays as it ended; a gateway that is gone leases it to nobody
        job.cancel()
