"""The log as files: tiles of hashes and bundles of entries, under names that never change. C2SP's tlog-tiles.

A tile is 256 hashes in a row, all of one level; level *l* has the roots of complete subtrees of 256^*l* entries. A bundle is the
256 entries under a tile of level 0, each with its length before it. The last of each may be partial, and its name says how wide
it is. So whatever a name stands for is the same for ever, and any cache may keep it.

    checkpoint                      the latest, a few seconds old at most
    key                             the log's verifier key, for whoever has none from somebody better
    second-key                      its second one, by ML-DSA-44, where it has one
    tile/0/x001/x234/067            tile 1,234,067 of level 0
    tile/0/x001/x234/068.p/17       the first 17 hashes of the next
    tile/entries/x001/x234/068.p/17 the entries under it

Section 12 of docs/protocol.md.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.merkle import HASH_BYTES, Subtrees, root_of

CHECKPOINT: Final = "checkpoint"
KEY: Final = "key"
SECOND_KEY: Final = "second-key"
WIDTH: Final = 256
HEIGHT: Final = 8
_LEVELS: Final = 64
_MOST_DIGITS: Final = 18
"""Of a tile's number: 2^53 entries need 14."""
_PATH: Final = re.compile(
    r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
)


@dataclass(frozen=True)
class Tile:
    """One tile, or one bundle where `level` is `None`. Making one raises `MalformedError`.

    Attributes:
        level: 0 to 63.
        number: which one of its level, from 0.
        width: how many hashes or entries it has, 1 to 256.
    """

    level: int | None
    number: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        level = 0 if self.level is None else self.level
        if not (0 <= level < _LEVELS and 0 <= self.number < 10**_MOST_DIGITS and 1 <= self.width <= WIDTH):
            message = f"no tile {self.number} of width {self.width} on level {self.level}"
            raise MalformedError(message)

    @property
    def path(self) -> str:
        """Its name."""
        digits = f"{self.number:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        parts = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        place = "/".join([f"x{part}" for part in parts[:-1]] + parts[-1:])
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{'entries' if self.level is None else self.level}/{place}{partial}"

    @classmethod
    def parse(cls, path: str) -> "Tile":
        """Read a name. Raises `MalformedError` for what no tile is called."""
        match = _PATH.fullmatch(path)
        if match is not None:
            level, place, width = match.groups()
            found = cls(
                None if level == "entries" else int(level),
                int(place.replace("/", "").replace("x", "")),
                WIDTH if width is None else int(width),
            )
            if found.path == path:
                return found
        message = "not the name of a tile"
        raise MalformedError(message)


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile of a tree of `size`, level by level; the partial ones last in each."""
    level, hashes = 0, size
    while hashes:
        whole, rest = divmod(hashes, WIDTH)
        yield from (Tile(level, number) for number in range(whole))
        if rest:
            yield Tile(level, whole, rest)
        level, hashes = level + 1, whole


def bundles_of(size: int) -> Iterator[Tile]:
    """Every bundle of a tree of `size`."""
    whole, rest = divmod(size, WIDTH)
    yield from (Tile(None, number) for number in range(whole))
    if rest:
        yield Tile(None, whole, rest)


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """A bundle: each entry behind its length in two bytes. Raises `LogError` for one of 64 KiB or more."""
    if any(len(entry) >= 1 << 16 for entry in entries):
        message = "an entry of the log has less than 64 KiB"
        raise LogError(message)
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack_entries(bundle: bytes, width: int) -> list[bytes]:
    """The `width` entries of a bundle. Raises `MalformedError`."""
    entries: list[bytes] = []
    at = 0
    while at < len(bundle) and len(entries) < width:
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        entries.append(bundle[at + 2 : end])
        at = end
    if at != len(bundle) or len(entries) != width:
        message = f"a bundle of {width} entries: got {len(bundle)} bytes that hold another number of them, or break off"
        raise MalformedError(message)
    return entries


def unpack_hashes(tile: bytes, width: int) -> list[bytes]:
    """The `width` hashes of a tile. Raises `MalformedError`."""
    if len(tile) != width * HASH_BYTES:
        message = f"a tile of {width} hashes has {width * HASH_BYTES} bytes, got {len(tile)}"
        raise MalformedError(message)
    return [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]


def subtrees_of(size: int, read: Callable[[Tile], bytes]) -> Subtrees:
    """The complete subtrees of a tree of `size`, from its tiles: what provers ask for (`merkle.Subtrees`).

    `read` gives a tile's bytes. What it gives is checked for its length only: whoever makes a proof from it checks the proof.
    What was read is kept for as long as the function is. It raises `LogError` for a subtree that is not complete in this tree.
    """
    kept: dict[Tile, list[bytes]] = {}

    def subtree(level: int, index: int) -> bytes:
        if level < 0 or index < 0 or (index + 1) << level > size:
            message = f"subtree {index} of level {level} is not complete in a tree of {size}"
            raise LogError(message, index=index << level if level >= 0 else None)
        tile_level, above = divmod(level, HEIGHT)
        first = index << above  # among the hashes of that tile level
        number, begin = divmod(first, WIDTH)
        width = min(WIDTH, (size >> (HEIGHT * tile_level)) - number * WIDTH)
        tile = Tile(tile_level, number, width)
        hashes = kept.get(tile)
        if hashes is None:
            hashes = kept[tile] = unpack_hashes(read(tile), width)
        return root_of(hashes[begin : begin + (1 << above)])

    return subtree
