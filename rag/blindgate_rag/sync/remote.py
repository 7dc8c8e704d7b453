"""Where a corpus's blobs lie, as this package sees it: whoever composes it brings the sockets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from blindgate_protocol.values import BlobRef


@dataclass(frozen=True)
class Traffic:
    """How many blobs, of how many bytes together, went which way."""

    fetched: int = 0
    fetched_bytes: int = 0
    put: int = 0
    put_bytes: int = 0


class Remote(Protocol):
    """One corpus, by its name, at somebody who keeps blobs and cannot read them.

    Whatever it gives may be anything: who asks holds it to digests and seals. Every method may raise a `GatewayError`.
    """

    @property
    def traffic(self) -> Traffic:
        """What went to and fro so far."""

    def head(self) -> BlobRef | None:
        """Which head there is now; `None` where there is none."""

    def fetch(self, blobs: Sequence[BlobRef]) -> list[bytes]:
        """Blobs of the present head, in order, each of its size. Raises `NotFoundError` for one that is not there."""

    def store(self, blobs: Sequence[bytes]) -> None:
        """Store blobs, for a head that will need them."""

    def replace(self, head: BlobRef, shards: Sequence[BlobRef], *, instead_of: str | None) -> bool:
        """Put a head in place of the one of this digest, or the first one. Whether it is there: not where another one is.

        Raises `NotFoundError` where a blob is not there.
        """
