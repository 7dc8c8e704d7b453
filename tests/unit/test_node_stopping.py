"""A node is told to stop: at whatever moment of whatever it does, and while whatever is under way."""

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from blindgate_node.pulse import HeldLease, Pulse
from blindgate_node.stopping import Stop
from blindgate_node.transport import LeaseName
from blindgate_protocol.messages import Heartbeat

LEASE = LeaseName("00" * 16, 1, "11" * 16)


def interrupted(run: Callable[[], object], interrupt: Callable[[], object], *, after: int) -> bool:
    """Run `run`, and `interrupt` in the same thread between two of its steps, as Python does with a signal's handler.

    False where `run` has no more than `after` steps.
    """
    left = after

    def count(frame: FrameType, _event: str, _argument: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        left -= 1
        if left == 0:
            sys.settrace(None)
            interrupt()
        return count if left > 0 else None

    sys.settrace(count)
    try:
        run()
    finally:
        sys.settrace(None)
    return left <= 0


@pytest.mark.parametrize("what", ["wait", "set"])
def test_a_signal_may_come_between_any_two_steps(what: str) -> None:
    """The handler's own `set` neither stands still in what it interrupts nor is lost: a node would hear of no signal any more."""
    steps, heard = [], []

    def at_every_step() -> None:
        for after in itertools.count(1):
            stop = Stop()
            run = stop.set if what == "set" else lambda stop=stop: stop.wait(0.01)
            if not interrupted(run, stop.set, after=after):
                return
            steps.append(after)
            heard.append(stop.is_set() and stop.wait(10))

    trying = threading.Thread(target=at_every_step, daemon=True)
    trying.start()
    trying.join(20)
    assert not trying.is_alive(), f"it stands still when the signal comes after {len(steps) + 1} steps"
    assert len(steps) > 5
    assert all(heard)


def test_a_signal_ends_the_wait_of_the_main_thread() -> None:
    """At once, not after what is left of it."""
    stop = Stop()
    before = signal.signal(signal.SIGUSR1, lambda *_: stop.set())
    try:
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        started = time.monotonic()
        assert stop.wait(30)
        assert time.monotonic() - started < 10
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_everybody_who_waits_goes_on() -> None:
    """Those who wait, and those who come later; until then a wait lasts as long as it was asked to."""
    stop = Stop()
    assert not stop.wait(0.01)
    gone: list[bool] = []
    waiting = [threading.Thread(target=lambda: gone.append(stop.wait(30)), daemon=True) for _ in range(3)]
    for thread in waiting:
        thread.start()
    stop.set()
    for thread in waiting:
        thread.join(10)
    assert gone == [True] * 3
    assert stop.wait(-1)


class SlowGateway:
    """Answers a heartbeat when it is told to."""

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()

    def heartbeat(self, _lease: LeaseName) -> Heartbeat:
        """Wait, and answer."""
        self.asked.set()
        self.answers.wait(30)
        return Heartbeat(duration=100)


@pytest.mark.parametrize("seconds", [0.2, 20.0], ids=["never", "late"])
def test_a_heartbeat_that_is_out_keeps_nobody_from_stopping(seconds: float) -> None:
    """The job is over, then the pulse stops, then, or never, the answer comes: no thread waits for a lease that nobody holds."""
    gateway = SlowGateway()
    pulse = Pulse(gateway, lambda *_: None)  # type: ignore[arg-type]
    lease = HeldLease(LEASE, 0.1)
    pulse.add(lease)
    assert gateway.asked.wait(10)
    pulse.remove(lease)
    stopping = threading.Thread(target=pulse.stop, kwargs={"seconds": seconds}, daemon=True)
    stopping.start()
    if seconds > 1:
        time.sleep(0.2)  # until it has said so
        gateway.answers.set()
    stopping.join(10)
    assert not stopping.is_alive()
    gateway.answers.set()
