"""A request that is sealed to nodes that were believed, and its answer, read along and then held against what the node signed.

What happens before anything leaves this machine, in this order:

1. the policy is asked, for the classes of this request (`decisions`), and what follows goes by its answer;
2. where the policy names a log, the gateway is asked once which it serves;
3. nodes are asked what they prove, and each is judged (`admission`);
4. a fresh content key is drawn, and the request sealed under it;
5. the order is signed: it names the sealed bytes and the nodes; its bundle is kept;
6. the content key is wrapped for each of the nodes, under terms that name the order.

What comes back is a stranger's until it opens. A chunk that opens was sealed by somebody who has the content key, for this job and
order, under the keys and evidence of one recipient: it is authentic, and so far only a beginning. An answer is whole when

7. the final chunk opened;
8. the receipt answers the order, is signed by the node whose chunks were read, rests on the evidence for which it was believed, and
   names exactly the bytes that were read;
9. its commitments open to the request and to the answer;
10. it stands in the policy's log, and nobody it rests on was revoked.

Only then is anything acknowledged, and only then does `pieces` end without an error. Whoever shows pieces before shows a beginning.
An answer whose lease was lost is written anew: where nothing of it was given out yet, that is read; where something was, it is an
error.

A node's keys are gone when it is started again, and with them what was sealed to it. Where a job ended for that (`restarts`), and
nothing of its answer was given out, steps 1 to 6 are done once more, for the same request: nodes are asked anew what they prove,
and are judged as before. It is another job, in the time of the first. A second time is an error.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from blindgate.admission import Admission
from blindgate.bundles import Bundles
from blindgate.decisions import Said, decide
from blindgate.job import FIRST_PAUSE_SECONDS, LONG_POLL_SECONDS, LONGEST_PAUSE_SECONDS, late
from blindgate.logs import Logs
from blindgate.opening import acknowledge, fetch_result, find_in_log, refuse_revoked, verify_receipt
from blindgate.policy import Policy
from blindgate.reading import Reading
from blindgate.recipients import Candidate
from blindgate.restarts import are_keys_gone, why_unanswered
from blindgate.transport import Transport
from blindgate.uploads import blob_ref, upload
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.chunks import RequestStream, Sealer
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.errors import (
    CommitmentError,
    GatewayError,
    JobCancelledError,
    JobTimeoutError,
    MalformedError,
    ReceiptNodeError,
    UntrustedEvidenceError,
)
from blindgate_protocol.evidence import Recipient
from blindgate_protocol.jobs import JobState
from blindgate_protocol.manifest import Manifest, model_ref
from blindgate_protocol.messages import AnswerView, JobRequest, JobView
from blindgate_protocol.order import Order, new_job_id
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.sealing import Terms, seal_key
from blindgate_protocol.signing import Signed, SigningKey
from blindgate_protocol.values import SMALL_BYTES, Millis

_LAST: Final = SMALL_BYTES


@dataclass(frozen=True)
class Sealing:
    """What it takes to seal requests to one model: made by `Client`."""

    manifest: Signed[Manifest]
    tenant: str
    signer: SigningKey
    policy: Policy
    admission: Admission
    transport: Transport
    bundles: Bundles
    logs: Logs
    deadline: float

    def allowed(self, data_class: Said = None) -> Policy:
        """The policy as a request of this class has it. Raises `PolicyError`, which names the rule, where it may not be sent."""
        return decide(self.policy, self.manifest, said=data_class, client=self.signer.id, now=_now()).require()

    def ask(
        self, request: bytes, *, rows: int = 1, data_class: Said = None, redacted: Mapping[str, int] | None = None
    ) -> "SealedJob":
        """Seal and submit a request (steps 1 to 6 above).

        Args:
            request: the bytes.
            rows: how many rows it has, where it is a table's.
            data_class: what its caller says of it.
            redacted: how often something of a class was taken out of it, for the bundle.

        Raises `PolicyError` or `UntrustedEvidenceError` before anything is sealed, and what the transport does.
        """
        asked = Request(request, rows, data_class, redacted or {})
        policy, nodes = self.choose(asked)
        return SealedJob(self, asked, self.submit(asked, policy, nodes, ends=_now() + int(self.deadline * 1000)))

    def choose(
        self, asked: "Request", *, instead_of: tuple[Candidate, ...] = (), seconds: float | None = None
    ) -> tuple[Policy, tuple[Candidate, ...]]:
        """Do steps 1 to 3: gives what the policy says of the request, and the nodes that it may be sealed to.

        `instead_of` have lost their keys; with `seconds`, no more time than that is spent on nodes. Raises as `ask`.
        """
        # 1.
        policy = self.allowed(asked.data_class)
        # 2.
        self.logs.look(self.transport)
        # 3.
        return policy, self.admission.recipients(self.manifest, policy, instead_of=instead_of, within=seconds)

    def submit(self, asked: "Request", policy: Policy, nodes: tuple[Candidate, ...], *, ends: Millis) -> "Sent":
        """Do steps 4 to 6, for an order that ends at `ends` at the latest."""
        manifest = self.manifest
        offers = [_offer(node) for node in nodes]
        # 4.
        job, key, padding = new_job_id(), ContentKey.generate(), policy.rules.padding
        now = _now()
        ends = min(ends, *(offer.key_set.expires for offer in offers))
        sealed = Sealer(key, RequestStream(job=job, padding=padding)).finish(asked.data)
        # 5.
        small = len(sealed) <= SMALL_BYTES
        order = self.signer.sign(
            Order(
                job=job,
                tenant=self.tenant,
                model=model_ref(manifest),
                input=blob_ref(sealed) if small else upload(self.transport, sealed),
                evaluation_key=None,
                rows=asked.rows,
                operators=policy.allowed_operators(),
                nodes=tuple(node.node for node in nodes),
                client=self.signer.id,
                issued=now,
                deadline=ends,
            )
        )
        # 6.
        terms = Terms(
            job=job,
            order=order.digest,
            model=manifest.digest,
            policy=policy.digest,
            padding=padding,
            expires=ends,
        )
        seal = seal_key(key, terms, offers, now=now)
        bundle = Bundle(manifest, order, classes=policy.met, redacted=asked.redacted)
        # Not past a power cut: with that goes the key that opens the answer.
        self.bundles.save(bundle, durable=False)
        if self.bundles.ciphertexts is not None:
            self.bundles.ciphertexts.keep(sealed, order.document.input.digest)
        posted = JobRequest(order=order.envelope, input_data=sealed if small else None, seal=seal.to_bytes())
        with self.transport.traces.about(job, "submit"):
            self.transport.post("/v1/jobs", posted, JobView)
        return Sent(bundle, self.logs.under(policy), key, terms, nodes)


@dataclass(frozen=True, repr=False)
class Request:
    """A request in the clear, and what is said of it: see `Sealing.ask`."""

    data: bytes
    rows: int = 1
    data_class: Said = None
    redacted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Sent:
    """A request as it was ordered: to whom it was sealed, under which terms, and the content key, which opens its answer."""

    bundle: Bundle
    logs: Logs
    key: ContentKey
    terms: Terms
    nodes: tuple[Candidate, ...]

    def reading(self) -> Reading:
        """Of its answer, from the beginning."""
        most = self.bundle.manifest.document.limits.result_bytes
        return Reading(self.key, self.terms, {node.node: node for node in self.nodes}, most)


class SealedJob:
    """A sealed request on its way, and its answer."""

    def __init__(self, sealing: Sealing, asked: Request, sent: Sent) -> None:
        """Made by `Sealing.ask`."""
        self._sealing, self._asked, self._sent = sealing, asked, sent
        self._before: str | None = None
        self._cancelled = self._over = False

    @property
    def id(self) -> str:
        """The job's. Another one, once its node had lost its keys and the request was sealed anew: see `pieces`."""
        return self._sent.bundle.order.document.job

    @property
    def bundle(self) -> Bundle:
        """The job's signed documents; once the answer was read, with the receipt, the log's proof and the node's evidence."""
        return self._sent.bundle

    def answer(self, timeout: float | None = None) -> bytes:
        """The whole answer, once everything held (steps 7 to 10). See `pieces`."""
        return b"".join(self.pieces(timeout))

    def pieces(self, timeout: float | None = None) -> Iterator[bytes]:
        """The answer as it is written; ends after everything held.

        Where its node was started again before, the request is sealed anew and ordered anew, once: `id` and `bundle` are the second
        order's from before the first piece on.

        `timeout` is in seconds, for both orders together; without one it waits until the first one's deadline. Raises `JobError`
        where there is no answer, `UntrustedEvidenceError` where a node that was started again is believed no more, `SealError`,
        `ReceiptError`, `MalformedError` or `LogError` where there is an answer that is not to be believed, `InterruptedAnswerError`
        where its node was lost midway. Stopping to read cancels the job.
        """
        left = self._sent.bundle.order.document.deadline / 1000 - time.time() if timeout is None else max(0.0, timeout)
        until = time.monotonic() + left
        try:
            reading = self._sent.reading()
            yield from self._along(reading, until, left)
            view = self._ended()
            if are_keys_gone(view) and not reading.data and not self._counted:
                self._seal_anew(until)
                reading = self._sent.reading()
                yield from self._along(reading, until, left)
                view = self._ended()
            self._require_answer(view, given=bool(reading.data))
            seen = time.monotonic()
            receipt, rest = self._check(view, reading)
            yield from rest
            self._settle(receipt, reading, seen)
            self._over = True
        finally:
            self.leave()

    def cancel(self) -> None:
        """Stop the job. What has ended stays as it ended, and is not ordered anew."""
        self._cancelled = True  # before the job is looked up: `_seal_anew` looks here behind the other one
        self._sealing.transport.post(f"/v1/jobs/{self.id}/cancel", None, JobView)

    def _along(self, reading: Reading, until: float, left: float) -> Iterator[bytes]:
        """What can be read along, until the job has ended; `until` is on the monotonic clock, and was `left` seconds away."""
        transport, pause = self._sealing.transport, FIRST_PAUSE_SECONDS
        while True:
            asked = time.monotonic()
            wait = min(LONG_POLL_SECONDS, max(0.0, until - asked))
            path = f"/v1/jobs/{self.id}/answer?begin={reading.size}&wait={int(wait * 1000)}"
            view = transport.get(path, AnswerView, wait=wait)
            if view.state.ended:
                return  # what was not read along stands in the result
            before = reading.place
            yield from reading.take(view)
            if time.monotonic() >= until:  # also while it goes on: a gateway could let it come byte by byte
                if not reading.size:  # perhaps nobody is there any more: who was believed is asked before the next
                    self._sealing.admission.forget(self._sent.nodes)
                raise JobTimeoutError(late(JobView(job=self.id, state=view.state, submitted=0), left))
            if reading.place != before:
                pause = FIRST_PAUSE_SECONDS
            elif time.monotonic() - asked < wait / 2:  # the gateway has no thread to wait in, or nothing was to be read
                time.sleep(min(pause, max(0.0, until - time.monotonic())))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _ended(self) -> JobView:
        """How the job ended."""
        view = self._sealing.transport.get(f"/v1/jobs/{self.id}?inline={_LAST}", JobView)
        if not view.state.ended:
            message = f"the gateway called job {self.id} ended, and now calls it {view.state.value}"
            raise MalformedError(message)
        return view

    def _seal_anew(self, until: float) -> None:
        """Order the same request once more, of nodes that are asked anew, in what is left of the first order's time."""
        first, sealing = self._sent.bundle.order.document, self._sealing
        gone = f"job {first.job}: the keys that it was sealed to are gone, as after a restart of its node"
        left = until - time.monotonic()
        if left <= 0:
            message = f"{gone}, and no time is left to seal it anew"
            raise JobTimeoutError(message)
        try:
            policy, nodes = sealing.choose(self._asked, instead_of=self._sent.nodes, seconds=left)
        except UntrustedEvidenceError as error:
            message = f"{gone}. It was not sealed anew: {error}"
            raise type(error)(message) from error
        self._require_wanted()
        ends = first.issued + int(sealing.deadline * 1000)
        self._before, self._sent = first.job, sealing.submit(self._asked, policy, nodes, ends=ends)
        self._require_wanted()  # who cancelled meanwhile did so of the job before, and `pieces` leaves this one

    def _require_wanted(self) -> None:
        if self._cancelled:
            message = f"job {self.id} was cancelled"
            raise JobCancelledError(message)

    @property
    def _counted(self) -> bool:
        """Whether a second order costs its tenant more than the first did: rows of a budget, which none gives back."""
        return self._sealing.manifest.document.privacy.rows_per_tenant is not None

    def _require_answer(self, view: JobView, *, given: bool) -> None:
        if view.state is not JobState.SUCCEEDED:
            self._sealing.admission.forget(self._sent.nodes)
            raise why_unanswered(view, given=given, before=self._before, counted=self._counted)

    def _check(self, view: JobView, reading: Reading) -> tuple[Signed[Receipt], list[bytes]]:
        """Do steps 7 and 8; gives the receipt and what of the answer was not read yet."""
        receipt = verify_receipt(view, self._sent.bundle, operators=self._sealing.policy.named_operators())
        said = receipt.document
        node = self._node(said.node)
        if node is None or node.evidence is None or said.evidence != node.evidence.digest:
            message = (
                f"the receipt of node {said.node} rests on evidence {said.evidence}, for which it was not sealed to"
            )
            raise ReceiptNodeError(message)
        result = fetch_result(self._sealing.transport, view, receipt)
        rest = reading.finish(said.node, result)
        return receipt, rest

    def _settle(self, receipt: Signed[Receipt], reading: Reading, seen: float) -> None:
        sealing, sent, said = self._sealing, self._sent, receipt.document
        # 9.
        prompt = sent.key.commitment("prompt", job=self.id, order=sent.bundle.order.digest)
        prompt.add(self._asked.data)
        answer = sent.key.commitment("answer", job=self.id, order=sent.bundle.order.digest)
        answer.add(bytes(reading.data))
        if said.prompt is None or said.answer is None:
            message = "the receipt commits to no prompt and no answer"
            raise CommitmentError(message)
        prompt.check(said.prompt)
        answer.check(said.answer)
        # 10.
        node = self._node(said.node)
        bundle = replace(sent.bundle, evidence=None if node is None else node.shown)
        complete = find_in_log(sealing.transport, sent.logs, bundle, receipt, seen=seen)
        refuse_revoked(sealing.policy, sent.logs, complete)
        if sealing.bundles.ciphertexts is not None:
            sealing.bundles.ciphertexts.keep(reading.sealed(), said.output.digest)
        acknowledge(sealing.transport, sealing.bundles, complete)
        self._sent = replace(self._sent, bundle=complete)

    def _node(self, key: str) -> Candidate | None:
        return next((node for node in self._sent.nodes if node.node == key), None)

    def leave(self) -> None:
        """Read no more: the node may stop, where it has not finished. What the gateway says to that changes nothing."""
        if self._over:
            return
        self._over = True
        try:
            self.cancel()
        except (GatewayError, MalformedError):
            return


def _offer(node: Candidate) -> Recipient:
    assert node.recipient is not None  # noqa: S101  (it is admitted)
    return node.recipient.document


def _now() -> Millis:
    return time.time_ns() // 1_000_000
