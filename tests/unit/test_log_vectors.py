"""The log's vectors: every entry, root, tile, proof and checkpoint comes to what the file states."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blindgate_protocol.canonical import digest
from blindgate_protocol.checkpoints import Checkpoint, EntryProof, LogTrust, cosign_by, open_checkpoint, signed_by
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.events import Event, entry_of, leaf_of
from blindgate_protocol.log_keys import LogKey
from blindgate_protocol.merkle import leaf_hash, root_of, verify_consistency, verify_inclusion
from blindgate_protocol.notes import KeyKind, VerifierKey
from blindgate_protocol.tiles import Tile, bundles_of, pack_entries, tiles_of

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "log.json").read_text())
LOG = VerifierKey.parse(VECTORS["log"])
WITNESSES = {name: VerifierKey.parse(text) for name, text in VECTORS["witnesses"].items()}
_bytes = base64.b64decode
EVENTS = VECTORS["events"]
ENTRIES = [_bytes(event["entry"]) for event in EVENTS]
ENTRIES += [entry_of(b"", n.to_bytes(32, "big")) for n in range(len(EVENTS), 300)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: json.loads(event["event"])["action"])
def test_an_events_entry_and_leaf_are_those_of_the_vectors(event: dict[str, str]) -> None:
    """From its canonical bytes and its salt."""
    data, salt = event["event"].encode(), _bytes(event["salt"])
    assert Event.from_bytes(data).to_bytes() == data
    assert entry_of(data, salt) == _bytes(event["entry"])
    assert leaf_of(data, salt) == _bytes(event["leaf"])


def test_roots_and_tiles_are_those_of_the_vectors() -> None:
    """Of all 300 entries, by the names that they are served under."""
    for size, root in VECTORS["roots"].items():
        assert root_of(LEAVES[: int(size)]) == _bytes(root), size
    assert [tile.path for tile in tiles_of(300)] == list(VECTORS["tiles"])
    assert [tile.path for tile in bundles_of(300)] == list(VECTORS["bundles"])
    for path, wanted in VECTORS["tiles"].items():
        tile = Tile.parse(path)
        span = 256 ** (tile.level or 0)
        first = range(tile.number * 256, tile.number * 256 + tile.width)
        assert digest(b"".join(root_of(LEAVES[n * span : (n + 1) * span]) for n in first)) == wanted
    for path, wanted in VECTORS["bundles"].items():
        bundle = Tile.parse(path)
        assert digest(pack_entries(ENTRIES[bundle.number * 256 :][: bundle.width])) == wanted


def _comes_to(case: dict[str, Any], reading: Callable[[], object]) -> None:
    if case["verdict"] == "ok":
        reading()
        return
    with pytest.raises(BlindgateError) as caught:
        reading()
    assert caught.value.code == case["verdict"]


@pytest.mark.parametrize("case", VECTORS["inclusions"], ids=lambda case: case["case"])
def test_every_inclusion_comes_to_its_verdict(case: dict[str, Any]) -> None:
    """Another implementation must come to the same; so for the rest."""
    proof = [_bytes(one) for one in case["proof"]]
    numbers: dict[str, Any] = {name: case[name] for name in ("index", "size")}
    hashes: dict[str, Any] = {name: _bytes(case[name]) for name in ("leaf", "root")}
    _comes_to(case, lambda: verify_inclusion(proof=proof, **numbers, **hashes))


@pytest.mark.parametrize("case", VECTORS["consistencies"], ids=lambda case: case["case"])
def test_every_consistency_comes_to_its_verdict(case: dict[str, Any]) -> None:
    """From one tree to a later one."""
    proof = [_bytes(one) for one in case["proof"]]
    numbers: dict[str, Any] = {name: case[name] for name in ("first", "second")}
    roots: dict[str, Any] = {name: _bytes(case[name]) for name in ("first_root", "second_root")}
    _comes_to(case, lambda: verify_consistency(proof=proof, **numbers, **roots))


@pytest.mark.parametrize("case", VECTORS["checkpoints"], ids=lambda case: case["case"])
def test_every_checkpoint_comes_to_its_verdict(case: dict[str, Any]) -> None:
    """For a reader who wants one cosignature of two witnesses."""
    trust = LogTrust(LOG, WITNESSES, VECTORS["cosignatures"])

    def reading() -> None:
        assert open_checkpoint(case["note"].encode(), trust).cosigned == case["cosigned"]

    _comes_to(case, reading)


@pytest.mark.parametrize("case", VECTORS["proofs"], ids=lambda case: case["case"])
def test_every_proof_comes_to_its_verdict(case: dict[str, Any]) -> None:
    """For a reader who trusts the log's key, and was shown event and salt."""
    leaf = leaf_of(case["event"].encode(), _bytes(case["salt"]))
    _comes_to(case, lambda: EntryProof.parse(case["proof"].encode()).verify(leaf, LogTrust(LOG)))


def test_ml_dsa_signs_what_the_vectors_say() -> None:
    """The key comes from the seed, and its line verifies; the bytes of a signature are drawn anew each time."""
    case = VECTORS["ml_dsa_44"]
    key = LogKey.from_seed(LOG.name, KeyKind.ML_DSA_44, _bytes(case["seed"]))
    tree = Checkpoint.parse(case["checkpoint"])
    assert str(key.verifier) == case["key"]
    assert signed_by(tree, key.verifier, case["seconds"]) == _bytes(case["signed"])
    line = cosign_by(tree, key, seconds=case["seconds"])
    note = next(one["note"] for one in VECTORS["checkpoints"] if one["case"] == "cosigned by one")
    assert open_checkpoint(f"{note}{line}".encode(), LogTrust(LOG, second=key.verifier)).checkpoint == tree
