"""A chain leads from a pinned root to a key, or to nothing: one thing is wrong at a time, and everything else with it is right."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from blindgate.attestation.chains import (
    MAX_CERTIFICATE_BYTES,
    ChainError,
    common_name,
    fingerprint,
    may_sign_messages,
    read_certificate,
    read_pem,
    verify_chain,
)

BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
NOW = round(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@cache
def _key(kind: str = "curve") -> Key:
    """One of each kind, told by the end of its name; of RSA and of the curve there are others."""
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048) if kind.endswith("RSA") else ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Made:
    """What a certificate says, and which key signed it.

    Attributes:
        authority: basic constraints; `None`: it has none.
        signs: `certificates`, `messages`, or nothing (empty); `None`: it does not say.
        path: how many authorities may stand below it.
        more: bytes in an extension that nobody reads.
    """

    name: str = "leaf"
    issuer: str = "between"
    key: str = "curve"
    by: str = "curve"
    authority: bool | None = False
    signs: str | None = "messages"
    path: int | None = None
    begin: datetime = BEGIN
    end: datetime = END
    digest: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 = field(default_factory=hashes.SHA384)
    pss: bool = False
    more: bytes = b""

    def certificate(self) -> x509.Certificate:
        """It, signed."""
        made = (
            x509.CertificateBuilder(_named(self.issuer), _named(self.name))
            .public_key(_key(self.key).public_key())
            .serial_number(7)
            .not_valid_before(self.begin)
            .not_valid_after(self.end)
        )
        if self.authority is not None:
            made = made.add_extension(x509.BasicConstraints(self.authority, self.path), critical=True)
        if self.signs is not None:
            made = made.add_extension(_usage(self.signs), critical=True)
        if self.more:
            unread = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), self.more)
            made = made.add_extension(unread, critical=False)
        scheme = padding.PSS(padding.MGF1(self.digest), self.digest.digest_size) if self.pss else None
        return made.sign(_key(self.by), None if self.by == "Ed25519" else self.digest, rsa_padding=scheme)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


def _usage(signs: str) -> x509.KeyUsage:
    usage: dict[str, Any] = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(
        key_cert_sign=signs == "certificates", digital_signature=signs == "messages", crl_sign=True, **usage
    )


def authority(name: str, issuer: str = "root", **more: Any) -> Made:
    """One that signs certificates."""
    said: dict[str, Any] = {"authority": True, "signs": "certificates"}
    return Made(name, issuer, **said | more)


def led_to(*made: Made, at: int | None = NOW, pinned: int | None = 0) -> str:
    """What the chain leads from, with the root of this place pinned."""
    chain = [one.certificate() for one in made]
    roots = {} if pinned is None else {fingerprint(chain[pinned]): "ours"}
    return verify_chain(chain, roots, at=at)


ROOT, BETWEEN, LEAF = authority("root"), authority("between"), Made()


@pytest.mark.parametrize(
    "chain",
    [
        (ROOT,),
        (ROOT, BETWEEN, LEAF),
        (authority("root", path=1), authority("between", path=0), LEAF),
        (authority("root", key="RSA", by="RSA"), authority("between", by="RSA"), LEAF),
        (authority("root", key="RSA", by="RSA", pss=True), authority("between", by="RSA", pss=True), LEAF),
        (ROOT, BETWEEN, Made(digest=hashes.SHA256())),
        (ROOT, *[authority("root")] * 10, Made(issuer="root")),
        (ROOT, BETWEEN, Made(key="Ed25519", authority=None, signs=None)),
    ],
    ids=["a root", "three", "lengths", "RSA", "PSS", "SHA-256", "twelve", "a leaf of any kind"],
)
def test_a_chain_leads_from_its_root(chain: tuple[Made, ...]) -> None:
    """By the name under which it is pinned."""
    assert led_to(*chain) == "ours"


@pytest.mark.parametrize(
    ("chain", "rule"),
    [
        ((), "form"),
        ((ROOT, *[authority("root")] * 11, Made(issuer="root")), "form"),
        ((authority("root", by="another"), BETWEEN, LEAF), "chain"),
        ((authority("root", issuer="above"), BETWEEN, LEAF), "chain"),
        ((authority("root", path=0), BETWEEN, LEAF), "chain"),
        ((authority("root", authority=False), BETWEEN, LEAF), "chain"),
        ((ROOT, authority("between", authority=False), LEAF), "chain"),
        ((ROOT, authority("between", authority=None), LEAF), "chain"),
        ((ROOT, authority("between", signs="messages"), LEAF), "chain"),
        ((ROOT, authority("between", signs=None), LEAF), "chain"),
        ((ROOT, authority("between", by="another"), LEAF), "chain"),
        ((ROOT, BETWEEN, Made(by="another")), "chain"),
        ((ROOT, authority("between", key="RSA"), Made(by="another RSA")), "chain"),
        ((ROOT, BETWEEN, Made(issuer="another")), "chain"),
        ((ROOT, LEAF), "chain"),
        ((ROOT, BETWEEN, Made(digest=hashes.SHA224())), "chain"),
        ((ROOT, BETWEEN, Made(by="RSA")), "chain"),
        ((ROOT, authority("between", key="RSA"), LEAF), "chain"),
        ((ROOT, authority("between", key="Ed25519"), Made(by="Ed25519")), "chain"),
    ],
    ids=[
        "none", "thirteen", "a root that another signed", "a root below another", "too long", "a root that is a leaf",
        "an authority that is none", "one that does not say", "one that signs messages", "one of any use", "another's authority",
        "another's leaf", "another's of RSA", "a leaf below another name", "a gap", "a short digest", "RSA under a curve",
        "a curve under RSA", "Ed25519",
    ],
)  # fmt: skip
def test_a_chain_with_one_thing_wrong_leads_to_nothing(chain: tuple[Made, ...], rule: str) -> None:
    """Whatever root it begins with is pinned."""
    with pytest.raises(ChainError) as caught:
        led_to(*chain) if chain else verify_chain([], {}, at=NOW)
    assert caught.value.rule == rule


@pytest.mark.parametrize("pinned", [None, 1, 2])
def test_a_root_that_nobody_pinned_is_none(pinned: int | None) -> None:
    """Nor is one whose intermediate, or leaf, is pinned in its place."""
    with pytest.raises(ChainError) as caught:
        led_to(ROOT, BETWEEN, LEAF, pinned=pinned)
    assert caught.value.rule == "root"
    assert "the chain begins with CN=root (SHA-256 " in str(caught.value)


def _millis(time: datetime) -> int:
    return round(time.timestamp() * 1000)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["root", "between", "leaf"])
def test_a_chain_is_good_from_when_its_last_begins_until_its_first_ends(place: int) -> None:
    """To the millisecond, and each of the three counts. Where signatures alone are held, no time does."""
    begin, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)
    whole = [ROOT, BETWEEN, LEAF]
    chain = [*whole[:place], replace(whole[place], begin=begin, end=end), *whole[place + 1 :]]
    for at in (_millis(begin), NOW, _millis(end)):
        assert led_to(*chain, at=at) == "ours"
    assert led_to(*chain, at=None) == "ours"
    for at in (_millis(begin) - 1, _millis(end) + 1):
        with pytest.raises(ChainError, match=f"^CN={chain[place].name} is valid from 2026-03-01") as caught:
            led_to(*chain, at=at)
        assert caught.value.rule == "validity"
    with pytest.raises(ChainError, match="not on 9999-01-01"):
        led_to(*chain, at=1 << 53)


@pytest.mark.parametrize(
    ("made", "may"),
    [
        (LEAF, True),
        (Made(authority=None), True),
        (Made(authority=True), False),
        (Made(signs="certificates"), False),
        (Made(signs=None), False),
        (Made(signs=""), False),
    ],
)
def test_a_key_signs_messages_only_where_its_certificate_says_so(made: Made, *, may: bool) -> None:
    """An authority's does not: it could sign itself any certificate."""
    assert may_sign_messages(made.certificate()) is may


SHA384: Final = bytes.fromhex("06082a8648ce3d040303")
SHA512: Final = bytes.fromhex("06082a8648ce3d040304")


def test_a_certificate_that_was_changed_beside_what_is_signed_is_refused() -> None:
    """In the algorithm's name there, or in the bits that a signature leaves unused: another file, that passes for the same one."""
    chain = [ROOT.certificate(), BETWEEN.certificate()]
    # ECDSA is never the same twice, and half of its signatures end with a bit that can be called unused.
    leaf = next(one for one in iter(LEAF.certificate, None) if not one.signature[-1] & 1)
    der, signature = leaf.public_bytes(Encoding.DER), leaf.signature
    inside, _, behind = der.rpartition(SHA384)
    assert SHA384 in inside
    for changed in (inside + SHA512 + behind, der.removesuffix(b"\0" + signature) + b"\1" + signature):
        with pytest.raises(ChainError, match="another algorithm beside its signature") as caught:
            verify_chain([*chain, read_certificate(changed)], {fingerprint(chain[0]): "ours"}, at=NOW)
        assert caught.value.rule == "chain"
    assert verify_chain([*chain, read_certificate(der)], {fingerprint(chain[0]): "ours"}, at=NOW) == "ours"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"leaf", b"\xff\xfe\xfd\xfc"),
        (b"between", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9"),
        (b"\x2a\x03\x04", b"\x55\x1d\x0f"),
        (SHA384, SHA384[:-1] + b"\x7f"),
        (bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")),
    ],
    ids=["subject", "issuer", "the same extension twice", "algorithm", "key"],
)
def test_a_part_that_does_not_parse_is_found_where_the_certificate_is_read(old: bytes, new: bytes) -> None:
    """Parsers look at each part when it is asked for: behind this place none of them raises what nobody expects."""
    der = Made(more=b"x").certificate().public_bytes(Encoding.DER)
    assert old in der
    with pytest.raises(ChainError, match="not a certificate") as caught:
        read_certificate(der.replace(old, new))
    assert caught.value.rule == "form"


def test_certificates_come_in_pem_or_der_and_no_larger_than_any() -> None:
    """What is read of them, and what is not."""
    leaf, root = LEAF.certificate(), ROOT.certificate()
    der, pem = leaf.public_bytes(Encoding.DER), leaf.public_bytes(Encoding.PEM)
    assert read_pem(der) == (der,)
    assert read_pem(b"# ours\n" + pem + root.public_bytes(Encoding.PEM)) == (der, root.public_bytes(Encoding.DER))
    assert len(read_pem(pem * 12)) == 12
    room = MAX_CERTIFICATE_BYTES - len(
        Made(more=bytes(MAX_CERTIFICATE_BYTES - 1000)).certificate().public_bytes(Encoding.DER)
    )
    largest = Made(more=bytes(MAX_CERTIFICATE_BYTES - 1000 + room - 4)).certificate().public_bytes(Encoding.DER)
    assert len(largest) <= MAX_CERTIFICATE_BYTES == 16384
    assert read_certificate(largest).public_bytes(Encoding.DER) == largest
    larger = Made(more=bytes(MAX_CERTIFICATE_BYTES)).certificate()
    for read, data, said in (
        (read_certificate, larger.public_bytes(Encoding.DER), "at most 16384"),
        (read_certificate, pem, "not a certificate"),
        (read_certificate, der + b"\0", "not a certificate"),
        (read_certificate, b"", "not a certificate"),
        (read_pem, der[:-1], "not a certificate"),
        (read_pem, pem[:-40], "not a file of certificates"),
        (read_pem, pem * 13, "a chain of 13 certificates"),
        (read_pem, pem.ljust(24 * MAX_CERTIFICATE_BYTES + 1), "a file of certificates of 393217 bytes"),
    ):
        with pytest.raises(ChainError, match=said) as caught:
            read(data)
        assert caught.value.rule == "form"
    assert read_pem(pem.ljust(24 * MAX_CERTIFICATE_BYTES)) == (der,)


def test_a_certificate_without_a_name_is_told_by_its_number() -> None:
    """It has no place in a chain of names, and is named in the refusal."""
    nameless = Made("", by="another").certificate()
    assert (common_name(nameless), common_name(LEAF.certificate())) == ("no name", "leaf")
    chain = [ROOT.certificate(), BETWEEN.certificate(), nameless]
    with pytest.raises(ChainError, match="the certificate 7 does not verify under CN=between"):
        verify_chain(chain, {fingerprint(chain[0]): "ours"}, at=NOW)
