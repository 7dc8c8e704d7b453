"""What no genuine platform signs for a test is signed by one whose root stands in Intel's place: debugged domains, old platforms.

Each thing that is wrong is refused by its own rule, however well it is signed.
"""

from typing import Any, Final

import pytest

from blindgate.attestation import tdx
from blindgate.attestation.appraisal import Asked, Tier
from tdx_platform import NOW_MILLIS, SEPT_VE_DISABLE, Platform
from tdx_quotes import judged, rules

FIELDS: Final = {
    "tee_tcb_svn": 16, "mrseam": 48, "mrsignerseam": 48, "seam_attributes": 8, "td_attributes": 8, "xfam": 8, "mrtd": 48,
    "mrconfigid": 48, "mrowner": 48, "mrownerconfig": 48, "rtmr0": 48, "rtmr1": 48, "rtmr2": 48, "rtmr3": 48, "report_data": 64,
    "tee_tcb_svn2": 16, "mrservicetd": 48, "vmid": 1, "td_id": 32, "devinfo": 48, "init_servicetd_hash": 48,
    "init_servicetd_attributes": 8, "init_cpu_svn": 16, "init_tee_tcb_svn": 16, "init_tee_fmspc": 12, "cur_servicetd_hash": 48,
    "cur_servicetd_attributes": 8,
}  # fmt: skip


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
    """Genuine and up to date as it is; its attributes are told by the quote alone, whatever Intel says."""
    quote = platform.quote(attributes=bits)
    found = judged(platform, quote)
    assert rules(found)[0] == expected
    assert set(rules(found)) <= {expected, "attributes"}
    assert rules(tdx.appraise(quote, Asked(now=NOW_MILLIS))) == [expected, "collateral"]


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
    quote = platform.quote(version=version, fields={field: value})
    assert set(rules(judged(platform, quote))) == {expected}
    if field != "tee_tcb_svn":
        assert rules(tdx.appraise(quote, Asked(now=NOW_MILLIS))) == [expected, "collateral"]


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


@pytest.mark.parametrize(
    ("change", "expected", "tier"),
    [
        pytest.param({128: b"\xee"}, "quoting-enclave", Tier.UNVERIFIED, id="another signer"),
        pytest.param({256: b"\1"}, "quoting-enclave", Tier.UNVERIFIED, id="another product"),
        pytest.param({16: b"\1"}, "quoting-enclave", Tier.UNVERIFIED, id="another exception mode"),
        pytest.param({48: b"\x31"}, "quoting-enclave", Tier.UNVERIFIED, id="another attribute"),
        pytest.param({48: b"\x13"}, "quoting-enclave", Tier.UNVERIFIED, id="debug"),
        pytest.param({258: b"\3"}, "tcb", Tier.CONTRAINDICATED, id="an old version"),
    ],
)
def test_an_enclave_that_is_not_intels_current_one_signs_no_quotes(
    platform: Platform, change: dict[int, bytes], expected: str, tier: Tier
) -> None:
    """The platform's key vouches for whatever enclave runs there: who that is, its report says."""
    found = judged(platform, platform.quote(enclave=change))
    assert (rules(found), found.status) == ([expected], tier)
    assert judged(platform, platform.quote(enclave={258: b"\7"})).affirms


def test_a_quote_of_another_vendors_enclave_is_not_believed(platform: Platform) -> None:
    """Its header says whose it is."""
    found = judged(platform, platform.quote(vendor=bytes(16)))
    assert (rules(found), found.status) == (["quoting-enclave"], Tier.UNVERIFIED)


def _enclave_level(status: str) -> list[dict[str, object]]:
    return [{"tcb": {"isvsvn": 4}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}]


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        pytest.param({"id": "QE"}, "collateral", id="of SGX"),
        pytest.param({"version": 1}, "collateral", id="an older form"),
        pytest.param({"issueDate": "2026-03-02T12:00:00Z"}, "collateral", id="from the future"),
        pytest.param({"nextUpdate": "2026-03-01T11:00:00Z"}, "collateral", id="expired"),
        pytest.param({"tcbLevels": _enclave_level("OutOfDate")}, "tcb", id="an old enclave"),
        pytest.param({"tcbLevels": _enclave_level("Revoked")}, "tcb", id="a revoked enclave"),
        pytest.param({"tcbLevels": _enclave_level("Splendid")}, "collateral", id="a status that is none"),
        pytest.param({"tcbLevels": []}, "tcb", id="no levels"),
    ],
)
def test_what_intel_says_of_the_enclave_must_be_of_now_and_good(
    platform: Platform, identity: dict[str, object], expected: str
) -> None:
    """Beside its word on the platform, which is current in each of these."""
    assert rules(judged(platform, collateral=platform.collateral(identity=identity))) == [expected]


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        pytest.param(
            {"id": "SGX"}, "does not serve for 90c06f000000 at this time: TDX quote with non-TDX", id="of SGX"
        ),
        pytest.param(
            {"fmspc": "00" * 6}, "does not serve for 90c06f000000 at this time: Fmspc", id="of another family"
        ),
        pytest.param({"pceId": "0001"}, "the certifying enclave '0001'", id="of another certifying enclave"),
        pytest.param({"issueDate": "2026-03-02T12:00:00Z"}, "in the future", id="from the future"),
        pytest.param({"nextUpdate": "2026-03-01T11:00:00Z"}, "expired", id="expired"),
    ],
)
def test_tcb_information_must_be_of_this_platform_and_of_now(
    platform: Platform, differs: dict[str, Any], said: str
) -> None:
    """Versions of another platform, or of another time, show nothing of this one."""
    found = judged(platform, collateral=platform.collateral(**differs))
    assert rules(found) == ["collateral"]
    assert said in found.refusals()[0].text


@pytest.mark.parametrize("older", ["tcb", "identity"])
def test_collateral_is_as_old_as_the_older_of_intels_files(platform: Platform, older: str) -> None:
    """Else an enclave that is judged by rules of long ago would pass for one that is judged by today's."""
    said: dict[str, Any] = {
        "tcbEvaluationDataNumber": 12,
        "issueDate": "2026-02-01T00:00:00Z",
        "nextUpdate": "2026-03-02T00:00:00Z",
    }
    made = platform.collateral(**said) if older == "tcb" else platform.collateral(identity=said)
    found = judged(platform, collateral=made)
    assert found.affirms
    assert [found.facts[name] for name in ("tcb_evaluation", "tcb_issued", "tcb_next_update")] == list(said.values())


def test_a_module_that_intel_does_not_know_is_refused(platform: Platform) -> None:
    """By the identity that Intel's information gives it."""
    module = {"mrsigner": "11" * 48, "attributes": "00" * 8, "attributesMask": "ff" * 8}
    assert rules(judged(platform, collateral=platform.collateral(tdxModule=module))) == ["tdx-module"]


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
    for bound, said in ((bytes(64), True), (b"\1" * 64, False)):
        found = judged(platform, platform.quote(fields={"report_data": bound}))
        assert next(one.text for one in found.not_proven if one.code == "binding").endswith("binds nothing") is said


def test_what_collateral_says_commands_no_terminal(platform: Platform) -> None:
    """The native verifier's words may quote it."""
    (refused,) = judged(platform, collateral=platform.collateral(status="\x1b[2J")).refusals()
    assert "?[2J" in refused.text
    assert refused.text.isprintable()


def test_each_field_of_a_domains_report_is_a_fact_by_its_name(platform: Platform) -> None:
    """A policy names any of them as a measurement: one that were read a byte beside its place would be another's."""
    said = {name: bytes([number]) * size for number, (name, size) in enumerate(FIELDS.items(), 1)}
    facts = judged(platform, platform.quote(version=5, identified=True, fields=said)).facts
    assert {name: facts[name] for name in FIELDS} == {name: value.hex() for name, value in said.items()}
