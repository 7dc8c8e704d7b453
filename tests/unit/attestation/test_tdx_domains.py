"""What no genuine platform signs for a test is signed by one whose root stands in Intel's place: debugged domains, old platforms.

Each thing that is wrong is refused by its own rule, however well it is signed.
"""

import pytest

from blindgate.attestation import tdx
from blindgate.attestation.appraisal import Asked, Tier
from tdx_platform import NOW_MILLIS, SEPT_VE_DISABLE, Platform
from tdx_quotes import judged, rules


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform under a root that is believed in place of Intel's."""
    made = Platform()
    monkeypatch.setattr(tdx, "INTEL", made.roots)
    return made


@pytest.mark.parametrize("version", [4, 5])
def test_a_platform_of_the_tests_is_believed_as_a_genuine_one_is(platform: Platform, version: int) -> None:
    """Else the refusals below would show nothing."""
    found = judged(platform, platform.quote(version=version))
    assert found.affirms, found.refusals()
    assert found.facts["root"] == "a test's root"
    assert ("mrservicetd" in found.facts) == (version == 5)


def test_a_domain_with_an_identity_of_its_own_is_read_to_the_end(platform: Platform) -> None:
    """The third kind of body in version 5: who the domain is, and what it and its service domains began as."""
    found = judged(platform, platform.quote(version=5, identified=True))
    assert found.affirms, found.refusals()
    assert (found.facts["vmid"], found.facts["td_id"]) == ("02", bytes(range(32)).hex())
    assert found.facts["report_data"] == "11" * 64
    assert "cur_servicetd_attributes" in found.facts


@pytest.mark.parametrize("field", ["init_servicetd_hash", "cur_servicetd_hash", "mrservicetd"])
def test_a_domain_that_a_service_domain_changed_is_refused(platform: Platform, field: str) -> None:
    """Whether it is bound now, or was when the domain began."""
    quote = platform.quote(version=5, identified=True, fields={field: b"\1" * 48})
    assert "service-td" in rules(judged(platform, quote))


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        pytest.param(SEPT_VE_DISABLE | 1, "debug", id="debug"),
        *(pytest.param(SEPT_VE_DISABLE | 1 << bit, "debug", id=f"debug group {bit}") for bit in range(1, 8)),
        pytest.param(SEPT_VE_DISABLE | 1 << 29, "migration", id="migratable"),
        pytest.param(SEPT_VE_DISABLE | 1 << 17, "service-td", id="service domains"),
        pytest.param(SEPT_VE_DISABLE | 1 << 40, "attributes", id="unknown"),
        pytest.param(SEPT_VE_DISABLE | 1 << 8, "attributes", id="unknown security"),
        pytest.param(0, "sept-ve-disable", id="interruptible"),
    ],
)
def test_a_domain_that_gives_up_what_protects_it_is_refused(platform: Platform, bits: int, expected: str) -> None:
    """Genuine and up to date as it is."""
    found = judged(platform, platform.quote(attributes=bits))
    assert rules(found)[0] == expected
    assert set(rules(found)) <= {expected, "attributes"}


@pytest.mark.parametrize("bit", [30, 31, 63])
def test_what_a_domain_may_use_is_a_fact_and_no_fault(platform: Platform, bit: int) -> None:
    """Protection keys, key locker, counters."""
    found = judged(platform, platform.quote(attributes=SEPT_VE_DISABLE | 1 << bit))
    assert found.affirms
    assert [name for name, on in found.facts["attributes"].items() if on] == [
        "sept_ve_disable",
        {30: "pks", 31: "key_locker", 63: "perfmon"}[bit],
    ]


@pytest.mark.parametrize(
    ("field", "value", "version", "expected"),
    [
        ("mrservicetd", b"\1" * 48, 5, "service-td"),
        ("mrsignerseam", b"\1" * 48, 4, "tdx-module"),
        ("seam_attributes", b"\1" + bytes(7), 4, "tdx-module"),
        ("tee_tcb_svn", bytes(16), 4, "tcb"),
        ("tee_tcb_svn", b"\3\1" + bytes(14), 4, "tdx-module"),
    ],
)
def test_what_runs_below_the_domain_must_be_intels(
    platform: Platform, field: str, value: bytes, version: int, expected: str
) -> None:
    """Its module, in its production form, of a version that Intel names, and no service domain."""
    found = judged(platform, platform.quote(version=version, fields={field: value}))
    assert set(rules(found)) == {expected}


@pytest.mark.parametrize(
    ("status", "tier"),
    [
        ("SWHardeningNeeded", Tier.WARNING),
        ("ConfigurationNeeded", Tier.WARNING),
        ("ConfigurationAndSWHardeningNeeded", Tier.WARNING),
        ("OutOfDate", Tier.CONTRAINDICATED),
        ("OutOfDateConfigurationNeeded", Tier.CONTRAINDICATED),
    ],
)
def test_what_intel_says_of_a_platform_is_passed_on(platform: Platform, status: str, tier: Tier) -> None:
    """With the advisories, which people look up; only an up-to-date platform is believed."""
    found = judged(platform, collateral=platform.collateral(status=status, advisories=["INTEL-SA-00615"]))
    assert (rules(found), found.status) == (["tcb"], tier)
    assert found.facts["advisories"] == ["INTEL-SA-00615"]
    assert "INTEL-SA-00615" in found.refusals()[0].text
    assert status in found.refusals()[0].text


def test_a_revoked_level_and_a_revoked_platform_are_refused(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is old; the other's keys are known to somebody, so that nothing it says is believed."""
    assert rules(judged(platform, collateral=platform.collateral(status="Revoked"))) == ["tcb"]
    revoked = Platform(revoked=True)
    monkeypatch.setattr(tdx, "INTEL", revoked.roots)
    found = judged(revoked)
    assert (rules(found), found.status) == (["revocation"], Tier.UNVERIFIED)


def test_a_domain_that_runs_since_before_an_update_is_told_apart(platform: Platform) -> None:
    """Its platform is up to date now, and was not when it started."""

    def level(svn: int, status: str) -> dict[str, object]:
        svns = {"sgxtcbcomponents": [{"svn": 3}] * 16, "tdxtcbcomponents": [{"svn": svn}] + [{"svn": 0}] * 15}
        return {"tcb": svns | {"pcesvn": 11}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}

    collateral = platform.collateral(tcbLevels=[level(4, "UpToDate"), level(3, "OutOfDate")])
    found = judged(platform, platform.quote(version=5, fields={"tee_tcb_svn2": b"\4" + bytes(15)}), collateral)
    assert (rules(found), found.status) == (["tcb"], Tier.WARNING)
    assert "TDRelaunchAdvised" in found.refusals()[0].text


@pytest.mark.parametrize("extension", [b"\x30\x00", b"\x30\x82\xff\xff", b"no DER"])
def test_a_platform_whose_certificate_does_not_say_which_it_is_is_refused(
    monkeypatch: pytest.MonkeyPatch, extension: bytes
) -> None:
    """By form, and nothing more is asked of it."""
    made = Platform(extension=extension)
    monkeypatch.setattr(tdx, "INTEL", made.roots)
    assert rules(judged(made)) == ["form"]


def test_a_key_of_intels_that_is_no_platforms_signs_no_quote(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key that signs TCB information leads to the same root; the platforms' authority may certify others, too."""
    assert rules(judged(platform, platform.quote(pck=platform.tcb))) == ["chain"]
    other = Platform(extension=None)
    monkeypatch.setattr(tdx, "INTEL", other.roots)
    assert rules(judged(other)) == ["chain"]


def test_collateral_that_the_root_did_not_sign_is_refused(platform: Platform) -> None:
    """Whoever sends a quote may make collateral to fit it."""
    assert rules(judged(platform, collateral=Platform().collateral())) == ["collateral"]


def test_a_short_value_is_filled_up_with_zeros(platform: Platform) -> None:
    """As a node does that binds 32 bytes."""
    quote = platform.quote(fields={"report_data": b"\x22" * 32 + bytes(32)})
    asked = Asked(now=NOW_MILLIS, collateral=platform.collateral(), report_data=b"\x22" * 32)
    assert tdx.appraise(quote, asked).affirms


@pytest.mark.parametrize("asked", [b"", bytes(32), bytes(64)])
def test_who_asks_for_nothing_is_not_answered_by_a_quote_that_binds_nothing(platform: Platform, asked: bytes) -> None:
    """Zeros match zeros, and show nothing."""
    quote, collateral = platform.quote(fields={"report_data": bytes(64)}), platform.collateral()
    for rule, question in (
        ("report-data", Asked(now=NOW_MILLIS, collateral=collateral, report_data=asked)),
        ("nonce", Asked(now=NOW_MILLIS, collateral=collateral, nonce=asked)),
    ):
        assert rules(tdx.appraise(quote, question)) == [rule]


def test_a_quote_that_binds_nothing_says_so(platform: Platform) -> None:
    """Nobody asked; a policy will."""
    found = judged(platform, platform.quote(fields={"report_data": bytes(64)}))
    assert next(one.text for one in found.not_proven if one.code == "binding").endswith("binds nothing")
