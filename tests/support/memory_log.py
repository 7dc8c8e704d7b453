"""A log in memory, with real keys, real trees and real proofs: what tests show to a client, honest or not."""

from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.checkpoints import Checkpoint, EntryProof, cosign, sign_checkpoint
from blindgate_protocol.events import Action, Event, leaf_of
from blindgate_protocol.logged import LoggedProof
from blindgate_protocol.merkle import inclusion_proof, root_of
from blindgate_protocol.notes import KeyKind, Note, VerifierKey
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed

ORIGIN = "gateway.example/log"


class Cosigner:
    """A witness that cosigns what it is given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.private = Ed25519PrivateKey.generate()
        self.key = VerifierKey(name, KeyKind.COSIGNATURE, self.private.public_key().public_bytes_raw())


class MemoryLog:
    """A log of events under a key of its own; with another log's `private`, another tree of the same log."""

    def __init__(self, origin: str = ORIGIN, private: Ed25519PrivateKey | None = None) -> None:
        self.private = private or Ed25519PrivateKey.generate()
        self.key = VerifierKey(origin, KeyKind.ED25519, self.private.public_key().public_bytes_raw())
        self.events: list[tuple[bytes, bytes]] = []

    def append(self, event: Event, salt: bytes = b"s" * 32) -> int:
        """Log an event. Gives its index."""
        self.events.append((event.to_bytes(), salt))
        return len(self.events) - 1

    def fill(self, count: int) -> None:
        """Log so many events that are of no interest here."""
        for _ in range(count):
            self.append(
                Event(
                    time=len(self.events),
                    action=Action.LOG_READ,
                    actor="unknown",
                    role="auditor",
                    object=f"log:{ORIGIN}",
                    software="test",
                )
            )

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """The tree of the first `size` events."""
        leaves = self._leaves[: len(self.events) if size is None else size]
        return Checkpoint(self.key.name, len(leaves), root_of(leaves))

    def note(self, size: int | None = None) -> bytes:
        """The signed checkpoint of that tree, as the log serves it."""
        return str(sign_checkpoint(self.checkpoint(size), self.private)).encode()

    def proof(self, index: int, size: int | None = None, *, cosigners: Sequence[Cosigner] = ()) -> LoggedProof:
        """The proof that the event at `index` stands in the tree of the first `size`."""
        event, salt = self.events[index]
        tree = self.checkpoint(size)
        signed = sign_checkpoint(tree, self.private)
        lines = (cosign(tree, each.private, name=each.name, seconds=1_760_000_000) for each in cosigners)
        note = Note(signed.text, (*signed.lines, *lines))
        hashes = tuple(inclusion_proof(index, tree.size, self._subtree))
        entry = EntryProof(index, hashes, str(note).encode())
        return LoggedProof(event=event.decode(), salt=salt, proof=entry.to_bytes().decode())

    @property
    def _leaves(self) -> list[bytes]:
        return [leaf_of(event, salt) for event, salt in self.events]

    def _subtree(self, level: int, index: int) -> bytes:
        return root_of(self._leaves[index << level : (index + 1) << level])


def succeeded(receipt: Signed[Receipt], **changes: Any) -> Event:
    """The event of the success of a receipt's job, as an honest gateway writes it."""
    given: dict[str, Any] = {
        "time": receipt.document.finished,
        "action": Action.JOB_SUCCEEDED,
        "actor": receipt.document.node,
        "role": "node",
        "object": f"job:{receipt.document.job}",
        "digest": receipt.digest,
        "details": {"node": receipt.document.node},
        "software": "blindgate test",
    }
    return Event(**(given | changes))
