"""AMD reports that nobody recorded: machines that sign what they must not, Turin's layout, and certificates of other makers."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from blindgate.attestation import roots, sev_snp
from blindgate.attestation.appraisal import Appraisal, Asked
from snp_machine import SnpMaker, report_body
from snp_vectors import certificates, millis, open_codes, rules

TURIN_TCB = bytes([1, 2, 3, 4, 0, 0, 0, 200])
TURIN_LEVELS = {9: 1, 1: 2, 2: 3, 3: 4, 8: 200}
TURIN_CHIP = bytes(range(8))
GENOA_TCB = bytes([10, 0, 0, 0, 0, 0, 23, 84])
GENOA_LEVELS = {1: 10, 2: 0, 3: 23, 8: 84}
CHIP = bytes(range(64))
_RSA = rsa.generate_private_key(65537, 2048).public_key()


def _key(curve: ec.EllipticCurve) -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(curve).public_key()


class Machine:
    """A machine of our own maker, whose root is pinned for the test."""

    def __init__(self, product: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.maker = SnpMaker(product)
        monkeypatch.setattr(roots, "AMD", self.maker.pins)
        self.turin = product == "Turin"
        self.tcb, self.levels = (TURIN_TCB, TURIN_LEVELS) if self.turin else (GENOA_TCB, GENOA_LEVELS)
        self.hardware_id = TURIN_CHIP if self.turin else CHIP
        self.processor = {"Turin": b"\x1a\x02\x01", "Genoa": b"\x19\xa0\x02", "Milan": b"\x19\x01\x01"}[product]

    def body(self, fields: dict[int, bytes], version: int = 5) -> bytes:
        """A report without signature."""
        places = dict.fromkeys((0x38, 0x180, 0x1E0, 0x1F0), self.tcb) | {0x188: self.processor, 0x1A0: self.hardware_id}
        return report_body(version, places | fields)

    def appraised(self, fields: dict[int, bytes] | None = None, *, kind: str = "VCEK", **leaf: Any) -> Appraisal:
        """A signed report with `fields` written over it, and a certificate with `leaf` otherwise."""
        below = leaf.get("below", kind)
        made = self.maker.leaf(kind, **{"levels": self.levels, "hardware_id": self.hardware_id} | leaf)
        report = self.maker.sign(self.body(fields or {}))
        return sev_snp.appraise(report, Asked(now=millis("2026-06-01"), chain=self.maker.chain(made, below)))


@pytest.fixture
def turin(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A Turin of our own maker."""
    return Machine("Turin", monkeypatch)


@pytest.fixture
def genoa(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A Bergamo of our own maker, below Genoa's root."""
    return Machine("Genoa", monkeypatch)


def test_turins_own_layout_is_read(turin: Machine) -> None:
    """Its TCB has five parts in another order, its chip's id 8 bytes, and a report of version 5 has mitigations."""
    found = turin.appraised({0x1F8: b"\1", 0x200: b"\3"})
    assert found.affirms, found.refusals()
    assert found.facts["product"] == "Turin"
    assert found.facts["reported_tcb"] == {
        "raw": TURIN_TCB[::-1].hex(),
        "fmc": 1,
        "bootloader": 2,
        "tee": 3,
        "snp": 4,
        "microcode": 200,
    }
    assert found.facts["chip_id"] == TURIN_CHIP.hex()
    assert found.facts["mitigations"] == {"launch": "0000000000000001", "current": "0000000000000003"}
    assert {one.rule: one.claim.value for one in found.reasons} == {
        "chain": "instance-identity",
        "signature": "instance-identity",
        "product": "hardware",
        "chip-id": "instance-identity",
        "certified-tcb": "hardware",
        "tcb": "hardware",
        "guest-policy": "configuration",
        "debug": "configuration",
        "vmpl": "configuration",
        "memory-encryption": "runtime-opaque",
        "alias-check": "hardware",
    }
    assert "milan" not in open_codes(found)
    assert rules(turin.appraised({0x1A0: TURIN_CHIP + b"\1"})) == {"chip-id"}, (
        "what stands behind the 8 bytes is held too"
    )


def test_bergamo_is_genoas(genoa: Machine) -> None:
    """One root for both, under either name."""
    assert genoa.appraised().affirms
    assert genoa.appraised(named="Bergamo-A1").affirms
    assert genoa.appraised(named="Siena-A1").affirms
    assert genoa.appraised(hardware_id=b"\x04\x40" + CHIP).affirms, (
        "an id that is wrapped as an OCTET STRING is the same id"
    )
    begins_like_one = b"\x04\x40" + CHIP[:62]
    assert genoa.appraised({0x1A0: begins_like_one}, hardware_id=begins_like_one).affirms


@pytest.mark.parametrize(
    ("fields", "leaf", "expected"),
    [
        pytest.param({0x0A: b"\x0b"}, {}, {"debug"}, id="a guest that may be debugged"),
        pytest.param({0x0A: b"\x01"}, {}, {"guest-policy"}, id="a policy without its fixed bit"),
        pytest.param({0x0C: b"\x01"}, {}, {"guest-policy"}, id="a policy bit that nobody knows"),
        pytest.param({0x30: b"\xff" * 4}, {}, {"vmpl"}, id="asked for by the host"),
        pytest.param({0x30: b"\x04"}, {}, {"vmpl"}, id="a level that is none"),
        pytest.param({0x188: b"\x19\x01\x01"}, {}, {"product"}, id="a Milan below another root"),
        pytest.param({0x188: b"\x1a\x51\x00"}, {}, {"product"}, id="a processor that nobody knows"),
        pytest.param({}, {"named": "Milan-B0"}, {"product"}, id="a certificate of another product"),
        pytest.param({0x1A0: b"\xff"}, {}, {"chip-id"}, id="another chip"),
        pytest.param({0x187: b"\x53"}, {}, {"certified-tcb"}, id="another TCB than the key is for"),
        pytest.param({0x182: b"\1"}, {}, {"certified-tcb"}, id="a byte of the TCB that stands for nothing"),
        pytest.param({0x3F: b"\x53", 0x1E7: b"\x53"}, {}, {"tcb"}, id="reported above what runs"),
        pytest.param({0x1E7: b"\x55"}, {}, {"tcb"}, id="committed above what runs"),
        pytest.param({}, {"e2": b"\x16\x05Gen"}, {"form"}, id="a name that is cut"),
        pytest.param({}, {"e2": b""}, {"form"}, id="a name that is nothing"),
        pytest.param({}, {"e2": b"\x0c\x05Genoa"}, {"form"}, id="a name of another kind"),
        pytest.param({}, {"e2": b"\x16\x05Geno\xe1"}, {"form"}, id="a name in other letters"),
        pytest.param({}, {"e3.8": b"\x02\x02\x00\x54"}, {"form"}, id="a level with a needless zero"),
        pytest.param({}, {"e3.8": b"\x02\x01\xdb"}, {"form"}, id="a level below zero"),
        pytest.param({}, {"e3.8": b""}, {"form"}, id="a level that is nothing"),
        pytest.param({}, {"e4": b"\1" * 63}, {"form"}, id="a chip's id of another length"),
        pytest.param({}, {"e4": b"\5\x40" + CHIP}, {"form"}, id="a chip's id in something else"),
        pytest.param({}, {"levels": {1: 10, 2: 0, 3: 23}}, {"form"}, id="a level that is missing"),
        pytest.param({}, {"below": "VLEK"}, {"signing-key"}, id="a VCEK that the other intermediate signed"),
        pytest.param({}, {"key": _key(ec.SECP256R1())}, {"signature"}, id="a key of another curve"),
        pytest.param({}, {"key": _RSA}, {"signature"}, id="a key of RSA"),
        pytest.param({}, {"issuer": "SEV-Genova"}, {"chain"}, id="an issuer that AMD has not"),
        pytest.param({}, {"issuer": ""}, {"chain"}, id="an issuer without a name"),
        pytest.param({}, {"issuer": "SEV-Turin"}, {"chain"}, id="another generation's issuer"),
    ],
)
def test_a_machine_that_signs_what_must_not_be_is_refused(
    genoa: Machine, fields: dict[int, bytes], leaf: dict[str, Any], expected: set[str]
) -> None:
    """The chain holds, the signature holds, and one thing that they say does not."""
    assert rules(genoa.appraised(fields, **leaf)) == expected


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({0x30: b"\3"}, "vmpl"),
        ({0x40: b"\5"}, "alias-check"),
        ({0x1A0: bytes(64)}, "chip-id"),
        ({0x0A: b"\x07"}, "migration"),
    ],
)
def test_what_is_no_fault_and_no_proof_is_left_open(genoa: Machine, fields: dict[int, bytes], code: str) -> None:
    """A policy decides; the report affirms."""
    assert code not in open_codes(genoa.appraised())
    found = genoa.appraised(fields)
    assert found.affirms
    assert code in open_codes(found)


def test_each_fact_is_read_where_amds_table_has_it(genoa: Machine) -> None:
    """A policy names any of them as a measurement: one that were read a byte beside its place would be another's."""
    places = {
        "measurement": (0x90, 48),
        "report_data": (0x50, 64),
        "host_data": (0xC0, 32),
        "family_id": (0x10, 16),
        "image_id": (0x20, 16),
        "id_key_digest": (0xE0, 48),
        "author_key_digest": (0x110, 48),
        "report_id": (0x140, 32),
        "migration_agent_report_id": (0x160, 32),
    }
    said = {name: bytes([place // 16]) * length for name, (place, length) in places.items()}
    fields = {places[name][0]: value for name, value in said.items()}
    facts = genoa.appraised({**fields, 4: b"\7\1", 0x48: b"\3"}).facts
    assert {name: facts[name] for name in places} == {name: value.hex() for name, value in said.items()}
    assert (facts["guest_svn"], facts["mask_chip_key"], facts["version"]) == (0x107, True, 5)
    assert facts["processor"] == {"family": 0x19, "model": 0xA0, "stepping": 2}
    assert (facts["product"], facts["product_name"]) == ("Genoa", "Genoa")
    assert (facts["signing_key"], facts["chip_id"], facts["cloud"]) == ("VCEK", CHIP.hex(), None)
    assert (facts["certificate_ends"], len(facts["signing_key_certificate"])) == ("2032-12-30T00:00:00Z", 64)
    facts = genoa.appraised({**fields, 0x48: b"\0"}).facts
    assert (facts["author_key_digest"], facts["mask_chip_key"]) == (None, False)
    microcode = {"current": 0x3F, "reported": 0x187, "committed": 0x1E7, "launch": 0x1F7}
    facts = genoa.appraised({place: bytes([level]) for level, place in enumerate(microcode.values(), 1)}).facts
    assert [facts[f"{name}_tcb"]["microcode"] for name in microcode] == [1, 2, 3, 4]


def test_a_nonce_is_held_by_a_rule_of_its_own(genoa: Machine) -> None:
    """A report has one place for what it binds: whoever asks for both a nonce and report data gets them in one, or neither."""
    report = genoa.maker.sign(genoa.body({0x50: b"\1" * 64}))
    chain = genoa.maker.chain(genoa.maker.leaf("VCEK", GENOA_LEVELS, hardware_id=CHIP))

    def asked(**what: Any) -> dict[str, str]:
        found = sev_snp.appraise(report, Asked(now=millis("2026-06-01"), chain=chain, **what))
        return {one.rule: one.claim.value for one in found.refusals()}

    assert asked(nonce=b"\1" * 64, report_data=b"\1" * 64) == {}
    for wrong in (b"\1" * 63, b"\1" * 65, bytes(64), b""):
        assert asked(nonce=wrong) == {"nonce": "sourced-data"}
        assert asked(nonce=b"\1" * 64, report_data=wrong) == {"report-data": "sourced-data"}


def test_a_report_of_version_2_has_no_alias_check(genoa: Machine) -> None:
    """Its bits for that are of no meaning, whatever they are."""
    report = genoa.maker.sign(genoa.body({0x188: b"\0\0\0"}, version=2))
    chain = genoa.maker.chain(genoa.maker.leaf("VCEK", GENOA_LEVELS, hardware_id=CHIP))
    found = sev_snp.appraise(report, Asked(now=millis("2026-06-01"), chain=chain))
    assert found.affirms, found.refusals()
    assert "alias-check" in open_codes(found)


def test_what_was_launched_may_be_above_what_runs(genoa: Machine) -> None:
    """After firmware was rolled back, which its owner may do down to what is committed."""
    assert genoa.appraised({0x1F7: b"\x55"}).affirms


def test_a_root_of_amds_name_does_not_hide_amds(genoa: Machine) -> None:
    """Whoever stands between puts one there; the pinned one is found behind it. Nor does a certificate without a name."""
    report = genoa.maker.sign(genoa.body({}))
    chain = genoa.maker.chain(genoa.maker.leaf("VCEK", GENOA_LEVELS, hardware_id=CHIP))
    other = SnpMaker("Genoa").root.public_bytes(Encoding.DER)
    nameless = genoa.maker.nameless().public_bytes(Encoding.DER)
    for around in ((other, *chain), (*chain, other), (nameless, *chain)):
        assert sev_snp.appraise(report, Asked(now=millis("2026-06-01"), chain=around)).affirms
    assert rules(sev_snp.appraise(report, Asked(now=millis("2026-06-01"), chain=(*chain[:2], other)))) == {"root"}


def test_bits_of_the_platform_that_nobody_knows_are_facts(genoa: Machine) -> None:
    """Firmware adds some without another version."""
    found = genoa.appraised({0x40: b"\x65"})
    assert found.affirms
    assert found.facts["platform"]["unknown_bits"] == [6]


def test_a_vlek_signs_for_machines_that_it_does_not_name(genoa: Machine) -> None:
    """Its certificate says whose it is."""
    found = genoa.appraised({0x48: b"\4", 0x1A0: bytes(64)}, kind="VLEK")
    assert found.affirms, found.refusals()
    assert found.facts["cloud"] == "CN=test"
    assert rules(genoa.appraised({0x48: b"\4"}, kind="VLEK", below="VCEK")) == {"signing-key"}


def test_a_root_that_calls_itself_amds_is_none(genoa: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are free. What is pinned counts."""
    monkeypatch.undo()
    found = genoa.appraised()
    assert rules(found) == {"root"}
    report = genoa.maker.sign(genoa.body({}))
    leaf = genoa.maker.leaf("VCEK", GENOA_LEVELS, hardware_id=CHIP)
    chain = (*genoa.maker.chain(leaf)[:2], *certificates("genoa_ark.pem"))
    assert rules(sev_snp.appraise(report, Asked(now=millis("2026-06-01"), chain=chain))) == {"chain"}


def test_an_intermediates_double_does_not_hide_it(genoa: Machine) -> None:
    """Two certificates bear its name, as they do where a maker issues one again: the one that leads to the leaf is found."""
    report = genoa.maker.sign(genoa.body({}))
    chain = genoa.maker.chain(genoa.maker.leaf("VCEK", GENOA_LEVELS, hardware_id=CHIP))
    double = genoa.maker.double().public_bytes(Encoding.DER)
    assert sev_snp.appraise(report, Asked(now=millis("2026-06-01"), chain=(double, *chain))).affirms
    alone = sev_snp.appraise(report, Asked(now=millis("2026-06-01"), chain=(double, chain[0], chain[2])))
    assert rules(alone) == {"chain"}
