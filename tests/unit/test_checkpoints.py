"""Checkpoints and the proofs that travel with them: who must have signed what, and what happens where somebody has not."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.checkpoints import (
    Checkpoint,
    EntryProof,
    LogTrust,
    cosign,
    cosign_by,
    open_checkpoint,
    sign_checkpoint,
    verify_cosignature,
)
from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.log_keys import LogKey
from blindgate_protocol.merkle import EMPTY_ROOT, inclusion_proof, leaf_hash, root_of
from blindgate_protocol.notes import KeyKind, Note, SignatureLine, VerifierKey, parse_note

OTHERS: dict[str, Any] = json.loads((Path(__file__).parent / "c2sp_notes.json").read_text())
ORIGIN = "gateway.example/log"
LEAVES = [leaf_hash(bytes([n])) for n in range(5)]
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
LOG = LogKey(ORIGIN, KeyKind.ED25519, PRIVATE).verifier
SECOND = LogKey.from_seed(ORIGIN, KeyKind.ML_DSA_44, b"2" * 32)
WITNESSES = {
    "ed25519": LogKey.from_seed("witness.example/w1", KeyKind.COSIGNATURE, b"w" * 32),
    "ml-dsa": LogKey.from_seed("witness.example/w2", KeyKind.ML_DSA_44, b"w" * 32),
}
TRUSTED = {name: key.verifier for name, key in WITNESSES.items()}
NOW = 1_750_000_000
TREE = Checkpoint(ORIGIN, 5, root_of(LEAVES))
OWN = sign_checkpoint(TREE, PRIVATE)


def _with(note: Note, *lines: SignatureLine) -> bytes:
    return str(Note(note.text, (*note.lines, *lines))).encode()


def _cosigned(name: str, tree: Checkpoint = TREE, seconds: int = NOW) -> SignatureLine:
    return cosign_by(tree, WITNESSES[name], seconds=seconds)


def test_a_logs_own_checkpoint_opens() -> None:
    """With the text that it signed, and nobody who cosigned."""
    opened = open_checkpoint(str(OWN).encode(), LogTrust(LOG))
    assert opened.checkpoint == TREE
    assert opened.cosigned == {}
    assert opened.note.text == TREE.text() == f"{ORIGIN}\n5\n{TREE.text().split()[2]}\n"


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_cosignatures_of_trusted_witnesses_count(wanted: int) -> None:
    """By either algorithm, with their times."""
    data = _with(OWN, _cosigned("ed25519"), _cosigned("ml-dsa", seconds=NOW + 1))
    opened = open_checkpoint(data, LogTrust(LOG, TRUSTED, wanted))
    assert opened.cosigned == {"ed25519": NOW, "ml-dsa": NOW + 1}


def test_fewer_cosignatures_than_wanted_are_refused() -> None:
    """The message counts them."""
    with pytest.raises(LogError, match="5 entries has 1 cosignatures of trusted witnesses; 2 are wanted"):
        open_checkpoint(_with(OWN, _cosigned("ml-dsa")), LogTrust(LOG, TRUSTED, 2))


def test_unknown_witnesses_do_not_count_and_do_no_harm() -> None:
    """Their lines are for those who know them, even where they verify under nothing."""
    stranger = LogKey.from_seed("witness.example/w1", KeyKind.COSIGNATURE, b"x" * 32)
    data = _with(OWN, cosign_by(TREE, stranger, seconds=NOW), SignatureLine("other", b"abcd", bytes(72)))
    assert open_checkpoint(data, LogTrust(LOG, TRUSTED)).cosigned == {}
    with pytest.raises(LogError, match="has 0 cosignatures"):
        open_checkpoint(data, LogTrust(LOG, TRUSTED, 1))


def test_a_witness_counts_once() -> None:
    """Its line may not occur twice, at two times neither, and two names for one key are one witness."""
    for again in (NOW, NOW + 1):
        data = _with(OWN, _cosigned("ed25519"), _cosigned("ed25519", seconds=again))
        with pytest.raises(LogError, match=r"two signature lines of witness\.example/w1"):
            open_checkpoint(data, LogTrust(LOG, TRUSTED, 1))
    twice = {"one": TRUSTED["ed25519"], "same": TRUSTED["ed25519"]}
    with pytest.raises(LogError, match="has 1 cosignatures of trusted witnesses; 2 are wanted"):
        open_checkpoint(_with(OWN, _cosigned("ed25519")), LogTrust(LOG, twice, 2))
    renamed = LogKey.from_seed("witness.example/w3", KeyKind.COSIGNATURE, b"w" * 32)
    both = _with(OWN, _cosigned("ed25519"), cosign_by(TREE, renamed, seconds=NOW))
    with pytest.raises(LogError, match="has 1 cosignatures of trusted witnesses; 2 are wanted"):
        open_checkpoint(both, LogTrust(LOG, {"one": TRUSTED["ed25519"], "renamed": renamed.verifier}, 2))


def test_a_witness_that_signs_by_both_algorithms_counts_once() -> None:
    """By its name: whoever names both of its keys does not have two witnesses."""
    second = LogKey.from_seed("witness.example/w1", KeyKind.ML_DSA_44, b"w" * 32)
    data = _with(OWN, _cosigned("ed25519"), cosign_by(TREE, second, seconds=NOW))
    both = {"one": TRUSTED["ed25519"], "the same": second.verifier}
    assert open_checkpoint(data, LogTrust(LOG, both, 1)).cosigned == {"one": NOW, "the same": NOW}
    assert open_checkpoint(data, LogTrust(LOG, {"one": second.verifier}, 1)).cosigned == {"one": NOW}
    with pytest.raises(LogError, match="has 1 cosignatures of trusted witnesses; 2 are wanted"):
        open_checkpoint(data, LogTrust(LOG, both, 2))


OTHER_TREE = Checkpoint(ORIGIN, 5, LEAVES[0])


@pytest.mark.parametrize("name", ["ed25519", "ml-dsa"])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda name: _cosigned(name, OTHER_TREE),
        lambda name: _cosigned(name, Checkpoint(ORIGIN, 4, TREE.root)),
        lambda name: _cosigned(name, Checkpoint("other.example/log", 5, TREE.root)),
        lambda name: _changed(name, at=7),
        lambda name: _changed(name, at=0),
        lambda name: _changed(name, at=-1),
        lambda name: SignatureLine(TRUSTED[name].name, TRUSTED[name].id, bytes(8)),
        lambda name: SignatureLine(TRUSTED[name].name, TRUSTED[name].id, bytes(3)),
    ],
    ids=["other root", "other size", "other log", "other time", "no time", "a bit", "time alone", "three bytes"],
)
def test_a_wrong_line_of_a_trusted_witness_refuses_the_whole(wrong: Any, name: str) -> None:
    """Even where no cosignature is wanted: somebody put it there."""
    with pytest.raises(LogError, match=r"witness\.example"):
        open_checkpoint(_with(OWN, wrong(name)), LogTrust(LOG, TRUSTED))


def _changed(name: str, at: int) -> SignatureLine:
    good = _cosigned(name)
    signature = bytearray(good.signature)
    signature[at] ^= 0x80
    return SignatureLine(good.name, good.id, bytes(signature))


def test_a_cosignature_without_a_time_is_none_of_a_witness() -> None:
    """By ML-DSA-44 it says that trees agree, not that no larger one was seen; `cosigned_message` in tlog-cosignature."""
    with pytest.raises(LogError, match=r"witness\.example/w2 has no time"):
        open_checkpoint(_with(OWN, _cosigned("ml-dsa", seconds=0)), LogTrust(LOG, TRUSTED))


def test_a_checkpoint_of_another_log_is_refused() -> None:
    """By its origin, also where the same key signed it."""
    other = sign_checkpoint(Checkpoint("other.example/log", 5, TREE.root), PRIVATE)
    with pytest.raises(LogError, match=r"of the log 'other.example/log', expected one of 'gateway.example/log'"):
        open_checkpoint(str(other).encode(), LogTrust(LOG))
    relabelled = Note(TREE.text(), other.lines)
    with pytest.raises(LogError, match="no signature of the log's trusted key"):
        open_checkpoint(str(relabelled).encode(), LogTrust(LOG))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((_cosigned("ed25519"),), "5 entries has no signature of the log's trusted key"),
        ((*OWN.lines, *OWN.lines), f"two signature lines of {ORIGIN}"),
        (sign_checkpoint(OTHER_TREE, PRIVATE).lines, f"the signature of {ORIGIN} does not verify"),
        (sign_checkpoint(TREE, Ed25519PrivateKey.from_private_bytes(bytes(32))).lines, "no signature of the log's"),
        ((cosign(TREE, PRIVATE, name=ORIGIN, seconds=NOW),), "no signature of the log's trusted key"),
    ],
    ids=["witness alone", "repeated", "of another tree", "by another key", "as a cosignature"],
)
def test_a_checkpoint_that_the_log_did_not_sign_is_refused(lines: tuple[SignatureLine, ...], message: str) -> None:
    """Whoever else signed it."""
    with pytest.raises(LogError, match=message):
        open_checkpoint(str(Note(TREE.text(), lines)).encode(), LogTrust(LOG, TRUSTED))


def test_a_second_key_of_the_log_must_have_signed_too() -> None:
    """Where it is trusted; who does not know it passes its line over."""
    trust = LogTrust(LOG, TRUSTED, second=SECOND.verifier)
    both = sign_checkpoint(TREE, PRIVATE, second=SECOND, seconds=NOW)
    assert [line.name for line in both.lines] == [ORIGIN, ORIGIN]
    for opening in (trust, LogTrust(LOG)):
        assert open_checkpoint(str(both).encode(), opening).cosigned == {}
    with pytest.raises(LogError, match="no signature of the log's second key"):
        open_checkpoint(str(OWN).encode(), trust)
    other = cosign_by(OTHER_TREE, SECOND, seconds=NOW)
    with pytest.raises(LogError, match=f"the ML-DSA-44 signature of {ORIGIN} does not verify"):
        open_checkpoint(_with(OWN, other), trust)
    with pytest.raises(LogError, match=f"two signature lines of {ORIGIN}"):
        open_checkpoint(_with(both, both.lines[1]), trust)


def test_the_ml_dsa_line_of_another_implementation_verifies() -> None:
    """A log's, by Torchwood, without a time: the second line of a checkpoint whose first we sign."""
    key = VerifierKey.parse(OTHERS["torchwood"]["key"])
    note = parse_note(OTHERS["torchwood"]["note"].encode())
    tree = Checkpoint.parse(note.text)
    own = sign_checkpoint(tree, PRIVATE)
    trust = LogTrust(LogKey(key.name, KeyKind.ED25519, PRIVATE).verifier, second=key)
    assert open_checkpoint(_with(own, *note.lines), trust).checkpoint == tree
    larger = sign_checkpoint(Checkpoint(tree.origin, 2, tree.root), PRIVATE)
    with pytest.raises(LogError, match=r"ML-DSA-44 signature of example\.com/mldsa-log does not verify"):
        open_checkpoint(_with(larger, *note.lines), trust)


def test_where_cryptography_has_no_ml_dsa_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making, reading and verifying are refused, and nothing passes unverified; Ed25519 goes on."""
    both = str(sign_checkpoint(TREE, PRIVATE, second=SECOND)).encode()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    lacking = r"ML-DSA-44 is not in cryptography [0-9.]+ as it is installed here.*install a newer"
    with pytest.raises(LogError, match=lacking):
        LogKey.generate(ORIGIN, KeyKind.ML_DSA_44)
    with pytest.raises(LogError, match=lacking):
        LogKey.from_seed(ORIGIN, KeyKind.ML_DSA_44, bytes(32))
    with pytest.raises(LogError, match=lacking):
        open_checkpoint(both, LogTrust(LOG, second=SECOND.verifier))
    assert open_checkpoint(both, LogTrust(LOG)).checkpoint == TREE


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_logs_key_comes_back_from_its_seed(kind: KeyKind) -> None:
    """And its repr does not show it."""
    key = LogKey.generate("name.example", kind)
    assert LogKey.from_seed("name.example", kind, key.seed()).verifier == key.verifier
    assert repr(key) == f"LogKey(name.example+{key.verifier.id.hex()}, {kind.name})"
    with pytest.raises(MalformedError, match="has 32 bytes, got 31"):
        LogKey.from_seed("name.example", kind, bytes(31))


def test_a_key_is_made_of_its_own_algorithm() -> None:
    """An Ed25519 key cannot pass for the other kind."""
    with pytest.raises(MalformedError, match="kind ML_DSA_44 has 1312 bytes, got 32"):
        LogKey(ORIGIN, KeyKind.ML_DSA_44, PRIVATE)


@pytest.mark.parametrize(
    ("trust", "message"),
    [
        ({"log": TRUSTED["ed25519"]}, "the log's key is of kind COSIGNATURE, expected ED25519"),
        ({"second": TRUSTED["ml-dsa"]}, "is of kind ML_DSA_44 and has the log's name"),
        ({"second": LOG}, "is of kind ML_DSA_44 and has the log's name"),
        ({"witnesses": {"w": LogKey.generate("w", KeyKind.ED25519).verifier}}, "witness w is none that cosigns"),
        ({"witnesses": {"w": VerifierKey("w", KeyKind.COSIGNATURE, LOG.key)}}, "witness w is the log's own"),
        ({"witnesses": {"w": SECOND.verifier}, "second": SECOND.verifier}, "witness w is the log's own"),
    ],
    ids=["log", "second of a witness", "second", "witness that signs notes", "log as its witness", "second as witness"],
)
def test_trust_in_a_key_that_cannot_do_it_is_refused(trust: dict[str, Any], message: str) -> None:
    """Before anything is opened: a policy that can never hold, or that holds too easily."""
    with pytest.raises(MalformedError, match=message):
        LogTrust(**{"log": LOG} | trust)


def test_only_a_cosigners_key_cosigns() -> None:
    """At a time that is one, and by ML-DSA-44 for an origin that fits."""
    with pytest.raises(LogError, match="of kind ED25519, which does not cosign"):
        cosign_by(TREE, LogKey(ORIGIN, KeyKind.ED25519, PRIVATE), seconds=NOW)
    with pytest.raises(LogError, match="of kind ED25519, which does not cosign"):
        verify_cosignature(TREE, SignatureLine(LOG.name, LOG.id, bytes(72)), LOG)
    for seconds in (-1, 1 << 63):
        with pytest.raises(LogError, match="from 0 to 2\\^63 - 1"):
            cosign_by(TREE, WITNESSES["ed25519"], seconds=seconds)
    long = Checkpoint("o" * 256, 5, TREE.root)
    assert verify_cosignature(long, _cosigned("ed25519", long), TRUSTED["ed25519"]) == NOW
    with pytest.raises(LogError, match="an origin of at most 255 bytes, got 256"):
        _cosigned("ml-dsa", long)
    with pytest.raises(LogError, match="an origin of at most 255 bytes, got 256"):
        verify_cosignature(long, _cosigned("ml-dsa"), TRUSTED["ml-dsa"])


ROOT = TREE.text().split("\n")[2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{ORIGIN}\n5\n",
        f"\n5\n{ROOT}\n",
        f"{ORIGIN}\n05\n{ROOT}\n",
        f"{ORIGIN}\n+5\n{ROOT}\n",
        f"{ORIGIN}\n5 \n{ROOT}\n",
        f"{ORIGIN}\n\u0665\n{ROOT}\n",
        f"{ORIGIN}\n{10**16}\n{ROOT}\n",
        f"{ORIGIN}\n5\n{ROOT[:-4]}\n",
        f"{ORIGIN}\n5\n{ROOT[:-2]}{chr(ord(ROOT[-2]) + 1)}=\n",
        f"{ORIGIN}\n5\n{ROOT}",
        f"{ORIGIN}\n5\n{ROOT}\n\n",
        f"{ORIGIN}\n5\n{ROOT}\n\nmore\n",
    ],
    ids=[
        "nothing",
        "two lines",
        "no origin",
        "leading zero",
        "sign",
        "space",
        "other digits",
        "too large",
        "short root",
        "bits to spare",
        "no newline",
        "empty extension",
        "empty line",
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    """Each has one form, so two readers see the same tree."""
    with pytest.raises(MalformedError, match=r"a checkpoint is an origin|a hash is the base64 of 32 bytes"):
        Checkpoint.parse(text)


def test_extension_lines_are_kept_and_signed() -> None:
    """Other logs have them; nobody here reads them."""
    tree = Checkpoint.parse(f"{TREE.text()}more\nand more\n")
    assert tree.extensions == ("more", "and more")
    note = sign_checkpoint(tree, PRIVATE)
    assert open_checkpoint(str(note).encode(), LogTrust(LOG)).checkpoint == tree
    cut = str(note).replace("and more\n", "")
    with pytest.raises(LogError, match="does not verify"):
        open_checkpoint(cut.encode(), LogTrust(LOG))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("a\nb", 5, TREE.root), "each on its line"),
        (("", 5, TREE.root), "each on its line"),
        ((ORIGIN, -1, TREE.root), "each on its line"),
        ((ORIGIN, 5, TREE.root, ("",)), "each on its line"),
        ((ORIGIN, 5, TREE.root, ("a\nb",)), "each on its line"),
        ((ORIGIN, 5, b"root"), "32 bytes, got 4"),
    ],
    ids=["two lines of origin", "no origin", "negative", "empty extension", "two lines of extension", "short root"],
)
def test_a_checkpoint_that_would_be_read_as_another_cannot_be_made(fields: tuple[Any, ...], message: str) -> None:
    """So that nobody signs one."""
    with pytest.raises(MalformedError, match=message):
        Checkpoint(*fields)


def test_an_empty_tree_has_one_root() -> None:
    """No consistency proof would show it: every tree begins with the empty one."""
    good, bad = (sign_checkpoint(Checkpoint(ORIGIN, 0, root), PRIVATE) for root in (EMPTY_ROOT, TREE.root))
    assert open_checkpoint(str(good).encode(), LogTrust(LOG)).checkpoint.size == 0
    with pytest.raises(LogError, match="a tree without entries, under a root that is not the one of none"):
        open_checkpoint(str(bad).encode(), LogTrust(LOG))


PROOF = EntryProof(
    2,
    tuple(inclusion_proof(2, 5, lambda level, index: root_of(LEAVES[index << level : (index + 1) << level]))),
    str(OWN).encode(),
)


def test_a_proof_shows_an_entry_to_whoever_knows_the_log() -> None:
    """It travels as text; extra data, which nobody signed, is passed over."""
    data = PROOF.to_bytes()
    head = b"c2sp.org/tlog-proof@v1\n"
    assert data.startswith(head + b"index 2\n")
    for text in (data, data.replace(head, head + b"extra YWdlLXYxLjIuMS1kYXJ3aW4=\n")):
        read = EntryProof.parse(text)
        assert read == PROOF
        assert read.verify(LEAVES[2], LogTrust(LOG)).checkpoint == TREE


def test_a_proof_of_another_entry_is_refused() -> None:
    """Naming the index."""
    with pytest.raises(LogError, match="does not lead from entry 2") as caught:
        PROOF.verify(LEAVES[3], LogTrust(LOG))
    assert caught.value.index == 2


DATA = PROOF.to_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "begins with"),
        (DATA.replace(b"@v1", b"@v2"), "begins with"),
        (DATA.partition(b"\n\n")[0], "begins with"),
        (DATA.replace(b"index 2\n", b""), "names the index"),
        (DATA.replace(b"index 2", b"index 02"), "names the index"),
        (DATA.replace(b"index 2", b"index -2"), "names the index"),
        (DATA.replace(b"index 2\n", b"index 2\nextra AAAA\n"), "the base64 of 32 bytes"),
        (DATA.replace(b"index 2\n", b"index 2\n" + b"A" * 43 + b"\n"), "the base64 of 32 bytes"),
        (DATA.replace(b"index 2\n", b"index 2\n" + (b"A" * 43 + b"=\n") * 64), "at most 64 hashes"),
        (DATA + bytes(1 << 18), "at most 262144"),
        (DATA.replace(b"\n\n", b"\n\n\n", 1), "a checkpoint is"),
    ],
    ids=[
        "nothing",
        "another version",
        "no checkpoint",
        "no index",
        "leading zero",
        "negative",
        "extra behind",
        "no hash",
        "too many",
        "too large",
        "empty line before",
    ],
)
def test_bytes_that_are_no_proof_are_refused(data: bytes, message: str) -> None:
    """By their rule."""
    with pytest.raises(MalformedError, match=message):
        EntryProof.parse(data).verify(LEAVES[2], LogTrust(LOG))
