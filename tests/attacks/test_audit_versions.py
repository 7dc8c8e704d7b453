"""A log's folder as a gateway leaves it: each last tile in every width that it had, signed by two keys that lie beside it.

No bit of any file there can be changed unseen.
"""

import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from audit_command import audit_verify
from blindgate_protocol.tiles import WIDTH, Tile
from campaigns import of
from second_keys import SECOND, signed_too
from static_logs import findings, random_entries, write_log

Verify = Callable[..., tuple[int, str]]
SIZES = (3, 12, 49, 255, 300, 333)
ENTRY, HASH = 35, 32


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that was written at each of `SIZES`."""
    folder, entries = tmp_path_factory.mktemp("grown"), random_entries(SIZES[-1])
    for size in SIZES:
        write_log(folder, entries[:size])
    (folder / "checkpoint").write_bytes(signed_too((folder / "checkpoint").read_bytes()))
    (folder / "second-key").write_text(f"{SECOND.verifier}\n")
    return folder


@pytest.fixture
def log(grown: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(grown, tmp_path / "log"))


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """The command, with a memory of its own."""
    return partial(audit_verify, tmp_path / "memory")


def files(log: Path) -> list[str]:
    """Every file of the tree, as its tiles are called."""
    return sorted(file.relative_to(log).as_posix() for file in log.glob("tile/**/*") if file.is_file())


def flip(file: Path, bit: int) -> None:
    """Another bit."""
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def test_any_bit_of_any_file_is_named_by_its_entry(log: Path, verify: Verify) -> None:
    """Also of a file that only an earlier checkpoint needs."""
    assert verify(log)[0] == 0
    names, drawn = files(log), random.Random(4)
    assert {"tile/0/000.p/12", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000.p/255"} <= set(
        names
    )
    for name in names:
        tile = Tile.parse(name)
        bit = drawn.randrange(8 * len((log / name).read_bytes()))
        flip(log / name, bit)
        status, printed = verify(log, "--json")
        flip(log / name, bit)
        assert status == 1, name
        place = bit // 8 // (ENTRY if tile.level is None else HASH)
        first = tile.number * WIDTH + place if tile.level != 1 else 0
        assert first in {index for index, _ in findings(printed)}, name
    assert verify(log)[0] == 0


@pytest.mark.parametrize("name", ["checkpoint", "key", "second-key"])
def test_any_bit_of_what_is_signed_and_of_the_keys_is_refused(name: str, log: Path, verify: Verify) -> None:
    """Also of the second signature, which is longer than all else of the checkpoint, and of what base64 has to spare."""
    status, printed = verify(log)
    assert (status, "by its second key" in printed) == (0, True), printed
    bits = range(8 * len((log / name).read_bytes()))
    for bit in random.Random(2).sample(bits, min(len(bits), of(6000, slice_of=120))):
        flip(log / name, bit)
        status, printed = verify(log, "--json")
        flip(log / name, bit)
        assert status == 1, f"bit {bit} of {name}: {printed}"


def test_what_an_earlier_checkpoint_needs_is_said_to_be_wrong_and_where(log: Path, verify: Verify) -> None:
    """By rule and entry, and nothing else is: the tree that was signed last holds."""
    flip(log / "tile/0/000.p/49", 8 * (HASH * 17 + 3))
    (log / "tile/entries/001.p/44").write_bytes((log / "tile/entries/001.p/44").read_bytes()[:-1])
    status, printed = verify(log, "--json")
    assert (status, findings(printed)) == (1, [(17, "version"), (WIDTH + 43, "version")])
    status, printed = verify(log)
    assert status == 1
    assert "tile/0/000.p/49, which an earlier checkpoint needs, at entry 17: from there on it is not what" in printed
    assert "all 333 entries and the tiles above them lead to the signed root" in printed


def test_one_wrong_entry_is_not_named_again_for_every_width(log: Path, verify: Verify) -> None:
    """Where the tile itself does not hold, there is nothing to hold the others against."""
    flip(log / "tile/entries/000", 8 * (ENTRY * 2 + 10))
    status, printed = verify(log, "--json")
    assert (status, findings(printed)) == (1, [(2, "entry-hash")])


def test_a_wider_file_than_the_checkpoint_needs_begins_alike(log: Path, verify: Verify) -> None:
    """A gateway writes tiles first and the checkpoint last: a copy may be taken in between."""
    write_log(log, random_entries(SIZES[-1])[: SIZES[-2]])
    (log / "second-key").unlink()
    assert verify(log)[0] == 0
    flip(log / "tile/0/001.p/77", 8 * (HASH * 60))  # beyond this checkpoint: nobody signed it yet
    assert verify(log)[0] == 0
    flip(log / "tile/0/001.p/77", 8 * (HASH * 5))
    status, printed = verify(log, "--json")
    assert (status, findings(printed)) == (1, [(WIDTH + 5, "version")])


def test_files_that_are_no_part_of_the_tree_are_counted(log: Path, verify: Verify) -> None:
    """They may be of a log that goes on, and prove nothing."""
    shutil.copy(log / "tile/0/000", log / "tile/0/002")
    (log / "tile/notes.txt").write_text("?")
    status, printed = verify(log)
    assert status == 0
    assert "2 files beyond them are no part of it" in printed
