"""Whom a client seals to, and for how long it believes them: real evidence of a made machine, judged by the SDK's rules."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blindgate import admission
from blindgate.admission import Admission
from blindgate.policy import Policy, Rules
from blindgate.recipients import Candidates, Question, judge_answer
from blindgate_node.attester.choice import Attesters
from blindgate_node.key_sets import KeySets
from blindgate_node.offers import Offers
from blindgate_node.packages import Packages
from blindgate_protocol.attestations import AttestationWork
from blindgate_protocol.errors import NoNodeError, PolicyError, UntrustedEvidenceError
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.revocations import Revocation
from blindgate_protocol.signing import SigningKey
from brokerage import Keys, make_manifest, now_ms
from made_machine import SNP_RULES, MadeProcessor

HOUR = 3_600_000
LASTS = 600_000


class Asked:
    """Stands where `find_recipients` does: nodes of one made machine answer, with real evidence; questions are counted."""

    def __init__(self, folder: Path, nodes: int = 1, *, lasts: int = LASTS) -> None:
        self.keys, self.processor, self.questions = Keys(), MadeProcessor(), 0
        self.manifest = self.keys.publisher.sign(make_manifest())
        self.policy = Policy({}, {"north": self.keys.operator.id}, platforms={"amd-sev-snp": SNP_RULES})
        self.shift = 0
        self.nodes = [SigningKey.generate() for _ in range(nodes)]
        packages = Packages(folder, publishers=(self.keys.publisher.id,), most_bytes=1 << 20)
        self.offers = [
            Offers(
                Attesters(self.processor, None),
                KeySets(node, lasts=lasts, now=now_ms),
                key=node,
                certificate=self.keys.operator.sign(
                    NodeCertificate(
                        node=node.id,
                        name="n",
                        operator=self.keys.operator.id,
                        issued=now_ms() - 1000,
                        expires=now_ms() + HOUR,
                    )
                ),
                packages=packages,
                families=("echo",),
                now=now_ms,
            )
            for node in self.nodes
        ]

    def restart(self) -> None:
        """Give the nodes other keys, as a restart does."""
        for node, offers in zip(self.nodes, self.offers, strict=True):
            offers.key_sets = KeySets(node, lasts=LASTS, now=now_ms)

    def now(self) -> int:
        """The client's clock."""
        return now_ms() + self.shift

    def find(self, _transport: Any, policy: Policy, model: str, **_: Any) -> Candidates:
        """Ask all of them."""
        self.questions += 1
        question = Question(model, policy.digest, bytes([self.questions]) * 32)
        answers = []
        for node, offers in zip(self.nodes, self.offers, strict=True):
            work = AttestationWork(
                attestation="0" * 32,
                model=model,
                policy=question.policy,
                nonce=question.nonce,
                until=now_ms() + 60_000,
                manifest=self.manifest.envelope,
            )
            answer, operators = offers.answer(work), policy.allowed_operators()
            answers.append(judge_answer(answer, question, policy, node=node.id, operators=operators, now=self.now()))
        return Candidates(question, tuple(answers), len(answers))

    def admission(self, **rules: Any) -> Admission:
        """A client's."""
        self.policy = replace(self.policy, rules=Rules(lanes=("tee",), **rules))
        transport: Any = None
        return Admission(transport, now=self.now)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """One node."""
    return _asked(tmp_path, monkeypatch)


def _asked(folder: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Asked:
    made = Asked(folder, **given)
    made.processor.pin(monkeypatch)
    monkeypatch.setattr(admission, "find_recipients", made.find)
    return made


def test_an_answer_serves_for_more_than_one_request(asked: Asked) -> None:
    """For as long as the policy says; then the nodes are asked anew."""
    made = asked.admission()
    for _ in range(3):
        assert [one.node for one in made.recipients(asked.manifest, asked.policy)] == [asked.nodes[0].id]
    assert asked.questions == 1
    made.forget(made.recipients(asked.manifest, asked.policy))
    made.recipients(asked.manifest, asked.policy)
    assert asked.questions == 2


def test_those_that_find_out_late_that_keys_are_gone_share_the_answer_of_the_first(asked: Asked) -> None:
    """One question, however many requests were sealed to a node before it was started again."""
    made = asked.admission()
    before = made.recipients(asked.manifest, asked.policy)
    asked.restart()
    after = [made.recipients(asked.manifest, asked.policy, instead_of=before) for _ in range(4)]
    assert asked.questions == 2
    offers = [one[0].recipient for one in (before, *after)]
    assert len({one.document.key_set.digest for one in offers if one is not None}) == 2


def test_who_has_no_time_to_wait_for_what_others_ask_is_told_so(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """In that time."""
    begun, over = threading.Event(), threading.Event()

    def slow(*given: Any, **named: Any) -> Candidates:
        begun.set()
        over.wait(10)
        return asked.find(*given, **named)

    monkeypatch.setattr(admission, "find_recipients", slow)
    made = asked.admission()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(made.recipients, asked.manifest, asked.policy)
        assert begun.wait(10)
        with pytest.raises(NoNodeError, match=r"still being asked what they prove after 0\.1 s"):
            made.recipients(asked.manifest, asked.policy, within=0.1)
        over.set()
        assert first.result(10)


def test_a_policy_may_ask_for_fresh_evidence_for_each_request(asked: Asked) -> None:
    """`evidence_within = 0`."""
    made = asked.admission(evidence_within=0)
    nonces = {made.recipients(asked.manifest, asked.policy)[0].evidence for _ in range(3)}
    assert (asked.questions, len(nonces)) == (3, 3)


def test_where_no_node_answers_those_that_wait_are_told_together(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking takes seconds: whoever came meanwhile waits for the same answer, not for one of its own. Who comes later asks anew."""
    begun, over = threading.Event(), threading.Event()

    def nobody(_transport: Any, policy: Policy, model: str, **_: Any) -> Candidates:
        asked.questions += 1
        begun.set()
        over.wait(10)
        return Candidates(Question(model, policy.digest, bytes(32)), (), 0)

    monkeypatch.setattr(admission, "find_recipients", nobody)
    made = asked.admission()

    def ask() -> str:
        with pytest.raises(NoNodeError) as refused:
            made.recipients(asked.manifest, asked.policy)
        return str(refused.value)

    with ThreadPoolExecutor(6) as threads:
        waiting = [threads.submit(ask) for _ in range(6)]
        assert begun.wait(10)
        time.sleep(0.2)
        over.set()
        (told,) = {each.result(10) for each in waiting}
    assert "nothing was sealed or sent" in told
    assert asked.questions == 1
    assert ask() == told
    assert asked.questions == 2


@pytest.mark.parametrize("shift", [pytest.param(LASTS - 30_000, id="soon over"), pytest.param(LASTS + 1, id="over")])
def test_a_key_set_near_its_end_is_asked_for_anew(asked: Asked, shift: int) -> None:
    """A request has to be answered before."""
    made = asked.admission()
    made.recipients(asked.manifest, asked.policy)
    asked.shift = shift
    if shift > LASTS:
        with pytest.raises(UntrustedEvidenceError, match="seal-expired"):
            made.recipients(asked.manifest, asked.policy)
    else:
        assert made.recipients(asked.manifest, asked.policy)
    assert asked.questions == 2


def test_what_was_believed_is_judged_again_for_each_request(asked: Asked) -> None:
    """Its certificate ends, its operator or its own key is revoked, the policy asks for more: each between two requests."""
    made = asked.admission()
    for change in ("certificate", "node", "operator", "platform"):
        asked.shift = 0
        asked.policy.revoked.clear()
        asked.policy.platforms["amd-sev-snp"] = SNP_RULES
        made.forget(made.recipients(asked.manifest, asked.policy))
        assert made.recipients(asked.manifest, asked.policy)
        if change == "certificate":
            asked.shift = 2 * HOUR
        elif change == "platform":
            del asked.policy.platforms["amd-sev-snp"]
        else:
            key = asked.nodes[0].id if change == "node" else asked.keys.operator.id
            asked.policy.revoked[key] = Revocation(at=now_ms() - 1000)
        with pytest.raises(PolicyError):
            made.recipients(asked.manifest, asked.policy)


def test_no_more_nodes_are_sealed_to_than_the_policy_says_and_not_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn anew for each request."""
    asked = _asked(tmp_path, monkeypatch, nodes=4)
    made = asked.admission(recipients=2)
    drawn = [frozenset(one.node for one in made.recipients(asked.manifest, asked.policy)) for _ in range(40)]
    assert {len(one) for one in drawn} == {2}
    assert len(set(drawn)) > 1
    assert asked.questions == 1


def test_one_that_is_believed_no_longer_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked for that."""
    asked = _asked(tmp_path, monkeypatch, nodes=2)
    made = asked.admission(recipients=2)
    assert len(made.recipients(asked.manifest, asked.policy)) == 2
    asked.policy.revoked[asked.nodes[0].id] = Revocation(at=now_ms() - 1000)
    assert [one.node for one in made.recipients(asked.manifest, asked.policy)] == [asked.nodes[1].id]
    assert asked.questions == 1
