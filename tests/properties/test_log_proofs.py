"""The log's proofs: whatever a prover makes from the tiles, the verifier takes, and nothing near it."""

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate_protocol.errors import LogError
from blindgate_protocol.events import Action, Event, entry_of
from blindgate_protocol.merkle import (
    HASH_BYTES,
    Frontier,
    Subtrees,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    range_root,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from blindgate_protocol.tiles import Tile, bundles_of, pack_entries, subtrees_of, tiles_of, unpack_entries

SMALL = 40
LARGE = 70_000
"""Three levels of tiles."""


@cache
def _leaves() -> list[bytes]:
    return [leaf_hash(entry_of(b"%d" % n, bytes(32))) for n in range(LARGE)]


@cache
def _levels() -> list[list[bytes]]:
    """The roots of all complete subtrees, by their level: the same by another way than `Frontier`'s."""
    levels = [_leaves()]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([node_hash(below[n], below[n + 1]) for n in range(0, len(below) - 1, 2)])
    return levels


def _read(tile: Tile) -> bytes:
    """A tile, as a log of 70,000 entries serves it."""
    assert tile.level is not None
    first = tile.number * 256
    return b"".join(_levels()[8 * tile.level][first : first + tile.width])


@cache
def _root(size: int) -> bytes:
    """RFC 9162's definition, 2.1.1, word for word, but that complete subtrees are known."""
    if size & (size - 1) == 0:
        return _levels()[size.bit_length() - 1][0] if size else root_of([])
    split = 1 << (size - 1).bit_length() - 1
    return node_hash(_root(split), _rest(split, size))


def _rest(begin: int, end: int) -> bytes:
    width = end - begin
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return _levels()[level][begin >> level]
    split = 1 << (width - 1).bit_length() - 1
    return node_hash(_rest(begin, begin + split), _rest(begin + split, end))


def test_every_entry_of_every_small_tree_is_proved_at_its_index_alone() -> None:
    """No other index takes the same proof, and no other leaf."""
    leaves = _leaves()
    for size in range(1, SMALL + 1):
        subtrees, root = subtrees_of(size, _read), _root(size)
        for index in range(size):
            proof = inclusion_proof(index, size, subtrees)
            verify_inclusion(index=index, size=size, leaf=leaves[index], proof=proof, root=root)
            for other in range(size):
                if other != index:
                    with pytest.raises(LogError):
                        verify_inclusion(index=other, size=size, leaf=leaves[index], proof=proof, root=root)
                    with pytest.raises(LogError):
                        verify_inclusion(index=index, size=size, leaf=leaves[other], proof=proof, root=root)


def test_every_small_tree_begins_with_every_smaller_one_and_with_no_other() -> None:
    """A proof for one pair of sizes is none for other roots."""
    for second in range(1, SMALL + 1):
        subtrees = subtrees_of(second, _read)
        for first in range(1, second + 1):
            proof = consistency_proof(first, second, subtrees)
            roots = {"first_root": _root(first), "second_root": _root(second)}
            verify_consistency(first=first, second=second, proof=proof, **roots)
            for name in roots:
                with pytest.raises(LogError):
                    verify_consistency(first=first, second=second, proof=proof, **roots | {name: _root(SMALL + 1)})
        assert consistency_proof(0, second, subtrees) == []


@settings(max_examples=200)
@given(size=st.integers(1, LARGE), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 10_000))
def test_an_entry_of_a_large_tree_is_proved_from_its_tiles(size: int, place: float, bit: int) -> None:
    """And one bit elsewhere, anywhere in the proof, is refused."""
    index = int(place * size)
    proof = inclusion_proof(index, size, subtrees_of(size, _read))

    def verify(hashes: list[bytes]) -> None:
        verify_inclusion(index=index, size=size, leaf=_leaves()[index], proof=hashes, root=_root(size))

    verify(proof)
    _refused_when_changed(proof, bit, verify)


@settings(max_examples=200)
@given(second=st.integers(2, LARGE), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 10_000))
def test_a_large_tree_is_proved_from_its_tiles_to_begin_with_another(second: int, place: float, bit: int) -> None:
    """Likewise."""
    first = 1 + int(place * (second - 1))
    proof = consistency_proof(first, second, subtrees_of(second, _read))

    def verify(hashes: list[bytes]) -> None:
        roots = {"first_root": _root(first), "second_root": _root(second)}
        verify_consistency(first=first, second=second, proof=hashes, **roots)

    verify(proof)
    _refused_when_changed(proof, bit, verify)


def _refused_when_changed(proof: list[bytes], bit: int, verify: Callable[[list[bytes]], None]) -> None:
    with pytest.raises(LogError):
        verify([*proof, bytes(HASH_BYTES)])
    if proof:
        place, bit = divmod(bit % (len(proof) * 8 * HASH_BYTES), 8 * HASH_BYTES)
        changed = bytearray(proof[place])
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LogError):
            verify([*proof[:place], bytes(changed), *proof[place + 1 :]])
        with pytest.raises(LogError):
            verify(proof[1:])


@settings(max_examples=100)
@given(size=st.integers(0, 3000), cut=st.integers(0, 3000))
def test_a_frontier_has_the_root_that_the_definition_gives(size: int, cut: int) -> None:
    """Also when it was put down at some point, and every subtree that it told of is one."""
    frontier = Frontier()
    for n, leaf in enumerate(_leaves()[:size]):
        if n == cut:
            frontier = Frontier(frontier.size, frontier.hashes)
        for level, index, root in frontier.append(leaf):
            assert root == _levels()[level][index]
    assert frontier.size == size
    assert frontier.root() == _root(size)


@settings(max_examples=100)
@given(size=st.integers(1, LARGE))
def test_the_tiles_of_a_tree_are_enough_for_its_root(size: int) -> None:
    """Named once each, none empty, and from them alone the root comes out."""
    tiles = list(tiles_of(size))
    paths = [tile.path for tile in tiles]
    assert len(set(paths)) == len(paths)
    assert [Tile.parse(path) for path in paths] == tiles
    assert sum(tile.width for tile in tiles if tile.level == 0) == size == sum(it.width for it in bundles_of(size))
    served = {tile: _read(tile) for tile in tiles}
    assert all(len(data) == 32 * tile.width for tile, data in served.items())
    subtrees: Subtrees = subtrees_of(size, served.__getitem__)
    assert range_root(0, size, subtrees) == _root(size)


@given(entries=st.lists(st.binary(max_size=50), max_size=256))
def test_bundles_give_back_what_was_put_in(entries: list[bytes]) -> None:
    """Entries of any length."""
    assert unpack_entries(pack_entries(entries), len(entries)) == entries


EVENTS = st.builds(
    Event,
    time=st.integers(0, 2**53 - 1),
    action=st.sampled_from(Action),
    actor=st.just("gateway"),
    role=st.just("gateway"),
    tenant=st.none() | st.just(f"tenant-{'00' * 16}"),
    object=st.sampled_from(["key:sha256:00", "node:ed25519:x-_", "model:m/1"]),
    digest=st.none() | st.just(f"sha256:{'00' * 32}"),
    reason=st.none() | st.text(max_size=50),
    request=st.none(),
    before=st.none(),
    after=st.none() | st.just("active"),
    details=st.dictionaries(st.sampled_from(["job", "node", "a.b-c_d", "0"]), st.text(max_size=20)),
    software=st.text(max_size=20),
)


@settings(max_examples=200)
@given(event=EVENTS)
def test_an_event_comes_back_from_its_bytes(event: Event) -> None:
    """And its bytes from it: what was committed to can be written again."""
    data = event.to_bytes()
    again = Event.from_bytes(data)
    assert again == event
    assert again.to_bytes() == data
