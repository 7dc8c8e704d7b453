"""The tree that the log's entries stand in: hashes, proofs, and how it grows. RFC 9162, section 2.1.

A tree of `size` entries has one root. Two proofs exist, and their checks are the whole trust in the log:

- *inclusion*: the entry with this leaf hash stands at this index in the tree with this root;
- *consistency*: the tree with this root begins with the whole of the tree with that one.

`Frontier` is what a tree needs to remember to grow: the roots of its complete subtrees, from left to right, at most one of each
size. A prover needs more: `inclusion_proof` and `consistency_proof` ask for the hashes of complete subtrees by (level, index),
and whoever calls knows where they lie.

Section 12 of docs/protocol.md.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from blindgate_protocol.errors import LogError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

Subtrees: TypeAlias = Callable[[int, int], bytes]
"""Gives the root of the complete subtree at (level, index): its leaves are `index * 2**level` up to the next one's first."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry as a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A tree as far as it must be known to grow: the roots of its complete subtrees, the largest first."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Take up a tree of `size` leaves. Raises `LogError` when `hashes` cannot be its subtrees."""
        if size < 0 or size.bit_count() != len(hashes) or any(len(one) != HASH_BYTES for one in hashes):
            message = (
                f"a tree of {size} entries has {size.bit_count()} complete subtrees with roots of {HASH_BYTES} bytes, "
                f"got {len(hashes)}"
            )
            raise LogError(message)
        self.size = size
        self.hashes = list(hashes)

    def append(self, leaf: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Add a leaf; gives (level, index, root) of each subtree above it that this completes. Must be run to its end.

        Raises `LogError` for what is no leaf hash.
        """
        if len(leaf) != HASH_BYTES:
            message = f"the leaf hash of entry {self.size} has {HASH_BYTES} bytes, got {len(leaf)}"
            raise LogError(message, index=self.size)
        level, index, top = 0, self.size, leaf
        while index & 1:
            top = node_hash(self.hashes.pop(), top)
            level, index = level + 1, index >> 1
            yield level, index, top
        self.hashes.append(top)
        self.size += 1

    def root(self) -> bytes:
        """The root of the tree as it is."""
        if not self.hashes:
            return EMPTY_ROOT
        top = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            top = node_hash(left, top)
        return top


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over these leaf hashes, level by level. Raises `LogError` for what is no leaf hash."""
    for index, leaf in enumerate(leaves):
        if len(leaf) != HASH_BYTES:
            message = f"the leaf hash of entry {index} has {HASH_BYTES} bytes, got {len(leaf)}"
            raise LogError(message, index=index)
    hashes = list(leaves) or [EMPTY_ROOT]
    while len(hashes) > 1:
        alone = hashes[-1:] if len(hashes) & 1 else []  # goes up as it is: the tree's right edge
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=False)] + alone
    return hashes[0]


def verify_inclusion(*, index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Decide whether `leaf` stands at `index` in the tree of `size` with this `root` (RFC 9162, 2.1.3.2). Raises `LogError`.

    `size` and `root` belong together because a checkpoint signs both: by itself, the way from one entry to a root would often pass
    for one in a tree that is somewhat larger.
    """
    if not 0 <= index < size:
        message = f"entry {index} cannot be in a tree of {size}"
        raise LogError(message, index=index)
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    what = f"inclusion of entry {index} in a tree of {size}"
    _check_hashes([leaf, root, *proof], len(proof), inner + border, what, index=index)
    top = _climb(leaf, proof[:inner], index)
    for left in proof[inner:]:
        top = node_hash(left, top)
    if top != root:
        message = f"the proof does not lead from entry {index} to the root of the tree of {size}"
        raise LogError(message, index=index)


def verify_consistency(
    *, first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """Decide whether the tree of `second` begins with that of `first` (RFC 9162, 2.1.4.2). Raises `LogError`.

    Where the first is empty and the second is not, there is no such proof, and asking for one is refused.
    """
    what = f"consistency of trees of {first} and {second}"
    if not 0 <= first <= second:
        message = f"a tree of {second} entries cannot begin with one of {first}"
        raise LogError(message)
    if first == 0 < second:
        message = (
            "every tree begins with the empty one: there is nothing to prove, and a caller who asks may rely on it"
        )
        raise LogError(message)
    if first == second:
        _check_hashes(proof, len(proof), 0, what)
        if first_root != second_root or (second == 0 and second_root != EMPTY_ROOT):
            message = f"two roots for the tree of {first} entries"
            raise LogError(message)
        return
    shift = (first & -first).bit_length() - 1
    # Where `first` is one complete subtree, its root begins the way and is not sent.
    whole = first == 1 << shift
    last = first - 1
    inner = (last ^ (second - 1)).bit_length() - shift
    border = (last >> (inner + shift)).bit_count()
    _check_hashes([first_root, second_root, *proof], len(proof), inner + border + (not whole), what)
    start, rest = (first_root, list(proof)) if whole else (proof[0], list(proof[1:]))
    index = last >> shift
    old = start
    for level, sibling in enumerate(rest[:inner]):
        if index >> level & 1:
            old = node_hash(sibling, old)
    new = _climb(start, rest[:inner], index)
    for left in rest[inner:]:
        old, new = node_hash(left, old), node_hash(left, new)
    if old != first_root:
        message = f"the proof does not lead to the root of the tree of {first} that was known"
        raise LogError(message)
    if new != second_root:
        message = f"the proof does not lead from the tree of {first} to the root of the tree of {second}"
        raise LogError(message)


def inclusion_proof(index: int, size: int, subtrees: Subtrees) -> list[bytes]:
    """The proof that entry `index` stands in the tree of `size`. Raises `LogError`."""
    if not 0 <= index < size:
        message = f"entry {index} is not in a tree of {size}"
        raise LogError(message, index=index)
    return _path(index, 0, size, subtrees)


def consistency_proof(first: int, second: int, subtrees: Subtrees) -> list[bytes]:
    """The proof that the tree of `second` begins with that of `first`; nothing where either is empty. Raises `LogError`."""
    if not 0 <= first <= second:
        message = f"a tree of {second} entries does not begin with one of {first}"
        raise LogError(message)
    if first in {0, second}:
        return []
    return _common(first, 0, second, subtrees, known=True)


def range_root(begin: int, end: int, subtrees: Subtrees) -> bytes:
    """The root over the leaves from `begin` up to `end`, where `begin` is where a complete subtree of that size may begin.

    Raises `LogError` for a range without leaves.
    """
    if not 0 <= begin < end:
        message = f"no entries from {begin} up to {end}"
        raise LogError(message)
    width = end - begin
    if width & (width - 1) == 0 and begin % width == 0:
        level = width.bit_length() - 1
        return subtrees(level, begin >> level)
    split = begin + _split(width)
    return node_hash(range_root(begin, split, subtrees), range_root(split, end, subtrees))


def _path(index: int, begin: int, end: int, subtrees: Subtrees) -> list[bytes]:
    if end - begin == 1:
        return []
    split = begin + _split(end - begin)
    if index < split:
        return [*_path(index, begin, split, subtrees), range_root(split, end, subtrees)]
    return [*_path(index, split, end, subtrees), range_root(begin, split, subtrees)]


def _common(first: int, begin: int, end: int, subtrees: Subtrees, *, known: bool) -> list[bytes]:
    if first == end:
        return [] if known else [range_root(begin, end, subtrees)]
    split = begin + _split(end - begin)
    if first <= split:
        return [*_common(first, begin, split, subtrees, known=known), range_root(split, end, subtrees)]
    return [*_common(first, split, end, subtrees, known=False), range_root(begin, split, subtrees)]


def _split(width: int) -> int:
    """The largest power of two below `width`."""
    return 1 << ((width - 1).bit_length() - 1)


def _climb(start: bytes, siblings: Sequence[bytes], index: int) -> bytes:
    top = start
    for level, sibling in enumerate(siblings):
        top = node_hash(sibling, top) if index >> level & 1 else node_hash(top, sibling)
    return top


def _check_hashes(hashes: Sequence[bytes], got: int, wanted: int, what: str, *, index: int | None = None) -> None:
    if got != wanted:
        message = f"a proof of {what} has {wanted} hashes, got {got}"
        raise LogError(message, index=index)
    if any(len(one) != HASH_BYTES for one in hashes):
        message = f"a proof of {what} is made of hashes of {HASH_BYTES} bytes"
        raise LogError(message, index=index)
