"""The other files of a tile: what it was when the log was smaller, kept for whoever holds a checkpoint of then.

    tile/0/000.p/12     what tile/0/000.p/49 was when the log had 12 entries
    tile/0/000          what both have become

A checkpoint stands on one of them, and a walk reads that one. The others are read by whoever verifies an earlier checkpoint, or a
proof against it, so in a folder that is called whole they hold too: what two of them have in common is the same.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from blindgate_audit.findings import Findings
from blindgate_audit.sources import Read
from blindgate_protocol.tiles import HEIGHT, WIDTH, Tile, unpack_entries, unpack_hashes


def compare_versions(tile: Tile, data: bytes, other: Tile, found: Read, findings: Findings) -> None:
    """Hold `other`, for which `found` was read, against the `data` of the `tile` of the same place, which holds."""
    if not isinstance(found, bytes):
        _tell(findings, tile, other, 0, str(found))
        return
    ends = _ends(tile, data)
    shared = min(tile.width, other.width)
    expected = data[: ends[shared - 1]]
    got = found[: len(expected)] if other.width > tile.width else found
    if got != expected:
        place = min(bisect_right(ends, _first_difference(got, expected)), shared - 1)
        _tell(findings, tile, other, place, f"from there on it is not what {tile.path} is")


def _tell(findings: Findings, tile: Tile, other: Tile, place: int, what: str) -> None:
    index = (tile.number * WIDTH + place) << HEIGHT * (tile.level or 0)
    message = f"{other.path}, which an earlier checkpoint needs, at entry {index}: {what}"
    findings.add("version", message, index=index)


def _ends(tile: Tile, data: bytes) -> Sequence[int]:
    """Where each hash, or each entry behind its length, ends."""
    if tile.level is None:
        return [*accumulate(2 + len(entry) for entry in unpack_entries(data, tile.width))]
    return [*accumulate(len(one) for one in unpack_hashes(data, tile.width))]


def _first_difference(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
