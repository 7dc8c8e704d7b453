"""A client and a node of sealed jobs in one process, with the test for a gateway: real seals, answers and receipts.

The model repeats the last message, word by word. The platform is no matter here, so the evidence is a form without content; what
it is worth is decided elsewhere (`test_recipients`).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blindgate.admission import Admission
from blindgate.bundles import Bundles
from blindgate.logs import Logs
from blindgate.policy import Policy, Rules
from blindgate.recipients import Candidate
from blindgate.sealed_job import Request, SealedJob, Sealing
from blindgate.sealed_job import Sent as Ordered
from blindgate.seen import SeenTrees
from blindgate_node.backends.interface import Cancelled, Chunk, never
from blindgate_node.backends.requests import ChatRequest
from blindgate_node.enclave import MOST_OPENED, Enclave
from blindgate_node.families import Family
from blindgate_node.key_sets import KeySets
from blindgate_node.plain_models import PlainModel
from blindgate_node.receipts import make_receipt
from blindgate_node.sealed_jobs import SealedAnswer, SealedJobs
from blindgate_node.transport import LeaseName
from blindgate_protocol.attestations import AttestationAnswer
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.canonical import digest
from blindgate_protocol.chunks import RequestStream, Sealer
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.errors import InputError
from blindgate_protocol.evidence import Binding, Evidence, Recipient
from blindgate_protocol.jobs import JobState
from blindgate_protocol.manifest import Disclosure, Limits, Manifest, Privacy, model_ref
from blindgate_protocol.messages import AnswerPart, AnswerView, JobView
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.order import Order, new_job_id
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.sealing import Terms, seal_key
from blindgate_protocol.signing import Signed, SigningKey
from blindgate_protocol.values import BlobRef
from brokerage import now_ms

HOUR = 3_600_000
POLICY = digest(b"policy")
LIMITS = Limits(rows_per_job=1, input_bytes=1 << 20, result_bytes=1 << 20, evaluation_key_bytes=0)
WORDS = "one two three four"


class Repeating:
    """A chat's backend that says the last message again, a word in each chunk."""

    def chat(self, request: ChatRequest, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """The words."""
        words = request.messages[-1].text.split()
        if "nonsense" in words:
            raise InputError("messages: nonsense")
        return ({"word": word} for word in words if not cancelled())


def chat(text: str = WORDS, **changes: Any) -> bytes:
    """A request."""
    body: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": text}], "stream": True}
    return json.dumps(body | changes).encode()


def lines(text: str = WORDS) -> bytes:
    """What the model answers."""
    return b"".join(json.dumps({"word": word}, separators=(",", ":")).encode() + b"\n" for word in text.split())


def nothing() -> None:
    """The job goes on."""


@dataclass(frozen=True)
class Sent:
    """What a client sealed, and what it keeps."""

    order: Signed[Order]
    seal: bytes
    sealed: bytes
    request: bytes
    key: ContentKey
    terms: Terms


@dataclass
class Pair:
    """A client and a node.

    Attributes:
        shift: how far all clocks are ahead of this machine's.
    """

    most: int = MOST_OPENED
    limits: Limits = LIMITS
    rows_per_tenant: int | None = None
    shift: int = 0
    node: SigningKey = field(default_factory=SigningKey.generate)
    operator: SigningKey = field(default_factory=SigningKey.generate)
    client: SigningKey = field(default_factory=SigningKey.generate)
    publisher: SigningKey = field(default_factory=SigningKey.generate)

    def __post_init__(self) -> None:
        now = now_ms()
        self.manifest: Signed[Manifest] = self.publisher.sign(
            Manifest(
                name="echo",
                version=1,
                summary="",
                family="causal-lm",
                lane="tee",
                api="chat",
                issued=now - 1000,
                expires=now + 24 * HOUR,
                columns=(),
                output=None,
                server=BlobRef(digest=digest(b"list"), size=4),
                evaluation_key=False,
                determinism="varies",
                limits=self.limits,
                privacy=Privacy(mode="model_public", rows_per_tenant=self.rows_per_tenant),
                discloses=Disclosure(to_client=(), to_node=()),
            )
        )
        self.key_sets = KeySets(self.node, lasts=2 * HOUR, now=self.now)
        self.enclave = Enclave(self.key_sets, now=self.now, most=self.most)
        self.jobs = SealedJobs(self.enclave, {self.manifest.digest: PlainModel(self.manifest, Repeating())})
        made = NodeCertificate(
            node=self.node.id, name="node-1", operator=self.operator.id, issued=now - 1000, expires=now + 24 * HOUR
        )
        self.certificate = self.operator.sign(made)

    def now(self) -> int:
        """The node's clock."""
        return now_ms() + self.shift

    def candidate(self, policy: str = POLICY) -> Candidate:
        """The node, as a client believes it."""
        keys = self.key_sets.current()
        binding = Binding(
            key_set=keys.key_set.digest, nonce=bytes(range(32)), gpus=(), model=self.manifest.digest, policy=policy
        )
        evidence = Evidence(binding=binding, platform=b"x", chain=(), collateral=None, gpu=None, references=())
        self.key_sets.note(evidence.digest, binding)
        offered = Recipient(certificate=self.certificate.envelope, key_set=keys.key_set, evidence=evidence.digest)
        offer = self.node.sign(offered)
        shown = AttestationAnswer(recipient=offer.envelope, evidence=evidence.to_bytes())
        return Candidate(self.node.id, self.certificate, offer, evidence, shown=shown)

    def send(self, request: bytes | None = None, *, expires: int | None = None, policy: Policy | None = None) -> Sent:
        """Seal a request to the node, as `Sealing.ask` does."""
        request, job, key = chat() if request is None else request, new_job_id(), ContentKey.generate()
        rules = Rules() if policy is None else policy.rules
        named = POLICY if policy is None else policy.digest
        sealed = Sealer(key, RequestStream(job=job, padding=rules.padding)).finish(request)
        candidate, now = self.candidate(named), self.now()
        assert candidate.recipient is not None
        ends = now + HOUR if expires is None else expires
        order = self.client.sign(
            Order(
                job=job,
                tenant="hospital",
                model=model_ref(self.manifest),
                input=BlobRef(digest=digest(sealed), size=len(sealed)),
                evaluation_key=None,
                rows=1,
                operators=(self.operator.id,),
                nodes=(self.node.id,),
                client=self.client.id,
                issued=now,
                deadline=now + HOUR,
            )
        )
        terms = Terms(
            job=job,
            order=order.digest,
            model=self.manifest.digest,
            policy=named,
            padding=rules.padding,
            expires=ends,
        )
        seal = seal_key(key, terms, [candidate.recipient.document], now=now)
        return Sent(order, seal.to_bytes(), sealed, request, key, terms)

    def answer(
        self, sent: Sent, *, send: Callable[[AnswerPart], None] = lambda _: None, check: Callable[[], None] = nothing
    ) -> SealedAnswer:
        """What the node makes of it."""
        return self.jobs.answer(sent.order, sent.seal, sent.sealed, send=send, check=check)

    def receipt(self, sent: Sent, answer: SealedAnswer, **changes: Any) -> Signed[Receipt]:
        """What the node signs."""
        made = make_receipt(
            order=sent.order,
            manifest=self.manifest,
            lease=LeaseName(sent.order.document.job, 1, "0" * 32),
            output=answer.result.ref,
            family=Family("blindgate", 0.0, half=""),
            node=self.node.id,
            certificate=self.certificate.envelope,
            started=now_ms(),
            finished=now_ms(),
            commitments=answer.commitments,
        )
        return self.node.sign(made.model_copy(update=changes))

    def policy(self, **rules: Any) -> Policy:
        """A client's policy that names the operator, and no log."""
        return Policy({}, {"north": self.operator.id}, rules=Rules(lanes=("fhe", "tee"), **rules))

    def job(self, sent: Sent, gateway: "Gateway", home: Path, policy: Policy | None = None) -> SealedJob:
        """What the client holds of a request that was sent by way of `gateway`."""
        policy = policy or self.policy()
        transport: Any = gateway
        sealing = Sealing(
            manifest=self.manifest,
            tenant="hospital",
            signer=self.client,
            policy=policy,
            admission=Admission(transport),
            transport=transport,
            bundles=Bundles(home),
            logs=Logs(policy, SeenTrees(home / "trees.json")),
            deadline=3600.0,
        )
        bundle, believed = Bundle(self.manifest, sent.order), (self.candidate(sent.terms.policy),)
        ordered = Ordered(bundle, sealing.logs, sent.key, sent.terms, believed)
        return SealedJob(sealing, Request(sent.request), ordered)


class Gateway:
    """Stands where the SDK's transport does: shows one job's answer as `views` say, then its end.

    Attributes:
        posted: the paths that were posted to.
    """

    def __init__(self, views: Iterator[AnswerView], end: JobView) -> None:
        self._views, self._end = views, end
        self.posted: list[str] = []
        self.asked = 0

    def get(self, path: str, answer: type[Any], *, wait: float = 0.0) -> Any:  # noqa: ARG002
        """The next view, or the end."""
        self.asked += 1
        if answer is AnswerView:
            return next(self._views, AnswerView(job=self._end.job, state=self._end.state))
        return self._end

    def post(self, path: str, body: Any, answer: type[Any]) -> Any:  # noqa: ARG002
        """Take note."""
        self.posted.append(path)
        return self._end

    def post_only(self, path: str) -> None:
        """Take note."""
        self.posted.append(path)


def ended(sent: Sent, answer: SealedAnswer, signed: Signed[Receipt], **changes: Any) -> JobView:
    """A job that succeeded."""
    given: dict[str, Any] = {
        "job": sent.order.document.job,
        "state": JobState.SUCCEEDED,
        "submitted": 0,
        "receipt": signed.envelope,
        "result_data": answer.result.data,
    }
    return JobView(**(given | changes))


def view(sent: Sent, node: str | None, begin: int = 0, data: bytes = b"", **changes: Any) -> AnswerView:
    """A part of an answer that goes on."""
    given: dict[str, Any] = {"state": JobState.LEASED, "generation": 1}
    return AnswerView(job=sent.order.document.job, node=node, begin=begin, data=data, **(given | changes))
