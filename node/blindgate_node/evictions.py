"""What this node says about keys that it forgot: signed at once, handed in soon, by a thread that nothing else waits for.

A statement waits here until the gateway has taken it. It is said again after a failure, and dropped when the gateway will never
take it, or when so many wait that the gateway must have been away for long: it is the node's word, and nothing depends on it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from blindgate_node.key_cache import KeyName
from blindgate_protocol.errors import BlindgateError, GatewayError
from blindgate_protocol.messages import EvictionReport
from blindgate_protocol.nodes import Eviction, EvictionReason
from blindgate_protocol.signing import Envelope, SigningKey

MOST_WAITING: Final = 1000
MOST_TOGETHER: Final = 64
PAUSE_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = 10.0
"""After a failure."""
_REFUSED: Final = range(400, 500)
_LATER: Final = frozenset({401, 408, 429})


class Evictions:
    """The statements of one node."""

    def __init__(
        self,
        key: SigningKey,
        report: Callable[[EvictionReport], None],
        log: Callable[..., None] = lambda *_, **__: None,
    ) -> None:
        """Sign with `key`; hand in by `report`, which raises `BlindgateError` where it could not, and note that in `log`."""
        self._key, self._report, self._log = key, report, log
        self._waiting: deque[Envelope] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evictions", daemon=True)

    def start(self) -> None:
        """Hand in what comes, until `close`."""
        self._thread.start()

    def close(self, *, seconds: float) -> None:
        """Hand in what is left, if the gateway takes it in so many seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def note(self, name: KeyName, reason: EvictionReason) -> None:
        """A key was wiped."""
        statement = Eviction(
            node=self._key.id,
            tenant=name.tenant,
            key=name.digest,
            reason=reason,
            issued=time.time_ns() // 1_000_000,
        )
        with self._lock:
            self._waiting.append(self._key.sign(statement).envelope)

    def hand_in(self) -> None:
        """Hand in what waits. Raises `BlindgateError` when the gateway could not be told; it waits on then."""
        together = MOST_TOGETHER
        while True:
            with self._lock:
                some = tuple(self._waiting)[:together]
            if not some:
                return
            try:
                self._report(EvictionReport(evictions=some))
            except GatewayError as error:
                if error.status not in _REFUSED or error.status in _LATER:
                    raise
                if len(some) > 1:  # one of them is refused: the others are not to go with it
                    together = 1
                    continue
            with self._lock:
                for envelope in some:
                    if self._waiting and self._waiting[0] is envelope:
                        self._waiting.popleft()

    def _run(self) -> None:
        pause = PAUSE_SECONDS
        while True:
            stopping = self._stopping.wait(pause)
            try:
                self.hand_in()
                pause = PAUSE_SECONDS
            except BlindgateError as error:
                self._log("evictions.waiting", code=error.code, reason=str(error))
                pause = AGAIN_SECONDS
            if stopping:
                return
