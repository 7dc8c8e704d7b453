"""How long a tenant's evaluation key stays in this node's memory.

A key is large and is used again and again, so it is kept between jobs: under (tenant, digest), in a sealed memfd, never on
disk. It goes when it has not been used for a while, or when the room is needed for another, the longest unused first; it is
wiped when it goes. A key in use is never wiped.

Room is counted as a key takes it: its serialised size always, and what it `grows` by wherever it is expanded. That is in the
worker of each job that computes with it, for as long as the job lasts. For families whose zygotes keep a key expanded (a
`keeper`; TFHE keys are sent compressed, grow tenfold and take a second for it), it is in each such zygote, for as long as the key
is here: when the key goes, so do they (`dropped`). A job whose key finds no room waits for another to end.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from blindgate_node.blobs import SealedBlob
from blindgate_protocol.errors import SandboxError
from blindgate_protocol.nodes import EvictionReason


class KeyName(NamedTuple):
    """Whose key, and which. Another tenant's key of the same digest is another key."""

    tenant: str
    digest: str


@dataclass
class _Entry:
    blob: SealedBlob
    grows: int
    used: float
    users: int = 0
    keepers: set[str] = field(default_factory=set)

    @property
    def room(self) -> int:
        return self.blob.ref.size + self.grows * (len(self.keepers) or self.users)

    def room_with(self, keeper: str | None) -> int:
        """The room that it takes with one more user."""
        places = self.users + 1 if keeper is None else len(self.keepers | {keeper})
        return self.blob.ref.size + self.grows * places


class KeyCache:
    """Evaluation keys in memory."""

    def __init__(
        self,
        *,
        most_bytes: int,
        seconds: float,
        dropped: Callable[[KeyName, EvictionReason], None] = lambda _name, _reason: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep at most `most_bytes`, none longer than `seconds` after its last use. `dropped` is told what goes, and why."""
        self._most = most_bytes
        self._seconds = seconds
        self._dropped = dropped
        self._now = now
        self._entries: OrderedDict[KeyName, _Entry] = OrderedDict()
        self._changed = threading.Condition()

    @contextmanager
    def using(
        self,
        name: KeyName,
        fetch: Callable[[], SealedBlob],
        *,
        grows: Callable[[int], int],
        still_wanted: Callable[[], None],
        keeper: str | None = None,
    ) -> Iterator[SealedBlob]:
        """Lend the key `name`, fetched by `fetch` where it is not here, for as long as the context lasts.

        `grows` gives the bytes that a key of so many bytes takes up besides, where it is expanded: in `keeper`, which keeps it
        so, or with this job alone. `still_wanted` is called each second while the job waits for room; it raises when the job
        should not go on. Raises `SandboxError` when the key could never find room, and whatever `fetch` raises.
        """
        take = partial(self._take, name, grows, still_wanted, keeper)
        entry = take(None)
        while entry is None:
            fetched = fetch()
            try:
                entry = take(fetched)
            finally:
                if entry is None or entry.blob is not fetched:  # it gave up, or another job brought the same key first
                    fetched.wipe()
        try:
            yield entry.blob
        finally:
            with self._changed:
                entry.users -= 1
                entry.used = self._now()
                self._changed.notify_all()

    def digests(self) -> tuple[str, ...]:
        """The digests of the keys that are here, the latest used last."""
        with self._changed:
            return tuple(name.digest for name in self._entries)

    def room(self) -> int:
        """How many bytes the keys take up now."""
        with self._changed:
            return self._room()

    def expire(self) -> None:
        """Wipe what has not been used for too long."""
        with self._changed:
            for name, entry in list(self._entries.items()):
                if entry.users == 0 and self._now() - entry.used >= self._seconds:
                    self._evict(name, "unused")

    def clear(self) -> None:
        """Wipe every key that is not in use."""
        with self._changed:
            for name in [name for name, entry in self._entries.items() if entry.users == 0]:
                self._evict(name, "stopping")

    def _take(
        self,
        name: KeyName,
        grows: Callable[[int], int],
        still_wanted: Callable[[], None],
        keeper: str | None,
        fetched: SealedBlob | None,
    ) -> _Entry | None:
        """Count one more user of `name`, admitting `fetched` where it is not here; `None` when neither is.

        Whoever waits here holds no key, so those who hold one end, and somebody always goes on.
        """
        with self._changed:
            while True:
                entry = self._entries.get(name)
                if entry is None:
                    if fetched is None:
                        return None
                    entry = _Entry(fetched, grows(fetched.ref.size), self._now())
                if self._make_room(name, entry, keeper):
                    self._entries[name] = entry
                    self._entries.move_to_end(name)
                    entry.users += 1
                    if keeper is not None:
                        entry.keepers.add(keeper)
                    return entry
                self._changed.wait(1.0)
                still_wanted()

    def _make_room(self, name: KeyName, entry: _Entry, keeper: str | None) -> bool:
        """Evict idle keys until one more user of `entry` fits. False when those in use leave no room for it."""
        needed = entry.room_with(keeper)
        if entry.blob.ref.size + entry.grows > self._most:
            message = (
                f"the evaluation key needs {needed} bytes in use, and this node keeps at most {self._most} for keys"
            )
            raise SandboxError(message)
        others = {other: kept for other, kept in self._entries.items() if other != name}
        while sum(kept.room for kept in others.values()) + needed > self._most:
            idle = next((other for other, kept in others.items() if kept.users == 0), None)
            if idle is None:
                return False
            others.pop(idle)
            self._evict(idle, "room")
        return True

    def _room(self) -> int:
        return sum(entry.room for entry in self._entries.values())

    def _evict(self, name: KeyName, reason: EvictionReason) -> None:
        self._entries.pop(name).blob.wipe()
        self._dropped(name, reason)
