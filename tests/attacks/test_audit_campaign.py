"""Small logs, damaged at random places: every damage is found, and placed. Ten thousand seeded cases in the whole campaign."""

import random
from collections.abc import Callable, Iterable, Iterator

import pytest

from blindgate_audit.findings import Findings
from blindgate_audit.sources import Read
from blindgate_audit.verification import verify_checkpoint, verify_tree
from blindgate_protocol.checkpoints import Checkpoint, LogTrust
from blindgate_protocol.errors import NotFoundError
from blindgate_protocol.notes import KeyKind
from blindgate_protocol.tiles import WIDTH, Tile
from campaigns import of
from static_logs import LOG_KEY, WITNESSES, log_files, random_entries, verifier

Files = dict[str, bytes]

SIZES = (1, 2, 3, 7, 64, 255, 256, 257, 300, 513)
TRUST = LogTrust(
    verifier(LOG_KEY),
    {name: verifier(key, name, KeyKind.COSIGNATURE) for name, key in WITNESSES.items()},
    len(WITNESSES),
)


def files_of(entries: list[bytes]) -> tuple[Files, Checkpoint]:
    """A cosigned log, without a key beside it."""
    files, checkpoint = log_files(entries, witnesses=WITNESSES)
    del files["key"]
    return files, checkpoint


def audit(files: Files, remembered: Checkpoint | None = None) -> Findings:
    """All that is wrong with a log."""

    def read(tiles: Iterable[Tile]) -> Iterator[tuple[Tile, Read]]:
        for tile in tiles:
            yield tile, files.get(tile.path, NotFoundError("not there"))

    found = Findings(10_000)
    opened = verify_checkpoint(files["checkpoint"], TRUST, remembered, found)
    if opened is not None:
        verify_tree(read, opened.checkpoint, remembered, found)
    return found


@pytest.fixture(scope="module")
def logs() -> list[tuple[Files, Files]]:
    """Logs, and others of the same sizes."""
    pairs = ((random_entries(size, size), random_entries(size, size + 5000)) for size in SIZES)
    return [(files_of(ours)[0], files_of(others)[0]) for ours, others in pairs]


def flipped(data: bytes, drawn: random.Random) -> bytes:
    """One bit is another."""
    bit = drawn.randrange(8 * len(data))
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def pieces(data: bytes) -> list[bytes]:
    """The hashes of a tile, or the entries of a bundle with their lengths."""
    unit = 35 if data[:3] == b"\x00\x21\x01" else 32
    return [data[at : at + unit] for at in range(0, len(data), unit)]


def reordered(data: bytes, drawn: random.Random) -> bytes:
    """Two change places."""
    found = pieces(data)
    left, right = drawn.randrange(len(found)), drawn.randrange(len(found))
    found[left], found[right] = found[right], found[left]
    return b"".join(found)


def with_one_more(data: bytes, drawn: random.Random) -> bytes:
    """One is put in."""
    found = pieces(data)
    found.insert(drawn.randrange(len(found) + 1), found[0][:3] + drawn.randbytes(len(found[0]) - 3))
    return b"".join(found)


def with_one_less(data: bytes, drawn: random.Random) -> bytes:
    """One is taken out."""
    found = pieces(data)
    del found[drawn.randrange(len(found))]
    return b"".join(found)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip": flipped,
    "cut": lambda data, drawn: data[: drawn.randrange(len(data))],
    "lengthen": lambda data, drawn: data + drawn.randbytes(drawn.randrange(1, 40)),
    "reorder": reordered,
    "insert": with_one_more,
    "take out": with_one_less,
}


def test_any_damage_is_found_and_placed(logs: list[tuple[Files, Files]]) -> None:
    """A file changed, exchanged for another log's, or removed."""
    assert not any(audit(files).count for files, _ in logs)
    cases = 0
    for seed in range(of(11_000, slice_of=2500)):
        drawn = random.Random(seed)
        files, other = drawn.choice(logs)
        path = drawn.choice(sorted(files))
        kind = drawn.choice(["foreign", "remove", *DAMAGES]) if path != "checkpoint" else "flip"
        damaged = {name: data for name, data in files.items() if (name, kind) != (path, "remove")}
        if kind != "remove":
            damaged[path] = other[path] if kind == "foreign" else DAMAGES[kind](files[path], drawn)
        if damaged == files:
            continue  # two of the same change places
        cases += 1
        found = audit(damaged)
        what = f"seed {seed}: {kind} {path} of {len(files)} files"
        assert found.count, what
        if path == "checkpoint":
            assert {one.rule for one in found} <= {"checkpoint", "cosignatures"}, what
            continue
        tile = Tile.parse(path)
        below = WIDTH ** (tile.level or 0)
        place = range(tile.number * WIDTH * below, (tile.number * WIDTH + tile.width) * below)
        assert all(one.index in place for one in found if one.index is not None), what
        assert any(one.index is not None for one in found), what
    assert cases > of(10_000, slice_of=2000)


def test_any_fork_behind_what_was_seen_is_found() -> None:
    """An entry changed, and the log built and signed anew: a fork for whoever had seen that entry, and for nobody else."""
    for seed in range(of(1500, slice_of=100)):
        drawn = random.Random(seed)
        size = drawn.randrange(1, 700)
        seen = drawn.choice([drawn.randrange(size + 1), size // 256 * 256, size])
        entries = random_entries(size, seed)
        _, before = files_of(entries[:seen])
        changed = drawn.randrange(size)
        entries[changed] = b"\x01" + drawn.randbytes(32)
        files, _ = files_of(entries)
        found = {one.rule for one in audit(files, before)}
        assert found == ({"fork"} if changed < seen else set()), f"seed {seed}: entry {changed}, seen {seen} of {size}"
