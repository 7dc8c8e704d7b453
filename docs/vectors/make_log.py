"""Writes examples of everything that the log is made of, good and bad, to `log.json` beside this file.

Keys, salts and times are fixed, so making them again changes nothing; `--check` compares instead of writing. Another implementation
reads the file, in which bytes are base64, and must come to each `verdict`: `ok`, or the code of the error. ML-DSA-44 draws its
signatures at random, so there is none here: there are the seed, the key and the message that is signed.
"""

import base64
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.canonical import digest
from blindgate_protocol.checkpoints import Checkpoint, EntryProof, cosign_by, sign_checkpoint, signed_by
from blindgate_protocol.events import Action, Event, entry_of
from blindgate_protocol.log_keys import LogKey
from blindgate_protocol.merkle import Subtrees, consistency_proof, inclusion_proof, leaf_hash, root_of
from blindgate_protocol.notes import KeyKind, Note, SignatureLine
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.tiles import bundles_of, pack_entries, tiles_of

FILE = Path(__file__).with_name("log.json")
T = 1_750_000_000
ORIGIN = "gateway.example/log"
SIZE = 300

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes([6]) * 32)
LOG = LogKey(ORIGIN, KeyKind.ED25519, PRIVATE)
SECOND = LogKey.from_seed(ORIGIN, KeyKind.ML_DSA_44, bytes([6]) * 32)
WITNESS, OTHER, STRANGER = (
    LogKey.from_seed(f"witness.example/w{n}", KeyKind.COSIGNATURE, bytes([6 + n]) * 32) for n in (1, 2, 3)
)
CLIENT = SigningKey.from_seed(bytes([2]) * 32)
TENANT = f"tenant-{'5a' * 16}"
KEY = digest(b"evaluation key")


def base(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode()


def events() -> list[tuple[Event, bytes]]:
    """A log that is started, and a key's first two events; each with its salt."""
    common: dict[str, Any] = {"software": "0.1.0"}
    by_client = common | {"actor": CLIENT.id, "role": "client", "tenant": TENANT, "object": f"key:{KEY}"}
    statements = [digest(b"the first statement"), digest(b"the second statement")]
    return [
        (event, digest(b"salt %d" % n).encode()[-32:])
        for n, event in enumerate(
            (
                Event(
                    time=T * 1000,
                    action=Action.LOG_STARTED,
                    actor="gateway",
                    role="gateway",
                    object=f"log:{ORIGIN}",
                    **common,
                ),
                Event(
                    time=T * 1000 + 1,
                    action=Action.KEY_REGISTERED,
                    digest=statements[0],
                    after="registered",
                    details={"client": CLIENT.id, "sequence": "1"},
                    request="00c0ffee00c0ffee",
                    **by_client,
                ),
                Event(
                    time=T * 1000 + 2,
                    action=Action.KEY_ACTIVATED,
                    digest=statements[1],
                    before="registered",
                    after="active",
                    details={"client": CLIENT.id, "sequence": "2", "previous": statements[0]},
                    request="00c0ffee00c0fff0",
                    **by_client,
                ),
            )
        )
    ]


ENTRIES = [entry_of(event.to_bytes(), salt) for event, salt in events()]
ENTRIES += [entry_of(b"", n.to_bytes(32, "big")) for n in range(len(ENTRIES), SIZE)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


def subtrees(leaves: Sequence[bytes]) -> Subtrees:
    """The complete subtrees over these leaves."""
    return lambda level, index: root_of(leaves[index << level : (index + 1) << level])


def inclusions() -> Iterator[dict[str, Any]]:
    """Proofs that an entry stands where it is said to."""

    def inclusion(what: str, verdict: str, index: int, size: int, /, **changes: Any) -> dict[str, Any]:
        proof = [base(one) for one in inclusion_proof(index, size, subtrees(LEAVES))]
        good = {"index": index, "size": size, "leaf": base(LEAVES[index]), "root": base(root_of(LEAVES[:size]))}
        return {"case": what, "verdict": verdict} | good | {"proof": proof} | changes

    for index, size in ((0, 1), (2, 3), (1, 3), (0, 256), (256, 257), (255, 300), (299, 300)):
        yield inclusion(f"entry {index} of {size}", "ok", index, size)
    yield inclusion("another entry", "log", 1, 300, leaf=base(LEAVES[2]))
    yield inclusion("another index", "log", 1, 300, index=3)
    yield inclusion("an index that is not in the tree", "log", 1, 3, index=3)
    yield inclusion("another root", "log", 1, 300, root=base(root_of(LEAVES[:299])))
    yield inclusion("a hash too few", "log", 0, 256, proof=[])
    yield inclusion("a hash too many", "log", 0, 1, proof=[base(LEAVES[1])])


def consistencies() -> Iterator[dict[str, Any]]:
    """Proofs that a tree begins with another."""

    def consistency(what: str, verdict: str, first: int, second: int, /, **changes: Any) -> dict[str, Any]:
        proof = [base(one) for one in consistency_proof(first, second, subtrees(LEAVES))]
        roots = {"first_root": base(root_of(LEAVES[:first])), "second_root": base(root_of(LEAVES[:second]))}
        return {"case": what, "verdict": verdict, "first": first, "second": second, "proof": proof} | roots | changes

    for first, second in ((1, 2), (3, 7), (6, 8), (8, 8), (255, 256), (256, 300), (299, 300)):
        yield consistency(f"{second} begins with {first}", "ok", first, second)
    yield consistency("from nothing, where there is nothing to prove", "log", 0, 8)
    yield consistency("a shorter tree", "log", 3, 7, first=7, second=3)
    yield consistency("another tree before", "log", 3, 7, first_root=base(LEAVES[0]))
    yield consistency("another tree after", "log", 3, 7, second_root=base(LEAVES[0]))
    yield consistency("two trees of one size", "log", 8, 8, second_root=base(LEAVES[0]))


TREE = Checkpoint(ORIGIN, SIZE, root_of(LEAVES))
FORKED = Checkpoint(ORIGIN, SIZE, LEAVES[0])


def checkpoints() -> Iterator[dict[str, Any]]:
    """Checkpoints, for a reader who trusts the log's key and two witnesses, one of whom must have cosigned."""
    own = sign_checkpoint(TREE, PRIVATE)
    lines = [cosign_by(TREE, key, seconds=T) for key in (WITNESS, OTHER, STRANGER)]

    def checkpoint(what: str, verdict: str, note: Note, *more: SignatureLine, **result: Any) -> dict[str, Any]:
        return {"case": what, "verdict": verdict, "note": str(Note(note.text, (*note.lines, *more)))} | result

    yield checkpoint("cosigned by one", "ok", own, lines[0], cosigned={"one": T})
    yield checkpoint("cosigned by two", "ok", own, lines[1], lines[0], cosigned={"one": T, "other": T})
    yield checkpoint("and by a stranger", "ok", own, *lines, cosigned={"one": T, "other": T})
    yield checkpoint("by a stranger alone", "log", own, lines[2])
    yield checkpoint("by nobody", "log", own)
    yield checkpoint("by one twice", "log", own, lines[0], lines[0])
    forked = cosign_by(FORKED, OTHER, seconds=T)
    yield checkpoint("by one, and by another for another tree", "log", own, lines[0], forked)
    yield checkpoint("another root under the same signature", "log", Note(FORKED.text(), own.lines), lines[0])
    elsewhere = Checkpoint("other.example/log", SIZE, TREE.root)
    yield checkpoint("of another log", "log", sign_checkpoint(elsewhere, PRIVATE), lines[0])
    nothing = Checkpoint(ORIGIN, 0, TREE.root)
    nobody = cosign_by(nothing, WITNESS, seconds=T)
    yield checkpoint("no entries, under the root of some", "log", sign_checkpoint(nothing, PRIVATE), nobody)
    padded = Note(TREE.text().replace("\n300\n", "\n0300\n"), own.lines)
    yield checkpoint("a size with a leading zero", "malformed", padded, lines[0])


def proofs() -> Iterator[dict[str, Any]]:
    """The second event, shown to whoever trusts the log's key alone."""
    hashes = tuple(inclusion_proof(1, SIZE, subtrees(LEAVES)))
    event, salt = events()[1]
    good = EntryProof(1, hashes, str(sign_checkpoint(TREE, PRIVATE)).encode()).to_bytes().decode()

    def proof(what: str, verdict: str, **changes: Any) -> dict[str, Any]:
        shown = {"event": event.to_bytes().decode(), "salt": base(salt), "proof": good}
        return {"case": what, "verdict": verdict} | shown | changes

    head = "c2sp.org/tlog-proof@v1\n"
    yield proof("as it should be", "ok")
    yield proof("with extra data", "ok", proof=good.replace(head, f"{head}extra AAAA\n"))
    yield proof("of another event", "log", event=events()[2][0].to_bytes().decode())
    yield proof("with another salt", "log", salt=base(bytes(32)))
    yield proof("at another index", "log", proof=good.replace("index 1\n", "index 3\n"))
    yield proof("without its index", "malformed", proof=good.replace("index 1\n", ""))


def vectors() -> dict[str, Any]:
    """The whole file."""
    return {
        "about": "Made by docs/vectors/make_log.py. docs/protocol.md, section 12, says how each is checked.",
        "log": str(LOG.verifier),
        "witnesses": {"one": str(WITNESS.verifier), "other": str(OTHER.verifier)},
        "cosignatures": 1,
        "events": [
            {"event": event.to_bytes().decode(), "salt": base(salt), "entry": base(entry), "leaf": base(leaf)}
            for (event, salt), entry, leaf in zip(events(), ENTRIES, LEAVES, strict=False)
        ],
        "other_entries": "entry n from 3 on commits to no bytes under the salt n, 32 bytes big-endian",
        "roots": {str(size): base(root_of(LEAVES[:size])) for size in (0, 1, 2, 3, 4, 7, 8, 255, 256, 257, 300)},
        "tiles": {
            tile.path: digest(
                b"".join(
                    subtrees(LEAVES)(8 * (tile.level or 0), tile.number * 256 + place) for place in range(tile.width)
                )
            )
            for tile in tiles_of(SIZE)
        },
        "bundles": {
            tile.path: digest(pack_entries(ENTRIES[tile.number * 256 :][: tile.width])) for tile in bundles_of(SIZE)
        },
        "inclusions": list(inclusions()),
        "consistencies": list(consistencies()),
        "checkpoints": list(checkpoints()),
        "proofs": list(proofs()),
        "ml_dsa_44": {
            "seed": base(SECOND.seed()),
            "key": str(SECOND.verifier),
            "checkpoint": TREE.text(),
            "seconds": T,
            "signed": base(signed_by(TREE, SECOND.verifier, T)),
        },
    }


def main() -> None:
    """Write the file, or with `--check` compare it."""
    text = json.dumps(vectors(), indent=1) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit("docs/vectors/log.json is not what docs/vectors/make_log.py writes: run make vectors")


if __name__ == "__main__":
    main()
