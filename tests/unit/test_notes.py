"""Signed notes: those of other implementations verify, and what is not one, or is not signed, is refused by its rule."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.log_keys import LogKey
from blindgate_protocol.notes import KeyKind, Note, SignatureLine, VerifierKey, open_note, parse_note, verify_line

OTHERS: dict[str, Any] = json.loads((Path(__file__).parent / "c2sp_notes.json").read_text())
PETER, ENOCH = (VerifierKey.parse(text) for text in OTHERS["go"]["keys"])
NOTE = OTHERS["go"]["note"].encode()
TEXT = NOTE.decode().partition("\n\n")[0] + "\n"
LINES = NOTE.decode().partition("\n\n")[2].splitlines(keepends=True)
STRANGER = LogKey.from_seed("stranger", KeyKind.ED25519, bytes(32))


def test_a_note_of_gos_reference_implementation_verifies() -> None:
    """Under each key, and under both."""
    for keys in ([PETER], [ENOCH], [PETER, ENOCH]):
        assert open_note(NOTE, keys).text == TEXT


def test_signing_the_same_gives_the_same_bytes_as_go() -> None:
    """Ed25519 has one signature for a key and a text."""
    seed = base64.b64decode(OTHERS["go"]["seed"])
    key = LogKey.from_seed("PeterNeumann", KeyKind.ED25519, seed)
    assert key.verifier == PETER
    line = SignatureLine(PETER.name, PETER.id, key.sign_bytes(TEXT.encode()))
    assert str(Note(TEXT, (line,))) == f"{TEXT}\n{LINES[0]}"
    assert key.seed() == seed


def test_what_was_parsed_is_written_as_it_was() -> None:
    """Empty lines in the text included: the last one divides."""
    several = f"a\n\n\nb\n\n{LINES[0]}".encode()
    assert parse_note(several).text == "a\n\n\nb\n"
    for data in (NOTE, several):
        assert str(parse_note(data)).encode() == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TEXT, "a text, an empty line, and signature lines"),
        (f"{TEXT}\n", "a text, an empty line, and signature lines"),
        (f"{TEXT}\n{LINES[0][:-1]}", "a text, an empty line, and signature lines"),
        (f"{TEXT}\n{LINES[0]}more\n", "a signature line is"),
        (f"\x01{TEXT}\n{LINES[0]}", "no control characters"),
        (f"{TEXT}\n{LINES[0]}".replace("\n", "\r\n"), "no control characters"),
        (f"{TEXT}\n— Bad Name {LINES[0].split()[2]}\n", "a signature line is"),
        (f"{TEXT}\n— Bad\u00a0Name {LINES[0].split()[2]}\n", "a signature line is"),
        (f"{TEXT}\n— Bad+Name {LINES[0].split()[2]}\n", "a signature line is"),
        (f"{TEXT}\n— name AAAA\n", "a signature line is"),
        (f"{TEXT}\n— name AAAAAA\n", "a signature line is"),
        (f"{TEXT}\n— name AAAAAAB=\n", "a signature line is"),
        (f"{TEXT}\n- name {LINES[0].split()[2]}\n", "a signature line is"),
        (f"{TEXT}\n{LINES[0] * 65}", "a text, an empty line, and signature lines"),
        ("x" * (1 << 17) + f"\n\n{LINES[0]}", "a note of .* bytes: at most 131072"),
    ],
    ids=[
        "text alone",
        "no line",
        "no newline at the end",
        "something behind",
        "control character",
        "carriage returns",
        "name with a space",
        "name with another space",
        "name with a plus",
        "an id alone",
        "base64 without padding",
        "base64 with bits to spare",
        "a hyphen",
        "too many lines",
        "too large",
    ],
)
def test_bytes_that_are_no_note_are_refused(data: str, message: str) -> None:
    """By what is wrong with them."""
    with pytest.raises(MalformedError, match=message):
        open_note(data.encode(), [PETER])


def test_a_note_that_is_not_utf_8_is_refused() -> None:
    """So that nobody signs one text and shows another."""
    with pytest.raises(MalformedError, match="UTF-8"):
        parse_note(b"\xff" + NOTE)


def test_lines_of_unknown_keys_are_left_alone() -> None:
    """As the format demands, also under a known name or a known id, twice, or under a very long name."""
    unknown = [
        SignatureLine("stranger", STRANGER.verifier.id, bytes(64)),
        SignatureLine("stranger", STRANGER.verifier.id, bytes(64)),
        SignatureLine(PETER.name, b"\0\0\0\1", bytes(64)),
        SignatureLine("stranger", PETER.id, bytes(64)),
        SignatureLine("n" * 2000, b"\0\0\0\1", b"\0"),
    ]
    assert open_note(NOTE + "".join(map(str, unknown)).encode(), [PETER, ENOCH]).text == TEXT


def test_sixteen_signatures_are_taken_whatever_their_algorithm() -> None:
    """The format demands it, and says that signatures may have 5 kB."""
    many = "".join(str(SignatureLine(f"key-{n}", b"abcd", bytes(4627))) for n in range(15))
    assert len(open_note(f"{TEXT}\n{many}{LINES[0]}".encode(), [PETER]).lines) == 16


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (f"{TEXT}\n{LINES[1]}", "no signature of PeterNeumann"),
        (f"{TEXT}\n{LINES[0]}{LINES[0]}", "two signature lines of PeterNeumann"),
        (f"{TEXT.replace('answer', 'Answer')}\n{LINES[0]}", "the signature of PeterNeumann does not verify"),
        (f"{TEXT}\n{SignatureLine(PETER.name, PETER.id, bytes(64))}", "does not verify"),
        (f"{TEXT}\n{SignatureLine(PETER.name, PETER.id, bytes(3))}", "does not verify"),
    ],
    ids=["missing", "repeated", "another text", "another signature", "no signature"],
)
def test_a_note_without_the_signature_is_refused(data: str, message: str) -> None:
    """By the name of the key."""
    with pytest.raises(LogError, match=message):
        open_note(data.encode(), [PETER])


def test_a_cosigners_key_does_not_sign_notes() -> None:
    """A signature over a bare text is of another kind, and has another id."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    cosigner = VerifierKey("w", KeyKind.COSIGNATURE, private.public_key().public_bytes_raw())
    line = SignatureLine("w", cosigner.id, private.sign(TEXT.encode()))
    with pytest.raises(LogError, match="no signature of w over this text"):
        verify_line(TEXT, line, cosigner)


@pytest.mark.parametrize("text", [*OTHERS["go"]["keys"], OTHERS["torchwood"]["key"]], ids=["go", "go too", "ml-dsa"])
def test_a_verifier_key_is_read_and_written(text: str) -> None:
    """And no beginning, end or change of it is another key."""
    assert str(VerifierKey.parse(text)) == text
    for at in range(0, len(text), max(1, len(text) // 100)):
        for other in (text[:at], text[at + 1 :], f"{text[:at]}{chr(ord(text[at]) ^ 1)}{text[at + 1 :]}"):
            with pytest.raises(MalformedError):
                VerifierKey.parse(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "of a kind that is known here"),
        ("name", "of a kind that is known here"),
        ("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==", "has 32 bytes"),
        ("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "of a kind that is known here"),
        (OTHERS["go"]["keys"][0].upper(), "of a kind that is known here|id is not"),
        (OTHERS["go"]["keys"][0].replace("c74f20a3", "C74F20A3"), "id is not that of its name and key"),
        (OTHERS["go"]["keys"][0].replace("Peter", "Petra"), "id is not that of its name and key"),
        (OTHERS["go"]["keys"][0].replace("Peter", "Peter "), "no space, control character or \\+"),
        (OTHERS["go"]["keys"][0].replace("Peter", "x" * 250), "1 to 255 bytes"),
    ],
    ids=["nothing", "a name", "long", "unknown kind", "upper case", "id in capitals", "renamed", "space", "long name"],
)
def test_what_is_no_verifier_key_is_refused(text: str, message: str) -> None:
    """By its rule; the first ones are of Go's own tests."""
    with pytest.raises(MalformedError, match=message):
        VerifierKey.parse(text)


def test_a_name_counts_in_bytes() -> None:
    """ML-DSA-44's signed message has room for 255."""
    VerifierKey("é" * 127, KeyKind.ED25519, bytes(32))
    with pytest.raises(MalformedError, match="1 to 255 bytes"):
        VerifierKey("é" * 128, KeyKind.ED25519, bytes(32))
    with pytest.raises(MalformedError, match="control character"):
        VerifierKey("half \ud800".replace(" ", ""), KeyKind.ED25519, bytes(32))
