"""A gateway that lies about nodes' evidence: whatever it does, nothing is sealed, and the refusal has a name.

The lies are told by a real proxy between the SDK and a real gateway; nodes, evidence and policy are real, but for the platform,
which is simulated, and which this client's policy takes knowingly. So each lie is all that keeps a node
from being admitted.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from between import Answer, Proxy
from blindgate.attestation.rules import PlatformRules
from blindgate.client import Client
from blindgate.recipients import Candidate, Candidates
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_node.attester.simulated import KEY_FILE
from blindgate_node.signer import load_or_create_key
from blindgate_protocol.attestations import AttestationAnswer, AttestationView
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.evidence import Binding, Evidence, KeySet, Recipient
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.sealing import RecipientKeys
from blindgate_protocol.signing import Envelope, SigningKey, open_signed
from blindgate_protocol.simulated_evidence import WARNING, SimulatedEvidence
from brokerage import now_ms
from signed_packages import PUBLISHER, package
from world import World

SIMULATED = "insecure-simulated"
NODES = ("honest", "other")


@pytest.fixture(scope="module")
def lied_about(tmp_path_factory: pytest.TempPathFactory, small_compiled: CompiledModel) -> Iterator[World]:
    """A gateway, one model, two nodes with the simulated attester."""
    with World(tmp_path_factory.mktemp("lied"), gateway={"QUESTIONS": 1000}) as world:
        world.trust("tests", PUBLISHER.id)
        world.start_gateway()
        world.publish(package(small_compiled))
        for name in NODES:
            world.start_node(name, ATTESTER=SIMULATED, SLOTS=1, ATTESTATIONS=600, POLL_SECONDS=2)
        for name in NODES:
            world._await(name, lambda name=name: '"node.started"' in world.log(name))
        yield world


@dataclass
class Stand:
    """A client behind a proxy that shows it what the test says."""

    world: World
    client: Client
    proxy: Proxy
    seen: list[AttestationView] = field(default_factory=list)

    def key(self, name: str) -> SigningKey:
        """A node's own key."""
        return load_or_create_key(self.world.folder / name / "node.key")

    def attester(self, name: str) -> SigningKey:
        """What signs its simulated evidence."""
        return load_or_create_key(self.world.folder / name / KEY_FILE)

    def ask(self, name: str = "honest", **given: Any) -> Candidates:
        """Ask one node, by its key."""
        return self.client.recipients("small", node=self.key(name).id, **({"seconds": 8.0} | given))

    def lie(self, change: Callable[[AttestationView], AttestationView]) -> None:
        """Change each answer that is shown."""

        def told(method: str, path: str, answer: Answer) -> Answer:
            if method != "GET" or "/v1/attestations/" not in path or answer.status != 200:
                return answer
            view = AttestationView.model_validate_json(answer.body)
            if view.answer is None:
                return answer
            self.seen.append(view)
            return Answer(200, change(view).model_dump_json().encode())

        self.proxy.lie = told

    def refused(self, change: Callable[[AttestationView], AttestationView], name: str = "honest") -> Candidate:
        """What becomes of the one answer, with this lie told about it."""
        self.lie(change)
        found = self.ask(name)
        assert found.admitted == ()
        (one,) = found.answers
        return one


@pytest.fixture
def stand(lied_about: World, tmp_path: Path) -> Iterator[Stand]:
    """A fresh client, whose policy names both nodes' simulated attesters."""
    with Proxy(lied_about.url) as proxy, lied_about.client(home=tmp_path, url=proxy.url, log=False) as client:
        made = Stand(lied_about, client, proxy)
        client.policy.platforms[SIMULATED] = PlatformRules(keys=tuple(made.attester(name).id for name in NODES))
        yield made


def _answer(view: AttestationView) -> tuple[Recipient, Evidence, Envelope]:
    assert view.answer is not None
    envelope = view.answer.recipient
    return open_signed(envelope, Recipient).document, Evidence.from_bytes(view.answer.evidence), envelope


def _shown(view: AttestationView, recipient: Envelope, evidence: Evidence | bytes) -> AttestationView:
    data = evidence.to_bytes() if isinstance(evidence, Evidence) else evidence
    return view.model_copy(update={"answer": AttestationAnswer(recipient=recipient, evidence=data)})


def _gateways_keys(node: str) -> KeySet:
    """A key set whose secrets the gateway has."""
    receipt = SigningKey.generate()
    return RecipientKeys.generate(
        node=node, receipt=receipt, issued=now_ms() - 1000, expires=now_ms() + 600_000
    ).key_set


def test_without_a_lie_the_node_is_admitted(stand: Stand) -> None:
    """Or nothing below would say anything."""
    (one,) = stand.ask().admitted
    assert one.name == "honest"


def test_keys_of_the_gateways_own_are_not_sealed_to(stand: Stand) -> None:
    """In the node's envelope its signature breaks; signed by the gateway, the key set names another."""

    def swap_inside(view: AttestationView) -> AttestationView:
        recipient, evidence, envelope = _answer(view)
        forged = SigningKey.generate().sign(
            recipient.model_copy(update={"key_set": _gateways_keys(recipient.key_set.node)})
        )
        kept = envelope.model_copy(update={"payload": forged.envelope.payload})
        return _shown(view, kept, evidence)

    def swap_and_sign(view: AttestationView) -> AttestationView:
        recipient, evidence, _ = _answer(view)
        forged = recipient.model_copy(update={"key_set": _gateways_keys(recipient.key_set.node)})
        return _shown(view, SigningKey.generate().sign(forged).envelope, evidence)

    assert _rule(stand.refused(swap_inside)) == "bad-signature"
    assert _rule(stand.refused(swap_and_sign)) == "bad-recipient"


def test_a_gateway_cannot_be_a_node(stand: Stand) -> None:
    """With keys, evidence and a node's key of its own, and a certificate by itself, or by the operator for the real node."""
    own = SigningKey.generate()

    def answer_as_node(certify: Callable[[Recipient], Envelope]) -> Callable[[AttestationView], AttestationView]:
        def change(view: AttestationView) -> AttestationView:
            recipient, evidence, _ = _answer(view)
            keys = _gateways_keys(own.id)
            bound = evidence.binding.model_copy(update={"key_set": keys.digest})
            said = SimulatedEvidence(warning=WARNING, report_data=bound.report_data(), time=now_ms())
            made = evidence.model_copy(update={"binding": bound, "platform": own.sign(said).envelope.to_bytes()})
            offer = Recipient(certificate=certify(recipient), key_set=keys, evidence=made.digest)
            return _shown(view, own.sign(offer).envelope, made)

        return change

    def by_itself(_: Recipient) -> Envelope:
        certificate = NodeCertificate(
            node=own.id, name="honest", operator=own.id, issued=now_ms() - 1000, expires=now_ms() + 600_000
        )
        return own.sign(certificate).envelope

    assert _rule(stand.refused(answer_as_node(by_itself))) == "bad-recipient"
    assert _rule(stand.refused(answer_as_node(lambda recipient: recipient.certificate))) == "bad-recipient"


def test_evidence_of_a_former_question_is_not_taken_for_this_one(stand: Stand) -> None:
    """However genuine: it answers another nonce."""
    stand.lie(lambda view: view)
    assert stand.ask().admitted
    (old,) = stand.seen
    assert _rule(stand.refused(lambda view: old.model_copy(update={"attestation": view.attestation}))) == "seal-terms"

    def old_evidence_alone(view: AttestationView) -> AttestationView:
        return _shown(view, _answer(view)[2], _answer(old)[1])

    assert _rule(stand.refused(old_evidence_alone)) == "seal-terms"


def test_a_node_that_helps_an_old_piece_of_evidence_to_a_new_name_helps_nobody(stand: Stand) -> None:
    """A binding of now around a platform's signature of then: the platform's report data say so."""
    stand.lie(lambda view: view)
    assert stand.ask().admitted
    old = _answer(stand.seen[0])[1]

    def with_the_node(view: AttestationView) -> AttestationView:
        recipient, evidence, _ = _answer(view)
        made = evidence.model_copy(update={"platform": old.platform})
        offer = recipient.model_copy(update={"evidence": made.digest})
        return _shown(view, stand.key("honest").sign(offer).envelope, made)

    refused = stand.refused(with_the_node)
    assert "report-data" in {reason.rule for reason in refused.reasons}


def test_another_nodes_evidence_does_not_speak_for_this_one(stand: Stand) -> None:
    """Relayed whole, the other node was not asked; its evidence beside this node's offer is not the one that it named."""
    stand.lie(lambda view: view)
    others = stand.client.recipients("small", node="other", seconds=8.0)
    assert [one.name for one in others.admitted] == ["other"]
    theirs = next(view for view in stand.seen if view.node == stand.key("other").id)

    def relay_evidence(view: AttestationView) -> AttestationView:
        return _shown(view, _answer(view)[2], _answer(theirs)[1])

    assert _rule(stand.refused(relay_evidence)) == "seal-terms"


def test_one_node_shown_as_two_is_one(stand: Stand) -> None:
    """The gateway shows the first answer again in the place of the second, under the second node's key."""
    first: list[AttestationView] = []

    def change(view: AttestationView) -> AttestationView:
        first.append(view)
        return first[0].model_copy(update={"place": view.place, "node": view.node})

    stand.lie(change)
    shown = stand.client.recipients("small", seconds=6.0)
    assert (len(first), len(shown.admitted)) == (2, 1)


def test_a_node_that_was_not_asked_is_not_taken_for_the_one_that_was(stand: Stand) -> None:
    """Though it is as good: who asks for one means that one. The gateway gives the question to the other node."""
    other = stand.key("other").id
    passed_on: dict[str, Any] = {}

    def rewrite(body: bytes) -> bytes:
        asked = json.loads(body)
        passed_on.update(asked)
        return json.dumps(asked | {"node": other}).encode()

    upstream = stand.proxy._upstream.request

    def request(method: str, path: str, *, content: bytes | None = None, **given: Any) -> Any:
        redirected = content is not None and path == "/v1/attestations"
        return upstream(method, path, content=rewrite(content or b"") if redirected else content, **given)

    stand.proxy._upstream.request = request  # type: ignore[assignment,method-assign]
    found = stand.ask("honest", seconds=4.0)
    assert passed_on["node"] == stand.key("honest").id
    assert found.admitted == ()
    assert [_rule(one) for one in found.answers] == ["bad-recipient"]


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        pytest.param("nonce", bytes(32), id="nonce"),
        pytest.param("model", "sha256:" + "1" * 64, id="model"),
        pytest.param("policy", "sha256:" + "2" * 64, id="policy"),
    ],
)
def test_another_question_than_the_clients_gets_another_answer(stand: Stand, field_name: str, value: object) -> None:
    """A gateway that asks the node something else, and a node that answers it, are told apart from the client's own question."""

    def change(view: AttestationView) -> AttestationView:
        recipient, evidence, _ = _answer(view)
        bound = Binding(**(evidence.binding.model_dump() | {field_name: value}))
        said = SimulatedEvidence(warning=WARNING, report_data=bound.report_data(), time=now_ms())
        made = evidence.model_copy(
            update={"binding": bound, "platform": stand.attester("honest").sign(said).envelope.to_bytes()}
        )
        offer = recipient.model_copy(update={"evidence": made.digest})
        return _shown(view, stand.key("honest").sign(offer).envelope, made)

    refused = stand.refused(change)
    assert _rule(refused) == "seal-terms"
    assert refused.refused is not None
    assert field_name in refused.refused.text


@pytest.mark.parametrize("length", [0.0, 0.3, 0.999], ids=["nothing", "a part", "all but the end"])
def test_evidence_that_was_cut_short_is_none(stand: Stand, length: float) -> None:
    """Wherever it was cut."""

    def cut(view: AttestationView) -> AttestationView:
        data = _answer(view)[1].to_bytes()
        return _shown(view, _answer(view)[2], data[: max(1, int(len(data) * length))])

    assert _rule(stand.refused(cut)) == "malformed"


def test_bytes_that_are_no_answer_are_refused_before_anything_is_read(stand: Stand) -> None:
    """Of any length: what is too much is not read to its end."""

    def garble(method: str, path: str, answer: Answer) -> Answer:
        return Answer(200, b'{"attestation": ') if method == "GET" and "/v1/attestations/" in path else answer

    stand.proxy.lie = garble
    with pytest.raises(MalformedError):
        stand.ask()
    stand.proxy.lie = lambda method, path, answer: (
        Answer(200, b" " * (17 << 20)) if method == "GET" and "/v1/attestations/" in path else answer
    )
    with pytest.raises(MalformedError, match="more than"):
        stand.ask()


def test_a_gateway_that_keeps_answers_back_leaves_nobody(stand: Stand) -> None:
    """No answer is the safe failure, and it comes in the time that the client gave."""
    empty: dict[str, Any] = {"node": None, "answer": None, "place": 0}
    stand.lie(lambda view: view.model_copy(update=empty))
    found = stand.ask(seconds=2.0)
    assert (found.answers, found.admitted) == ((), ())


def test_a_gateway_that_goes_round_in_circles_is_left(stand: Stand) -> None:
    """The same place again is no next one."""
    stand.lie(lambda view: view.model_copy(update={"place": 1}))
    with pytest.raises(MalformedError, match="place"):
        stand.client.recipients("small", seconds=6.0, enough=3)


def test_a_key_set_whose_time_is_over_is_not_sealed_to(stand: Stand) -> None:
    """Signed by the node, with evidence: an hour ago."""

    def end(view: AttestationView) -> AttestationView:
        recipient, evidence, _ = _answer(view)
        keys = recipient.key_set.model_copy(update={"issued": now_ms() - 7_200_000, "expires": now_ms() - 3_600_000})
        bound = evidence.binding.model_copy(update={"key_set": keys.digest})
        said = SimulatedEvidence(warning=WARNING, report_data=bound.report_data(), time=now_ms())
        made = evidence.model_copy(
            update={"binding": bound, "platform": stand.attester("honest").sign(said).envelope.to_bytes()}
        )
        offer = Recipient(certificate=recipient.certificate, key_set=keys, evidence=made.digest)
        return _shown(view, stand.key("honest").sign(offer).envelope, made)

    assert _rule(stand.refused(end)) == "seal-expired"


def _rule(one: Candidate) -> str:
    assert one.refused is not None, one.reasons
    return one.refused.rule
