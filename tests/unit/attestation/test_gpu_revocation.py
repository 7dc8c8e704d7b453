"""A certificate of a GPU is revoked, or on hold, or neither, by the answers of NVIDIA's responder that somebody captured.

Under a root of our own, which a test pins knowingly: the answers have the form of NVIDIA's (a responder that the certificate's own
issuer certified, ECDSA with SHA-384, good for a day).
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from blindgate.attestation import gpu_revocation, nvidia
from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Tier
from blindgate.attestation.chains import fingerprint
from made_gpu import ANSWERED, MadeGpu
from shared import shared

NOON = int((ANSWERED + timedelta(hours=12)).timestamp() * 1000)
REVOKED = ocsp.OCSPCertStatus.REVOKED
HOLD = x509.ReasonFlags.certificate_hold


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> MadeGpu:
    """A GPU whose root is pinned for this test."""
    made = MadeGpu()
    for module in (nvidia, gpu_revocation):
        monkeypatch.setattr(module, "NVIDIA", {fingerprint(made.root): "our own"})
    return made


def judged(gpu: MadeGpu, *answers: bytes, **asked: Any) -> Appraisal:
    """The GPU's evidence, with answers."""
    return nvidia.appraise(gpu.evidence(), Asked(now=NOON, references=answers, **asked))


def refused(found: Appraisal) -> list[str]:
    """What it is refused for, all of which is of one rule."""
    assert {(one.rule, one.claim) for one in found.refusals()} <= {("revocation", Claim.INSTANCE_IDENTITY)}
    return [one.text for one in found.refusals()]


def is_open(found: Appraisal) -> bool:
    """Whether it says that revocation is not shown."""
    return "revocation" in {one.code for one in found.not_proven}


@pytest.mark.parametrize("by", ["a responder", "the root"])
def test_a_certificate_that_was_answered_for_is_shown_not_to_be_revoked(gpu: MadeGpu, by: str) -> None:
    """And without an answer that stays open."""
    found = judged(gpu, gpu.answer(by=by))
    assert found.affirms, found.refusals()
    assert not is_open(found)
    assert "revocation" in {one.rule for one in found.reasons}
    assert {one.claim for one in found.reasons if one.rule == "revocation"} == {Claim.INSTANCE_IDENTITY}
    found = judged(gpu, collateral=gpu.answer(by=by, digest=hashes.SHA256()))
    assert found.affirms, found.refusals()
    assert not is_open(found)
    assert is_open(judged(gpu))


def _flipped(answer: bytes) -> bytes:
    return answer[:-1] + bytes([answer[-1] ^ 1])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda gpu: gpu.answer(status=REVOKED), "NVIDIA revoked it on 2026-11-26"),
        (lambda gpu: gpu.answer(status=REVOKED, reason=HOLD), "NVIDIA put it on hold on 2026-11-26"),
        (lambda gpu: gpu.answer(status=REVOKED, begin=ANSWERED - timedelta(days=9)), "NVIDIA revoked it on 2026-11-17"),
        (lambda gpu: gpu.answer(status=ocsp.OCSPCertStatus.UNKNOWN), "does not know it"),
        (lambda gpu: gpu.answer(end=ANSWERED + timedelta(hours=11)), "not of the time that it is judged for"),
        (lambda gpu: gpu.answer(begin=ANSWERED + timedelta(hours=13)), "not of the time that it is judged for"),
        (lambda gpu: gpu.answer(end=None), "does not say until when"),
        (lambda gpu: gpu.answer(by="another use"), "does not verify under a key that its issuer certified"),
        (lambda gpu: gpu.answer(by="no use"), "does not verify under a key that its issuer certified"),
        (lambda gpu: gpu.answer(by="Ed25519"), "does not verify"),
        (lambda gpu: MadeGpu().answer(about=gpu.leaf, issuer=gpu.root), "does not verify"),
        (lambda gpu: MadeGpu().answer(about=gpu.leaf, issuer=gpu.root, by="the root"), "does not verify"),
        (lambda gpu: gpu.answer(by="the root", digest=hashes.SHA224()), "does not verify"),
        (lambda gpu: _flipped(gpu.answer(by="the root")), "does not verify"),
        (lambda gpu: gpu.answer(about=MadeGpu().leaf), "about another certificate than those of the chain"),
        (lambda _: MadeGpu().answer(), "about another certificate than those of the chain"),
        (lambda gpu: gpu.answer() + b"x", "not an answer (OCSP)"),
        (lambda gpu: gpu.answer()[:-1], "not an answer (OCSP)"),
        (lambda _: b"\x30" * 20_000, "not an answer (OCSP): 20000 bytes"),
    ],
    ids=[
        "revoked", "on hold", "revoked long ago", "unknown", "yesterday's", "tomorrow's", "without an end", "another use",
        "no use", "another kind", "a responder of somebody's own", "a root of somebody's own", "a short digest", "changed",
        "another certificate", "another responder", "bytes behind", "cut", "too large",
    ],
)  # fmt: skip
def test_an_answer_that_does_not_say_good_now_is_refused(
    gpu: MadeGpu, answer: Callable[[MadeGpu], bytes], said: str
) -> None:
    """Whoever hands one over wants it held; and a second answer that is good does not hide it."""
    for answers in ([answer(gpu)], [gpu.answer(), answer(gpu)]):
        (text,) = refused(judged(gpu, *answers))
        assert said in text


def test_a_responder_that_gives_no_answer_says_nothing(gpu: MadeGpu) -> None:
    """NVIDIA's gives none about the key that signs reports."""
    unauthorized = bytes.fromhex("30030a0106")
    found = judged(gpu, unauthorized)
    assert found.affirms
    assert is_open(found)
    assert found.vector()[Claim.INSTANCE_IDENTITY] is Tier.AFFIRMING
    assert not is_open(judged(gpu, *[unauthorized] * 63, gpu.answer()))
    found = judged(gpu, *[unauthorized] * 64, gpu.answer())
    assert refused(found) == ["65 answers: at most 64 are looked at"]
    assert is_open(found)


def test_a_real_chain_without_all_answers_says_which_are_missing() -> None:
    """By the names in its certificates."""
    data = shared("vectors/nvidia/hopper_evidence.json").read_bytes()
    found = nvidia.appraise(data, Asked(now=NOON, references=(MadeGpu().answer(),)))
    (missing,) = [one.text for one in found.not_proven if one.code == "revocation"]
    for name in ("GH100 A01 GSP FMC LF", "GH100 A01 GSP BROM", "NVIDIA GH100 Identity"):
        assert name in missing
    assert len(refused(found)) == 1
