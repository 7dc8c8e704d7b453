"""A log that tests write themselves: its tree as it grows, signed at any size, with the proofs between sizes."""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.checkpoints import Checkpoint, proof_lines, sign_checkpoint
from blindgate_protocol.merkle import Frontier, consistency_proof, leaf_hash
from blindgate_protocol.notes import KeyKind, Note, VerifierKey


class GrowingLog:
    """Every size that it ever had can be signed and proven. Two with one key and other entries are a fork."""

    def __init__(self, origin: str = "gateway.example/log", key: Ed25519PrivateKey | None = None) -> None:
        self.origin = origin
        self.private = key or Ed25519PrivateKey.generate()
        self.key = VerifierKey(origin, KeyKind.ED25519, self.private.public_key().public_bytes_raw())
        self._frontier = Frontier()
        self._subtrees: dict[tuple[int, int], bytes] = {}
        self._roots = [self._frontier.root()]

    @property
    def size(self) -> int:
        """How many entries it has."""
        return self._frontier.size

    def grow(self, size: int, *, word: str = "entry") -> "GrowingLog":
        """Append entries until there are `size`; another `word` makes other entries."""
        while self.size < size:
            leaf = leaf_hash(f"{word} {self.size}".encode())
            self._subtrees[0, self.size] = leaf
            for level, index, root in self._frontier.append(leaf):
                self._subtrees[level, index] = root
            self._roots.append(self._frontier.root())
        return self

    def note(self, size: int | None = None, *extensions: str) -> Note:
        """The signed checkpoint of a size."""
        size = self.size if size is None else size
        return sign_checkpoint(Checkpoint(self.origin, size, self._roots[size], extensions), self.private)

    def prove(self, first: int, second: int) -> Sequence[bytes]:
        """The consistency proof between two sizes."""
        return consistency_proof(first, second, lambda level, index: self._subtrees[level, index])

    def submission(self, old: int, size: int | None = None) -> bytes:
        """What a witness is sent."""
        size = self.size if size is None else size
        return submission(old, self.prove(old, size) if old <= size else (), self.note(size))


def submission(old: int, proof: Sequence[bytes], note: Note) -> bytes:
    """The body of a request to a witness."""
    return f"old {old}\n{proof_lines(proof)}\n{note}".encode()
