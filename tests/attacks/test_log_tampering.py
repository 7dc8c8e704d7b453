"""What somebody can do to a log that others hold a checkpoint of: each is refused, and says which entry or which rule.

10,000 cases, from fixed seeds. The attacker has the log's files and, where it says so, the log's real key. The reader has the
log's two keys, two witnesses of which both must have cosigned, and a checkpoint of the first 300 entries.

One thing may be changed and is not noticed: the line of a witness whom the reader does not know, since nobody that the reader
trusts vouches for it. Each test that could hit it says what then holds: the reader gets exactly the same checkpoint.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.checkpoints import (
    Checkpoint,
    EntryProof,
    LogTrust,
    cosign_by,
    open_checkpoint,
    sign_checkpoint,
)
from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.events import Action, Event, entry_of, leaf_of
from blindgate_protocol.log_keys import LogKey
from blindgate_protocol.merkle import (
    Subtrees,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from blindgate_protocol.notes import KeyKind, Note, SignatureLine, parse_note
from blindgate_protocol.tiles import Tile, bundles_of, pack_entries, subtrees_of, tiles_of, unpack_entries
from campaigns import CAMPAIGN

ORIGIN = "gateway.example/log"
KNOWN, SIZE = 300, 600
NOW = 1_750_000_000
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
SECOND = LogKey.from_seed(ORIGIN, KeyKind.ML_DSA_44, b"2" * 32)
WITNESSES = (
    LogKey.from_seed("witness.example/w1", KeyKind.COSIGNATURE, b"a" * 32),
    LogKey.from_seed("witness.example/w2", KeyKind.COSIGNATURE, b"b" * 32),
)
UNKNOWN = LogKey.from_seed("witness.example/w1", KeyKind.COSIGNATURE, b"c" * 32)
TRUST = LogTrust(
    LogKey(ORIGIN, KeyKind.ED25519, PRIVATE).verifier,
    {key.verifier.name: key.verifier for key in WITNESSES},
    cosignatures=2,
    second=SECOND.verifier,
)
FORM = (
    r"a note|a checkpoint is|a hash is|a signature line is|a checkpoint of the log|the checkpoint of \d+ entries has"
    r"|does not verify|no cosignature of|a proof (begins|names|of)|the proof does not lead from entry \d+|entry \d+"
)
INDEX = r"the proof does not lead from entry \d+ to the root of the tree of 600"
HASHES = rf"{INDEX}|a proof of inclusion of entry \d+ in a tree of 600 has \d+ hashes, got \d+"
LENGTH = r"a bundle of \d+ entries: got \d+ bytes|a tile of \d+ hashes has \d+ bytes, got \d+"
WITNESS = r"witness\.example/w[12]"
KNOWN_ROOT = r"the proof does not lead to the root of the tree of 300 that was known"


def _event(number: int) -> tuple[bytes, bytes]:
    event = Event(
        time=NOW * 1000 + number,
        action=Action.KEY_SENT,
        actor="gateway",
        role="gateway",
        object="key:sha256:00",
        details={"job": str(number)},
        software="test",
    )
    return event.to_bytes(), random.Random(number).randbytes(32)


class Log(NamedTuple):
    """A log's entries, and what it serves."""

    entries: tuple[bytes, ...]

    @property
    def root(self) -> bytes:
        """The root over all entries."""
        return root_of([leaf_hash(entry) for entry in self.entries])

    def files(self) -> dict[Tile, bytes]:
        """Every tile and bundle."""
        leaves = [leaf_hash(entry) for entry in self.entries]
        files = {
            tile: pack_entries(self.entries[tile.number * 256 :][: tile.width]) for tile in bundles_of(len(leaves))
        }
        for tile in tiles_of(len(leaves)):
            span = 256 ** (tile.level or 0)
            numbers = range(tile.number * 256, tile.number * 256 + tile.width)
            files[tile] = b"".join(root_of(leaves[n * span : (n + 1) * span]) for n in numbers)
        return files

    def subtrees(self) -> Subtrees:
        """What a prover asks for."""
        return subtrees_of(len(self.entries), self.files().__getitem__)

    def note(self, private: Ed25519PrivateKey = PRIVATE, *witnesses: LogKey) -> Note:
        """Its checkpoint, signed by both keys."""
        tree = Checkpoint(ORIGIN, len(self.entries), self.root)
        note = sign_checkpoint(tree, private, second=SECOND, seconds=NOW)
        return Note(note.text, (*note.lines, *(cosign_by(tree, key, seconds=NOW) for key in witnesses)))


EVENTS = [_event(number) for number in range(SIZE)]
LOG = Log(tuple(entry_of(*event) for event in EVENTS))
LEAVES = [leaf_hash(entry) for entry in LOG.entries]
FILES = LOG.files()
SUBTREES = LOG.subtrees()
NOTE = LOG.note(PRIVATE, *WITNESSES, UNKNOWN)
CHECKPOINT = str(NOTE).encode()
OPENED = open_checkpoint(CHECKPOINT, TRUST)
UNKNOWN_FROM = len(CHECKPOINT) - len(str(NOTE.lines[-1]).encode())
"""Where the one line begins that no key of the reader's vouches for."""
OLD_ROOT = root_of(LEAVES[:KNOWN])
INCLUSIONS = [tuple(inclusion_proof(index, SIZE, SUBTREES)) for index in range(SIZE)]


def _include(index: int, leaf: bytes, proof: Sequence[bytes] | None = None) -> None:
    hashes = INCLUSIONS[index] if proof is None else proof
    verify_inclusion(index=index, size=SIZE, leaf=leaf, proof=hashes, root=OPENED.checkpoint.root)


def _continue(log: Log) -> None:
    """What a reader does with a new checkpoint, under its real signatures: does the tree begin with the one that was known?"""
    tree = open_checkpoint(str(log.note(PRIVATE, *WITNESSES)).encode(), TRUST).checkpoint
    proof = consistency_proof(KNOWN, tree.size, log.subtrees()) if tree.size >= KNOWN else []
    verify_consistency(first=KNOWN, second=tree.size, proof=proof, first_root=OLD_ROOT, second_root=tree.root)


def _flipped(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    """The data with one bit of it changed, and in which byte."""
    bit = rng.randrange(8 * len(data))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed), bit // 8


Case = tuple[Callable[[], object], int | None]
"""What a reader does, and the index that the error must name, if it must name one."""


def _or_the_same(data: bytes, unsigned: bool) -> Case:
    """Opening a checkpoint; where nothing that was signed was touched, the reader may get the same, and nothing else."""

    def opening() -> None:
        opened = open_checkpoint(data, TRUST)
        assert unsigned
        assert (opened.checkpoint, opened.cosigned) == (OPENED.checkpoint, OPENED.cosigned)
        raise LogError("the checkpoint of 600 entries has the line of a stranger changed, which nobody relied on")

    return opening, None


def _bit_of_a_checkpoint(rng: random.Random) -> Case:
    data, place = _flipped(CHECKPOINT, rng)
    return _or_the_same(data, place >= UNKNOWN_FROM)


def _bit_of_a_proof(rng: random.Random) -> Case:
    index = rng.randrange(SIZE)
    whole = EntryProof(index, INCLUSIONS[index], CHECKPOINT).to_bytes()
    data, place = _flipped(whole, rng)

    def verifying() -> None:
        opened = EntryProof.parse(data).verify(LEAVES[index], TRUST)
        assert place >= len(whole) - len(CHECKPOINT) + UNKNOWN_FROM
        assert opened.checkpoint == OPENED.checkpoint
        raise LogError(f"entry {index} is where it was: the line of a stranger was changed")

    return verifying, None


def _bit_of_an_entry(rng: random.Random) -> Case:
    index = rng.randrange(SIZE)
    entry, _ = _flipped(LOG.entries[index], rng)
    return lambda: _include(index, leaf_hash(entry)), index


def _bit_of_an_event(rng: random.Random) -> Case:
    index = rng.randrange(SIZE)
    event, salt = EVENTS[index]
    changed = (_flipped(event, rng)[0], salt) if rng.random() < 0.7 else (event, _flipped(salt, rng)[0])
    return lambda: _include(index, leaf_of(*changed)), index


def _bit_of_a_bundle(rng: random.Random) -> Case:
    bundle = rng.choice(list(bundles_of(SIZE)))
    data, place = _flipped(FILES[bundle], rng)
    index = bundle.number * 256 + place // 35

    def reading() -> None:
        entries = unpack_entries(data, bundle.width)
        _include(index, leaf_hash(entries[place // 35]))

    return reading, None if place % 35 < 2 else index


def _bit_of_a_tile(rng: random.Random) -> Case:
    """Whoever's way to the root leads by the hash that was changed is refused."""
    tile = rng.choice(list(tiles_of(SIZE)))
    data, place = _flipped(FILES[tile], rng)
    files = FILES | {tile: data}
    hashes = [n for n in range(SIZE) if n >> 8 * (tile.level or 0) == (tile.number * 256 + place // 32) ^ 1]
    index = rng.choice(hashes)
    return lambda: _include(index, LEAVES[index], inclusion_proof(index, SIZE, subtrees_of(SIZE, files.get))), index  # type: ignore[arg-type]


def _cut_short(rng: random.Random) -> Case:
    what = rng.randrange(4)
    if what == 0:
        end = rng.randrange(len(CHECKPOINT))
        return _or_the_same(CHECKPOINT[:end], end == UNKNOWN_FROM)
    index = rng.randrange(SIZE)
    if what == 1:
        proof = EntryProof(index, INCLUSIONS[index], CHECKPOINT[:UNKNOWN_FROM]).to_bytes()
        end = rng.randrange(len(proof))
        return lambda: EntryProof.parse(proof[:end]).verify(LEAVES[index], TRUST), None
    if what == 2:
        end = rng.randrange(len(INCLUSIONS[index]))
        return lambda: _include(index, LEAVES[index], INCLUSIONS[index][:end]), index
    tile = rng.choice(list(FILES))
    end = rng.randrange(len(FILES[tile]))
    files = FILES | {tile: FILES[tile][:end]}
    if tile.level is None:
        return lambda: unpack_entries(files[tile], tile.width), None
    return lambda: subtrees_of(SIZE, files.__getitem__)(8 * (tile.level or 0), tile.number * 256), None


def _entries_in_another_order(rng: random.Random) -> Case:
    """Signed again by the log itself: whoever knew the tree before sees it."""
    one, other = rng.sample(range(KNOWN), 2)
    entries = list(LOG.entries)
    entries[one], entries[other] = entries[other], entries[one]
    return lambda: _continue(Log(tuple(entries))), None


def _hashes_in_another_order(rng: random.Random) -> Case:
    index = rng.randrange(SIZE)
    one, other = rng.sample(range(len(INCLUSIONS[index])), 2)
    hashes = list(INCLUSIONS[index])
    hashes[one], hashes[other] = hashes[other], hashes[one]
    return lambda: _include(index, LEAVES[index], hashes), index


def _lines_in_another_order(rng: random.Random) -> Case:
    lines = NOTE.text.splitlines(keepends=True)
    order = rng.choice([[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    text = "".join(lines[n] for n in order)
    return lambda: open_checkpoint(str(Note(text, NOTE.lines)).encode(), TRUST), None


def _an_entry_put_in(rng: random.Random) -> Case:
    """Signed again by the log itself."""
    entries = list(LOG.entries)
    entries.insert(rng.randrange(KNOWN), entry_of(b"later", rng.randbytes(32)))
    return lambda: _continue(Log(tuple(entries))), None


def _an_entry_taken_out(rng: random.Random) -> Case:
    """Signed again by the log itself."""
    entries = list(LOG.entries)
    del entries[rng.randrange(KNOWN)]
    return lambda: _continue(Log(tuple(entries))), None


def _an_entry_changed_for_another(rng: random.Random) -> Case:
    """Signed again by the log itself."""
    entries = list(LOG.entries)
    entries[rng.randrange(KNOWN)] = entry_of(b"other", rng.randbytes(32))
    return lambda: _continue(Log(tuple(entries))), None


def _a_hash_put_in(rng: random.Random) -> Case:
    index = rng.randrange(SIZE)
    hashes = list(INCLUSIONS[index])
    hashes.insert(rng.randrange(len(hashes) + 1), rng.choice([*hashes, LEAVES[index], rng.randbytes(32)]))
    return lambda: _include(index, LEAVES[index], hashes), index


def _an_older_tree(rng: random.Random) -> Case:
    """A database that was put back: well signed, and shorter than what was known."""
    size = rng.randrange(1, KNOWN)
    return lambda: _continue(Log(LOG.entries[:size])), None


def _two_trees_of_one_size(rng: random.Random) -> Case:
    """A fork: each well signed, and shown to another reader."""
    entries = list(LOG.entries[:KNOWN])
    entries[rng.randrange(KNOWN)] = entry_of(b"other", rng.randbytes(32))
    return lambda: _continue(Log(tuple(entries))), None


def _the_proof_of_another_entry(rng: random.Random) -> Case:
    index, other = rng.sample(range(SIZE), 2)
    if rng.random() < 0.5:
        return lambda: _include(index, LEAVES[index], INCLUSIONS[other]), index
    return lambda: _include(index, LEAVES[other]), index


OTHERS = Log(tuple(entry_of(event, salt[::-1]) for event, salt in EVENTS))
OTHERS_SUBTREES = OTHERS.subtrees()
OTHERS_PRIVATE = Ed25519PrivateKey.from_private_bytes(b"o" * 32)


def _the_proof_of_another_log(rng: random.Random) -> Case:
    """Of the same events, under other salts; with its own checkpoint, with ours, and relabelled as ours."""
    index = rng.randrange(SIZE)
    hashes = tuple(inclusion_proof(index, SIZE, OTHERS_SUBTREES))
    tree = Checkpoint(rng.choice(["other.example/log", ORIGIN]), SIZE, OTHERS.root)
    checkpoint = rng.choice([str(sign_checkpoint(tree, OTHERS_PRIVATE)).encode(), CHECKPOINT])
    leaf = rng.choice([LEAVES[index], leaf_hash(OTHERS.entries[index])])
    return lambda: EntryProof(index, hashes, checkpoint).verify(leaf, TRUST), None


def _a_witness_repeated_or_unknown(rng: random.Random) -> Case:
    tree = OPENED.checkpoint
    own, good = NOTE.lines[:2], [cosign_by(tree, key, seconds=NOW) for key in WITNESSES]
    one = rng.randrange(2)
    stranger = LogKey.from_seed(good[one].name, KeyKind.COSIGNATURE, rng.randbytes(32))
    strangers = cosign_by(tree, stranger, seconds=NOW)
    lines = rng.choice(
        [
            [good[one]],
            [good[one], good[one]],
            [*good, good[one]],
            [*good, cosign_by(tree, WITNESSES[one], seconds=NOW + 1)],
            [good[1 - one], strangers],
            [good[1 - one], SignatureLine(strangers.name, good[one].id, strangers.signature)],
            [good[1 - one], SignatureLine(good[one].name, good[one].id, good[1 - one].signature)],
            [good[1 - one], cosign_by(Checkpoint(ORIGIN, SIZE, OTHERS.root), WITNESSES[one], seconds=NOW)],
        ]
    )
    lines = rng.sample([*own, *lines], len(own) + len(lines))
    return lambda: open_checkpoint(str(Note(NOTE.text, tuple(lines))).encode(), TRUST), None


CASES: dict[Callable[[random.Random], Case], tuple[int, str]] = {
    _bit_of_a_checkpoint: (1500, FORM),
    _bit_of_a_proof: (1500, FORM),
    _bit_of_an_entry: (1000, INDEX),
    _bit_of_an_event: (1000, INDEX),
    _bit_of_a_bundle: (1000, rf"{INDEX}|{LENGTH}"),
    _bit_of_a_tile: (700, INDEX),
    _cut_short: (800, rf"{FORM}|{HASHES}|{LENGTH}"),
    _entries_in_another_order: (150, KNOWN_ROOT),
    _hashes_in_another_order: (400, INDEX),
    _lines_in_another_order: (50, FORM),
    _an_entry_put_in: (150, KNOWN_ROOT),
    _an_entry_taken_out: (150, KNOWN_ROOT),
    _an_entry_changed_for_another: (150, KNOWN_ROOT),
    _a_hash_put_in: (400, HASHES),
    _an_older_tree: (100, r"a tree of \d+ entries cannot begin with one of 300"),
    _two_trees_of_one_size: (100, r"two roots for the tree of 300 entries"),
    _the_proof_of_another_entry: (350, HASHES),
    _the_proof_of_another_log: (
        200,
        rf"of the log 'other.example/log'|has no signature of the log's trusted key|{INDEX}",
    ),
    _a_witness_repeated_or_unknown: (
        300,
        rf"two signature lines of {WITNESS}|has 1 cosignatures of .*; 2 are wanted|the signature of {WITNESS} does not verify",
    ),
}
"""How many cases of each, and the rules of which one is named."""


@pytest.mark.parametrize("attack", CASES, ids=lambda attack: attack.__name__.strip("_").replace("_", " "))
def test_it_is_refused_by_its_index_or_its_rule(attack: Callable[[random.Random], Case]) -> None:
    """Always by an error of the log's own, and never by accident."""
    count, rules = CASES[attack]
    for seed in range(count * CAMPAIGN):
        reading, index = attack(random.Random(f"{attack.__name__} {seed}"))
        with pytest.raises((LogError, MalformedError), match=rules) as caught:
            reading()
        if index is not None:
            assert isinstance(caught.value, LogError)
            assert caught.value.index == index, seed
            assert f"entry {index} " in str(caught.value), seed


def test_there_are_ten_thousand_cases() -> None:
    """Neither fewer after a change."""
    assert sum(count for count, _ in CASES.values()) == 10_000


def test_what_was_not_tampered_with_is_accepted() -> None:
    """All that the cases above start from: the same calls, without the change."""
    assert open_checkpoint(CHECKPOINT[:UNKNOWN_FROM], TRUST).cosigned == OPENED.cosigned
    _continue(LOG)
    _continue(Log((*LOG.entries, entry_of(b"later", bytes(32)))))
    for index in range(SIZE):
        _include(index, leaf_of(*EVENTS[index]))
        _include(index, LEAVES[index], inclusion_proof(index, SIZE, subtrees_of(SIZE, FILES.__getitem__)))
    for bundle in bundles_of(SIZE):
        assert tuple(unpack_entries(FILES[bundle], bundle.width)) == LOG.entries[bundle.number * 256 :][: bundle.width]
    EntryProof(7, INCLUSIONS[7], CHECKPOINT).verify(LEAVES[7], TRUST)


def test_signature_lines_have_no_order() -> None:
    """Turning them round changes nothing that anybody signed."""
    note = parse_note(CHECKPOINT)
    for seed in range(20):
        lines = random.Random(seed).sample(note.lines, len(note.lines))
        opened = open_checkpoint(str(Note(note.text, tuple(lines))).encode(), TRUST)
        assert (opened.checkpoint, opened.cosigned) == (OPENED.checkpoint, OPENED.cosigned)
