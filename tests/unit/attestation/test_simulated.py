"""Simulated evidence: told by its bytes, refused by name, and never more than a warning."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Tier
from blindgate.attestation.platforms import appraise
from blindgate.attestation.rules import PlatformRules, hold_to_policy
from blindgate.commands.trust import app
from blindgate.policy import Policy
from blindgate_protocol.errors import PolicyError
from blindgate_protocol.evidence import MAX_PLATFORM_BYTES
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.simulated_evidence import WARNING, SimulatedEvidence
from shared import shared

KEY = SigningKey.generate()
REPORT_DATA = bytes(range(1, 65))
ASKED = Asked(now=1_000, report_data=REPORT_DATA)


def evidence(key: SigningKey = KEY, report_data: bytes = REPORT_DATA) -> bytes:
    """As the simulated attester writes it."""
    return key.sign(SimulatedEvidence(warning=WARNING, report_data=report_data, time=1_000)).envelope.to_bytes()


def refused(found: Appraisal) -> dict[str, Tier]:
    """What speaks against it, by rule."""
    return {one.rule: one.tier for one in found.refusals()}


def named(*keys: str) -> dict[str, PlatformRules]:
    """A policy's platforms."""
    return {"insecure-simulated": PlatformRules(keys=keys)}


def test_without_a_policy_it_is_refused_by_name() -> None:
    """Though it is whole, and binds what was asked."""
    found = appraise(evidence(), ASKED)
    assert found.platform == "insecure-simulated"
    assert refused(found) == {"simulated": Tier.CONTRAINDICATED}
    assert [one.code for one in found.not_proven] == ["hardware"]
    assert found.facts == {"warning": WARNING, "key": KEY.id, "report_data": REPORT_DATA.hex(), "time": 1_000}
    assert [(one.claim, one.rule, one.tier) for one in found.reasons] == [
        (Claim.INSTANCE_IDENTITY, "signature", Tier.AFFIRMING),
        (Claim.SOURCED_DATA, "report-data", Tier.AFFIRMING),
        (Claim.HARDWARE, "simulated", Tier.CONTRAINDICATED),
    ]


@pytest.mark.parametrize(
    "platforms",
    [
        pytest.param({}, id="the default policy"),
        pytest.param({"amd-sev-snp": PlatformRules(measurements={"measurement": ("00",)})}, id="hardware is named"),
    ],
)
def test_a_policy_that_does_not_name_it_refuses_it(platforms: dict[str, PlatformRules]) -> None:
    """By the rule `simulated`, and since it is not named."""
    found = appraise(evidence(), ASKED)
    hold_to_policy(found, platforms, ASKED)
    assert refused(found) == {"simulated": Tier.CONTRAINDICATED, "platform": Tier.CONTRAINDICATED}


def test_a_policy_that_names_its_key_gets_a_warning_and_never_more() -> None:
    """And still reads that nothing of hardware is proven."""
    found = appraise(evidence(), ASKED)
    hold_to_policy(found, named(KEY.id), ASKED)
    assert refused(found) == {"simulated": Tier.WARNING}
    assert (found.status, found.affirms) == (Tier.WARNING, False)
    assert found.vector()[Claim.HARDWARE] is Tier.WARNING
    assert found.vector()[Claim.EXECUTABLES] is Tier.NONE
    assert [one.code for one in found.not_proven] == ["hardware"]


def test_another_key_than_the_policy_names_is_refused() -> None:
    """Anybody can make a key."""
    found = appraise(evidence(SigningKey.generate()), ASKED)
    hold_to_policy(found, named(KEY.id), ASKED)
    assert refused(found) == {"simulated": Tier.CONTRAINDICATED, "key": Tier.CONTRAINDICATED}
    assert found.vector()[Claim.INSTANCE_IDENTITY] is Tier.CONTRAINDICATED


@pytest.mark.parametrize(
    ("asked", "rules"),
    [
        (Asked(now=1, report_data=b"\1" * 64), {"report-data"}),
        (Asked(now=1, report_data=REPORT_DATA + b"\0"), {"report-data"}),
        (Asked(now=1, report_data=b""), {"report-data"}),
        (Asked(now=1, nonce=b"\2"), {"nonce"}),
        (Asked(now=1, nonce=REPORT_DATA), set()),
        (Asked(now=1), set()),
    ],
)
def test_evidence_for_another_question_is_refused_whatever_the_policy(asked: Asked, rules: set[str]) -> None:
    """The honest part of it: it binds what it says."""
    found = appraise(evidence(), asked)
    hold_to_policy(found, named(KEY.id), asked)
    assert set(refused(found)) == {"simulated"} | rules
    nothing_asked = asked == Asked(now=1)
    left = {"hardware", "binding", "freshness"} if nothing_asked else {"hardware"}
    assert {one.code for one in found.not_proven} == left


def test_zeros_bind_nothing_whoever_asks_for_them() -> None:
    """Nor does an empty challenge; one that begins or ends with zeros does."""
    for asked in (Asked(now=1, report_data=bytes(64)), Asked(now=1, report_data=b""), Asked(now=1, nonce=bytes(64))):
        found = appraise(evidence(report_data=bytes(64)), asked)
        assert set(refused(found)) == {"simulated", "nonce" if asked.nonce else "report-data"}
    for bound in (b"\0" + bytes(range(63)), b"\1".ljust(64, b"\0")):
        assert set(refused(appraise(evidence(report_data=bound), Asked(now=1, report_data=bound)))) == {"simulated"}


def test_evidence_that_is_bound_to_nothing_is_refused_by_a_policy() -> None:
    """As of every platform."""
    found = appraise(evidence(report_data=bytes(64)), Asked(now=1))
    hold_to_policy(found, named(KEY.id), Asked(now=1))
    assert refused(found) == {"simulated": Tier.WARNING, "report-data": Tier.CONTRAINDICATED}


def test_keys_for_hardware_do_not_stand_in_for_its_measurements() -> None:
    """Also where a program made the rules, and no policy file: otherwise every program on such a machine would do."""
    asked = Asked(now=1_764_000_000_000)
    found = appraise(shared("vectors/nitro/document.cbor").read_bytes(), asked)
    assert found.affirms
    hold_to_policy(found, {"aws-nitro": PlatformRules(keys=(KEY.id,))}, asked)
    assert refused(found) == {"platform": Tier.CONTRAINDICATED}


@pytest.mark.parametrize("place", range(0, 580, 7))
def test_a_changed_byte_is_never_believed(place: int) -> None:
    """Not by a policy that names the key, either."""
    data = bytearray(evidence())
    data[place] ^= 1
    for asked in (ASKED, Asked(now=1)):
        found = appraise(bytes(data), asked)
        hold_to_policy(found, named(KEY.id), asked)
        assert found.status >= Tier.CONTRAINDICATED, found.reasons


def test_a_signature_that_does_not_verify_is_told_so() -> None:
    """By that rule; nothing that the document says is read."""
    data = json.loads(evidence())
    data["payload"] = json.loads(evidence(report_data=bytes(64)))["payload"]
    found = appraise(json.dumps(data).encode(), ASKED)
    assert (refused(found), found.facts) == ({"signature": Tier.UNVERIFIED}, {})


def test_a_sentence_of_its_own_is_no_warning() -> None:
    """The document says what it is, in the one sentence that it may have."""
    values = {"warning": "genuine", "report_data": REPORT_DATA, "time": 1}
    made = SimulatedEvidence.model_construct(None, **values)  # type: ignore[arg-type]
    found = appraise(KEY.sign(made).envelope.to_bytes(), ASKED)
    assert refused(found) == {"form": Tier.UNVERIFIED}


def test_what_is_too_long_or_none_is_no_evidence() -> None:
    """Whatever names the type and is not signed, or has no end."""
    name = SimulatedEvidence.media_type.encode()
    for data in (
        b'{"payloadType":"' + name + b'"}',
        b"{" + name,
        b"{" + name + bytes(70_000),
        b"{" + name + b"[" * 60_000,
        evidence().ljust(MAX_PLATFORM_BYTES + 1),
    ):
        found = appraise(data, ASKED)
        assert (found.platform, set(refused(found))) == ("insecure-simulated", {"form"})
    assert set(refused(appraise(evidence().ljust(MAX_PLATFORM_BYTES), ASKED))) == {"simulated"}
    for data in (name, b"[" + evidence() + b"]"):
        assert appraise(data, ASKED).platform == "unknown"


def test_the_command_names_it_and_its_exit_status_is_a_refusal(tmp_path: Path) -> None:
    """With and without a policy that takes it: a warning is no affirmation."""
    (tmp_path / "evidence").write_bytes(evidence())
    (tmp_path / "policy.toml").write_text(f'[platforms.insecure-simulated]\nkeys = ["{KEY.id}"]\n')
    command = ["appraise", str(tmp_path / "evidence"), "--report-data", REPORT_DATA.hex()]
    plain = CliRunner().invoke(app, command)
    assert plain.exit_code == 1
    assert plain.stdout.startswith("insecure-simulated: contraindicated")
    assert "REFUSED  simulated: " in plain.stdout
    assert "INSECURE: simulated evidence" in plain.stdout
    allowed = CliRunner().invoke(app, [*command, "--policy", str(tmp_path / "policy.toml"), "--json"])
    assert allowed.exit_code == 1
    assert json.loads(allowed.stdout)["submods"]["insecure-simulated"]["ear.status"] == "warning"


def test_a_policy_with_it_is_written_as_it_was_read(tmp_path: Path) -> None:
    """Whoever runs `blindgate policy trust` later loses nothing."""
    file = tmp_path / "policy.toml"
    file.write_text(f'[platforms.insecure-simulated]\nkeys = ["{KEY.id}"]\n')
    before = Policy.load(file)
    before.save()
    assert Policy.load(file).platforms == before.platforms == named(KEY.id)


@pytest.mark.parametrize(
    "text",
    [
        "[platforms.insecure-simulated]",
        "[platforms.insecure-simulated]\nkeys = []",
        f'[platforms.insecure-simulated]\nkeys = ["{KEY.id}"]\nmeasurements.x = ["00"]',
        '[platforms.insecure-simulated]\nkeys = ["me"]',
        f'[platforms.amd-sev-snp]\nkeys = ["{KEY.id}"]',
        '[platforms.insecure-simulated.measurements]\nmeasurement = ["00"]',
    ],
    ids=["nothing", "no keys", "measurements", "no key", "keys of hardware", "measurements alone"],
)
def test_a_policy_that_says_it_wrongly_is_refused(tmp_path: Path, text: str) -> None:
    """Simulated evidence has keys, and no measurements; hardware has measurements, and no keys."""
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(PolicyError, match="platforms"):
        Policy.load(tmp_path / "policy.toml")
