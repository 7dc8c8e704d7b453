"""What a policy's rules about platforms decide of an appraisal, and what they leave open: each by facts that say it alone."""

from datetime import UTC, datetime

import pytest

from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Tier
from blindgate.attestation.rules import PlatformRules, hold_to_policy

NOW = int(datetime(2026, 11, 26, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("status", "advisories", "rules", "refused"),
    [
        ("SWHardeningNeeded", ["INTEL-SA-00615"], {}, ["tcb"]),
        ("SWHardeningNeeded", ["INTEL-SA-00615"], {"advisories": ("INTEL-SA-00615",)}, []),
        ("SWHardeningNeeded", ["INTEL-SA-00615", "INTEL-SA-00657"], {"advisories": ("INTEL-SA-00615",)}, ["tcb"]),
        ("SWHardeningNeeded", [], {"advisories": ("INTEL-SA-00615",)}, ["tcb"]),
        ("ConfigurationNeeded", ["INTEL-SA-00615"], {"advisories": ("INTEL-SA-00615",)}, []),
        ("ConfigurationAndSWHardeningNeeded", ["INTEL-SA-00615"], {"advisories": ("INTEL-SA-00615",)}, []),
        ("TDRelaunchAdvised", ["INTEL-SA-00615"], {"advisories": ("INTEL-SA-00615",)}, ["tcb"]),
        ("OutOfDate", ["INTEL-SA-00615"], {"advisories": ("INTEL-SA-00615",)}, ["tcb"]),
        ("OutOfDateConfigurationNeeded", ["INTEL-SA-00615"], {"advisories": ("INTEL-SA-00615",)}, ["tcb"]),
        ("UpToDate", [], {"tcb_evaluation": 17}, []),
        ("UpToDate", [], {"tcb_evaluation": 18}, ["tcb-evaluation"]),
    ],
)
def test_a_policy_says_which_of_intels_words_will_do(
    status: str, advisories: list[str], rules: dict[str, object], refused: list[str]
) -> None:
    """The advisories that somebody saw to, each of them; and how old Intel's information may be."""
    facts = {"mrtd": "ab", "report_data": "01", "tcb_status": status, "advisories": advisories, "tcb_evaluation": 17}
    found = Appraisal("intel-tdx", NOW, facts)
    if status != "UpToDate":
        found.warn(Claim.HARDWARE, "tcb", f"the platform's status is {status}")
    asked = PlatformRules.model_validate({"measurements": {"mrtd": ("ab",)}, **rules})
    hold_to_policy(found, {"intel-tdx": asked}, Asked(now=NOW))
    assert [one.rule for one in found.refusals()] == refused
    assert found.affirms == (not refused)
    assert {one.claim for one in found.reasons if one.rule in ("tcb", "tcb-evaluation")} <= {Claim.HARDWARE}
    taken = [one.text for one in found.reasons if (one.rule, one.tier) == ("tcb", Tier.AFFIRMING)]
    expected = f"the platform's status is {status}; the policy takes it with INTEL-SA-00615"
    assert taken == ([expected] if not refused and advisories else [])


def test_advisories_that_somebody_saw_to_excuse_nothing_else() -> None:
    """A domain under debug stays one, whatever its platform's status."""
    facts = {"mrtd": "ab", "report_data": "01", "tcb_status": "SWHardeningNeeded", "advisories": ["INTEL-SA-00615"]}
    found = Appraisal("intel-tdx", NOW, facts)
    found.refuse(Claim.CONFIGURATION, "debug", "the trust domain is under debug")
    found.warn(Claim.HARDWARE, "tcb", "the platform's status is SWHardeningNeeded")
    rules = PlatformRules(measurements={"mrtd": ("ab",)}, advisories=("INTEL-SA-00615",))
    hold_to_policy(found, {"intel-tdx": rules}, Asked(now=NOW))
    assert [one.rule for one in found.refusals()] == ["debug"]


def test_a_quote_whose_collateral_was_no_good_is_refused_by_what_was_wrong_with_it() -> None:
    """It has no number of Intel's, or a status of which nothing was warned: the policy's rules read what is not there."""
    rules = PlatformRules(measurements={"mrtd": ("ab",)}, tcb_evaluation=17, advisories=("INTEL-SA-00615",))
    status = {"tcb_status": "SWHardeningNeeded", "advisories": ["INTEL-SA-00615"]}
    for facts in ({}, status):
        found = Appraisal("intel-tdx", NOW, {"mrtd": "ab", "report_data": "01", **facts})
        found.refuse(Claim.HARDWARE, "collateral", "the collateral is of another enclave")
        hold_to_policy(found, {"intel-tdx": rules}, Asked(now=NOW))
        assert [one.rule for one in found.refusals()] == ["collateral", "tcb-evaluation"]
        assert "is number not said" in found.refusals()[1].text


def test_each_rule_speaks_of_its_part_of_the_machine() -> None:
    """So that a script that reads the trust vector alone sees where the policy was not met."""
    found = Appraisal("amd-sev-snp", NOW, {"measurement": "cd", "vmpl": 3, "product": "Milan", "chip_id": "cd"})
    found.leave_open("migration", "a guest that may be moved")
    rules = PlatformRules(measurements={"measurement": ("ab",)}, chips=("ab",), minimum_tcb={"snp": 1})
    hold_to_policy(found, {"amd-sev-snp": rules}, Asked(now=NOW))
    assert {one.rule: one.claim.value for one in found.refusals()} == {
        "migration": "hardware",
        "vmpl": "configuration",
        "product": "hardware",
        "measurement": "executables",
        "chip": "instance-identity",
        "tcb": "hardware",
        "report-data": "sourced-data",
    }
    for platforms in ({}, {"aws-nitro": rules}, {"aws-nitro": rules, "intel-tdx": rules}):
        found = Appraisal("amd-sev-snp", NOW, {"measurement": "ab"})
        hold_to_policy(found, platforms, Asked(now=NOW))
        ((rule, claim, text),) = ((one.rule, one.claim, one.text) for one in found.refusals())
        assert (rule, claim) == ("platform", Claim.CONFIGURATION)
        assert text.endswith(f"it has: {', '.join(platforms) or 'none'}")


@pytest.mark.parametrize(
    ("platform", "rules", "left", "refused"),
    [
        ("amd-sev-snp", {}, {"chip-id", "tcb-policy", "revocation"}, ["alias-check", "migration"]),
        ("amd-sev-snp", {"chips": ("ab",)}, {"tcb-policy", "revocation"}, ["alias-check", "migration"]),
        ("amd-sev-snp", {"minimum_tcb": {"snp": 1}}, {"chip-id", "revocation"}, ["alias-check", "migration"]),
        ("intel-tdx", {}, {"chip-id", "tcb-policy", "revocation", "alias-check", "migration"}, []),
        ("intel-tdx", {"tcb_evaluation": 17}, {"chip-id", "revocation", "alias-check", "migration"}, []),
    ],
)
def test_a_policy_leaves_open_what_it_does_not_decide(
    platform: str, rules: dict[str, object], left: set[str], refused: list[str]
) -> None:
    """And refuses what must not be open, where somebody relies on AMD's processors."""
    facts = {
        "measurement": "ab",
        "report_data": "01",
        "vmpl": 0,
        "product": "Genoa",
        "chip_id": "ab",
        "tcb_evaluation": 17,
    }
    found = Appraisal(platform, NOW, {**facts, "reported_tcb": {"snp": 1}})
    for code in ("measurement", "milan", "vmpl", "chip-id", "tcb-policy", "revocation", "alias-check", "migration"):
        found.leave_open(code, f"{code} is open")
    asked = PlatformRules.model_validate({"measurements": {"measurement": ("ab",)}, **rules})
    hold_to_policy(found, {platform: asked}, Asked(now=NOW))
    assert {one.code for one in found.not_proven} == left
    assert [(one.rule, one.text) for one in found.refusals()] == [(code, f"{code} is open") for code in refused]


@pytest.mark.parametrize(
    ("platform", "facts", "asked", "refused"),
    [
        ("amd-sev-snp", {"report_data": "00" * 64}, None, ["report-data"]),
        ("amd-sev-snp", {"report_data": "00" * 64}, bytes(64), []),
        ("amd-sev-snp", {}, None, ["report-data"]),
        ("aws-nitro", {"user_data": "", "nonce": "01"}, None, []),
        ("aws-nitro", {"user_data": "00", "nonce": "01"}, None, ["report-data"]),
        ("nvidia-gpu", {"nonce": "00" * 32}, None, ["report-data"]),
        ("nvidia-gpu", {"nonce": "01" * 32}, None, []),
    ],
)
def test_a_policy_wants_evidence_that_is_bound_to_something(
    platform: str, facts: dict[str, object], asked: bytes | None, refused: list[str]
) -> None:
    """Where report data was asked for, the platform's own verifier held it."""
    found = Appraisal(platform, NOW, {"measurement": "ab", "vmpl": 0, "product": "Genoa", **facts})
    rules = {platform: PlatformRules(measurements={"measurement": ("ab",)})}
    hold_to_policy(found, rules, Asked(now=NOW, report_data=asked))
    assert [one.rule for one in found.refusals()] == refused


def test_rules_of_another_platform_decide_nothing_of_this_one() -> None:
    """Also where nobody read them from a file: keys are for simulated evidence, and Intel's advisories for Intel's."""
    for rules in (
        PlatformRules(keys=("ed25519:" + "A" * 43,)),
        PlatformRules(measurements={"measurement": ("ab",)}, advisories=("INTEL-SA-00615",)),
    ):
        found = Appraisal("aws-nitro", NOW, {"measurement": "ab", "user_data": "01"})
        hold_to_policy(found, {"aws-nitro": rules}, Asked(now=NOW))
        assert [(one.rule, one.claim) for one in found.refusals()] == [("platform", Claim.CONFIGURATION)]
