"""The log as files: every name stands for one tile, and bytes that are not that tile are refused."""

import re

import pytest

from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.merkle import leaf_hash, root_of
from blindgate_protocol.tiles import (
    Tile,
    bundles_of,
    pack_entries,
    subtrees_of,
    tiles_of,
    unpack_entries,
    unpack_hashes,
)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1_234_067), "tile/0/x001/x234/067"),
        (Tile(0, 1_234_068, 17), "tile/0/x001/x234/068.p/17"),
        (Tile(None, 1_234_068, 17), "tile/entries/x001/x234/068.p/17"),
        (Tile(1, 999), "tile/1/999"),
        (Tile(1, 1000), "tile/1/x001/000"),
        (Tile(63, 0, 255), "tile/63/000.p/255"),
        (Tile(2, 10**18 - 1, 1), "tile/2/x999/x999/x999/x999/x999/999.p/1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tile_has_the_name_that_c2sp_gives_it(tile: Tile, path: str) -> None:
    """And is read from it."""
    assert tile.path == path
    assert Tile.parse(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "tile/0",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/1000",
        "tile/0/x000/001",
        "tile/0/x001/234/067",
        "tile/0/001/067",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/07",
        "tile/0/000.p/",
        "tile/0/000/",
        "tile/0/000\n",
        "tile/0/\u0660\u0660\u0660",
        "tile/x/000",
        "tile/data/000",
        "tile/0/../0/000",
        "/tile/0/000",
        "tile//000",
        "tile/0/" + "x001/" * 6 + "000",
    ],
)
def test_what_no_tile_is_called_is_refused(path: str) -> None:
    """One tile has one name, so no cache holds it twice, and no name leads out of the folder."""
    with pytest.raises(MalformedError, match="not the name of a tile"):
        Tile.parse(path)


@pytest.mark.parametrize(
    ("level", "number", "width"), [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 10**18, 1), (0, 0, 0), (0, 0, 257)]
)
def test_a_tile_that_no_tree_has_cannot_be_made(level: int, number: int, width: int) -> None:
    """It would have a name that is no tile's."""
    with pytest.raises(MalformedError, match=f"no tile {number} of width {width} on level {level}"):
        Tile(level, number, width)


def test_the_tiles_of_a_tree_are_those_of_the_specifications_example() -> None:
    """70,000 entries: 273 and one of 112; one and one of 17; one of 1. And 256 entries: a full one and one of 1."""
    tiles = list(tiles_of(70_000))
    assert [len([tile for tile in tiles if tile.level == level]) for level in range(4)] == [274, 2, 1, 0]
    assert [tile for tile in tiles if tile.width < 256] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == list(bundles_of(0)) == []
    assert list(bundles_of(600)) == [Tile(None, 0), Tile(None, 1), Tile(None, 2, 88)]


ENTRIES = [b"", b"one", bytes(33), b"\xff" * 65_535]


def test_a_bundle_gives_back_its_entries() -> None:
    """Each behind its length in two bytes."""
    assert pack_entries([b"one"]) == b"\0\3one"
    assert unpack_entries(pack_entries(ENTRIES), 4) == ENTRIES
    assert unpack_entries(b"", 0) == []
    with pytest.raises(LogError, match="less than 64 KiB"):
        pack_entries([bytes(65_536)])


@pytest.mark.parametrize(
    ("bundle", "width"),
    [
        (pack_entries(ENTRIES), 3),
        (pack_entries(ENTRIES), 5),
        (pack_entries(ENTRIES)[:-1], 4),
        (pack_entries(ENTRIES) + b"\0", 4),
        (b"\0", 1),
        (b"\0\1", 1),
        (b"", 1),
    ],
    ids=["one more", "one fewer", "cut", "something behind", "half a length", "length alone", "nothing"],
)
def test_a_bundle_of_other_length_is_refused(bundle: bytes, width: int) -> None:
    """It says how many entries there should be."""
    with pytest.raises(MalformedError, match=f"a bundle of {width} entries: got {len(bundle)} bytes"):
        unpack_entries(bundle, width)


@pytest.mark.parametrize("size", [0, 31, 33, 64, 8192])
def test_a_tile_of_other_length_is_refused(size: int) -> None:
    """Got and expected stand in the message."""
    assert unpack_hashes(bytes(32), 1) == [bytes(32)]
    with pytest.raises(MalformedError, match=f"a tile of 1 hashes has 32 bytes, got {size}"):
        unpack_hashes(bytes(size), 1)


@pytest.mark.parametrize(("level", "index"), [(0, 600), (3, 75), (8, 2), (9, 1), (16, 0), (-1, 0), (0, -1)])
def test_a_subtree_that_is_not_complete_is_not_asked_for(level: int, index: int) -> None:
    """No tile holds it; nothing is read."""
    with pytest.raises(LogError, match=f"subtree {index} of level {level} is not complete in a tree of 600"):
        subtrees_of(600, lambda tile: pytest.fail(tile.path))(level, index)


def test_subtrees_come_from_the_tiles_of_their_own_tree() -> None:
    """A partial tile by its width, each read once."""
    leaves = [leaf_hash(n.to_bytes(2, "big")) for n in range(600)]
    read: list[str] = []

    def tile(asked: Tile) -> bytes:
        read.append(asked.path)
        span = 256 ** (asked.level or 0)
        first = asked.number * 256
        return b"".join(root_of(leaves[n * span : (n + 1) * span]) for n in range(first, first + asked.width))

    subtree = subtrees_of(600, tile)
    assert subtree(3, 74) == subtree(3, 74) == root_of(leaves[592:600])
    assert subtree(9, 0) == root_of(leaves[:512])
    assert read == ["tile/0/002.p/88", "tile/1/000.p/2"]


def test_a_tile_of_the_wrong_length_is_named() -> None:
    """Whoever serves it is told which rule it breaks."""
    with pytest.raises(MalformedError, match=re.escape("a tile of 88 hashes has 2816 bytes, got 0")):
        subtrees_of(600, lambda _: b"")(0, 599)
