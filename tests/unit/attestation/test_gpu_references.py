"""NVIDIA's reference manifests: real ones are believed or refused by their signatures; a GPU's measurements are held to them."""

import base64
import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml import methods
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from blindgate.attestation import nvidia, rim
from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Tier
from blindgate.attestation.chains import ChainError, fingerprint
from blindgate.attestation.gpu_references import References
from blindgate.attestation.rim import ManifestError, read_manifest
from blindgate.attestation.spdm import Field
from campaigns import of
from made_gpu import FIELDS, MadeGpu, blocks
from shared import shared

NOW = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1000)
MUTATIONS = of(10_000, slice_of=200)
SHOWN = [bytes([place]) * 48 for place in range(1, 64)]
"""What the GPU of our own shows, from block 1."""
DRIVER, VBIOS = "590.12", "96.00.a5.00.01"


def real(name: str) -> bytes:
    """One of the recorded manifests."""
    return shared(f"vectors/nvidia/{name}.xml").read_bytes()


def rules(found: Appraisal) -> list[str]:
    """What it is refused by."""
    return [reason.rule for reason in found.refusals()]


def rewrite(old: str, new: str) -> Callable[[str], str]:
    """Puts something else in the place of a pattern, once."""
    return lambda text: re.sub(old, new, text, count=1)


class Publisher:
    """Signs manifests as NVIDIA does, under a root of its own."""

    def __init__(self, *, leaf_is_authority: bool = False, leaf_signs: bool = True) -> None:
        self.root_key, self.key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
        self.root = self._certificate("root", self.root_key, authority=True)
        self.leaf = self._certificate("signer", self.key, authority=leaf_is_authority, signs=leaf_signs)

    def manifest(
        self,
        references: dict[int, list[bytes]],
        *,
        version: str = DRIVER,
        product: str = "GB100",
        algorithm: SignatureMethod = SignatureMethod.ECDSA_SHA384,
        changed: Callable[[str], str] = lambda text: text,
        part: str | None = None,
    ) -> bytes:
        """A signed manifest; `changed` before it is signed. `part`: by its `Id`, the element that alone is signed."""
        rows = "".join(
            f'<Resource type="Measurement" index="{index}" active="{bool(digests)}" alternatives="{len(digests)}" '
            + " ".join(f'h:Hash{place}="{digest.hex()}"' for place, digest in enumerate(digests))
            + ' size="48"/>'
            for index, digests in references.items()
        )
        text = (
            '<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" '
            f'xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384" name="x"><Meta colloquialVersion="{version}" '
            f'product="{product}"/><Payload>{rows}</Payload></SoftwareIdentity>'
        )
        signer = XMLSigner(
            method=methods.enveloped,
            signature_algorithm=algorithm,
            digest_algorithm=DigestAlgorithm.SHA384,
            c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_1,
        )
        chain = [one.public_bytes(Encoding.PEM).decode() for one in (self.leaf, self.root)]
        signed = signer.sign(etree.fromstring(changed(text).encode()), key=self.key, cert=chain, reference_uri=part)
        return bytes(etree.tostring(signed))

    def _certificate(
        self, name: str, key: ec.EllipticCurvePrivateKey, *, authority: bool, signs: bool = False
    ) -> x509.Certificate:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, "root")]
        usage = dict.fromkeys(
            (
                "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only",
                "decipher_only",
            ),
            False,
        )  # fmt: skip
        usages = x509.KeyUsage(digital_signature=signs, key_cert_sign=authority, **usage)
        return (
            x509.CertificateBuilder()
            .subject_name(names[0])
            .issuer_name(names[1])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime(2024, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2034, 1, 1, tzinfo=UTC))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(usages, critical=True)
            .sign(self.root_key, hashes.SHA384())
        )


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Publisher:
    """Whose root is pinned for this test."""
    made = Publisher()
    monkeypatch.setattr(rim, "NVIDIA_REFERENCES", {fingerprint(made.root): "our own"})
    return made


Ask = Callable[..., Appraisal]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Appraise a GPU of our own that shows what it shows, held to manifests."""
    gpu = MadeGpu()
    monkeypatch.setattr(nvidia, "NVIDIA", {fingerprint(gpu.root): "our own"})

    def run(*manifests: bytes, fields: dict[int, bytes] = FIELDS, **asked: Any) -> Appraisal:
        evidence = gpu.evidence(gpu.report(record=blocks(*SHOWN), number=len(SHOWN), fields=fields))
        return nvidia.appraise(evidence, Asked(now=NOW, references=manifests, **asked))

    return run


def test_a_real_manifest_is_nvidias() -> None:
    """Its signature, its chain, and what it is of: the driver's 21 measurements."""
    manifest = read_manifest(real("driver_rim_gh100_550.144.03"), at=NOW)
    assert (manifest.product, manifest.version, len(manifest.references)) == ("GH100", "550.144.03", 21)
    assert all(len(digest) == 48 for digests in manifest.references.values() for digest in digests)


@pytest.mark.parametrize("name", ["driver_rim_bad_signature", "driver_rim_measurement_mismatch"])
def test_a_manifest_that_was_changed_is_not_believed(name: str) -> None:
    """Whatever was changed in it."""
    with pytest.raises(ManifestError, match="signature does not verify") as caught:
        read_manifest(real(name), at=NOW)
    assert caught.value.rule == "signature"


def test_a_real_gpu_of_another_driver_is_not_held_to_a_manifest() -> None:
    """Its versions are said, and nothing affirms."""
    evidence = shared("vectors/nvidia/hopper_evidence.json").read_bytes()
    found = nvidia.appraise(evidence, Asked(now=NOW, collateral=real("driver_rim_gh100_550.144.03")))
    assert rules(found) == ["reference-version"]
    assert "of GH100 550.144.03, the GPU is GH100, driver 590.12, VBIOS 96.00.A5.00.01" in found.refusals()[0].text


def test_a_gpu_with_nvidias_measurements_runs_what_nvidia_vouches_for(publisher: Publisher, ask: Ask) -> None:
    """Of driver and VBIOS; with one of the two, the other stays unproven."""
    driver = publisher.manifest({0: [SHOWN[0]], 1: [], 5: [bytes(48), SHOWN[5]]})
    vbios = publisher.manifest({2: [SHOWN[2]]}, version=VBIOS, product="any")
    both = ask(driver, vbios)
    assert both.affirms
    assert both.vector()[Claim.EXECUTABLES] is Tier.AFFIRMING
    assert "measurement" not in {one.code for one in both.not_proven}
    for alone, missing in ((driver, "VBIOS"), (vbios, "driver")):
        found = ask(alone)
        assert found.affirms
        (left,) = [one.text for one in found.not_proven if one.code == "measurement"]
        assert f"no reference manifest of the {missing} was" in left
    assert ask(collateral=driver).affirms


@pytest.mark.parametrize(
    ("references", "options", "refused"),
    [
        pytest.param({0: [SHOWN[1]]}, {}, ["measurement"], id="another digest"),
        pytest.param({0: [SHOWN[0]], 3: [bytes(48), SHOWN[4]]}, {}, ["measurement"], id="one of them"),
        pytest.param({63: [SHOWN[0]]}, {}, ["measurement"], id="one that is not shown"),
        pytest.param({0: [SHOWN[0]]}, {"version": "591.1"}, ["reference-version"], id="another driver"),
        pytest.param({0: [SHOWN[0]]}, {"product": "GH100"}, ["reference-version"], id="another chip"),
        pytest.param({0: []}, {}, ["reference-form"], id="nothing active"),
        pytest.param(
            {0: [SHOWN[0]]}, {"algorithm": SignatureMethod.ECDSA_SHA256}, ["reference-algorithm"], id="SHA-256"
        ),
        pytest.param(
            {0: [SHOWN[0]]},
            {"changed": lambda text: text.replace('active="True"', 'active="yes"')},
            ["reference-form"],
            id="perhaps active",
        ),
        pytest.param(
            {0: [SHOWN[0]]},
            {"changed": lambda text: re.sub("(<Resource.*/>)", r"\1\1", text)},
            ["reference-form"],
            id="an index twice",
        ),
        pytest.param(
            {0: [SHOWN[0]]},
            {"changed": lambda text: text.replace("01" * 48, "01" * 47)},
            ["reference-form"],
            id="a short digest",
        ),
        *(
            pytest.param({0: [SHOWN[0]], 1: [SHOWN[1]]}, {"changed": rewrite(*change)}, ["reference-form"], id=name)
            for name, change in {
                "of no product": ('product="GB100"', ""),
                "of no version": (f'colloquialVersion="{DRIVER}"', ""),
                "without its head": (r"<Meta.*?/>", ""),
                "of a long product": ("GB100", "G" * 101),
                "of a long version": (DRIVER, "5" * 101),
                "a long digest": ("01" * 48, "01" * 49),
                "an index of nothing": ('index="0"', 'index=""'),
                "an index below zero": ('index="0"', 'index="-1"'),
                "an index of three digits": ('index="0"', 'index="100"'),
                "one of two perhaps active": ('index="0" active="True"', 'index="0" active="yes"'),
                "active without a digest": (r'h:Hash0="(01)+"', ""),
            }.items()
        ),
    ],
)
def test_each_rule_of_a_manifest_is_held_by_itself(
    publisher: Publisher, ask: Ask, references: dict[int, list[bytes]], options: dict[str, Any], refused: list[str]
) -> None:
    """One thing is wrong, and it is named."""
    assert rules(ask(publisher.manifest(references, **options))) == refused


def test_a_manifest_that_is_signed_in_part_is_not_believed(publisher: Publisher, ask: Ask) -> None:
    """NVIDIA's signature over something inside says nothing of what stands around it."""
    beside = rewrite("</SoftwareIdentity>", '<Signed Id="s">signed</Signed></SoftwareIdentity>')
    assert rules(ask(publisher.manifest({0: [SHOWN[0]]}, changed=beside, part="#s"))) == ["reference-signature"]
    assert ask(publisher.manifest({0: [SHOWN[0]]}, changed=beside)).affirms


def test_something_else_that_nvidia_signed_is_no_manifest(publisher: Publisher, ask: Ask) -> None:
    """Told by its outermost element, before its signature is looked at."""
    other = publisher.manifest({0: [SHOWN[0]]}, changed=lambda text: text.replace("SoftwareIdentity", "Invoice"))
    assert rules(ask(other)) == ["reference-form"]


@pytest.mark.parametrize(
    "leaf", [{"leaf_is_authority": True}, {"leaf_signs": False}], ids=["an authority", "for no signatures"]
)
def test_a_key_that_is_not_for_manifests_signs_none(
    monkeypatch: pytest.MonkeyPatch, ask: Ask, leaf: dict[str, bool]
) -> None:
    """Though NVIDIA's root certified it."""
    made = Publisher(**leaf)
    monkeypatch.setattr(rim, "NVIDIA_REFERENCES", {fingerprint(made.root): "our own"})
    assert rules(ask(made.manifest({0: [SHOWN[0]]}))) == ["reference-chain"]


@pytest.mark.parametrize("year", [2024, 2027])
def test_a_real_manifest_is_believed_while_its_signers_certificate_is_valid(year: int) -> None:
    """NVIDIA certified this one's for 2025 and 2026."""
    with pytest.raises(ChainError) as refused:
        read_manifest(real("driver_rim_gh100_550.144.03"), at=int(datetime(year, 6, 1, tzinfo=UTC).timestamp() * 1000))
    assert refused.value.rule == "validity"


def test_what_a_manifest_asks_for_beyond_measurements_is_said_to_be_open(publisher: Publisher, ask: Ask) -> None:
    """NVIDIA's newest name least versions of firmware; whoever reads the result sees that they were not held."""
    more = rewrite("</Payload>", '<Resource type="Another" index="0"/></Payload>')
    found = ask(publisher.manifest({0: [SHOWN[0]]}, changed=more))
    assert found.affirms
    assert [one.text for one in found.not_proven if one.code == "reference-resources"] == [
        f"driver {DRIVER} has 1 resources that are no measurements, and not held"
    ]
    plain = ask(publisher.manifest({0: [SHOWN[0]]}))
    assert "reference-resources" not in {one.code for one in plain.not_proven}


def test_what_stands_beside_the_signed_part_of_a_manifest_has_one_form(publisher: Publisher, ask: Ask) -> None:
    """Its size and its certificates' writing are held, though no signature covers them."""
    whole = publisher.manifest({0: [SHOWN[0]]})
    certificate = re.search(rb"<ds:X509Certificate>[^<]*", whole)
    assert certificate
    for changed in (
        whole.replace(b"<ds:X509Certificate>", b"<ds:X509Certificate>!", 1),
        whole.replace(certificate[0], b"<ds:X509Certificate>", 1),
        whole + b" " * (1 << 20),
        json.dumps({"rim": "!" + base64.b64encode(whole).decode()}).encode(),
    ):
        assert rules(ask(changed)) == ["reference-form"]


def test_a_decoder_that_is_off_has_no_firmware_to_show(publisher: Publisher, ask: Ask) -> None:
    """Its measurement is left out then, and at no other time."""
    manifest = publisher.manifest({0: [SHOWN[0]], 35: [bytes(48)]})
    off, on = ({**FIELDS, Field.NVDEC0: value.to_bytes(4, "little")} for value in (0x55, 0xAA))
    assert rules(ask(manifest, fields=off)) == []
    assert rules(ask(manifest, fields=on)) == ["measurement"]


def test_a_manifest_of_another_root_is_not_believed(ask: Ask) -> None:
    """However well it fits."""
    assert rules(ask(Publisher().manifest({0: [SHOWN[0]]}))) == ["reference-root"]


def test_a_manifest_is_read_as_nvidias_service_hands_it_out() -> None:
    """In JSON; what stands beside it there is nobody's word, and is not read."""
    data = real("driver_rim_gh100_550.144.03")
    served = json.dumps({"id": "NV_GPU_DRIVER_GH100_0", "rim": base64.b64encode(data).decode(), "sha256": "00"})
    assert read_manifest(served.encode(), at=NOW) == read_manifest(data, at=NOW)


@pytest.mark.parametrize(
    "data",
    [
        b'{"rim": "<a/>"}',
        b'{"rim": 1}',
        b'{"id": "a"}',
        b"{" * 5000,
        b"",
        b"<a/>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"<SoftwareIdentity xmlns='http://standards.iso.org/iso/19770/-2/2015/schema.xsd'/>",
        b"<" * 100_000,
        b"\x00" * (2 << 20),
    ],
    ids=["no base64", "no text", "no manifest", "no JSON", "empty", "another", "entities", "unsigned", "deep", "large"],
)
def test_hostile_xml_is_no_manifest(data: bytes) -> None:
    """Before anything in it is looked for."""
    found = Appraisal("nvidia-gpu", NOW)
    References(found, Asked(now=NOW), [data])
    assert rules(found) == ["reference-form"]


def test_a_manifest_with_a_document_type_is_refused_though_it_is_signed(publisher: Publisher, ask: Ask) -> None:
    """Entities could say something else to another reader."""
    typed = b"<!DOCTYPE SoftwareIdentity [<!ENTITY e 'f'>]>" + publisher.manifest({0: [SHOWN[0]]})
    assert rules(ask(typed)) == ["reference-form"]


def test_no_change_of_a_real_manifest_is_believed_to_say_something_else() -> None:
    """A character changed anywhere: refused, or, where canonical forms do not see it, the same as before."""
    data, drawn = real("driver_rim_gh100_550.144.03"), random.Random(1)
    before = read_manifest(data, at=NOW)
    for _ in range(MUTATIONS):
        changed = bytearray(data)
        changed[drawn.randrange(len(data))] = drawn.choice(b"0123456789abcdefABCDEF <>\"'/=&")
        try:
            assert read_manifest(bytes(changed), at=NOW) == before
        except (ManifestError, ChainError):
            continue
