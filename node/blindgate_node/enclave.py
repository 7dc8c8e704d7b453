"""Opening what was sealed to this node, once.

`sealing.open_seal` holds a seal against the order, the key sets of this boot and the evidence that was shown. What it leaves to the
node is here:

1. a wrapped key that was opened before is refused, until its terms or its key set end: then it is refused for that. A gateway that
   hands a request out a second time gets no second answer to compare with the first, and a tenant's model is not run again in its
   name;
2. the memory is bounded. When it is full of seals that have not expired, nothing more is opened: to forget one is to allow it;
3. the request's stream opens whole, under the order's limits.

The memory lives as long as the keys do. After a restart both are gone, and what was sealed before is refused for that, by a code of
its own: the client seals it anew to the keys that there are now (ADR 0023).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from blindgate_node.key_sets import KeySets
from blindgate_protocol.chunks import Opener
from blindgate_protocol.errors import KeySetGoneError, RepeatedSealError
from blindgate_protocol.order import Order
from blindgate_protocol.sealing import Seal, Unsealed, open_seal
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import Millis

MOST_OPENED: Final = 1_000_000
"""How many opened seals are remembered at once, at about 200 bytes each."""


@dataclass(frozen=True, repr=False)
class Opened:
    """A request that was opened.

    Attributes:
        unsealed: the content key, and what the answer is sealed as.
        request: what the client wrote.
    """

    unsealed: Unsealed
    request: bytes


class Enclave:
    """Opens requests that were sealed to this node's key sets. Safe to use from several threads."""

    def __init__(self, key_sets: KeySets, *, now: Callable[[], Millis], most: int = MOST_OPENED) -> None:
        """Open with `key_sets`, by the clock `now`; remember at most `most` seals at once."""
        self._key_sets, self._now, self._most = key_sets, now, most
        self._opened: dict[str, Millis] = {}
        self._lock = threading.Lock()

    def open(self, seal: bytes, request: bytes, *, order: Signed[Order], most_bytes: int) -> Opened:
        """Open a sealed request of an order that was checked; it holds at most `most_bytes` of data.

        Raises `MalformedError`, `KeySetGoneError`, `SealTermsError`, `SealExpiredError`, `RepeatedSealError`, `SealError`.
        """
        parsed = Seal.from_bytes(seal)
        keys = next((found for one in parsed.recipients if (found := self._key_sets.of(one.key_set)) is not None), None)
        if keys is None:
            message = (
                "the request is sealed to none of this node's key sets: they end, and with a restart all of them do"
            )
            raise KeySetGoneError(message, alone=len(order.document.nodes or ()) == 1)
        now = self._now()
        unsealed = open_seal(parsed, keys, order=order, shown=self._key_sets.shown(), now=now)
        # 1. and 2. Before the stream: what does not open a second time did not open a first time either.
        # The terms are the client's to set: what no key opens any more takes up no place.
        self._remember(unsealed.wrapped.digest, until=min(parsed.terms.expires, keys.key_set.expires), now=now)
        # 3.
        opener = Opener(unsealed.content_key, unsealed.request, most_bytes=most_bytes)
        data = b"".join(opener.feed(request))
        opener.finish()
        return Opened(unsealed, data)

    def _remember(self, wrapped: str, *, until: Millis, now: Millis) -> None:
        with self._lock:
            if self._opened.get(wrapped, 0) > now:
                message = "this request was opened before: a sealed request is answered once"
                raise RepeatedSealError(message)
            if len(self._opened) >= self._most:
                self._opened = {one: end for one, end in self._opened.items() if end > now}
            if len(self._opened) >= self._most:
                message = (
                    f"this node remembers {self._most} requests that it opened and that have not expired: no more now"
                )
                raise RepeatedSealError(message)
            self._opened[wrapped] = until
