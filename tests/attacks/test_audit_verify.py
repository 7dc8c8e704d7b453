"""A log that lies: whatever is changed in its files, `audit verify` refuses it and names the rule and the place.

Each test goes through the command, as an auditor does. `test_audit_campaign` damages small logs at random places.
"""

import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit_command import audit_verify
from blindgate_protocol.checkpoints import Checkpoint
from blindgate_protocol.notes import KeyKind
from blindgate_protocol.tiles import WIDTH, Tile, pack_entries, unpack_entries
from second_keys import LIES, SECOND, Lines, signed_too
from static_logs import LOG_KEY, ORIGIN, WITNESSES, findings, put, random_entries, served, sign, verifier, write_log

Verify = Callable[..., tuple[int, str]]
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
SIZE = 5000
LARGE = 66_000
WRONG = 4711


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that holds, cosigned by two."""
    folder = tmp_path_factory.mktemp("whole")
    write_log(folder, random_entries(SIZE), witnesses=WITNESSES)
    return folder


@pytest.fixture
def log(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "log"))


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """The command, with a memory of its own."""
    return partial(audit_verify, tmp_path / "memory")


def named_witnesses(*names: str) -> list[str]:
    """The options that name these witnesses."""
    return [f"--witness={name}={verifier(WITNESSES[name], name, KeyKind.COSIGNATURE)}" for name in names]


def flip(file: Path, at: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def exchange(folder: Path, left: int, right: int) -> None:
    """Let two entries of one bundle change places."""
    bundle = Tile(None, left // WIDTH)
    found = unpack_entries((folder / bundle.path).read_bytes(), WIDTH)
    found[left % WIDTH], found[right % WIDTH] = found[right % WIDTH], found[left % WIDTH]
    put(folder, bundle, pack_entries(found))


def insert(folder: Path, at: int) -> None:
    """Put an entry in, and move those behind it in its bundle."""
    bundle = Tile(None, at // WIDTH)
    found = unpack_entries((folder / bundle.path).read_bytes(), WIDTH)
    found.insert(at % WIDTH, b"\x01" + bytes(32))
    put(folder, bundle, pack_entries(found[:WIDTH]))


def rewrite(folder: Path, changed: list[bytes], **how: Any) -> None:
    """Build the log anew from other entries, and sign it with its own key."""
    shutil.rmtree(folder)
    folder.mkdir()
    write_log(folder, changed, **how)


BUNDLE = Tile(None, WRONG // WIDTH).path
LEVEL_0 = Tile(0, WRONG // WIDTH).path
LAST = Tile(None, SIZE // WIDTH, SIZE % WIDTH)

CHANGES: dict[str, tuple[Callable[[Path], object], list[tuple[int | None, str]]]] = {
    "a bit of an entry": (lambda log: flip(log / BUNDLE, WRONG % WIDTH * 35 + 20), [(WRONG, "entry-hash")]),
    "a bit of an entry's version": (
        lambda log: flip(log / BUNDLE, WRONG % WIDTH * 35 + 2),
        [(WRONG, "entry-form"), (WRONG, "entry-hash")],
    ),
    "a bit of a tile of level 0": (lambda log: flip(log / LEVEL_0, WRONG % WIDTH * 32 + 9), [(WRONG, "entry-hash")]),
    "a bit of a tile of level 1": (
        lambda log: flip(log / Tile(1, 0, SIZE // WIDTH).path, WRONG // WIDTH * 32),
        [(WRONG // WIDTH * WIDTH, "subtree-hash")],
    ),
    "a bundle cut short": (
        lambda log: (log / BUNDLE).write_bytes((log / BUNDLE).read_bytes()[: WRONG % WIDTH * 35 + 34]),
        [(WRONG, "missing")],
    ),
    "a bundle with more behind it": (
        lambda log: (log / BUNDLE).write_bytes((log / BUNDLE).read_bytes() + b"more"),
        [(WRONG // WIDTH * WIDTH + WIDTH - 1, "missing")],
    ),
    "a tile cut short": (
        lambda log: (log / LEVEL_0).write_bytes((log / LEVEL_0).read_bytes()[:-1]),
        [(WRONG // WIDTH * WIDTH, "missing")],
    ),
    "the last bundle taken away": (lambda log: (log / LAST.path).unlink(), [(SIZE // WIDTH * WIDTH, "missing")]),
    "two entries exchanged": (
        lambda log: exchange(log, WRONG, WRONG + 2),
        [(WRONG, "entry-hash"), (WRONG + 2, "entry-hash")],
    ),
    "a whole bundle of another place": (
        lambda log: shutil.copy(log / Tile(None, 3).path, log / Tile(None, 4).path),
        [(index, "entry-hash") for index in range(4 * WIDTH, 4 * WIDTH + 100)],
    ),
    "an entry put in": (
        lambda log: insert(log, 5 * WIDTH - 2),
        [(5 * WIDTH - 2, "entry-hash"), (5 * WIDTH - 1, "entry-hash")],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_named_by_rule_and_index_and_nothing_else_is(change: str, log: Path, verify: Verify) -> None:
    """Each change is named once, at its place, although every hash above it changes with it."""
    do, expected = CHANGES[change]
    do(log)
    status, printed = verify(log, "--json")
    assert status == 1
    assert findings(printed) == expected


def test_a_wrong_entry_is_told_from_a_wrong_tile(log: Path, verify: Verify) -> None:
    """Whichever leads to the signed root is right."""
    flip(log / BUNDLE, WRONG % WIDTH * 35 + 20)
    status, printed = verify(log)
    assert status == 1
    assert f"entry {WRONG}: entry-hash" in printed
    assert "it is the entries that are wrong" in printed
    flip(log / BUNDLE, WRONG % WIDTH * 35 + 20)
    flip(log / LEVEL_0, WRONG % WIDTH * 32)
    status, printed = verify(log)
    assert status == 1
    assert "it is the tiles that are wrong" in printed


def test_a_tile_high_above_the_entries_is_named_by_the_first_of_them(tmp_path: Path, verify: Verify) -> None:
    """Level 1 has a whole tile and a partial one, level 2 begins."""
    log = tmp_path / "log"
    log.mkdir()
    write_log(log, random_entries(LARGE)[:65_536])
    assert verify(log)[0] == 0
    rewrite(log, random_entries(LARGE))
    status, printed = verify(log)
    assert status == 0, printed
    flip(log / Tile(1, 0).path, 7 * 32)
    flip(log / Tile(2, 0, 1).path, 0)
    (log / Tile(1, 1, 1).path).unlink()
    assert findings(verify(log, "--json")[1]) == [(7 * WIDTH, "subtree-hash"), (65_536, "missing"), (0, "subtree-hash")]


def test_a_whole_log_holds_from_its_folder_and_over_http(log: Path, verify: Verify) -> None:
    """A folder and a server of the same files are one log."""
    key = f"--key={verifier(LOG_KEY)}"
    status, printed = verify(log, key, *named_witnesses(*WITNESSES))
    assert status == 0, printed
    assert "Everything that was checked holds." in printed
    with served(log) as url:
        status, printed = verify(url, "--json")
        flip(log / BUNDLE, WRONG % WIDTH * 35 + 20)
        (log / "tile" / "1" / "000.p" / "19").unlink()
        refused, found = verify(url, "--json")
    assert (status, json.loads(printed)["size"]) == (0, SIZE)
    assert refused == 1
    assert findings(found) == [(WRONG, "entry-hash"), (0, "missing")]


def test_without_a_key_the_log_is_said_to_vouch_for_itself(log: Path, verify: Verify) -> None:
    """Trust on first use is called so, and is only on first use."""
    assert "vouches for itself" in verify(log)[1]
    assert "vouches for itself" not in verify(log)[1]  # remembered now
    assert "vouches for itself" not in verify(log, f"--key={verifier(LOG_KEY)}")[1]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 4999, 5000])
def test_a_log_is_remembered_and_may_grow(size: int, tmp_path: Path, verify: Verify) -> None:
    """Whatever size it had when it was seen."""
    log = tmp_path / "log"
    log.mkdir()
    write_log(log, random_entries(SIZE)[:size])
    assert verify(log)[0] == 0
    rewrite(log, random_entries(SIZE))
    status, printed = verify(log)
    assert status == 0, printed
    assert f"begins with the {size:,} entries" in printed


def test_a_rollback_names_the_entries_that_are_gone(log: Path, verify: Verify) -> None:
    """An old database under a new checkpoint is what a rollback is."""
    assert verify(log)[0] == 0
    rewrite(log, random_entries(SIZE)[:4000])
    status, printed = verify(log, "--json")
    assert (status, findings(printed)) == (1, [(4000, "rollback")])
    assert verify(log)[0] == 1  # it is not believed the second time either


def test_a_log_rewritten_and_signed_with_its_own_key_is_a_fork(log: Path, verify: Verify) -> None:
    """Whoever holds the log's key can sign another tree: not before those who saw the first."""
    assert verify(log)[0] == 0
    changed = random_entries(SIZE)
    changed[WRONG] = b"\x01" + bytes(32)
    rewrite(log, changed)
    status, printed = verify(log, "--json")
    assert (status, findings(printed)) == (1, [(None, "fork")])
    rewrite(log, [*changed, *random_entries(500, seed=1)])
    status, printed = verify(log, "--json")
    assert (status, findings(printed)) == (1, [(0, "fork")])
    del changed[WRONG]
    rewrite(log, [*changed, *random_entries(500, seed=1)])
    assert findings(verify(log, "--json")[1]) == [(0, "fork")]


def test_another_key_for_a_log_that_was_seen_is_refused(log: Path, verify: Verify) -> None:
    """Named with `--key` or not: what was seen was under another."""
    assert verify(log)[0] == 0
    rewrite(log, random_entries(SIZE), private=OTHER_KEY)
    status, printed = verify(log, "--json")
    assert status == 1
    assert findings(printed) == [(None, "key"), (None, "checkpoint")]
    assert findings(verify(log, "--json", f"--key={verifier(OTHER_KEY)}")[1]) == [(None, "key")]


def test_a_log_under_a_new_name_at_the_same_place_is_refused(log: Path, verify: Verify) -> None:
    """A new name and a new key are no way out of what was seen."""
    assert verify(log)[0] == 0
    rewrite(log, random_entries(100), private=OTHER_KEY, origin="new.example/log")
    status, printed = verify(log, "--json")
    assert (status, findings(printed)) == (1, [(None, "key")])


def test_tiles_of_another_log_are_refused(log: Path, tmp_path: Path, verify: Verify) -> None:
    """They agree with each other, and not with what was signed."""
    other = tmp_path / "other"
    other.mkdir()
    write_log(other, random_entries(SIZE, seed=9))
    shutil.rmtree(log / "tile")
    shutil.copytree(other / "tile", log / "tile")
    status, printed = verify(log, "--json")
    assert (status, findings(printed)) == (1, [(None, "root")])


def test_a_checkpoint_of_another_log_is_refused(log: Path, verify: Verify) -> None:
    """A log is its origin."""
    (log / "checkpoint").write_bytes(sign(Checkpoint("other.example/log", SIZE, bytes(32))))
    status, printed = verify(log, "--json")
    assert (status, findings(printed)) == (1, [(None, "checkpoint")])


@pytest.mark.parametrize(
    ("witnesses", "cosignatures", "name"),
    [
        ({}, "2", "none"),
        ({"w1.example": WITNESSES["w1.example"]}, "2", "one of two"),
        ({"w1.example": OTHER_KEY}, "1", "an unknown key under a known name"),
    ],
)
def test_too_few_cosignatures_are_refused(
    witnesses: dict[str, Ed25519PrivateKey],
    cosignatures: str,
    name: str,
    log: Path,
    verify: Verify,
) -> None:
    """A witness counts whose key is known, under its name."""
    rewrite(log, random_entries(10), witnesses=witnesses)
    status, printed = verify(log, "--json", *named_witnesses(*WITNESSES), "--cosignatures", cosignatures)
    assert (status, findings(printed)) == (1, [(None, "cosignatures")])


def test_a_repeated_witness_is_refused_and_one_key_counts_once(log: Path, verify: Verify) -> None:
    """Two lines of one witness are none, and two names of one key are one witness."""
    note = (log / "checkpoint").read_bytes()
    line = note.splitlines(keepends=True)[-1]
    (log / "checkpoint").write_bytes(note + line)
    assert findings(verify(log, "--json", *named_witnesses(*WITNESSES))[1]) == [(None, "cosignatures")]
    (log / "checkpoint").write_bytes(note)
    twice = [*named_witnesses("w1.example"), f"--witness=again={named_witnesses('w1.example')[0].split('=', 2)[2]}"]
    assert findings(verify(log, "--json", *twice)[1]) == [(None, "cosignatures")]
    assert verify(log, *named_witnesses("w1.example"))[0] == 0


def test_what_does_not_hold_is_not_remembered(log: Path, tmp_path: Path, verify: Verify) -> None:
    """What was refused once is no history."""
    flip(log / BUNDLE, 20)
    assert verify(log)[0] == 1
    assert not (tmp_path / "memory").exists()


def test_a_log_that_is_wrong_everywhere_prints_a_hundred_and_counts_the_rest(log: Path, verify: Verify) -> None:
    """A hostile log fills no screen and no memory."""
    for number in range(5):
        put(log, Tile(None, number), (log / Tile(None, number + 10).path).read_bytes())
    printed = verify(log)[1]
    assert printed.count(": entry-hash: ") == 100
    assert f"and {5 * WIDTH - 100:,} more" in printed


def test_a_checkpoint_of_more_entries_than_there_are_ends_soon(log: Path, verify: Verify) -> None:
    """A size costs nothing to claim."""
    (log / "checkpoint").write_bytes(sign(Checkpoint(ORIGIN, 10**15, bytes(32))))
    begun = time.monotonic()
    status, printed = verify(log, "--json")
    assert status == 1
    assert (SIZE // WIDTH * WIDTH, "missing") in findings(printed)
    assert time.monotonic() - begun < 20


def test_a_terminal_is_not_steered_by_what_a_log_says(log: Path, verify: Verify) -> None:
    """An origin is a stranger's text."""
    rewrite(log, random_entries(3), origin="evil.example\u202e/\u009b31m")
    status, printed = verify(log)
    assert status == 0
    assert "\u202e" not in printed
    assert "\u009b" not in printed


def policy_file(folder: Path, *logs: tuple[str, object], more: str = "") -> str:
    """The option that names a client's policy with these logs."""
    path = folder / "policy.toml"
    path.write_text("[logs]\n" + "".join(f'{name} = "{key}"\n' for name, key in logs) + more)
    return f"--policy={path}"


SECOND_KEYS = f'[second_keys]\nours = "{SECOND.verifier}"\n'


@pytest.mark.parametrize("lines", LIES.values(), ids=LIES.keys())
def test_a_log_that_its_second_key_did_not_sign_is_refused_under_a_policy_that_names_it(
    log: Path, tmp_path: Path, verify: Verify, lines: Lines
) -> None:
    """And one that it did sign holds, and the output says by whom."""
    policy = policy_file(tmp_path, ("ours", verifier(LOG_KEY)), more=SECOND_KEYS)
    note = (log / "checkpoint").read_bytes()
    (log / "checkpoint").write_bytes(signed_too(note, lines))
    status, printed = verify(log, "--json", policy)
    assert (status, findings(printed)) == (1, [(None, "checkpoint")])
    (log / "checkpoint").write_bytes(signed_too(note))
    status, printed = verify(log, policy)
    assert status == 0, printed
    assert "signed by the key that the policy names, and by its second key" in printed


def test_a_policys_witnesses_are_wanted_as_it_says(log: Path, tmp_path: Path, verify: Verify) -> None:
    """Of several logs, the one that signed what is here is asked for."""
    named = "".join(f'{name[:2]} = "{verifier(key, name, KeyKind.COSIGNATURE)}"\n' for name, key in WITNESSES.items())
    rule = f"[witnesses]\n{named}[rules]\ncosignatures = 2\n"
    logs = (("other", verifier(OTHER_KEY, "other.example/log")), ("ours", verifier(LOG_KEY)))
    policy = policy_file(tmp_path, *logs, more=rule)
    assert verify(log, policy)[0] == 0
    rewrite(log, random_entries(SIZE), witnesses={"w1.example": WITNESSES["w1.example"]})
    assert findings(verify(log, "--json", policy)[1]) == [(None, "cosignatures")]
    assert verify(log, policy, "--cosignatures", "1")[0] == 0


def test_a_log_that_the_policy_does_not_name_is_refused(log: Path, tmp_path: Path, verify: Verify) -> None:
    """One by another key, and one among several; and a key beside a policy is one too many."""
    policy = policy_file(tmp_path, ("ours", verifier(OTHER_KEY)))
    assert findings(verify(log, "--json", policy)[1]) == [(None, "checkpoint")]
    for logs in ((), (("one", verifier(OTHER_KEY)), ("two", verifier(OTHER_KEY, "two.example/log")))):
        status, printed = verify(log, policy_file(tmp_path, *logs))
        assert status == 1
        assert "signed by no log that it names" in printed
    assert verify(log, policy, f"--key={verifier(LOG_KEY)}")[0] == 2
