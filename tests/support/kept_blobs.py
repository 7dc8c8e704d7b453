"""Where a synced corpus lies, in memory: what a gateway does with it, and what an evil one may do, without a socket."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import NotFoundError
from blindgate_protocol.values import BlobRef
from blindgate_rag.sync.heads import SeenHead
from blindgate_rag.sync.remote import Traffic


@dataclass
class Kept:
    """What is stored of one name.

    Attributes:
        blobs: by digest.
        heads: every head that was put, in order, each with the digests of what it needs.
        shown: which of the heads is shown, the last one by default.
        before_replacing: called in front of each replacement, once.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    heads: list[tuple[BlobRef, tuple[str, ...]]] = field(default_factory=list)
    shown: int = -1
    before_replacing: list[Callable[[], None]] = field(default_factory=list)


@dataclass
class KeptBlobs:
    """One client's way to it."""

    kept: Kept
    traffic: Traffic = field(default_factory=Traffic)

    def head(self) -> BlobRef | None:
        """The head that is shown."""
        return self.kept.heads[self.kept.shown][0] if self.kept.heads else None

    def fetch(self, blobs: Sequence[BlobRef]) -> list[bytes]:
        """The bytes, whatever became of them."""
        found = []
        for ref in blobs:
            if ref.digest not in self.kept.blobs:
                message = "no such blob"
                raise NotFoundError(message, status=404)
            found.append(self.kept.blobs[ref.digest])
        self.traffic = replace(
            self.traffic,
            fetched=self.traffic.fetched + len(found),
            fetched_bytes=self.traffic.fetched_bytes + sum(map(len, found)),
        )
        return found

    def store(self, blobs: Sequence[bytes]) -> None:
        """Keep them."""
        self.kept.blobs |= {digest(blob): blob for blob in blobs}
        self.traffic = replace(
            self.traffic, put=self.traffic.put + len(blobs), put_bytes=self.traffic.put_bytes + sum(map(len, blobs))
        )

    def replace(self, head: BlobRef, shards: Sequence[BlobRef], *, instead_of: str | None) -> bool:
        """Put a head, in place of the one that is named."""
        if self.kept.before_replacing:
            self.kept.before_replacing.pop()()
        there = self.kept.heads[-1][0].digest if self.kept.heads else None
        if there != instead_of:
            return False
        if any(ref.digest not in self.kept.blobs for ref in shards):
            message = "no such blob"
            raise NotFoundError(message, status=404)
        self.kept.heads.append((head, tuple(ref.digest for ref in shards)))
        return True


@dataclass
class InMind:
    """What one client has seen."""

    heads: dict[str, SeenHead] = field(default_factory=dict)

    def newest(self, corpus: str) -> SeenHead | None:
        """The newest head."""
        return self.heads.get(corpus)

    def remember(self, corpus: str, head: SeenHead) -> None:
        """Remember a newer one."""
        known = self.heads.get(corpus)
        if known is None or known.generation <= head.generation:
            self.heads[corpus] = head
