"""What this node says about keys that it forgot: signed at once, handed in soon.

A statement waits here until the gateway has taken it. It is said once more after a failure, and dropped when the gateway will never
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
_REFUSED: Final = range(400, 500)
_LATER: Final = frozenset({401, 408, 429})


class Evictions:
    """The statements of one node."""

    def __init__(self, key: SigningKey, report: Callable[[EvictionReport], None]) -> None:
        """Sign with `key`; hand in by `report`, which raises `BlindgateError` where it could not."""
        self._key, self._report = key, report
        self._waiting: deque[Envelope] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()

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
        while True:
            with self._lock:
                some = tuple(self._waiting)[:MOST_TOGETHER]
            if not some:
                return
            try:
                self._report(EvictionReport(evictions=some))
            except GatewayError as error:
                if error.status not in _REFUSED or error.status in _LATER:
                    raise
            with self._lock:
                for envelope in some:
                    if self._waiting and self._waiting[0] is envelope:
                        self._waiting.popleft()


def quietly(hand_in: Callable[[], None], log: Callable[..., None]) -> None:
    """Hand in, and only note when that failed."""
    try:
        hand_in()
    except BlindgateError as error:
        log("evictions.waiting", code=error.code, reason=str(error))
