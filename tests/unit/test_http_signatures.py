"""A node's signature over a request: the RFC's own example, what is covered, and what is no signature at all."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import BlindgateError, MalformedError, SignatureError
from blindgate_protocol.http_signatures import (
    SIGNATURE,
    SIGNATURE_INPUT,
    content_digest,
    parse_content_digest,
    parse_signature,
    read_signature,
    sign_request,
    signature_base,
    signed_fields,
)
from blindgate_protocol.signing import SigningKey, public_key

KEY = SigningKey.from_seed(bytes(32))
TARGET = "https://gateway.example/v1/leases/ab/result?x=1"
FIELDS = signed_fields(content_digest(digest(b"body")), "1." + "a" * 32)


def signed(**changes: Any) -> dict[str, str]:
    """The two fields of a request that is right."""
    given: dict[str, Any] = {
        "method": "PUT",
        "target": TARGET,
        "fields": FIELDS,
        "created": 1_750_000_000,
        "nonce": bytes(range(16)),
    }
    return sign_request(KEY, **(given | changes))


def verify(fields: dict[str, str], /, **changes: Any) -> None:
    """Steps 1 to 4, as a gateway does them."""
    given: dict[str, Any] = {"method": "PUT", "targets": [TARGET], "fields": FIELDS}
    read_signature(fields[SIGNATURE_INPUT], fields[SIGNATURE]).verify(**(given | changes))


def test_the_example_of_the_rfc() -> None:
    """RFC 9421, B.2.6, under the key of B.1.4: its base, its signature, made and verified."""
    seed = "n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU"
    key = SigningKey.from_seed(base64.urlsafe_b64decode(seed + "="))
    assert key.id == "ed25519:JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"
    components = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("@method", "POST"),
        ("@path", "/foo"),
        ("@authority", "example.com"),
        ("content-type", "application/json"),
        ("content-length", "18"),
    ]
    text = (
        '("date" "@method" "@path" "@authority" "content-type" "content-length")'
        ';created=1618884473;keyid="test-key-ed25519"'
    )
    value = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    parsed = parse_signature(f"sig-b26={text}", f"sig-b26=:{value}:")
    assert parsed.covered == tuple(name for name, _ in components)
    assert parsed.parameters == {"created": 1618884473, "keyid": "test-key-ed25519"}
    base = signature_base(components, parsed.text)
    assert base.decode().splitlines()[-2:] == ['"content-length": 18', f'"@signature-params": {text}']
    public_key(key.id).verify(parsed.signature, base)
    assert base64.b64encode(key.sign_bytes(base)).decode() == value


def test_what_was_signed_verifies_and_says_who_when_and_what() -> None:
    """One of several addresses is enough."""
    fields = signed()
    verify(fields, targets=["http://elsewhere", TARGET])
    parsed = read_signature(fields[SIGNATURE_INPUT], fields[SIGNATURE])
    assert (parsed.key, parsed.created, parsed.nonce) == (KEY.id, 1_750_000_000, "AAECAwQFBgcICQoLDA0ODw")
    assert parsed.covered == ("@method", "@target-uri", "content-digest", "blindgate-lease")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": "POST"}, id="method"),
        pytest.param({"targets": ["https://other.example/v1/leases/ab/result?x=1"]}, id="gateway"),
        pytest.param({"targets": [TARGET + "2"]}, id="query"),
        pytest.param({"targets": [TARGET.replace("ab", "ac")]}, id="path"),
        pytest.param({"targets": []}, id="no address"),
        pytest.param({"fields": FIELDS | {"content-digest": content_digest(digest(b"another"))}}, id="body"),
        pytest.param({"fields": FIELDS | {"blindgate-lease": "2." + "a" * 32}}, id="lease"),
    ],
)
def test_a_request_of_which_anything_was_changed_does_not_verify(changes: dict[str, Any]) -> None:
    """Whatever a proxy could do to it."""
    with pytest.raises(SignatureError):
        verify(signed(), **changes)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="neither"),
        pytest.param({"content-digest": FIELDS["content-digest"]}, id="no lease"),
        pytest.param(dict(reversed(FIELDS.items())), id="another order"),
    ],
)
def test_what_is_not_covered_is_not_taken(fields: dict[str, str]) -> None:
    """A good signature over less than the request would let the rest be exchanged."""
    with pytest.raises(MalformedError, match="must cover"):
        verify(signed(fields=fields))


def edited(old: str, new: str, *, where: str = SIGNATURE_INPUT) -> dict[str, str]:
    """A good signature, edited."""
    fields = signed()
    assert old in fields[where]
    return fields | {where: fields[where].replace(old, new)}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({SIGNATURE_INPUT: "", SIGNATURE: ""}, id="empty"),
        pytest.param(edited("node=", "other="), id="labels differ"),
        pytest.param(edited("node=", ""), id="no label"),
        pytest.param(edited('"@method"', '"@method" "@method"'), id="covered twice"),
        pytest.param(edited('"@method"', '"@method";req'), id="a component with a parameter"),
        pytest.param(edited('" "', '"  "'), id="two spaces"),
        pytest.param(edited(";created", "; created"), id="a space that the RFC allows"),
        pytest.param(edited("created=1750000000", "created=01750000000"), id="a number with a zero before it"),
        pytest.param(edited("created=1750000000", "created=-1"), id="a negative number"),
        pytest.param(edited("created=1750000000", 'created="1750000000"'), id="a time that is text"),
        pytest.param(edited("created=1750000000", f"created={'9' * 16}"), id="a number too long"),
        pytest.param(edited(";created=1750000000", ""), id="no time"),
        pytest.param(edited(";alg", ';alg="ed25519";alg'), id="a parameter twice"),
        pytest.param(edited('"ed25519"', '"hmac-sha256"'), id="another algorithm"),
        pytest.param(edited("blindgate-node", "another-tag"), id="another tag"),
        pytest.param(edited("AAECAwQFBgcICQoLDA0ODw", "AAECAwQFBgcICQoLDA0OD"), id="a short nonce"),
        pytest.param(edited("ed25519:", "x25519:"), id="no key id"),
        pytest.param(edited(';tag="blindgate-node"', ';tag="blindgate-node";expires=1'), id="a parameter more"),
        pytest.param(edited(';tag="blindgate-node"', ';tag="blindgate-node", b=("@method")'), id="two signatures"),
        pytest.param(edited('tag="', 'tag="\\"'), id="an escape"),
        pytest.param(edited('tag="', 'tag="' + "a" * 2000), id="long"),
        pytest.param(edited("==:", ":", where=SIGNATURE), id="no padding"),
        pytest.param(edited("node=:", "node=:AAAA", where=SIGNATURE), id="68 bytes"),
        pytest.param(edited(":", "", where=SIGNATURE), id="no byte sequence"),
    ],
)
def test_what_has_another_form_is_no_signature(fields: dict[str, str]) -> None:
    """One way to write it, so one way to read it."""
    with pytest.raises(MalformedError):
        read_signature(fields[SIGNATURE_INPUT], fields[SIGNATURE])


def test_base64_has_one_form() -> None:
    """The last character before the padding has bits to spare."""
    text = content_digest(digest(b"x"))
    assert parse_content_digest(text) == digest(b"x")
    at = text.index("=:", 10) - 1
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = text[:at] + alphabet[alphabet.index(text[at]) + 1] + text[at + 1 :]
    with pytest.raises(MalformedError):
        parse_content_digest(other)


@pytest.mark.parametrize("text", ["", "sha-512=:AAAA:", "sha-256=AAAA", f"{content_digest(digest(b'x'))}, md5=:AAAA:"])
def test_a_body_is_named_by_sha_256_alone(text: str) -> None:
    """What nobody checks is not announced."""
    with pytest.raises(MalformedError):
        parse_content_digest(text)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "\x00", "é"])
def test_no_value_can_become_another_line_of_what_is_signed(value: str) -> None:
    """A line's end in a field would let one signature stand for two requests."""
    with pytest.raises(MalformedError):
        signature_base([("blindgate-lease", value)], "()")


@given(st.text(max_size=300), st.text(max_size=120))
def test_whatever_comes_is_read_or_refused(given: str, signature: str) -> None:
    """No other exception, and no other time than a moment."""
    with pytest.raises(BlindgateError):
        read_signature(given, signature)


@given(st.integers(0, 200), st.integers(1, 0x10FFFF))
def test_a_signature_with_one_character_changed_is_refused(at: int, character: int) -> None:
    """Wherever it is."""
    fields = signed()
    text = fields[SIGNATURE_INPUT] + fields[SIGNATURE]
    at = at % len(text)
    if text[at] == chr(character):
        return
    changed = text[:at] + chr(character) + text[at + 1 :]
    middle = len(fields[SIGNATURE_INPUT])
    with pytest.raises(BlindgateError):
        verify({SIGNATURE_INPUT: changed[:middle], SIGNATURE: changed[middle:]})
