"""AMD reports: real ones show what they show, and what is wrong with one or with its certificates is refused by name."""

from collections.abc import Callable
from typing import Any

import pytest

from blindgate.attestation import sev_snp
from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Tier
from shared import FOLDER, shared
from snp_vectors import GENOA, LEGACY, MILAN, REAL, VLEK, WHEN, certificates, millis, open_codes, report_of, rules

ALWAYS_OPEN = {"tcb-policy", "binding", "freshness", "measurement", "revocation", "physical-access"}


def appraised(name: str, chain: tuple[str, ...] | None = None, at: str | None = None, **asked: Any) -> Appraisal:
    """A recorded report, as its own chain and time would have it unless told otherwise."""
    chain = REAL[name] if chain is None else chain
    return sev_snp.appraise(report_of(name), Asked(now=millis(at or WHEN[name]), chain=certificates(*chain), **asked))


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
