"""Genuine quotes of Intel TDX give what their manifest says; under another root, at another time, for other data they do not."""

import json
from typing import Any, Final

import dcap_qvl
import pytest
from cryptography import x509

from blindgate.attestation import chains, roots, tdx
from blindgate.attestation.appraisal import Asked, Claim, Tier
from shared import shared
from tdx_platform import NOW_MILLIS, Platform
from tdx_quotes import DAY, Genuine, judged, open_questions, rules

MRTD: Final = "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
BOUND: Final = bytes.fromhex(
    "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9"
    "eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20"
)


@pytest.fixture
def good() -> Genuine:
    """The genuine quote of version 4."""
    return Genuine.named("quote_v4")


# What the manifest says.


def test_a_genuine_quote_is_believed_when_its_collateral_was_issued(good: Genuine) -> None:
    """Version 4, up to date; who runs what in it is left to a policy, and said."""
    found = good.appraise()
    assert found.affirms, found.refusals()
    assert found.platform == "intel-tdx"
    assert found.facts["tcb_status"] == "UpToDate"
    assert found.facts["mrtd"] == MRTD
    assert found.facts["report_data"] == BOUND.hex()
    assert found.facts["fmspc"] == "b0c06f000000"
    assert found.facts["tcb_evaluation"] == 17
    assert list(found.facts["attributes"]) == [
        "debug", "hgs_plus_profiling", "performance_profiling", "telemetry_profiling", "single_step_defence",
        "service_td_extension", "lass", "sept_ve_disable", "migratable", "pks", "key_locker", "tpa", "perfmon",
    ]  # fmt: skip
    assert found.vector()[Claim.EXECUTABLES] is Tier.NONE
    assert {one.rule for one in found.reasons} == {
        "chain", "signature", "debug", "attributes", "sept-ve-disable", "migration", "service-td", "tdx-module",
        "revocation", "collateral", "tcb", "memory-encryption",
    }  # fmt: skip
    assert open_questions(found) == {"measurement", "binding", "freshness", "physical-access", "tcb-policy"}
    json.dumps(found.to_ear())


def test_a_genuine_quote_is_believed_until_its_collateral_ends_and_no_longer(good: Genuine) -> None:
    """Intel's word is for thirty days."""
    assert good.appraise(after=29 * DAY).affirms
    for after in (31 * DAY, 400 * DAY, -DAY):
        found = good.appraise(after=after)
        assert rules(found) == ["collateral"], after
        assert found.status is Tier.CONTRAINDICATED


def test_a_platform_with_old_firmware_is_refused() -> None:
    """Version 5; it matches no level of the TCB information."""
    found = Genuine.named("quote_outdated").appraise()
    assert rules(found) == ["tcb"]
    assert found.facts["quote_version"] == 5
    assert found.refusals()[0].text.startswith(
        "the platform's versions are not ones that Intel calls current: No matching"
    )


def test_an_enclave_is_not_taken_for_a_trust_domain() -> None:
    """An SGX quote is told as one, and refused whatever its collateral says."""
    enclave = Genuine.named("sgx_quote")
    assert tdx.is_evidence(enclave.quote)
    found = enclave.appraise()
    assert (found.platform, rules(found)) == ("intel-sgx", ["platform"])


def test_without_collateral_it_says_which_files_are_wanted_and_who_has_them(good: Genuine) -> None:
    """The signatures are decided, and the quote is still not believed."""
    found = good.appraise(collateral=None)
    assert rules(found) == ["collateral"]
    assert found.vector()[Claim.INSTANCE_IDENTITY] is Tier.AFFIRMING
    assert "revocation" in open_questions(found)
    text = found.refusals()[0].text
    for wanted in (
        "tcb_info",
        "pck_crl",
        "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=b0c06f000000",
    ):
        assert wanted in text


def test_another_platforms_collateral_does_not_serve(good: Genuine) -> None:
    """It is genuine and current, and of other machines."""
    for name in ("quote_outdated", "sgx_quote"):
        other = Genuine.named(name)
        found = tdx.appraise(good.quote, Asked(now=other.issued, collateral=other.collateral))
        assert rules(found) == ["collateral"], name


def test_a_quote_from_before_its_platform_was_certified_is_refused(good: Genuine) -> None:
    """The platform's certificate begins in February 2025."""
    assert rules(good.appraise(after=-365 * DAY)) == ["validity"]


# The root.


@pytest.mark.parametrize("name", ["quote_v4", "quote_outdated", "sgx_quote"])
def test_the_root_that_is_pinned_is_the_one_that_intels_platforms_lead_to(name: str) -> None:
    """Of three machines, and of the package that verifies quotes: its own root is the same."""
    quote = dcap_qvl.parse_quote(Genuine.named(name).quote)
    last = x509.load_pem_x509_certificates((quote.cert_chain_pem_bytes() or b"").rstrip(b"\0"))[-1]
    assert list(roots.INTEL) == [chains.fingerprint(last)]
    collateral = dcap_qvl.QuoteCollateralV3.from_json(Genuine.named("quote_v4").collateral.decode())
    assert dcap_qvl.verify(Genuine.named("quote_v4").quote, collateral, Genuine.named("quote_v4").issued // 1000)


def test_a_quote_under_another_root_is_not_believed() -> None:
    """All of it is well signed, by a root that calls itself Intel's."""
    foreign = Platform()
    found = judged(foreign)
    assert rules(found) == ["root"]
    assert found.status is Tier.UNVERIFIED


def test_the_native_verifier_holds_to_the_root_that_it_is_given(good: Genuine) -> None:
    """A genuine quote is none under a foreign root."""
    collateral = dcap_qvl.QuoteCollateralV3.from_json(good.collateral.decode())
    with pytest.raises(ValueError, match="Verification failed"):
        dcap_qvl.verify_with_root_ca(good.quote, collateral, Platform().root_der, good.issued // 1000)


@pytest.mark.parametrize(
    "name",
    ["sev-snp/milan_report.bin", "sev-snp/vlek_report.bin", "nitro/document.cbor", "nvidia/blackwell_report.txt"],
)
def test_other_platforms_evidence_is_not_taken_for_a_quote(name: str) -> None:
    """Told by the first bytes; judged as a quote all the same, it is refused by its form."""
    data = shared(f"vectors/{name}").read_bytes()
    assert not tdx.is_evidence(data)
    assert rules(tdx.appraise(data, Asked(now=NOW_MILLIS))) == ["form"]


# What a quote binds.


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"report_data": BOUND}, []),
        ({"nonce": BOUND}, []),
        ({"report_data": BOUND[:-1] + b"\x21"}, ["report-data"]),
        ({"report_data": BOUND[:32]}, ["report-data"]),
        ({"nonce": b"\1" * 32}, ["nonce"]),
        ({"report_data": BOUND, "nonce": b"\1" * 32}, ["nonce"]),
        ({"report_data": b""}, ["report-data"]),
        ({"report_data": bytes(64)}, ["report-data"]),
        ({"nonce": bytes(32)}, ["nonce"]),
        ({"report_data": BOUND + b"\0"}, ["report-data"]),
    ],
)
def test_the_report_data_must_be_what_was_asked_for(good: Genuine, asked: dict[str, Any], expected: list[str]) -> None:
    """To the last byte; asking for nothing is no question."""
    found = good.appraise(**asked)
    assert rules(found) == expected
    assert found.affirms is not bool(expected)
    assert "binding" not in open_questions(found)
    assert ("freshness" in open_questions(found)) is ("nonce" not in asked)


def test_collateral_cannot_bring_another_chain_for_the_platform(good: Genuine) -> None:
    """The native verifier would use it in place of the quote's: there it decides, and here it is left out."""
    parts = json.loads(good.collateral) | {"pck_certificate_chain": Platform().pck.pem().decode()}
    told = json.dumps(parts)
    with pytest.raises(ValueError, match="UnknownIssuer"):
        dcap_qvl.verify(good.quote, dcap_qvl.QuoteCollateralV3.from_json(told), good.issued // 1000)
    assert good.appraise(collateral=told.encode()).affirms
