"""What an answer to a question for evidence is worth: the node's real answer, judged by the SDK's real rules.

The machine is a made one, whose root the test pins, so that one thing at a time can be wrong with it.
"""

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from blindgate.attestation.appraisal import Tier
from blindgate.policy import Policy
from blindgate.recipients import Candidate, Question, judge
from blindgate_node.attester.choice import Attesters
from blindgate_node.attester.collateral import Collateral
from blindgate_node.key_sets import KeySets
from blindgate_node.offers import Offers
from blindgate_node.packages import Packages
from blindgate_protocol.attestations import AttestationAnswer, AttestationView, AttestationWork
from blindgate_protocol.errors import AttesterError, PolicyError, UntrustedSignerError
from blindgate_protocol.evidence import Evidence, Recipient
from blindgate_protocol.messages import Refusal
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.revocations import Revocation
from blindgate_protocol.signing import SigningKey, open_signed
from brokerage import Keys, make_manifest, now_ms
from made_gpu import MadeGpu
from made_machine import GPU_RULES, SNP_RULES, MadeGpus, MadeProcessor

DEBUG = {0x08: (0x3001F | 1 << 19).to_bytes(8, "little")}


@dataclass
class Machine:
    """A node on a made machine, and a client with a policy that names it."""

    folder: Path
    processor: MadeProcessor = field(default_factory=MadeProcessor)
    gpus: MadeGpus | None = None
    keys: Keys = field(default_factory=Keys)
    node: SigningKey = field(default_factory=SigningKey.generate)
    shift: int = 0

    def __post_init__(self) -> None:
        self.manifest = self.keys.publisher.sign(make_manifest())
        now = now_ms()
        certificate = NodeCertificate(
            node=self.node.id,
            name="node-1",
            operator=self.keys.operator.id,
            issued=now - 1000,
            expires=now + 86_400_000,
        )
        self.key_sets = KeySets(self.node, lasts=600_000, now=self.now)
        self.offers = Offers(
            Attesters(self.processor, self.gpus),
            self.key_sets,
            key=self.node,
            certificate=self.keys.operator.sign(certificate),
            packages=Packages(self.folder, publishers=(self.keys.publisher.id,), most_bytes=1 << 20),
            families=("echo",),
            now=self.now,
        )
        platforms = {"amd-sev-snp": SNP_RULES} | ({} if self.gpus is None else {"nvidia-gpu": GPU_RULES})
        self.policy = Policy({}, {"north": self.keys.operator.id}, platforms=platforms)
        self.question = Question(self.manifest.digest, self.policy.digest, os.urandom(32))

    def now(self) -> int:
        """The node's clock."""
        return now_ms() + self.shift

    def work(self, **changes: Any) -> AttestationWork:
        """The question, as the node gets it."""
        given: dict[str, Any] = {
            "attestation": "0" * 32,
            "model": self.question.model,
            "policy": self.question.policy,
            "nonce": self.question.nonce,
            "until": now_ms() + 60_000,
            "manifest": self.manifest.envelope,
        }
        return AttestationWork(**(given | changes))

    def judged(self, answer: AttestationAnswer | None = None, *, policy: Policy | None = None) -> Candidate:
        """What its answer is worth."""
        view = AttestationView(
            attestation="0" * 32, until=0, place=1, node=self.node.id, answer=answer or self.offers.answer(self.work())
        )
        policy = policy or self.policy
        return judge(view, self.question, policy, operators=policy.allowed_operators(), now=now_ms())

    def again(self, **changes: Any) -> AttestationAnswer:
        """Its answer, with other evidence that the node itself vouches for."""
        answer = self.offers.answer(self.work())
        evidence = Evidence.from_bytes(answer.evidence)
        made = Evidence(**({name: getattr(evidence, name) for name in Evidence.model_fields} | changes))
        recipient = open_signed(answer.recipient, Recipient).document
        offered = recipient.model_copy(update={"evidence": made.digest})
        return AttestationAnswer(recipient=self.node.sign(offered).envelope, evidence=made.to_bytes())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A processor alone."""
    made = Machine(tmp_path)
    made.processor.pin(monkeypatch)
    return made


@pytest.fixture
def with_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A processor and two GPUs."""
    made = Machine(tmp_path, gpus=MadeGpus((MadeGpu(), MadeGpu())))
    assert made.gpus is not None
    made.processor.pin(monkeypatch)
    made.gpus.pin(monkeypatch)
    return made


def _rules(one: Candidate) -> set[str]:
    return {reason.rule for reason in one.reasons}


def test_a_genuine_machine_that_the_policy_names_affirms(machine: Machine) -> None:
    """And what it does not prove is told all the same."""
    one = machine.judged()
    assert (one.affirms, one.admitted, one.name, one.node) == (True, True, "node-1", machine.node.id), one.reasons
    assert {"weights", "physical-access"} <= {unproven.code for unproven in one.not_proven}


def test_gpus_are_held_to_the_same_question(with_gpus: Machine) -> None:
    """Processor and GPUs affirm, each under its own rules of the policy."""
    one = with_gpus.judged()
    assert [appraisal.platform for appraisal in one.appraisals] == ["amd-sev-snp", "nvidia-gpu"]
    assert one.affirms, one.reasons
    assert "gpu-binding" in {unproven.code for unproven in one.not_proven}
    without = with_gpus.policy.platforms.pop("nvidia-gpu")
    assert without is not None
    assert not with_gpus.judged(policy=with_gpus.policy).admitted


def test_a_guest_under_debug_is_refused(machine: Machine) -> None:
    """Its owner reads its memory."""
    machine.processor.fields = DEBUG
    one = machine.judged()
    assert not one.admitted
    assert "debug" in _rules(one)


def test_another_program_is_refused(machine: Machine) -> None:
    """By its measurement."""
    machine.processor.fields = {0x90: b"\xbb" * 48}
    one = machine.judged()
    assert not one.admitted
    assert _rules(one) == {"measurement"}


def test_a_platform_that_the_policy_does_not_name_is_refused(machine: Machine) -> None:
    """A policy without platforms believes no evidence."""
    one = machine.judged(policy=replace(machine.policy, platforms={}))
    assert not one.admitted  # the question's own policy still stands in the binding
    assert "platform" in _rules(one)


def test_a_gpu_speaks_for_no_machine(with_gpus: Machine) -> None:
    """Its evidence has no report data: put where the processor's belongs, it would bind no key set."""
    assert with_gpus.gpus is not None
    answer = with_gpus.offers.answer(with_gpus.work())
    bound = Evidence.from_bytes(answer.evidence).binding
    one = with_gpus.judged(with_gpus.again(platform=with_gpus.gpus.attest(bound.gpu_nonce()), chain=()))
    assert not one.admitted
    assert {"platform", "report-data"} <= _rules(one)


def test_a_processors_report_is_no_gpus(with_gpus: Machine) -> None:
    """Told by what the binding names."""
    report = with_gpus.processor.attest(b"\1" * 64).evidence
    assert not with_gpus.judged(with_gpus.again(gpu=report)).admitted


def test_gpus_that_the_binding_does_not_name_are_refused(with_gpus: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Genuine, and answering the right nonce: borrowed from another machine after the fact, or one left out."""
    assert with_gpus.gpus is not None
    bound = Evidence.from_bytes(with_gpus.offers.answer(with_gpus.work()).evidence).binding
    borrowed = MadeGpus((with_gpus.gpus.gpus[0], MadeGpu()))
    borrowed.pin(monkeypatch)
    for others in (borrowed, MadeGpus(with_gpus.gpus.gpus[:1]), MadeGpus(with_gpus.gpus.gpus[::-1])):
        one = with_gpus.judged(with_gpus.again(gpu=others.attest(bound.gpu_nonce())))
        assert _rules(one) == {"seal-terms"}


def test_gpus_that_answered_another_nonce_are_refused(with_gpus: Machine) -> None:
    """The one that is derived from this binding, and no other."""
    assert with_gpus.gpus is not None
    one = with_gpus.judged(with_gpus.again(gpu=with_gpus.gpus.attest(os.urandom(32))))
    assert not one.admitted
    assert "nonce" in _rules(one)


def test_who_is_revoked_is_not_sealed_to(machine: Machine) -> None:
    """The operator, for whom no other stands, or the node alone."""
    revoked = {machine.node.id: Revocation(at=now_ms() - 1000)}
    one = machine.judged(policy=replace(machine.policy, revoked=revoked))
    assert _rules(one) == {"revoked-signer"}
    other = SigningKey.generate().id
    policy = replace(
        machine.policy,
        operators=machine.policy.operators | {"other": other},
        revoked={machine.keys.operator.id: Revocation(at=now_ms() - 1000)},
    )
    assert _rules(machine.judged(policy=policy)) == {"bad-recipient"}


def test_what_a_node_says_instead_of_an_answer_is_shown_and_admits_nobody(machine: Machine) -> None:
    """Whatever it says."""
    view = AttestationView(
        attestation="0" * 32, until=0, place=1, node=machine.node.id, refusal=Refusal(code="no-evidence", reason="busy")
    )
    one = judge(view, machine.question, machine.policy, operators=(machine.keys.operator.id,), now=now_ms())
    assert (one.admitted, one.status, _rules(one)) == (False, Tier.UNVERIFIED, {"no-evidence"})
    assert one.refused is not None
    assert "busy" in one.refused.text


def test_a_policy_is_called_by_what_it_says(machine: Machine) -> None:
    """Not by its file: the same rules have one digest, and any other rule another."""
    policy = machine.policy
    assert policy.digest == replace(policy, path=Path("elsewhere")).digest
    changed = [
        replace(policy, platforms={}),
        replace(policy, operators={}),
        replace(policy, revoked={machine.node.id: Revocation(at=1)}),
        replace(policy, publishers={"x": machine.node.id}),
    ]
    assert len({policy.digest, *(one.digest for one in changed)}) == 5


def test_an_answer_that_was_changed_anywhere_admits_nobody_and_raises_nothing(with_gpus: Machine) -> None:
    """Bits, cuts and doubled pieces, of the evidence's bytes and, with the node's own word for it, of each of its parts."""
    answer = with_gpus.offers.answer(with_gpus.work())
    assert with_gpus.judged(answer).affirms
    evidence = Evidence.from_bytes(answer.evidence)
    random = Random(7)
    for _ in range(60):
        changed = answer.model_copy(update={"evidence": _changed(answer.evidence, random)})
        assert not with_gpus.judged(changed).admitted
    for part in ("platform", "gpu"):
        for _ in range(60):
            data = _changed(getattr(evidence, part), random)
            one = with_gpus.judged(with_gpus.again(**{part: data}))
            assert not one.admitted, (part, one.reasons)


def _changed(data: bytes, random: Random) -> bytes:
    at, length = random.randrange(len(data)), random.randrange(1, 9)
    return random.choice(
        (
            data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :],
            data[: max(1, at)],
            data[:at] + data[at : at + length] + data[at:],
        )
    )


# The node's side


def test_a_node_answers_for_models_of_its_publishers_alone(machine: Machine) -> None:
    """Of a family that it computes, and for the manifest that the question names."""
    stranger = SigningKey.generate().sign(make_manifest())
    with pytest.raises(UntrustedSignerError):
        machine.offers.answer(machine.work(manifest=stranger.envelope, model=stranger.digest))
    other = machine.keys.publisher.sign(make_manifest(family="another"))
    with pytest.raises(PolicyError, match="family"):
        machine.offers.answer(machine.work(manifest=other.envelope, model=other.digest))
    with pytest.raises(PolicyError, match="another model"):
        machine.offers.answer(machine.work(model="sha256:" + "0" * 64))


def test_what_the_makers_say_goes_along_as_it_is_now(with_gpus: Machine, tmp_path: Path) -> None:
    """Read for each question: a file that was fetched anew counts at once, and one that is gone is told."""
    collateral, manifest = tmp_path / "collateral.json", tmp_path / "rim.xml"
    collateral.write_bytes(b"{}")
    manifest.write_bytes(b"<x/>")
    with_gpus.offers._collateral = Collateral(collateral, (manifest,))
    collateral.write_bytes(b'{"newer": 1}')
    evidence = Evidence.from_bytes(with_gpus.offers.answer(with_gpus.work()).evidence)
    assert (evidence.collateral, evidence.references) == (b'{"newer": 1}', (b"<x/>",))
    manifest.unlink()
    with pytest.raises(AttesterError, match="gpu_references"):
        with_gpus.offers.answer(with_gpus.work())


@pytest.mark.parametrize("data", [b"", bytes((1 << 20) + 1)], ids=["empty", "too large"])
def test_a_file_that_no_client_would_take_is_refused_at_the_start(tmp_path: Path, data: bytes) -> None:
    """By the setting's name; so is one that is not there, and one too many."""
    file = tmp_path / "collateral.json"
    with pytest.raises(AttesterError, match="attester_collateral"):
        Collateral(file)
    file.write_bytes(data)
    with pytest.raises(AttesterError, match="attester_collateral"):
        Collateral(file)
    with pytest.raises(AttesterError, match="at most 4"):
        Collateral(None, [file] * 5)


def test_one_key_set_is_shown_until_half_of_its_time_is_over(machine: Machine) -> None:
    """Then a new one is; what was sealed to the former is opened until that one ends."""
    first = machine.key_sets.current()
    machine.shift = 299_000
    assert machine.key_sets.current() is first
    machine.shift = 301_000
    second = machine.key_sets.current()
    assert second is not first
    assert machine.key_sets.of(first.key_set.digest) is first
    machine.shift = 601_000
    assert machine.key_sets.of(first.key_set.digest) is None
    assert machine.key_sets.of(second.key_set.digest) is second


def test_a_clock_that_was_set_back_makes_new_keys(machine: Machine) -> None:
    """Those that are dated ahead, nobody would seal to."""
    first = machine.key_sets.current()
    machine.shift = -3_600_000
    assert machine.key_sets.current().key_set.issued < first.key_set.issued


def test_what_was_shown_is_remembered_as_long_as_its_keys(machine: Machine) -> None:
    """By the digest of the evidence, as opening a seal wants it."""
    answer = machine.offers.answer(machine.work())
    evidence = Evidence.from_bytes(answer.evidence)
    assert machine.key_sets.shown() == {evidence.digest: evidence.binding}
    assert "sha256:" + hashlib.sha256(answer.evidence).hexdigest() == evidence.digest
    machine.shift = 601_000
    assert machine.key_sets.shown() == {}


def test_what_is_remembered_has_an_end(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first: whoever sealed for those asks again."""
    monkeypatch.setattr("blindgate_node.key_sets.MOST_SHOWN", 3)
    answers = [machine.offers.answer(machine.work(nonce=os.urandom(32))) for _ in range(5)]
    kept = [Evidence.from_bytes(answer.evidence).digest for answer in answers[2:]]
    assert list(machine.key_sets.shown()) == kept
