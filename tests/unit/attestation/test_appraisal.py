"""A verdict: the worst that was said of each part, in the words and numbers that other programs read (AR4SI, EAR)."""

import pytest

from blindgate.attestation.appraisal import Appraisal, Claim, Tier

AT = 1_800_000_000_999


def test_a_verdict_is_written_as_the_drafts_write_it() -> None:
    """Whole: a script that looks for a member by its name finds it, and a number that it holds means what AR4SI says."""
    found = Appraisal("amd-sev-snp", AT, {"product": "Genoa"})
    found.affirm(Claim.HARDWARE, "chain", "the key is AMD's")
    found.warn(Claim.CONFIGURATION, "tcb", "it should be hardened")
    found.refuse(Claim.EXECUTABLES, "measurement", "another program")
    found.refuse(Claim.SOURCED_DATA, "nonce", "an old answer")
    found.disbelieve("signature", "it does not verify")
    found.leave_open("freshness", "nobody asked")
    assert found.to_ear() == {
        "eat_profile": "tag:ietf.org,2026:rats/ear#01",
        "iat": AT // 1000,
        "ear.verifier-id": {"developer": "blindgate", "build": "blindgate"},
        "submods": {
            "amd-sev-snp": {
                "ear.status": "contraindicated",
                "ear.trustworthiness-vector": {
                    "instance-identity": 99,
                    "configuration": 32,
                    "executables": 96,
                    "hardware": 2,
                    "runtime-opaque": 0,
                    "sourced-data": 96,
                },
                "blindgate.facts": {"product": "Genoa"},
                "blindgate.reasons": [
                    {"claim": claim, "status": status, "rule": rule, "text": text}
                    for claim, status, rule, text in (
                        ("hardware", "affirming", "chain", "the key is AMD's"),
                        ("configuration", "warning", "tcb", "it should be hardened"),
                        ("executables", "contraindicated", "measurement", "another program"),
                        ("sourced-data", "contraindicated", "nonce", "an old answer"),
                        ("instance-identity", "contraindicated", "signature", "it does not verify"),
                    )
                ],
                "blindgate.not-proven": [{"code": "freshness", "text": "nobody asked"}],
            }
        },
    }


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ([], "none"),
        ([Tier.AFFIRMING], "affirming"),
        ([Tier.WARNING, Tier.AFFIRMING], "warning"),
        ([Tier.CONTRAINDICATED, Tier.WARNING, Tier.AFFIRMING], "contraindicated"),
        ([Tier.AFFIRMING, Tier.UNVERIFIED], "contraindicated"),
    ],
)
@pytest.mark.parametrize("spread", [False, True], ids=["of one part", "of several"])
def test_the_worst_that_was_said_is_the_verdict(said: list[Tier], word: str, *, spread: bool) -> None:
    """What holds beside it makes nothing good, of the same part or of another; and nothing said affirms nothing."""
    found = Appraisal("amd-sev-snp", AT)
    speak = {Tier.AFFIRMING: found.affirm, Tier.WARNING: found.warn, Tier.CONTRAINDICATED: found.refuse}
    for claim, tier in zip(Claim if spread else [Claim.INSTANCE_IDENTITY] * len(Claim), said, strict=False):
        if tier is Tier.UNVERIFIED:
            found.disbelieve("rule", "text")
        else:
            speak[tier](claim, "rule", "text")
    assert found.status.word == word
    assert found.affirms == (word == "affirming")
    assert {one.tier for one in found.refusals()} == set(said) - {Tier.AFFIRMING}
