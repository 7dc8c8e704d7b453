"""AWS Nitro: a real enclave's document is believed for what it shows; whatever was changed in it is refused by its rule."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from blindgate.attestation import nitro
from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Tier
from blindgate.attestation.chains import fingerprint
from campaigns import of
from shared import shared

NOW = int(datetime(2026, 11, 26, tzinfo=UTC).timestamp() * 1000)
MADE = 1_668_034_320_696
HOUR = 3_600_000
MUTATIONS = of(10_000, slice_of=300)


def read(name: str) -> bytes:
    """One of the real documents."""
    return shared(f"vectors/nitro/{name}").read_bytes()


def judged(data: bytes, **asked: Any) -> Appraisal:
    """What comes of it."""
    assert nitro.is_evidence(data)
    return nitro.appraise(data, Asked(now=NOW, **asked))


def rules(found: Appraisal) -> set[str]:
    """What it is refused by."""
    assert found.status is not Tier.UNVERIFIED or not found.facts, "what nobody signed is no fact"
    return {reason.rule for reason in found.refusals()}


def parts(data: bytes) -> tuple[Any, ...]:
    """The document taken apart: header, payload's members, signature."""
    protected, _, payload, signature = cbor2.loads(data)
    return protected, cbor2.loads(payload), signature


def test_a_real_document_is_genuine_and_what_it_does_not_prove_is_said() -> None:
    """Its signature, its chain at its own time, and that its enclave is not in debug mode."""
    found = judged(read("document.cbor"))
    assert found.affirms
    assert {reason.rule for reason in found.reasons} == {"chain", "signature", "platform", "isolation", "debug"}
    assert found.vector()[Claim.EXECUTABLES] is Tier.NONE
    assert found.at == MADE
    assert {one.code for one in found.not_proven} == {
        "binding", "freshness", "measurement", "revocation", "platform-operator",
    }  # fmt: skip
    assert found.facts["pcr0"].startswith("22f9e1c949208da5")
    assert [name for name in found.facts if name.startswith("pcr")] == ["pcr0", "pcr1", "pcr2", "pcr4"]
    ear = found.to_ear()["submods"]["aws-nitro"]
    assert (ear["ear.status"], ear["ear.trustworthiness-vector"]["instance-identity"]) == ("affirming", 2)


def test_a_document_answers_what_was_asked() -> None:
    """Its nonce and its user data, byte for byte, and nothing empty."""
    data = read("document.cbor")
    _, members, _ = parts(data)
    found = judged(data, nonce=members["nonce"], report_data=members["user_data"])
    assert found.affirms
    assert found.vector()[Claim.SOURCED_DATA] is Tier.AFFIRMING
    assert not {"binding", "freshness"} & {one.code for one in found.not_proven}
    for asked, rule in (
        ({"nonce": bytes(32)}, "nonce"),
        ({"nonce": b""}, "nonce"),
        ({"nonce": members["nonce"][:-1]}, "nonce"),
        ({"report_data": members["user_data"] + b"\0"}, "report-data"),
        ({"report_data": b""}, "report-data"),
    ):
        assert rules(judged(data, **asked)) == {rule}, asked


def test_a_document_that_binds_nothing_says_so_and_answers_no_question_for_nothing(maker: "Maker") -> None:
    """Zeros match zeros, and show nothing; what is missing matches nothing."""
    empty = maker.document(nonce=bytes(32), user_data=b"")
    said = {one.code: one.text for one in judged(empty).not_proven}
    assert said["freshness"].endswith("its nonce is empty, and binds nothing")
    assert said["binding"].endswith("its user_data is empty, and binds nothing")
    assert not [one.text for one in judged(maker.document()).not_proven if "binds nothing" in one.text]
    found = judged(empty, nonce=bytes(32), report_data=b"")
    assert rules(found) == {"nonce", "report-data"}
    assert all("which binds nothing" in one.text for one in found.refusals())
    found = judged(maker.document(nonce=..., user_data=...), nonce=b"n", report_data=b"u")
    assert [one.text for one in found.refusals()] == [
        "user_data is missing, and 75 was asked", "nonce is missing, and 6e was asked",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("at", "refused"),
    [
        pytest.param(MADE, set(), id="when it was made"),
        pytest.param(MADE - 1, {"validity"}, id="a moment before"),
        pytest.param(MADE + HOUR, set(), id="an hour later"),
        pytest.param(MADE + 4 * HOUR, {"validity"}, id="when its certificate was dead"),
        pytest.param(MADE - HOUR, {"validity"}, id="before it was made"),
        pytest.param(NOW, {"validity"}, id="years later"),
        pytest.param(1 << 53, {"validity"}, id="when no calendar goes on"),
    ],
)
def test_a_document_is_current_for_as_long_as_its_certificate_lives(at: int, refused: set[str]) -> None:
    """Where a time is asked."""
    found = judged(read("document.cbor"), at=at)
    assert rules(found) == refused
    assert found.at == at
    assert "validity" in {one.rule for one in found.reasons}


def test_bad_documents_are_refused_by_their_rules() -> None:
    """A signature that does not verify; an enclave in debug mode, whose signature does."""
    assert rules(judged(read("document_bad_signature.cbor"))) == {"signature"}
    debug = judged(read("document_debug.cbor"))
    assert rules(debug) == {"debug"}
    assert "PCR0" in debug.refusals()[0].text


def test_what_was_changed_is_refused() -> None:
    """A bit flipped anywhere, an end cut off, bytes behind: 300 times, with the rule of the part that was hit."""
    data, drawn = read("document.cbor"), random.Random(1)
    protected = data.index(b"\xa1\x01\x38\x22")
    signature = len(data) - 96
    for _ in range(MUTATIONS):
        kind, place = drawn.choice(("flip", "flip", "cut", "extend")), drawn.randrange(len(data) * 8)
        changed = bytearray(data)
        if kind == "flip":
            changed[place // 8] ^= 1 << place % 8
        elif kind == "cut":
            del changed[place // 8 :]
        else:
            changed += drawn.randbytes(1 + place % 40)
        found = nitro.appraise(bytes(changed), Asked(now=NOW))
        assert not found.affirms, (kind, place)
        wanted: set[str] = {"form", "chain", "root", "signature", "validity", "algorithm", "debug"}
        if kind != "flip":
            wanted = {"form"}
        elif place // 8 >= signature:
            wanted = {"signature"}
        elif protected <= place // 8 < protected + 4:
            wanted = {"form", "algorithm"}
        assert rules(found) <= wanted, (kind, place, rules(found))


Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Maker:
    """A hypervisor of our own: its documents are as AWS's, under a root that nobody pinned."""

    def __init__(
        self,
        *,
        authority: bool = True,
        key: Key | None = None,
        leaf_signs: bool = True,
        leaf_is_authority: bool = False,
    ) -> None:
        self.root_key, self.key = (
            ec.generate_private_key(ec.SECP384R1()),
            key or ec.generate_private_key(ec.SECP384R1()),
        )
        self.root = self._certificate("root", self.root_key, "root", self.root_key, authority=authority)
        self.leaf = self._certificate(
            "leaf", self.key, "root", self.root_key, authority=leaf_is_authority, signs=leaf_signs
        )

    def document(self, *, header: Any = None, endless: bool = False, **changes: Any) -> bytes:
        """A document, signed; `endless`: with a map that does not state its length."""
        members = {
            "module_id": "i-1-enc1",
            "digest": "SHA384",
            "timestamp": MADE,
            "pcrs": {place: bytes([place + 1]) * 48 for place in range(16)},
            "certificate": self.leaf.public_bytes(Encoding.DER),
            "cabundle": [self.root.public_bytes(Encoding.DER)],
            "public_key": None,
            "user_data": b"u",
            "nonce": b"n",
        }
        members = {name: value for name, value in (members | changes).items() if value is not ...}
        protected, payload = cbor2.dumps({1: -35} if header is None else header), cbor2.dumps(members)
        if endless:
            payload = b"\xbf" + payload[1:] + b"\xff"
        signed = cbor2.dumps(["Signature1", protected, b"", payload])
        numbers = (1, 1)
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            numbers = decode_dss_signature(self.key.sign(signed, ec.ECDSA(SHA384())))
        return cbor2.dumps([protected, {}, payload, b"".join(number.to_bytes(48, "big") for number in numbers)])

    @staticmethod
    def _certificate(
        name: str, key: Key, issuer: str, by: ec.EllipticCurvePrivateKey, *, authority: bool, signs: bool = False
    ) -> x509.Certificate:
        begin = datetime.fromtimestamp(MADE / 1000, UTC) - timedelta(hours=1)
        named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer)]
        made = x509.CertificateBuilder().subject_name(named[0]).issuer_name(named[1]).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(begin).not_valid_after(begin + timedelta(hours=3))
        made = made.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        usage = dict.fromkeys(
            (
                "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only",
                "decipher_only",
            ),
            False,
        )  # fmt: skip
        usages = x509.KeyUsage(digital_signature=signs, key_cert_sign=authority, **usage)
        return made.add_extension(usages, critical=True).sign(by, SHA384())


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    """A hypervisor whose root is pinned for this test."""
    made = Maker()
    monkeypatch.setattr(nitro, "NITRO", {fingerprint(made.root): "our own"})
    return made


def test_a_document_of_another_root_is_not_believed() -> None:
    """However whole it is."""
    assert rules(judged(Maker().document())) == {"root"}


def test_a_root_that_may_not_sign_certificates_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is pinned."""
    made = Maker(authority=False)
    monkeypatch.setattr(nitro, "NITRO", {fingerprint(made.root): "our own"})
    assert rules(judged(made.document())) == {"chain"}


@pytest.mark.parametrize(
    ("leaf", "refused"),
    [
        pytest.param({"key": ec.generate_private_key(ec.SECP256R1())}, {"signature"}, id="of another curve"),
        pytest.param({"key": ed25519.Ed25519PrivateKey.generate()}, {"signature"}, id="of no curve of ECDSA"),
        pytest.param({"leaf_signs": False}, {"chain"}, id="for no signatures"),
        pytest.param({"leaf_is_authority": True}, {"chain"}, id="of an authority"),
    ],
)
def test_a_key_that_is_not_for_documents_signs_none(
    monkeypatch: pytest.MonkeyPatch, leaf: dict[str, Any], refused: set[str]
) -> None:
    """Though the root certified it, and it signed well: ES384 is ECDSA on P-384, by a key that is certified for signatures."""
    made = Maker(**leaf)
    monkeypatch.setattr(nitro, "NITRO", {fingerprint(made.root): "our own"})
    assert rules(judged(made.document())) == refused


@pytest.mark.parametrize("write", [lambda data: b"\xd2" + data, lambda data: data], ids=["tagged", "untagged"])
def test_a_document_may_say_by_a_tag_what_it_is(maker: Maker, write: Callable[[bytes], bytes]) -> None:
    """As COSE allows, and some libraries do; and no other tag, nor two of them."""
    data = maker.document()
    assert judged(write(data)).affirms
    assert rules(judged(b"\xd2" + b"\xd2" + data)) == {"form"}
    assert not nitro.is_evidence(b"\xd1" + data)


def test_a_document_of_newer_hypervisors_is_read(maker: Maker) -> None:
    """Its map and its lists do not state their lengths."""
    assert judged(maker.document(endless=True)).affirms


@pytest.mark.parametrize(
    ("place", "part", "said"),
    [
        (1, {1: -35}, "the unprotected header, which nobody signed"),
        (3, bytes(95), "a signature of 95 bytes"),
        (0, b"\xa2\x01\x38\x22\x01\x38\x22", "does not verify"),
        (3, bytes(96), "does not verify"),
    ],
    ids=[
        "an algorithm that nobody signed",
        "a short signature",
        "a header that says it twice",
        "zeros for a signature",
    ],
)
def test_what_stands_beside_the_signed_part_has_one_form(maker: Maker, place: int, part: Any, said: str) -> None:
    """Nothing there is read that was not signed."""
    whole = list(cbor2.loads(maker.document()))
    whole[place] = part
    assert said in judged(cbor2.dumps(whole)).refusals()[0].text


MEASURED = dict.fromkeys(range(3), b"1" * 48)
Change = Callable[[Maker], dict[str, Any]]


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        pytest.param(lambda _: {}, set(), id="nothing"),
        pytest.param(lambda _: {"header": {1: -7}}, {"algorithm"}, id="ES256"),
        pytest.param(lambda _: {"header": {}}, {"algorithm"}, id="no algorithm"),
        pytest.param(lambda _: {"header": {1: "none"}}, {"algorithm"}, id="none"),
        pytest.param(lambda _: {"header": {1: -35, 4: b"k"}}, {"algorithm"}, id="a header with more"),
        pytest.param(lambda _: {"timestamp": MADE + 5 * HOUR}, {"validity"}, id="a certificate that was dead"),
        pytest.param(lambda _: {"timestamp": NOW + 5 * HOUR}, {"validity"}, id="from the future"),
        pytest.param(lambda _: {"digest": "SHA256"}, {"form"}, id="another digest"),
        pytest.param(lambda _: {"timestamp": 0}, {"form"}, id="no time"),
        pytest.param(lambda _: {"timestamp": 10**18}, {"form"}, id="no year"),
        pytest.param(lambda _: {"timestamp": True}, {"form"}, id="a time that is none"),
        pytest.param(lambda _: {"module_id": ""}, {"form"}, id="a module without a name"),
        pytest.param(lambda _: {"module_id": b"i"}, {"form"}, id="a name in bytes"),
        pytest.param(lambda _: {"module_id": "i" * 40_000}, {"form"}, id="too large"),
        pytest.param(lambda _: {"pcrs": [b"1" * 48] * 3}, {"form"}, id="PCRs in a list"),
        pytest.param(lambda _: {"certificate": "c"}, {"form"}, id="a certificate in text"),
        pytest.param(lambda _: {"cabundle": ["c"]}, {"form"}, id="a chain in text"),
        pytest.param(lambda _: {"cabundle": [5]}, {"form"}, id="a chain of numbers"),
        pytest.param(lambda _: {"pcrs": {0: bytes(48)}}, {"form"}, id="too few PCRs"),
        pytest.param(lambda _: {"pcrs": dict.fromkeys(range(3), b"1" * 32)}, {"form"}, id="short PCRs"),
        pytest.param(lambda _: {"pcrs": dict.fromkeys(range(33), b"1" * 48)}, {"form"}, id="too many PCRs"),
        pytest.param(
            lambda _: {"pcrs": {0: b"1" * 48, True: b"1" * 48, 2: b"1" * 48}}, {"form"}, id="a PCR named true"
        ),
        pytest.param(lambda _: {"public_key": b""}, {"form"}, id="a key of no bytes"),
        pytest.param(lambda _: {"public_key": b"k" * 1024}, set(), id="a key"),
        pytest.param(lambda _: {"public_key": b"k" * 1025}, {"form"}, id="too much key"),
        pytest.param(lambda _: {"user_data": b"", "nonce": b"n" * 512}, set(), id="the least and the most"),
        pytest.param(lambda _: {"pcrs": dict.fromkeys(range(3), "1" * 48)}, {"form"}, id="PCRs in text"),
        pytest.param(lambda _: {"pcrs": dict.fromkeys(range(32), b"1" * 48)}, set(), id="every PCR"),
        *(
            pytest.param(lambda _, zero=zero: {"pcrs": MEASURED | {zero: bytes(48)}}, {"debug"}, id=f"PCR{zero} of zero")
            for zero in range(3)
        ),
        pytest.param(lambda _: {"public_key": ..., "user_data": ..., "nonce": ...}, set(), id="nothing optional"),
        pytest.param(lambda _: {"user_data": b"u" * 513}, {"form"}, id="too much user data"),
        pytest.param(lambda _: {"nonce": "n"}, {"form"}, id="a nonce that is text"),
        pytest.param(lambda _: {"nonce": ...}, set(), id="no nonce"),
        pytest.param(lambda _: {"module_id": ...}, {"form"}, id="no module"),
        pytest.param(lambda _: {"more": 1}, {"form"}, id="a member too many"),
        pytest.param(lambda _: {"certificate": b""}, {"form"}, id="no certificate"),
        pytest.param(lambda _: {"cabundle": []}, {"root"}, id="no chain"),
        pytest.param(
            lambda m: {"certificate": m.root.public_bytes(Encoding.DER)}, {"chain"}, id="the root for the leaf"
        ),
        pytest.param(
            lambda m: {"cabundle": [m.root.public_bytes(Encoding.DER)] * 2}, set(), id="the root twice"
        ),
        pytest.param(
            lambda m: {"cabundle": [m.root.public_bytes(Encoding.DER), m.leaf.public_bytes(Encoding.DER)]},
            {"chain"},
            id="a leaf above a leaf",
        ),
    ],
)  # fmt: skip
def test_each_rule_is_held_by_itself(maker: Maker, change: Change, refused: set[str]) -> None:
    """One thing is wrong, and it is the one that is named."""
    assert rules(judged(maker.document(**change(maker)))) == refused


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x84",
        b"\xd2" * 5000,
        b"\x84" * 5000,
        b"\x84\x40\xa0\x40\x40",
        cbor2.dumps([b"", {}, 2, bytes(96)]),
        cbor2.dumps([b"", {}, b"", 3]),
        cbor2.dumps([b"", [], b"", bytes(96)]),
        cbor2.dumps([b"", {}, b""]),
        b"\x9f" * 30_000,
        b"\x84" + b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x02\xff\xff\xff\xff",
        b"\x00\x02",
        bytes(100_000),
        cbor2.dumps([b"\xa0", {}, cbor2.dumps(cbor2.CBORTag(4, [10**6, 7])), bytes(96)]),
    ],
    ids=[
        "empty",
        "cut",
        "tags",
        "deep",
        "empty parts",
        "no payload",
        "no signature",
        "a list",
        "three parts",
        "endless",
        "huge",
        "envelope",
        "an envelope of nothing",
        "zeros",
        "big number",
    ],
)
def test_hostile_bytes_are_no_document(data: bytes) -> None:
    """Each ends as an appraisal that believes nothing."""
    found = nitro.appraise(data, Asked(now=NOW))
    assert rules(found) == {"form"}
