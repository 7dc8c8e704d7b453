"""The way of an answer's first bytes: to the gateway while the rest is written, so that who asked can read along.

The first bytes go at once, and who writes waits for them a moment: they are what somebody looks at a screen for, and two threads
of one interpreter are in each other's way. What is written while a request is out, or within `SECONDS` of the one before, goes with
the next, so that a fast model makes few large requests, and a slow one many small ones. Nothing depends on it: the whole answer
follows with the receipt. So a gateway that does not take parts costs its reader the reading along, and nobody anything else.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from blindgate_protocol.messages import AnswerPart
from blindgate_protocol.values import SMALL_BYTES

SECONDS: Final = 0.02
"""Between two requests, at least: nobody reads faster, and each takes a gateway and a reader some milliseconds."""


FIRST_SECONDS: Final = 0.02
"""For so long, at most, the next bytes are not begun with while the first are sent."""


class Relay:
    """Sends what is added, in order, from a thread of its own, until `finish`."""

    def __init__(self, send: Callable[[AnswerPart], None]) -> None:
        self._send = send
        self._pending = bytearray()
        self._sent = 0
        self._over = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._first = threading.Event()

    def add(self, data: bytes) -> None:
        """Send `data` as soon as what is out has arrived."""
        with self._changed:
            if self._over:
                return
            self._pending += data
            if is_first := self._thread is None:
                self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
                self._thread.start()
            self._changed.notify()
        if is_first:
            self._first.wait(FIRST_SECONDS)

    def finish(self) -> None:
        """Add no more; what is left is sent meanwhile, or not."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                while not self._over and (not self._pending or time.monotonic() < due):
                    self._changed.wait(None if not self._pending else due - time.monotonic())
                if not self._pending:
                    return
                data = bytes(self._pending[:SMALL_BYTES])
                del self._pending[:SMALL_BYTES]
            due = time.monotonic() + SECONDS
            try:
                self._send(AnswerPart(begin=self._sent, data=data))
            except Exception:  # noqa: BLE001  (whatever it is, it costs the reading along, and nothing waits for this thread)
                with self._changed:
                    self._over = True
                    self._pending.clear()
                return
            finally:
                self._first.set()
            self._sent += len(data)
