"""AMD reports: real ones show what they show, bad ones are refused by name, and machines that nobody recorded are written here."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from blindgate.attestation import roots, sev_snp
from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Tier
from blindgate.attestation.chains import read_pem
from shared import FOLDER, shared
from snp_machine import SnpMaker, report_body

MILAN = ("milan_vcek.pem", "milan_ask.pem", "milan_ark.pem")
GENOA = ("genoa_vcek.pem", "genoa_ask.pem", "genoa_ark.pem")
LEGACY = ("legacy_vcek.der", "milan_ask.pem", "milan_ark.pem")
VLEK = ("vlek.der", "milan_asvk_ark.pem")
REAL = {"milan": MILAN, "genoa": GENOA, "legacy": LEGACY, "vlek": VLEK}
WHEN = {"milan": "2026-06-01", "genoa": "2026-06-01", "legacy": "2025-06-01", "vlek": "2025-06-01"}
ALWAYS_OPEN = {"tcb-policy", "binding", "freshness", "measurement", "revocation", "physical-access"}


def millis(day: str) -> int:
    """Midnight of a day, in Greenwich."""
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() * 1000)


def report_of(name: str) -> bytes:
    """A recorded report."""
    return shared(f"vectors/sev-snp/{name}_report.bin").read_bytes()


def certificates(*names: str) -> tuple[bytes, ...]:
    """The certificates of recorded files, in DER."""
    return tuple(one for name in names for one in read_pem(shared(f"vectors/sev-snp/{name}").read_bytes()))


def appraised(name: str, chain: tuple[str, ...] | None = None, at: str | None = None, **asked: Any) -> Appraisal:
    """A recorded report, as its own chain and time would have it unless told otherwise."""
    chain = REAL[name] if chain is None else chain
    return sev_snp.appraise(report_of(name), Asked(now=millis(at or WHEN[name]), chain=certificates(*chain), **asked))


def rules(found: Appraisal) -> set[str]:
    """What speaks against it."""
    return {one.rule for one in found.refusals()}


def open_codes(found: Appraisal) -> set[str]:
    """What it does not prove."""
    return {one.code for one in found.not_proven}


@pytest.mark.parametrize(
    ("name", "more_open"),
    [
        ("milan", {"milan"}),
        ("genoa", set()),
        ("legacy", {"milan", "alias-check"}),
        ("vlek", {"milan", "vmpl", "chip-id"}),
    ],
)
def test_a_real_report_affirms_and_says_what_it_does_not_prove(name: str, more_open: set[str]) -> None:
    """Without a policy: genuine, whole, not debug, current. What the platform leaves open is named, and nothing else."""
    found = appraised(name)
    assert found.affirms, found.refusals()
    assert open_codes(found) == ALWAYS_OPEN | more_open
    assert found.vector()[Claim.INSTANCE_IDENTITY] is Tier.AFFIRMING
    assert found.vector()[Claim.EXECUTABLES] is Tier.NONE, "nothing was there to hold the measurement against"


def test_facts_are_what_the_report_says() -> None:
    """A policy reads them by name."""
    facts = appraised("vlek").facts
    assert facts["measurement"] == report_of("vlek")[0x90:0xC0].hex()
    assert facts["report_data"].startswith("819770b7")
    assert (facts["signing_key"], facts["cloud"], facts["chip_id"]) == ("VLEK", "CN=cc-us-east-2.amazonaws.com", None)
    assert facts["reported_tcb"] == {
        "raw": "d918000000000004",
        "bootloader": 4,
        "tee": 0,
        "snp": 24,
        "microcode": 217,
    }
    assert facts["current_tcb"]["microcode"] == 220
    assert facts["firmware"] == {"current": "1.55.29", "committed": "1.55.29"}
    assert facts["guest_policy"]["smt"]
    assert not facts["guest_policy"]["debug"]
    assert facts["platform"]["alias_check_complete"]
    genoa = appraised("genoa").facts
    assert (genoa["product"], genoa["chip_id"][:8], genoa["processor"]["model"]) == ("Genoa", "b1e24a27", 0x11)


def test_certificates_may_come_in_any_order_and_with_others() -> None:
    """A folder of them is given as it lies there."""
    for names in (MILAN[::-1], (*VLEK, *GENOA, *MILAN), (*MILAN, *MILAN)):
        assert appraised("milan", names).affirms
    assert appraised("milan", ("legacy_vcek.der", *MILAN)).affirms, (
        "of two chips' certificates, the one that signed is taken"
    )


@pytest.mark.parametrize("name", ["invalid_vcek_legacy.der", "invalid_vcek_new.der"])
def test_a_certificate_that_amd_did_not_sign_is_refused(name: str) -> None:
    """Both have another chip's id written in."""
    found = appraised("legacy", (name, *LEGACY[1:]))
    assert rules(found) == {"chain"}
    assert found.status is Tier.UNVERIFIED
    assert not found.facts, "nothing that it says is believed"


def test_a_certificate_that_was_changed_beside_what_is_signed_is_refused() -> None:
    """The algorithm stands there again, and how many bits of the signature's last byte count: neither is signed."""
    vcek, ask, ark = certificates(*GENOA)
    for before, beside in ((ask, b"\xa3\x03\x02\x01"), (vcek, b"\x03\x82\x02\x01")):
        place = before.rindex(beside) + 4
        after = before[:place] + bytes([before[place] ^ 2]) + before[place + 1 :]
        chain = tuple(after if one is before else one for one in (vcek, ask, ark))
        found = sev_snp.appraise(report_of("genoa"), Asked(now=millis("2026-06-01"), chain=chain))
        assert rules(found) <= {"chain", "form"}
        assert not found.affirms


@pytest.mark.parametrize(
    ("name", "chain", "wanted"),
    [
        ("genoa", GENOA[1:], "https://kdsintf.amd.com/vcek/v1/Genoa/b1e24a27"),
        ("genoa", GENOA[::2], "https://kdsintf.amd.com/vcek/v1/Genoa/cert_chain"),
        ("genoa", GENOA[:2], "ARK-Genoa is missing"),
        ("vlek", VLEK[1:], "auxblob"),
        ("vlek", ("vlek.der", "milan_ark.pem"), "https://kdsintf.amd.com/vlek/v1/Milan/cert_chain"),
        ("legacy", (), "blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115"),
    ],
)
def test_what_is_missing_is_named_with_where_amd_has_it(name: str, chain: tuple[str, ...], wanted: str) -> None:
    """Somebody who has only the report finds the rest."""
    found = appraised(name, chain)
    assert rules(found) == {"chain"}
    assert wanted in found.refusals()[0].text


@pytest.mark.parametrize(
    ("name", "chain", "rule"),
    [
        ("milan", GENOA, "signature"),
        ("milan", LEGACY, "signature"),
        ("milan", VLEK, "signing-key"),
        ("vlek", MILAN, "signing-key"),
        ("milan", ("milan_vcek.pem", "genoa_ask.pem", "genoa_ark.pem"), "chain"),
        ("milan", ("milan_vcek.pem", "milan_ask.pem", "genoa_ark.pem"), "chain"),
    ],
)
def test_another_machines_certificates_are_refused(name: str, chain: tuple[str, ...], rule: str) -> None:
    """Each genuine, and not of this report."""
    assert rules(appraised(name, chain, at="2025-06-01" if "vlek.der" in chain else "2026-06-01")) == {rule}


def test_a_key_is_refused_before_and_after_its_time() -> None:
    """A VLEK lives for a year, which the recorded one began in December 2024."""
    for day in ("2024-12-01", "2025-12-11", "2048-01-01"):
        assert rules(appraised("vlek", at=day)) == {"validity"}
    assert "valid from 2024-12-10" in appraised("vlek", at="2026-06-01").refusals()[0].text


def test_report_data_that_were_asked_for_must_be_there() -> None:
    """All 64 bytes, filled up with zeros; a nonce likewise, since a report has no other place for one."""
    real = report_of("vlek")[0x50:0x90]
    held = appraised("vlek", report_data=real)
    assert held.affirms
    assert held.vector()[Claim.SOURCED_DATA] is Tier.AFFIRMING
    assert "binding" not in open_codes(held)
    assert "freshness" in open_codes(held)
    assert not {"binding", "freshness"} & open_codes(appraised("vlek", nonce=real))
    legacy = report_of("legacy")[0x50:0x70]
    assert appraised("legacy", report_data=legacy).affirms
    assert rules(appraised("vlek", report_data=real[:32])) == {"report-data"}
    assert rules(appraised("vlek", report_data=real, nonce=b"another")) == {"nonce"}


@pytest.mark.parametrize("wanted", [b"", bytes(32), bytes(64), b"\1" * 65])
def test_report_data_that_bind_nothing_are_refused_even_where_they_match(wanted: bytes) -> None:
    """Genoa's recorded report has 64 zeros, which anybody could ask for."""
    assert rules(appraised("genoa", report_data=wanted)) == {"report-data"}
    assert rules(appraised("genoa", nonce=wanted)) == {"nonce"}


def test_a_report_without_data_says_that_it_binds_nothing() -> None:
    """It affirms, since nobody asked, and it is no use to seal to."""
    (binding,) = [one for one in appraised("genoa").not_proven if one.code == "binding"]
    assert "binds nothing" in binding.text


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param(lambda data: data[:-1], "form", id="one byte short"),
        pytest.param(lambda data: data + b"\0", "form", id="one byte more"),
        pytest.param(lambda _: b"", "form", id="nothing"),
        pytest.param(lambda data: data[:0x2A0], "form", id="without its signature"),
        pytest.param(lambda data: b"\1" + data[1:], "version", id="version 1"),
        pytest.param(lambda data: b"\6" + data[1:], "version", id="version 6"),
        pytest.param(lambda data: data[:0x34] + b"\0" + data[0x35:], "signature-algorithm", id="no algorithm"),
        pytest.param(lambda data: data[:0x48] + b"\x1c" + data[0x49:], "signing-key", id="signed by nobody"),
        pytest.param(lambda data: data[:0x48] + b"\x20" + data[0x49:], "form", id="a bit beside the signing key"),
        pytest.param(lambda data: data[:0x18B] + b"\1" + data[0x18C:], "form", id="a reserved byte"),
        pytest.param(lambda data: data[:0x1F8] + b"\1" + data[0x1F9:], "form", id="mitigations in version 3"),
        pytest.param(lambda data: b"\2" + data[1:], "form", id="a processor in version 2"),
        pytest.param(lambda data: data[:-1] + b"\1", "form", id="something behind the signature"),
        pytest.param(lambda data: data[:0x2A0] + bytes(512), "signature", id="a signature of zeros"),
        pytest.param(
            lambda data: data[:0x2A0] + b"\xff" * 144 + bytes(368), "signature", id="numbers beyond the curve"
        ),
    ],
)
def test_what_is_no_report_is_refused_by_name(change: Callable[[bytes], bytes], rule: str) -> None:
    """Form before keys, keys before signature."""
    found = sev_snp.appraise(change(report_of("milan")), Asked(now=millis("2026-06-01"), chain=certificates(*MILAN)))
    assert rules(found) == {rule}
    assert found.status is Tier.UNVERIFIED


def test_certificates_that_are_none_and_too_many_are_refused() -> None:
    """They come from the same place as the report."""
    data, at = report_of("milan"), millis("2026-06-01")
    for chain in ((b"",), (b"\x30\x82",), (b"\0" * (1 << 20),), certificates(*MILAN) * 5):
        assert rules(sev_snp.appraise(data, Asked(now=at, chain=chain))) == {"form"}


def test_reports_are_told_by_their_bytes() -> None:
    """All of them, cut ones and future versions as well, and no other platform's evidence."""
    folder = shared("vectors")
    assert [path.name for path in sorted(folder.glob("sev-snp/*")) if sev_snp.is_evidence(path.read_bytes())] == [
        f"{name}_report.bin" for name in sorted(REAL)
    ]
    others = [path for room in ("nitro", "nvidia", "tdx") for path in (FOLDER / "vectors" / room).iterdir()]
    assert [path.name for path in others if sev_snp.is_evidence(path.read_bytes())] == []
    for data in (report_of("milan")[:600], report_of("milan") + b"\0", b"\x09" + report_of("milan")[1:]):
        assert sev_snp.is_evidence(data)
    assert not sev_snp.is_evidence(b"")


TURIN_TCB = bytes([1, 2, 3, 4, 0, 0, 0, 200])
TURIN_LEVELS = {9: 1, 1: 2, 2: 3, 3: 4, 8: 200}
TURIN_CHIP = bytes(range(8))
GENOA_TCB = bytes([10, 0, 0, 0, 0, 0, 23, 84])
GENOA_LEVELS = {1: 10, 2: 0, 3: 23, 8: 84}
CHIP = bytes(range(64))


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
    assert "milan" not in open_codes(found)
    assert rules(turin.appraised({0x1A0: TURIN_CHIP + b"\1"})) == {"chip-id"}, (
        "what stands behind the 8 bytes is held too"
    )


def test_bergamo_is_genoas(genoa: Machine) -> None:
    """One root for both, under either name."""
    assert genoa.appraised().affirms
    assert genoa.appraised(named="Bergamo-A1").affirms
    assert genoa.appraised(hardware_id=b"\x04\x40" + CHIP).affirms, (
        "an id that is wrapped as an OCTET STRING is the same id"
    )


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
        pytest.param({0x3F: b"\x53"}, {}, {"tcb"}, id="reported above what runs"),
        pytest.param({}, {"e2": b"\x16\x05Gen"}, {"form"}, id="a name that is cut"),
        pytest.param({}, {"e3.8": b"\x02\x02\x00\x54"}, {"form"}, id="a level with a needless zero"),
        pytest.param({}, {"e3.8": b"\x02\x01\xdb"}, {"form"}, id="a level below zero"),
        pytest.param({}, {"e3.8": b""}, {"form"}, id="a level that is nothing"),
        pytest.param({}, {"e4": b"\1" * 63}, {"form"}, id="a chip's id of another length"),
        pytest.param({}, {"levels": {1: 10, 2: 0, 3: 23}}, {"form"}, id="a level that is missing"),
        pytest.param({}, {"below": "VLEK"}, {"signing-key"}, id="a VCEK that the other intermediate signed"),
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
        ({0x30: b"\2"}, "vmpl"),
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


def test_a_report_of_version_2_has_no_alias_check(genoa: Machine) -> None:
    """Its bits for that are of no meaning, whatever they are."""
    report = genoa.maker.sign(genoa.body({0x188: b"\0\0\0"}, version=2))
    chain = genoa.maker.chain(genoa.maker.leaf("VCEK", GENOA_LEVELS, hardware_id=CHIP))
    found = sev_snp.appraise(report, Asked(now=millis("2026-06-01"), chain=chain))
    assert found.affirms, found.refusals()
    assert "alias-check" in open_codes(found)


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
