"""The log's tree, read from the database: tiles, bundles, proofs.

A tile of level 0 is made from the events' commitments, a higher one from the kept roots. Everything below the head's size never
changes, so it can be read without a lock and cached by whoever asks.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from sqlalchemy import bindparam, select

from blindgate_gateway.database import Database, Transaction, prepared
from blindgate_gateway.tables import events, log_tiles
from blindgate_protocol.checkpoints import EntryProof
from blindgate_protocol.errors import LogError
from blindgate_protocol.events import ENTRY_VERSION
from blindgate_protocol.merkle import Subtrees, consistency_proof, inclusion_proof, leaf_hash
from blindgate_protocol.tiles import WIDTH, Tile, pack_entries, subtrees_of

_COMMITMENTS = prepared(
    select(events.c.commitment)
    .where(events.c.position >= bindparam("first"), events.c.position < bindparam("end"))
    .order_by(events.c.position)
)
_PLACES = prepared(
    select(events.c.position).where(events.c.position >= bindparam("first"), events.c.position < bindparam("end"))
)
_ROOTS = prepared(
    select(log_tiles.c.hash)
    .where(
        log_tiles.c.level == bindparam("level"),
        log_tiles.c.number >= bindparam("first"),
        log_tiles.c.number < bindparam("end"),
    )
    .order_by(log_tiles.c.number)
)
_HEIGHT: Final = 8
KEPT_TILES: Final = 128
"""In a process's memory, of 8 KiB at most."""
KEPT_ROOTS: Final = 16_384
"""In a process's memory, of some 200 bytes."""


def has_tile(tile: Tile, size: int) -> bool:
    """Whether a tree of `size` has this tile, or had it when it was smaller."""
    level = tile.level or 0
    return tile.number * WIDTH + tile.width <= size >> (_HEIGHT * level)


def read_tile(database: Database, tile: Tile) -> bytes:
    """A tile's or a bundle's bytes. Raises `LogError` where the database lacks some of it."""
    first = tile.number * WIDTH
    place = {"first": first, "end": first + tile.width}
    with database.read() as connection:
        if tile.level:
            parts = connection.execute(_ROOTS, {**place, "level": tile.level}).scalars()
        else:
            parts = connection.execute(_COMMITMENTS, place).scalars()
        if len(parts) != tile.width:
            raise _hole(connection, tile, place)
    if tile.level is None:
        return pack_entries([ENTRY_VERSION + part for part in parts])
    if tile.level == 0:
        return b"".join(leaf_hash(ENTRY_VERSION + part) for part in parts)
    return b"".join(parts)


def _hole(connection: Transaction, tile: Tile, place: dict[str, int]) -> LogError:
    """Names what is missing under a tile that cannot be made."""
    if tile.level:
        return LogError(f"the roots of tiles are missing in the database: {tile.path} cannot be made")
    there = set(connection.execute(_PLACES, place).scalars())
    missing = next(index for index in range(place["first"], place["end"]) if index not in there)
    return LogError(f"entry {missing} is missing in the database: {tile.path} cannot be made", index=missing)


def reader(database: Database) -> Callable[[Tile], bytes]:
    """Reads tiles from `database`."""
    return lambda tile: read_tile(database, tile)


class Prover:
    """Makes proofs from the database, for one process.

    It remembers the tiles that it read last and roots that it computed, since whoever asks for one proof of a log's newest entries
    is followed by others. Neither changes, however the tree grows.
    """

    def __init__(self, database: Database) -> None:
        self._read = lru_cache(maxsize=KEPT_TILES)(reader(database))
        self._roots: dict[tuple[int, int], bytes] = {}

    def inclusion(self, index: int, size: int, checkpoint: str) -> EntryProof:
        """The proof that entry `index` is in the tree of this checkpoint."""
        hashes = inclusion_proof(index, size, self._subtrees(size))
        return EntryProof(index, tuple(hashes), checkpoint.encode())

    def consistency(self, first: int, second: int) -> list[bytes]:
        """The proof that the tree of `second` entries begins with that of `first`."""
        return consistency_proof(first, second, self._subtrees(second))

    def _subtrees(self, size: int) -> Subtrees:
        tree = subtrees_of(size, self._read)

        def subtree(level: int, index: int) -> bytes:
            root = self._roots.get((level, index))
            if root is None:
                root = tree(level, index)
                if len(self._roots) >= KEPT_ROOTS:
                    self._roots.clear()
                self._roots[level, index] = root
            return root

        return subtree
