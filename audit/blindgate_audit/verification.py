"""Whether a log is the tree that it signed: every entry, every tile, the root, and what was seen of it before.

`verify_checkpoint` holds the latest checkpoint against whoever is trusted:

1. it has the form, is of this log, and the log's key signed it; so many witnesses cosigned;
2. the log is not smaller than it was seen, and of the same size it has the same root.

`verify_tree` walks the log from its first entry to its last, once, in memory that does not grow with it:

3. every bundle is there, and its entries are commitments of a version that is known;
4. every hash of every tile is the root of the entries below it, as they are in the bundles;
5. the entries lead to the root of the checkpoint;
6. the first entries, as many as there were when the log was seen last, lead to the root that it had then. The tree of then is
   computed again, so no proof of consistency has to be believed;
7. in a folder, the other files of a tile, which earlier checkpoints need, begin as it does (`versions`).

Where a bundle and a tile disagree, either may be wrong, and the entry is named. One wrong entry changes every hash above it: a
higher tile is named only for a hash that neither the entries nor the tile below it explain. Which of the two leads to the signed
root is said at the end (`Walked`).

Nothing here reads: the bytes come from `sources`. What the events say is checked by `bodies`, which is shown every entry.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from blindgate_audit.findings import Findings
from blindgate_audit.sources import Read
from blindgate_audit.versions import compare_versions
from blindgate_protocol.checkpoints import Checkpoint, LogTrust, OpenedCheckpoint, open_checkpoint
from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.events import ENTRY_BYTES, ENTRY_VERSION
from blindgate_protocol.merkle import EMPTY_ROOT, leaf_hash, root_of
from blindgate_protocol.tiles import HEIGHT, WIDTH, Tile, bundles_of, unpack_hashes

Observer = Callable[[int, Sequence[bytes | None]], None]
"""Is shown every bundle's entries, with the index of the first; `None` for one that could not be read."""

Reader = Callable[[Iterable[Tile]], Iterator[tuple[Tile, Read]]]
"""Reads tiles and gives them in their order, as `sources.fetched` does."""

Versions = Callable[[Tile], Iterable[tuple[Tile, Read]]]
"""The other files of a tile's place, as `sources.Folder.versions` gives them."""

_Hash = bytes | None  # what is not known was named as missing before


@dataclass(frozen=True)
class Walked:
    """What the walk came to.

    Attributes:
        by_entries: the entries in the bundles lead to the signed root.
        by_tiles: the hashes in the tiles do, and each tile agrees with those below it.
        continues: the log begins with what was remembered of it; `None` where nothing was.
    """

    by_entries: bool
    by_tiles: bool
    continues: bool | None


def verify_checkpoint(
    data: bytes, trust: LogTrust, remembered: Checkpoint | None, findings: Findings
) -> OpenedCheckpoint | None:
    """Steps 1 and 2 above. Gives the checkpoint, or `None` when there is none to go on with."""
    # 1.
    try:
        opened = open_checkpoint(data, LogTrust(trust.log, second=trust.second))
    except (LogError, MalformedError) as error:
        findings.add("checkpoint", str(error))
        return None
    try:
        opened = open_checkpoint(data, trust)
    except LogError as error:
        findings.add("cosignatures", str(error))
    # 2.
    now = opened.checkpoint
    if remembered is not None and now.size < remembered.size:
        message = (
            f"the log has {now.size} entries and had {remembered.size} when it was seen last: "
            f"entries {now.size} to {remembered.size - 1} are gone, or this is an older copy of it"
        )
        findings.add("rollback", message, index=now.size)
    if remembered is not None and now.size == remembered.size and now.root != remembered.root:
        message = f"the log of {now.size} entries has another root than when it was seen with as many: it was rewritten"
        findings.add("fork", message)
    return opened


def verify_tree(  # noqa: PLR0913  (what is read, and against what)
    read: Reader,
    checkpoint: Checkpoint,
    remembered: Checkpoint | None,
    findings: Findings,
    *,
    observers: Sequence[Observer] = (),
    versions: Versions = lambda _tile: (),
) -> Walked:
    """Steps 3 to 7 above."""
    seen = remembered if remembered is not None and remembered.size <= checkpoint.size else None
    walk = _Walk(findings, observers, 0 if seen is None else seen.size)
    before = found = findings.count
    bundle: Read = b""
    for tile, data in read(_in_order(checkpoint.size)):
        if tile.level is None:
            found, bundle = findings.count, data
            walk.bundle(tile, data)
        else:
            walk.tile(tile, data)
            # 7. What does not hold itself was named; there is nothing to hold others against.
            if findings.count == found:
                _compare(tile, data, versions, findings)
            if tile.level == 0 and findings.count == found:
                _compare(Tile(None, tile.number, tile.width), bundle, versions, findings)
            found = findings.count
        if walk.absent > MOST_ABSENT:
            message = (
                f"{walk.absent} bundles in a row are not there: nothing behind entry {tile.number * WIDTH} is asked for"
            )
            findings.add("missing", message, index=tile.number * WIDTH)
            return Walked(by_entries=False, by_tiles=False, continues=None)
    # 5.
    counted, served = walk.roots()
    known = {counted, served} - {None}
    if known and (checkpoint.root not in known or (counted != checkpoint.root and findings.count == before)):
        message = (
            f"neither the entries nor the tiles lead to the root that the log signed for {checkpoint.size} entries"
        )
        findings.add("root", message)
    # 6.
    then = walk.then if walk.seen else {EMPTY_ROOT}
    continues = None if seen is None or not then else seen.root in then
    if seen is not None and continues is None and findings.count == before:
        findings.add(
            "fork", f"whether the log begins with the {seen.size} entries that were seen cannot be told", index=0
        )
    if seen is not None and continues is False and seen.size < checkpoint.size:
        message = (
            f"the first {seen.size} entries are not those that the log had when it was seen with {seen.size}: "
            f"one of the entries 0 to {seen.size - 1} was changed, put in or taken out"
        )
        findings.add("fork", message, index=0)
    return Walked(counted == checkpoint.root, served == checkpoint.root and not walk.torn, continues)


def _compare(tile: Tile, data: Read, versions: Versions, findings: Findings) -> None:
    for other, found in versions(tile):
        if isinstance(data, bytes):
            compare_versions(tile, data, other, found, findings)


def _in_order(size: int) -> Iterator[Tile]:
    """Every bundle and tile: a tile as soon as all that stands below it was there; the partial ones last."""
    for bundle in bundles_of(size):
        yield bundle
        yield Tile(0, bundle.number, bundle.width)
        level, count = 1, bundle.number + 1
        while bundle.width == WIDTH and count % WIDTH == 0:
            count //= WIDTH
            yield Tile(level, count - 1)
            level += 1
    level = 1
    while hashes := size >> HEIGHT * level:
        if hashes % WIDTH:
            yield Tile(level, hashes // WIDTH, hashes % WIDTH)
        level += 1


class _Level:
    """The hashes of one level that no whole tile has taken in yet: as the entries have them, and as the tiles have them."""

    def __init__(self) -> None:
        self.counted: list[_Hash] = []
        self.served: list[_Hash] = []


MOST_ABSENT: Final = 64
"""A log may say that it has more entries than anybody could ask for: so many bundles in a row that are not there are the end."""

_ANY_LEVELS: Final = 8  # a checkpoint's size has 16 digits: 7 levels


class _Walk:
    """The walk so far.

    Attributes:
        seen: how many entries the log had when it was seen; 0 where nothing was.
        then: the roots of that many entries, by the bundles and by the tiles, as far as they are known.
        absent: how many bundles in a row were not there.
        torn: whether a tile does not agree with the tiles below it.
    """

    def __init__(self, findings: Findings, observers: Sequence[Observer], seen: int) -> None:
        self._findings = findings
        self._observers = observers
        self._levels = [_Level() for _ in range(_ANY_LEVELS)]
        self.seen = seen
        self.then: set[bytes] = set()
        self.absent = 0
        self.torn = False

    def bundle(self, tile: Tile, data: Read) -> None:
        """Take in the entries of a bundle (step 3)."""
        first = tile.number * WIDTH
        self.absent = 0 if isinstance(data, bytes) else self.absent + 1
        entries: list[bytes | None] = [*self._entries(tile, data)]
        for index, entry in enumerate(entries, first):
            if entry is not None and (len(entry) != ENTRY_BYTES or entry[:1] != ENTRY_VERSION):
                message = f"entry {index} is no commitment of version {ENTRY_VERSION[0]}: it has {len(entry)} bytes"
                self._findings.add("entry-form", message, index=index)
        entries += [None] * (tile.width - len(entries))
        self._levels[0].counted = [None if entry is None else leaf_hash(entry) for entry in entries]
        for observe in self._observers:
            observe(first, entries)

    def tile(self, tile: Tile, data: Read) -> None:
        """Hold a tile against the hashes that stand below it (step 4)."""
        assert tile.level is not None  # noqa: S101  (for the type checker: bundles go the other way)
        here = self._levels[tile.level]
        hashes = self._hashes(tile, data)
        if hashes is None and None not in here.served:
            hashes = [
                one for one in here.served if one is not None
            ] or None  # what it must have had, by the tiles below it
        elif hashes is not None:
            self._compare(tile, here, hashes)
            self.torn = self.torn or any(
                below not in {None, one} for below, one in zip(here.served, hashes, strict=False)
            )
        if hashes is not None:
            here.counted = [one or other for one, other in zip(here.counted, hashes, strict=True)]
        if tile.level == 0:
            here.served = [None] * tile.width if hashes is None else [*hashes]
            self._look_back(tile)
        if tile.width < WIDTH:
            return
        above = self._levels[tile.level + 1]
        above.counted.append(_root(here.counted))
        above.served.append(above.counted[-1] if hashes == here.counted else _root(hashes or [None]))
        here.counted, here.served = [], []

    def roots(self) -> tuple[_Hash, _Hash]:
        """The root over all that was taken in: as the entries have it, and as the tiles have it."""
        return _fold([one.counted for one in self._levels]), _fold([one.served for one in self._levels])

    def _look_back(self, tile: Tile) -> None:
        """Keep the roots of the tree as it was when it was seen, when its last entry is in this tile."""
        kept = self.seen - tile.number * WIDTH
        if 0 < kept <= tile.width:
            bottom, *higher = self._levels
            roots = (
                _fold([bottom.counted[:kept], *(one.counted for one in higher)]),
                _fold([bottom.served[:kept], *(one.served for one in higher)]),
            )
            self.then = {one for one in roots if one is not None}

    def _compare(self, tile: Tile, here: _Level, hashes: Sequence[bytes]) -> None:
        assert tile.level is not None  # noqa: S101  (as above)
        if here.counted == hashes:
            return
        width = 1 << HEIGHT * tile.level
        for place, (counted, hashed) in enumerate(zip(here.counted, hashes, strict=True)):
            first = (tile.number * WIDTH + place) * width
            if counted is None or counted == hashed:
                continue
            if tile.level == 0:
                message = f"entry {first} in its bundle does not hash to what {tile.path} has for it"
                self._findings.add("entry-hash", message, index=first)
            elif here.served[place] != hashed:
                message = f"{tile.path} has another hash for the entries {first} to {first + width - 1} than they have"
                self._findings.add("subtree-hash", message, index=first)

    def _entries(self, tile: Tile, data: Read) -> Iterator[bytes]:
        """The entries of a bundle as far as it has them."""
        first = tile.number * WIDTH
        if not isinstance(data, bytes):
            message = f"the bundle of the entries {first} to {first + tile.width - 1}: {data}"
            self._findings.add("missing", message, index=first)
            return
        at = 0
        for index in range(first, first + tile.width):
            end = at + 2 + int.from_bytes(data[at : at + 2], "big")
            if at + 2 > len(data) or end > len(data):
                self._findings.add("missing", f"{tile.path} breaks off before the end of entry {index}", index=index)
                return
            yield data[at + 2 : end]
            at = end
        if at != len(data):
            message = f"{tile.path} has {len(data) - at} bytes behind its last entry"
            self._findings.add("missing", message, index=first + tile.width - 1)

    def _hashes(self, tile: Tile, data: Read) -> list[bytes] | None:
        try:
            if isinstance(data, bytes):
                return unpack_hashes(data, tile.width)
            reason = str(data)
        except MalformedError as error:
            reason = str(error)
        first = tile.number * WIDTH << HEIGHT * (tile.level or 0)
        self._findings.add("missing", f"{tile.path}, from entry {first} on: {reason}", index=first)
        return None


def _root(hashes: Sequence[_Hash]) -> _Hash:
    """The root over hashes, where all of them are known."""
    known = [one for one in hashes if one is not None]
    return root_of(known) if len(known) == len(hashes) else None


def _fold(levels: Sequence[Sequence[_Hash]]) -> _Hash:
    """The root of a tree by the hashes that no tile above has: each level's, and the root of what is left below at its end."""
    top: list[_Hash] = []
    for hashes in levels:
        together = [*hashes, *top]
        top = [_root(together)] if together else []
    return top[0] if top else EMPTY_ROOT
