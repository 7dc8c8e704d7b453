"""That a process was told to stop: said in a signal's handler, waited for by its threads.

Python runs a handler between two steps of the main thread, wherever that is. `threading.Event` will not do there: its `wait` and
its `set` take one lock, so a handler that sets the event while the main thread is about to wait for it waits for itself, without
end. A handler may put something into a `SimpleQueue`, though, even while the same thread is taking from it.
"""

from contextlib import suppress
from queue import Empty, SimpleQueue


class Stop:
    """Whether to stop. Used as an event is; `set` may also be called in a signal's handler."""

    def __init__(self) -> None:
        self._is_set = False
        self._tokens: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._is_set

    def set(self) -> None:
        """Stop: everybody who waits goes on, at once and from now on."""
        self._is_set = True
        self._tokens.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait until it is time to stop, `seconds` at most. Gives whether it is."""
        if not self._is_set:
            with suppress(Empty):
                self._tokens.get(timeout=max(seconds, 0.0))
                self._tokens.put(None)  # for whoever else waits
        return self._is_set
