"""The other files of a tile: what it was when the log was smaller, kept for whoever holds a checkpoint of then.

    tile/0/000.p/12     what tile/0/000.p/49 was when the log had 12 entries
    tile/0/000          what both have become

A checkpoint stands on one of them, and a walk reads that one. The others are read by whoever verifies an earlier checkpoint, or a
proof against it, so in a folder that is called whole they hold too: what two of them have in common is the same.
"""

from collections.abc import Sequence

from blindgate_audit.findings import Findings
from blindgate_audit.sources import Read
from blindgate_protocol.errors import MalformedError, NotFoundError
from blindgate_protocol.tiles import HEIGHT, WIDTH, Tile, unpack_entries, unpack_hashes


def compare_versions(tile: Tile, data: bytes, other: Tile, found: Read, findings: Findings) -> None:
    """Hold `other`, for which `found` was read, against the `data` of the `tile` of the same place, which holds."""
    first = tile.number * WIDTH << HEIGHT * (tile.level or 0)
    try:
        if not isinstance(found, bytes):
            raise found
        theirs = _parts(other, found)
    except (MalformedError, NotFoundError) as error:
        findings.add("version", f"{other.path}, which an earlier checkpoint needs: {error}", index=first)
        return
    for place, (one, another) in enumerate(zip(_parts(tile, data), theirs, strict=False)):
        if one != another:
            index = (tile.number * WIDTH + place) << HEIGHT * (tile.level or 0)
            what = "entry" if tile.level is None else "hash"
            message = f"{other.path}, which an earlier checkpoint needs, has another {what} at {index} than {tile.path}"
            findings.add("version", message, index=index)
            return


def _parts(tile: Tile, data: bytes) -> Sequence[bytes]:
    return unpack_entries(data, tile.width) if tile.level is None else unpack_hashes(data, tile.width)
