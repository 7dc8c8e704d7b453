"""The keys that this node can be sealed to, and what it showed for them. They live in this process and nowhere else.

A key set is made when it is first asked for, and lasts as long as the operator says. Once half of its time has passed, the next
question gets a new one, so that whoever seals to a set has half of its time at least. What was sealed to an earlier set is still
opened until that one ends. When the process ends, all of them are gone, and what was sealed to them stays closed.

The receipt key is the node's own, which its operator's certificate names: receipts of this lane are receipts like all others. It
lies in the node's folder, so whoever reads that can sign in the node's name; what is sealed, they cannot open.

What was shown is remembered by the evidence's digest, as `sealing.open_seal` wants it, until the key set that it binds has ended.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Final

from blindgate_protocol.evidence import Binding
from blindgate_protocol.sealing import RecipientKeys
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.values import Millis

MOST_SHOWN: Final = 20_000
"""How many pieces of evidence are remembered; beyond, the oldest are given up."""


class KeySets:
    """The key sets of this boot. Safe to use from several threads."""

    def __init__(self, node: SigningKey, *, lasts: Millis, now: Callable[[], Millis]) -> None:
        """Sets for the node with this key, each of which lasts `lasts` milliseconds."""
        self._node, self._lasts, self._now = node, lasts, now
        self._sets: dict[str, RecipientKeys] = {}
        self._shown: dict[str, Binding] = {}
        self._lock = threading.Lock()

    def current(self) -> RecipientKeys:
        """The set to be sealed to now."""
        with self._lock:
            self._forget()
            latest = next(reversed(self._sets.values()), None)
            now = self._now()
            # One that is dated ahead was made before the clock was set back: nobody would take it.
            if (
                latest is None
                or not latest.key_set.issued <= now
                or 2 * now >= latest.key_set.issued + latest.key_set.expires
            ):
                latest = RecipientKeys.generate(
                    node=self._node.id, receipt=self._node, issued=now, expires=now + self._lasts
                )
                self._sets[latest.key_set.digest] = latest
            return latest

    def of(self, digest: str) -> RecipientKeys | None:
        """The set with this digest, unless it ended."""
        with self._lock:
            self._forget()
            return self._sets.get(digest)

    def note(self, evidence: str, binding: Binding) -> None:
        """Remember what the evidence with this digest binds: it is handed out."""
        with self._lock:
            self._shown[evidence] = binding
            while len(self._shown) > MOST_SHOWN:
                del self._shown[next(iter(self._shown))]

    def shown(self) -> Mapping[str, Binding]:
        """What this node showed, by the evidence's digest, and stands by."""
        with self._lock:
            self._forget()
            return dict(self._shown)

    def _forget(self) -> None:
        now = self._now()
        over = {digest for digest, keys in self._sets.items() if now >= keys.key_set.expires}
        if not over:
            return
        self._sets = {digest: keys for digest, keys in self._sets.items() if digest not in over}
        self._shown = {digest: bound for digest, bound in self._shown.items() if bound.key_set in self._sets}
