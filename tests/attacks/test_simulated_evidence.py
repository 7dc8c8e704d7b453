"""Somebody with no hardware at all: what they show is not taken for hardware's, and nobody's machine vouches for their keys."""

import hashlib
import json
from pathlib import Path

import pytest

from blindgate.attestation.appraisal import Asked
from blindgate.attestation.platforms import appraise
from blindgate.attestation.rules import PlatformRules, hold_to_policy
from blindgate_node.attester.challenge import Challenge
from blindgate_node.attester.choice import choose
from blindgate_node.settings import Settings
from blindgate_protocol.evidence import Binding
from shared import shared

BINDING = Binding(
    key_set=f"sha256:{'a' * 64}", nonce=b"\1" * 32, gpus=(), model=f"sha256:{'b' * 64}", policy=f"sha256:{'c' * 64}"
)


def simulated(folder: Path, report_data: bytes) -> bytes:
    """What a node without hardware hands out."""
    settings = Settings(data=folder, attester="insecure-simulated", gpu_attester="none")
    attester = choose(settings, lambda _, **__: None, lambda: 1_000).platform
    assert attester is not None
    return attester.attest(report_data).evidence


@pytest.mark.parametrize("platform", ["amd-sev-snp", "intel-tdx", "aws-nitro", "nvidia-gpu"])
def test_simulated_evidence_is_not_taken_for_hardware_by_a_policy_that_asks_for_some(
    tmp_path: Path, platform: str
) -> None:
    """Whichever platform the policy names, and whatever the node says that it has."""
    asked = Asked(now=1_000, report_data=BINDING.report_data())
    found = appraise(simulated(tmp_path, BINDING.report_data()), asked)
    hold_to_policy(found, {platform: PlatformRules(measurements={"measurement": ("00",)})}, asked)
    assert {one.rule for one in found.refusals()} == {"simulated", "platform"}


def test_genuine_evidence_beside_a_simulated_signature_is_judged_by_neither(tmp_path: Path) -> None:
    """Bytes of both in one file are no evidence of hardware, and no simulated evidence that a policy takes."""
    made = simulated(tmp_path, BINDING.report_data())
    genuine = json.loads(shared("vectors/nvidia/hopper_evidence.json").read_bytes())[0]
    key = json.loads(made)["signatures"][0]["keyid"]
    asked = Asked(now=1_764_000_000_000)
    rules = {
        "insecure-simulated": PlatformRules(keys=(key,)),
        "nvidia-gpu": PlatformRules(measurements={"leaf": ("00",)}),
    }
    for data in (
        json.dumps(json.loads(made) | genuine).encode(),
        json.dumps(genuine | {"note": json.loads(made)["payloadType"]}).encode(),
        made + json.dumps([genuine]).encode(),
    ):
        found = appraise(data, asked)
        hold_to_policy(found, rules, asked)
        assert not found.affirms
        assert "form" in {one.rule for one in found.refusals()}


def test_an_operator_cannot_be_talked_into_vouching_for_a_strangers_keys() -> None:
    """`blindgate node attest --nonce` with the hash of a stranger's binding gives no evidence for that binding."""
    wanted = BINDING.report_data()
    for nonce in (wanted[:32], wanted[32:], BINDING.gpu_nonce(), hashlib.sha256(wanted).digest()):
        challenge = Challenge(nonce)
        assert challenge.report_data() != wanted
        assert challenge.gpu_nonce() != BINDING.gpu_nonce()
        assert challenge.report_data()[:32] not in {nonce, challenge.gpu_nonce()}


def test_the_words_before_a_challenge_begin_no_binding() -> None:
    """What is hashed for a challenge is no text that a binding could have."""
    assert BINDING.to_bytes().startswith(b"{")
    expected = hashlib.sha256(b"blindgate node attest v1\x00" + b"\1" * 32).digest()
    assert Challenge(b"\1" * 32).report_data() == expected.ljust(64, b"\0")
