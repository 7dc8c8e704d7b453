"""Leases that this node holds, kept alive: one heartbeat well before each would run out, and none for a job that is over sooner.

A lease is lost when the gateway says so (409), or when it has run out without the gateway having answered. Its worker is
killed then: whatever it would still compute belongs to nobody.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from blindgate_node.transport import Gateway, LeaseName
from blindgate_node.zygotes import RunningJob
from blindgate_protocol.errors import BlindgateError, LeaseLostError, SandboxError

_BEATS_A_LEASE = 3
_RETRIES_A_LEASE = 10
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.1, 3600.0
"""What is believed of a lease's duration: a shorter one would press the gateway, a longer one no clock can wait for."""


class HeldLease:
    """A lease of this node's. `lost` and `abandoned` may be set by other threads."""

    def __init__(self, name: LeaseName, duration: float) -> None:
        """`duration` is in seconds, from now, as the gateway said."""
        self.name = name
        self.duration = _believed(duration)
        self.runs_out = time.monotonic() + self.duration
        self.next_beat = time.monotonic() + self.duration / _BEATS_A_LEASE
        self.lost = False
        self.abandoned = False
        self._running: RunningJob | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raise `LeaseLostError` or, when the node is stopping, `SandboxError`, if the job should not go on."""
        if self.lost:
            message = "the lease ran out or was given to somebody else"
            raise LeaseLostError(message)
        if self.abandoned:
            message = "the node is stopping"
            raise SandboxError(message)

    def go_on(self) -> bool:
        """Whether the job should go on."""
        return not self.lost and not self.abandoned

    def started(self, running: RunningJob) -> None:
        """Take note of the job's worker, to kill it when the lease is lost."""
        with self._lock:
            self._running = running
        if not self.go_on():
            running.kill()

    def lose(self) -> None:
        """The lease is not this node's any more."""
        self.lost = True
        self._kill()

    def abandon(self) -> None:
        """The node stops before the job is done."""
        self.abandoned = True
        self._kill()

    def _kill(self) -> None:
        with self._lock:
            running = self._running
        if running is not None:
            running.kill()


class Pulse:
    """The heartbeats of every lease that this node holds, from one thread."""

    def __init__(self, gateway: Gateway, log: Callable[[str, LeaseName], None]) -> None:
        """`log` is told of an event and the lease it is about."""
        self._gateway = gateway
        self._log = log
        self._held: set[HeldLease] = set()
        self._changed = threading.Condition()
        self._wakes = 0.0
        self._stopped = False
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    def add(self, lease: HeldLease) -> None:
        """Keep `lease` alive from now on."""
        with self._changed:
            self._held.add(lease)
            if lease.next_beat < self._wakes or len(self._held) == 1:
                self._changed.notify()

    def remove(self, lease: HeldLease) -> None:
        """The job is over."""
        with self._changed:
            self._held.discard(lease)

    def abandon_all(self) -> None:
        """Stop every job: the node's time is up."""
        with self._changed:
            held = tuple(self._held)
        for lease in held:
            lease.abandon()

    def stop(self, *, seconds: float) -> None:
        """Send no more. A heartbeat that is out is waited for so long, since nobody needs its answer."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(seconds)

    def _beat(self) -> None:
        while True:
            with self._changed:
                if self._stopped:  # said while a heartbeat was out: nobody would wake this thread again
                    return
                due = min((lease.next_beat for lease in self._held), default=None)
                self._wakes = float("inf") if due is None else due
                if due is None or due > time.monotonic():
                    self._changed.wait(None if due is None else due - time.monotonic())
                if self._stopped:
                    return
                now = time.monotonic()
                ripe = [lease for lease in self._held if lease.next_beat <= now]
            for lease in ripe:
                self._renew(lease)

    def _renew(self, lease: HeldLease) -> None:
        sent = time.monotonic()
        try:
            duration = _believed(self._gateway.heartbeat(lease.name).duration / 1000)
        except LeaseLostError:
            self._lost(lease, "lease.lost")
            return
        except BlindgateError:
            lease.next_beat = time.monotonic() + lease.duration / _RETRIES_A_LEASE
            if time.monotonic() >= lease.runs_out:
                self._lost(lease, "lease.ran-out")
            return
        lease.runs_out = sent + duration
        lease.next_beat = sent + duration / _BEATS_A_LEASE

    def _lost(self, lease: HeldLease, event: str) -> None:
        with self._changed:
            over = lease not in self._held
            self._held.discard(lease)
        if not over:
            with suppress(SandboxError):
                lease.lose()
            self._log(event, lease.name)


def _believed(duration: float) -> float:
    return min(max(duration, _SHORTEST_SECONDS), _LONGEST_SECONDS)
